"""`mkfa runs`: list, show and compare, from folders and from a results file; pack, draw, and what they refuse."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from small import SMALL, call, options, refused

from mkfa.errors import MkfaError
from mkfa.images.domain import Domain
from mkfa.results import archive as result_file
from mkfa.storage.heading import heading
from mkfa.storage.json_text import without_checksum
from mkfa.training.folder import RESULT


def tiny(name: str, **_: object) -> Domain:
    rng = np.random.default_rng(len(name))
    y = np.arange(60) % 3
    x = (rng.integers(0, 160, (60, 16, 16, 1)) + 30 * y[:, None, None, None]).astype(np.uint8)
    return Domain(name, ("a", "b", "c"), x[:24], y[:24], x[24:], y[24:], f"digest of {name}")


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """Results folders curve/ and matrix/ of tiny experiments, trained once."""
    root = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MKFA_HOME", str(root / "home"))
        patch.setattr("mkfa.images.load.load_domain", tiny)
        call(
            "transfer-curve",
            *options(
                source="letters", target="emoji", layers="1,2", arms="transfer,random", seeds=2, out=root / "curve"
            ),
            *SMALL,
        )
        call(
            "transfer-curve",
            *options(source="letters", target="emoji", layers="2", arms="transfer,random", seeds=2, out=root / "table"),
            *SMALL,
        )
        call("transfer-matrix", "--target", "letters,emoji", "--out", root / "matrix", *SMALL)
    return root


@pytest.fixture
def packed(trained, tmp_path) -> Path:
    file = tmp_path / "results.json.gz"
    for name in ("curve", "table", "matrix"):
        call("runs", "pack", file, "--result", trained / name / f"{name}.json", "--add")
    return file


@pytest.mark.parametrize("kind", ["curve", "table", "matrix"])
def test_what_is_rebuilt_from_a_packed_file_is_what_the_sweep_wrote(packed, trained, kind):
    wrote = without_checksum(json.loads((trained / kind / f"{kind}.json").read_text()))
    assert wrote["format"] == f"mkfa.{kind}"
    wrote = {key: value for key, value in wrote.items() if key not in heading(kind)}
    drawn = json.loads(call("runs", "draw", packed, "--experiment", kind, "--json"))
    drawn = {key: drawn[key] for key in wrote}
    command = wrote["parameters"].pop("command")
    kept = drawn["parameters"].pop("command")
    verb = "transfer-matrix" if kind == "matrix" else "transfer-curve"
    assert kept.startswith(f"mkfa {verb} --")
    assert kept.endswith("--device cpu")
    assert str(trained) not in kept
    assert str(trained) in command
    assert len(wrote["parameters"]["runs"]) == {"curve": 12, "table": 8, "matrix": 10}[kind]
    assert drawn == wrote
    unpacked = json.loads(call("runs", "draw", trained / kind / f"{kind}.json", "--json"))
    unpacked = {key: unpacked[key] for key in wrote}
    assert unpacked["parameters"].pop("command") == command
    assert unpacked == wrote


def test_a_table_drawn_again_is_the_sweeps(packed, trained, monkeypatch):
    monkeypatch.setattr("mkfa.images.load.load_domain", tiny)
    words = (
        "transfer-curve",
        *options(
            source="letters", target="emoji", layers="1,2", arms="transfer,random", seeds=2, out=trained / "curve"
        ),
        *SMALL,
    )
    first = call(*words)
    first = first[first.index("letters to emoji") :].splitlines()
    again = call("runs", "draw", packed, "--experiment", "curve").splitlines()
    assert len(first) > 8
    assert [line for line in first if not line.startswith("Wrote")] == [line for line in again if line in first]


def test_a_packed_file_holds_no_path_and_a_second_pack_is_the_same_bytes(packed, trained, tmp_path):
    text = gzip.decompress(packed.read_bytes()).decode()
    assert str(trained) not in text
    assert str(tmp_path) not in text
    assert "/" not in text.replace("MIT/", "")
    again = tmp_path / "again.json.gz"
    for name in ("curve", "table", "matrix"):
        call("runs", "pack", again, "--result", trained / name / f"{name}.json", "--add")
    assert again.read_bytes() == packed.read_bytes()


def test_pack_takes_exactly_an_experiments_runs_or_all_of_a_folder(trained, tmp_path):
    both = tmp_path / "both"
    (both / "runs").mkdir(parents=True)
    for name in ("curve", "matrix"):
        for folder in (trained / name / "runs").iterdir():
            (both / "runs" / folder.name).mkdir(exist_ok=True)
            for file in folder.glob("*.json"):
                (both / "runs" / folder.name / file.name).write_bytes(file.read_bytes())
    file = tmp_path / "r.json.gz"
    json_file = trained / "curve" / "curve.json"
    one = json.loads(call("runs", "pack", file, "--from", both, "--result", json_file, "--json"))
    assert (one["kind"], one["name"], one["runs"], one["over"]) == ("curve", "curve", 12, 12)
    every = json.loads(call("runs", "pack", file, "--from", both, "--name", "all", "--add", "--command", "x", "--json"))
    hashes = {p.name for p in (both / "runs").iterdir()}
    assert (every["kind"], every["over"], every["experiments"]) == ("runs", len(hashes), 2)
    assert len(hashes) > 12
    listed = json.loads(call("runs", "--from", file, "--experiment", "all", "--json"))["runs"]
    assert {r["hash"] for r in listed} == hashes
    assert isinstance(refused("runs", "draw", file, "--experiment", "all"), MkfaError)


def test_the_command_of_a_folder_is_the_one_its_result_records(trained, tmp_path):
    file = tmp_path / "r.json.gz"
    call("runs", "pack", file, "--from", trained / "curve")
    assert "mkfa transfer-curve --source letters" in call("runs", "--from", file)


def test_add_and_force(packed, trained, tmp_path):
    source = trained / "curve" / "curve.json"
    assert "exists" in str(refused("runs", "pack", packed, "--result", source))
    assert "an experiment of" in str(refused("runs", "pack", packed, "--result", source, "--add"))
    call("runs", "pack", packed, "--result", source, "--add", "--force", "--command", "another")
    text = call("runs", "--from", packed)
    assert "curve: curve, 12 of 12 runs over; trained by:\n  another" in text
    assert "matrix: matrix, 10 of 10 runs over; trained by:\n  mkfa transfer-matrix" in text
    call("runs", "pack", packed, "--result", source, "--force")
    assert "matrix" not in call("runs", "--from", packed)


def test_runs_that_are_not_over_are_counted_and_stay_missing_when_drawn(trained, tmp_path):
    listed = json.loads((trained / "curve" / "curve.json").read_text())["parameters"]["runs"]
    random = [r for r in listed if r["arm"] == "random"]
    results = [trained / "curve" / "runs" / r["hash"] / RESULT for r in random[:2]]
    kept = [path.read_bytes() for path in results]
    file = tmp_path / "r.json.gz"
    try:
        for path in results:
            path.unlink()
        out = call("runs", "pack", file, "--result", trained / "curve" / "curve.json")
    finally:
        for path, data in zip(results, kept, strict=True):
            path.write_bytes(data)
    assert "10 runs, 2 of its runs are not over" in out
    cells = json.loads(call("runs", "draw", file, "--json"))["cells"]
    assert sum(c["missing"] for c in cells) == 2
    assert "2 stopped" in call("runs", "--from", file)
    problem = str(refused("runs", "compare", random[0]["hash"], listed[0]["hash"], "--from", file))
    assert "is unfinished (stopped)" in problem


@pytest.mark.parametrize("kind", ["curve", "table", "matrix"])
def test_draw_with_the_papers_values(packed, tmp_path, kind):
    sizes = []
    for words in ((), ("--with-paper",)):
        out = tmp_path / f"{kind}{len(words)}.png"
        assert f"Wrote {out}" in call("runs", "draw", packed, "--experiment", kind, "--out", out, *words)
        sizes.append(int.from_bytes(out.read_bytes()[20:24], "big"))
    assert sizes[1] > 1.5 * sizes[0]  # the height in pixels: a second panel
    assert "exists" in str(refused("runs", "draw", packed, "--experiment", kind, "--out", out))
    assert "none was asked for" in str(refused("runs", "draw", packed, "--experiment", kind, "--with-paper"))


def facts(*words):
    """What a command prints as JSON, less the heading."""
    heading = ("format", "format_version", "mkfa_version", "created", "command")
    return {key: value for key, value in json.loads(call(*words)).items() if key not in heading}


def test_list_show_and_compare_read_a_file_as_they_read_a_folder(packed, trained):
    folder = json.loads(call("runs", "--from", trained / "curve", "--json"))["runs"]
    file = json.loads(call("runs", "--from", packed, "--experiment", "curve", "--json"))["runs"]
    strip = ("path", "experiment")
    assert sorted(({k: v for k, v in r.items() if k not in strip} for r in folder), key=lambda r: r["hash"]) == sorted(
        ({k: v for k, v in r.items() if k not in strip} for r in file), key=lambda r: r["hash"]
    )
    assert {r["experiment"] for r in file} == {"curve"}
    a, b = (next(r["hash"] for r in file if r["arm"] == arm) for arm in ("transfer", "random"))
    for out in (packed, trained / "curve"):
        shown = json.loads(call("runs", "show", a[:10], "--from", out, "--json"))
        assert (shown["run"]["hash"], shown["result"]["run"]["hash"]) == (a, a)
        assert bool(shown["metrics"]) == (out != packed)
    assert "no values of single epochs" in call("runs", "show", a, "--from", packed)
    both = [facts("runs", "compare", a, b, "--from", o, "--json") for o in (packed, trained / "curve")]
    assert both[0] == both[1]
    assert set(both[0]["differing"]) == {"arm", "source"}
    paths = [trained / "curve" / "runs" / h for h in (a, b)]
    assert facts("runs", "compare", *paths, "--json") == both[0]
    groups = [
        facts(
            *("runs", "compare", "--by", "arm,layers", "--from", o, "--json"),
            *(("--experiment", "curve") if o == packed else ()),
        )["tables"]
        for o in (packed, trained / "curve")
    ]
    by_domain = [sorted(g, key=lambda t: t["setting"]["domain"]) for g in groups]
    assert by_domain[0] == by_domain[1]
    assert len(by_domain[0]) == 2


def test_compare_prints_within_100_columns(packed):
    hashes = [r["hash"] for r in json.loads(call("runs", "--from", packed, "--experiment", "curve", "--json"))["runs"]]
    for text in (
        call("runs", "compare", *hashes[:2], "--from", packed),
        call("runs", "compare", *hashes[:7], "--from", packed),
        call("runs", "compare", "--by", "arm,layers", "--from", packed),
    ):
        assert max(len(line) for line in text.splitlines()) <= 100
    two = call("runs", "compare", *hashes[:2], "--from", packed)
    assert "95 % interval" in two
    assert "(n 36)" in two
    assert "seed" in two
    assert "change" in call("runs", "compare", "--by", "arm", "--from", packed)


def test_a_run_trained_twice_is_named_by_its_experiment(packed, trained, tmp_path):
    run = json.loads((trained / "curve" / "curve.json").read_text())["parameters"]["runs"][0]
    copy = tmp_path / "copy" / "runs" / run["hash"]
    copy.mkdir(parents=True)
    for file in (trained / "curve" / "runs" / run["hash"]).glob("*.json"):
        record = without_checksum(json.loads(file.read_text()))
        copy.joinpath(file.name).write_text(json.dumps(record | ({"top1_last": 0.125} if file.name == RESULT else {})))
    call("runs", "pack", packed, "--from", tmp_path / "copy", "--add")
    assert "more than once" in str(refused("runs", "show", run["hash"], "--from", packed))
    text = call("runs", "show", run["hash"], "--from", packed, "--experiment", "copy", "--json")
    assert json.loads(text)["result"]["top1_last"] == 0.125


def test_bundled_stands_for_the_file_in_the_package(packed, monkeypatch, tmp_path):
    packed.rename(packed.with_name("experiments.json.gz"))
    monkeypatch.setattr(result_file, "data_file", lambda name: packed.parent / name)
    monkeypatch.chdir(tmp_path)
    assert "curve: curve, 12 of 12" in call("runs", "--from", "bundled")
    drawn = json.loads(call("runs", "draw", "bundled", "--experiment", "matrix", "--json"))
    assert drawn["format"] == "mkfa.matrix"


def test_what_is_wrong_is_one_sentence(packed, trained, tmp_path):
    json_file = trained / "curve" / "curve.json"
    known = without_checksum(json.loads(json_file.read_text()))
    run = known["parameters"]["runs"][0]["hash"]
    old = tmp_path / "old.json"
    old.write_text(json.dumps(known | {"parameters": {k: v for k, v in known["parameters"].items() if k != "runs"}}))
    song = tmp_path / "song.json"
    song.write_text('{"a": 1}')
    damaged = tmp_path / "damaged.json.gz"
    damaged.write_bytes(packed.read_bytes()[:-30])
    empty = tmp_path / "empty"
    (empty / "runs").mkdir(parents=True)
    new = tmp_path / "new.json.gz"
    for words, told in (
        (("runs", "--from", tmp_path / "none.json.gz"), "neither a folder nor a results file"),
        (("runs", "--from", damaged), "cannot be read as gzip"),
        (("runs", "--from", json_file), "cannot be read as gzip"),
        (("runs", "--from", packed, "--experiment", "curv"), "did you mean curve"),
        (("runs", "--from", trained / "curve", "--experiment", "curve"), "is a folder"),
        (("runs", "show", "zz", "--from", packed), "is not a run of"),
        (("runs", "compare", "zz", run, "--from", packed), "is not a run of"),
        (("runs", "compare", "zz", run, "--from", trained / "curve"), "is not a run below"),
        (("runs", "compare", run, "--from", packed, "--experiment", "curve"), "not enough"),
        (("runs", "compare", "--from", packed), "--by arm,layers"),
        (("runs", "compare", run, "--by", "arm", "--from", packed), "both were asked for"),
        (("runs", "compare", "--by", "arms", "--from", packed), "did you mean arm"),
        (("runs", "pack", new, "--from", empty), "no finished run"),
        (("runs", "pack", new, "--from", empty, "--result", json_file), "has 12 runs, none of them finished"),
        (("runs", "pack", tmp_path / "new.json", "--from", empty), "end it in .json.gz"),
        (("runs", "pack", new, "--result", old), "run its command again"),
        (("runs", "pack", new, "--result", song), "is not a sweep's result"),
        (("runs", "pack", new, "--result", tmp_path / "none.json"), "does not exist"),
        (("runs", "draw", packed), "has curve, table, matrix"),
        (("runs", "draw", trained / "curve"), "is a folder of runs"),
        (("runs", "draw", packed, "--experiment", "curve", "--out", tmp_path / "a.txt"), "ending"),
    ):
        error = refused(*words)
        assert told in str(error), words
        assert error.exit_code == 2
    assert not new.exists()


def test_a_damaged_run_folder_is_told_and_left_out_of_groups(trained, tmp_path):
    runs = tmp_path / "out" / "runs"
    shutil.copytree(trained / "curve" / "runs", runs)
    listed = json.loads((trained / "curve" / "curve.json").read_text())["parameters"]["runs"]
    damaged, odd = (runs / r["hash"] for r in listed if r["arm"] == "random" and r["layers"] == 2)
    (damaged / "spec.json").write_text("{")
    (odd / "metrics.jsonl").write_text("no json\n")
    assert "1 failed" in call("runs", "--from", tmp_path / "out")
    for folder in (damaged, odd):
        error = refused("runs", "show", folder.name, "--from", tmp_path / "out")
        assert error.exit_code == 1
        assert "remove the" in str(error)
    (odd / "metrics.jsonl").unlink()
    tables = facts("runs", "compare", "--by", "arm,layers", "--from", tmp_path / "out", "--json")["tables"]
    groups = {(g["values"]["arm"], g["values"]["layers"]): g["seeds"] for t in tables for g in t["groups"]}
    assert (len(groups["random", 1]), len(groups["random", 2])) == (2, 1)


def test_a_figure_of_the_paper_is_refused_before_any_training(tmp_path):
    for verb, what in (("transfer-curve", "pointwise"), ("transfer-matrix", "conv")):
        more = ("--layers", "1,2") if verb == "transfer-curve" else ("--arms", "stack")
        error = refused(verb, "--what", what, "--with-paper", *more, "--out", tmp_path / "out", *SMALL)
        assert "--with-paper" in str(error)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("verb", "option", "remedy"),
    [
        ("draw", "--from=x", "leave it out"),
        ("show", "--csv", "leave it out"),
        ("show", "--json", "write it after show"),
    ],
)
def test_an_option_before_a_word_is_sent_only_where_that_word_takes_it(mkfa, verb, option, remedy):
    result = mkfa("runs", option, verb, "something")
    assert result.code == 2 and remedy in result.err
