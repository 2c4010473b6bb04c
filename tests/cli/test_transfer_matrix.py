"""`mkfa transfer-matrix`: sources that are no targets, controls, what it says; and the same from packed results."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from small import SMALL, call, pack_small_domain
from typer.testing import CliRunner

from mkfa.banks.bank_file import write_bank
from mkfa.cli.app import app
from mkfa.errors import MkfaError
from mkfa.storage.heading import heading
from mkfa.storage.json_text import CRC

PAPER = ("imagenet", "food", "sketch", "cifar10", "stl10", "pets", "flowers")


@pytest.fixture
def pair(tmp_path: Path) -> str:
    return f"{pack_small_domain(tmp_path, 'here')},{pack_small_domain(tmp_path, 'there')}"


def matrix(*words: object) -> str:
    return call("transfer-matrix", *SMALL, *words)


def plan(*words: object) -> list[dict[str, Any]]:
    return json.loads(matrix(*words, "--dry-run", "--json"))["runs"]


def arms(runs: list[dict[str, Any]]) -> Counter[str]:
    return Counter(r["arm"] for r in runs)


@pytest.mark.slow
def test_the_papers_table_is_42_runs_and_seven_base_runs(tmp_path):
    files = [pack_small_domain(tmp_path, name) for name in PAPER]
    words = ("--source", files[0], "--target", ",".join(str(f) for f in files[1:]), "--out", tmp_path / "out")
    paper = {"baseline": 7, "transfer": 36, "selffer": 6}
    runs = plan(*words, "--controls", "none")
    assert arms(runs) == paper
    assert {(r["from"], r["domain"]) for r in runs if r["arm"] != "baseline"} == {
        (s, t) for s in PAPER for t in PAPER[1:]
    }
    assert {r["domain"] for r in runs if r["arm"] == "baseline"} == set(PAPER)
    assert arms(plan(*words)) == paper | {"random": 6, "delta": 6}
    assert arms(plan(*words, "--what", "pointwise")) == paper | {"random": 6}


def test_sources_and_controls_from_the_run_to_the_packed_table(pair, tmp_path):
    more, out = pack_small_domain(tmp_path, "more"), tmp_path / "out"
    matrix("--target", pair, "--controls", "none", "--out", out)
    before = {p: p.stat().st_mtime_ns for p in (out / "runs").glob("*/result.json")}
    assert len(before) == 6
    words = ("--source", more, "--target", pair, "--out", out)
    told = matrix(*words)
    after = {p: p.stat().st_mtime_ns for p in (out / "runs").glob("*/result.json")}
    assert len(after) == 6 + 3 + 4  # base run and two cells of the source, two controls on two targets
    assert {p: after[p] for p in before} == before
    found = json.loads((out / "matrix.json").read_text())
    assert found["sources"] == found["parameters"]["sources"] == ["more", "here", "there"]
    assert found["domains"] == ["here", "there"]
    assert [(c["source"], c["target"]) for c in found["cells"]] == [
        (s, t) for s in found["sources"] for t in ("here", "there")
    ]
    assert [(c["arm"], c["target"], c["layers"]) for c in found["controls"]] == [
        (a, t, 2) for a in ("random", "delta") for t in ("here", "there")
    ]
    assert [(o["against"], o["cells"], o["targets"]) for o in found["overall"]] == [
        (name, 4, 2) for name in ("baseline", "selffer", "random")
    ]
    assert set(found["sensitivity"]) == {"here", "there"}
    assert len((out / "matrix.csv").read_text().splitlines()) == 2 + 2 + 6 + 4
    table = told[told.index("Source (rows)") : told.index("Wrote")]
    rows = [line.split()[0] for line in table.splitlines()[2:10] if line.strip()]
    assert rows == ["base", "more", "here", "there", "(random)", "(delta)", "Top-1"]
    assert "Sensitivity, points that the worst control lies below the base: here" in table
    assert " ".join(table.split()).count("mean of 4 cells off the diagonal") == 3
    call("runs", "pack", tmp_path / "r.json.gz", "--result", out / "matrix.json")
    drawn = call("runs", "draw", tmp_path / "r.json.gz", "--out", tmp_path / "again.png")
    assert drawn[: drawn.index("From out")] == table
    drawn = json.loads(call("runs", "draw", out / "matrix.json", "--json"))
    own = {key: value for key, value in found.items() if key not in (*heading("matrix"), CRC)}
    assert own == {key: drawn[key] for key in own}
    assert (tmp_path / "again.png").read_bytes() == (out / "matrix.png").read_bytes()


def test_a_bank_is_a_row_of_depthwise_filters_alone(pair, tmp_path, bank_maker):
    path = write_bank(bank_maker(((8, 7, 7), (8, 7, 7)), name="lent"), tmp_path / "lent.h5") or tmp_path / "lent.h5"
    words = ("--source", path, "--target", pair.split(",")[0], "--controls", "delta", "--out", tmp_path / "out")
    found = json.loads(matrix(*words, "--json"))
    assert [(c["source"], c["arm"]) for c in found["cells"]] == [("lent", "transfer"), ("here", "selffer")]
    assert [c["arm"] for c in found["controls"]] == ["delta"]
    assert [o["against"] for o in found["overall"]] == ["baseline", "selffer"]
    refused = CliRunner().invoke(
        app, ["transfer-matrix", *SMALL, *map(str, words), "--what", "pointwise", "--controls", "random"]
    )
    assert "a bank has no pointwise filters" in str(refused.exception)


def test_pointwise_layers_have_one_control_and_say_why(pair, tmp_path):
    told = matrix("--target", pair, "--what", "pointwise", "--out", tmp_path / "out", "--dry-run")
    assert "Control random; not delta, which sets single kernels: pointwise layers have no use for it." in told
    assert "delta" not in matrix("--target", pair, "--out", tmp_path / "out", "--dry-run", "--controls", "random")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--controls", "transfer"), "--controls transfer: arm transfer takes filters from a source"),
        (("--controls", "random,shuffle"), "choose among random, basis"),
        (("--controls", "random,,delta"), "has an empty name in it"),
        (("--controls", "rando"), "did you mean"),
        (("--controls", "baseline"), "is always included"),
        (("--controls", "delta", "--what", "pointwise"), "arm delta: sets"),
        (("--arms", "random"), "--arms random: takes no filters from a source"),
        (("--arms", "keys"), "--controls keys"),
        (("--arms", "selffer+"), "selffer is on the diagonal"),
        (("--source", ""), "--source: names nothing"),
        (("--source", "nosuch"), "nosuch"),
    ],
)
def test_wrong_requests_are_one_sentence_and_train_nothing(pair, tmp_path, words, told):
    base = ("transfer-matrix", *SMALL, "--target", pair, "--out", str(tmp_path / "out"))
    done = CliRunner().invoke(app, [*base, *words])
    assert isinstance(done.exception, MkfaError), done.output
    assert done.exception.exit_code == 2
    assert told in str(done.exception)
    assert not (tmp_path / "out").exists()


def test_two_rows_of_one_name_are_refused(pair, tmp_path, bank_maker):
    here = pair.split(",")[0]
    banks = [tmp_path / "one.h5", tmp_path / "two.h5"]
    for path in banks:
        write_bank(bank_maker(((8, 7, 7), (8, 7, 7)), name="lent"), path)
    for words, told in (
        ((here,), "is called here, as one of --target is; leave it out"),
        ((f"{banks[0]},{banks[1]}",), "is called lent, as another of them is"),
    ):
        done = CliRunner().invoke(
            app, ["transfer-matrix", *SMALL, "--target", pair, "--source", *words, "--out", str(tmp_path / "out")]
        )
        assert told in str(done.exception)
        assert not (tmp_path / "out").exists()
