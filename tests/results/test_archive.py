"""Results files: the same runs give the same bytes, come back whole, hold no paths; damage is named."""

from __future__ import annotations

import base64
import gzip
import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mkfa.errors import MkfaError, UnknownNameError
from mkfa.results import archive as result_file
from mkfa.results.archive import (
    PackedExperiment,
    bundled_file,
    command_without_places,
    find_experiment,
    read_experiments,
    without_places,
    write_experiments,
)
from mkfa.results.record import RunRecord
from mkfa.results.runs import record_of
from mkfa.training.result import RunResult, encode_right
from mkfa.training.spec import RunSpec, as_record


def packed(seed: int, top1: float = 0.5, **more: object) -> RunRecord:
    spec = RunSpec("convmixer_8_2", "made", "d1", "smoke", {"lr": 0.004, "batch": 8}, seed, **more)
    result = {"state": "done", "run": as_record(spec), "top1_last": top1, "notes": [], "test_images": 12}
    return record_of(spec, "", RunResult.of(result))


def experiment(name: str = "one", *runs: RunRecord, command: str = "mkfa train made") -> PackedExperiment:
    return PackedExperiment(name, "runs", command, {}, runs or (packed(0), packed(1, 0.1 + 0.2)))


def test_what_is_written_comes_back_and_twice_the_same_bytes(tmp_path, monkeypatch):
    never = RunRecord("a", "made", "transfer", 2, 0, hash="0" * 16)
    given_ = (experiment(), experiment("two", packed(0), never))
    for clock, name in ((1e9, "a.json.gz"), (2e9, "b.json.gz")):
        monkeypatch.setattr("time.time", lambda now=clock: now)
        write_experiments(tmp_path / name, given_, overwrite=False)
    assert (tmp_path / "a.json.gz").read_bytes() == (tmp_path / "b.json.gz").read_bytes()
    assert read_experiments(tmp_path / "a.json.gz") == given_
    assert read_experiments(tmp_path / "a.json.gz")[0].runs[1].result.top1_last == 0.1 + 0.2  # to the last bit


def test_an_existing_file_other_endings_and_double_names_are_refused(tmp_path):
    path = tmp_path / "a.json.gz"
    write_experiments(path, [experiment()], overwrite=False)
    with pytest.raises(MkfaError, match="exists"):
        write_experiments(path, [experiment()], overwrite=False)
    with pytest.raises(MkfaError, match=r"\.json\.gz"):
        write_experiments(tmp_path / "a.json", [experiment()], overwrite=False)
    with pytest.raises(MkfaError, match="two experiments"):
        write_experiments(path, [experiment(), experiment()], overwrite=True)


def test_no_path_of_the_machine_is_kept(tmp_path):
    run = packed(0)
    run = replace(
        run,
        result=RunResult.of({**run.result.record, "notes": ["taken from /home/jane/x/y.h5, dilation 3", "1/2 of it"]}),
    )
    found = experiment("one", run, command="/opt/v/bin/mkfa train '/home/jane doe/d.h5' --out=/tmp/x/ --set lr=0.1")
    write_experiments(tmp_path / "a.json.gz", [found], overwrite=False)
    [back] = read_experiments(tmp_path / "a.json.gz")
    assert back.command == "mkfa train d.h5 --out=x --set lr=0.1"
    assert back.runs[0].result.record["notes"] == ["taken from y.h5, dilation 3", "1/2 of it"]


def test_answers_to_test_images_are_kept_though_their_text_looks_like_a_path(tmp_path):
    bits = [bool(value >> (7 - i) & 1) for value in base64.b64decode("AB+/abc/defg") for i in range(8)]
    text = encode_right(bits)
    assert text == "AB+/abc/defg"
    run = packed(0)
    run = replace(run, result=RunResult.of({**run.result.record, "test_right": text, "test_images": len(bits)}))
    write_experiments(tmp_path / "a.json.gz", [experiment("one", run)], overwrite=False)
    assert read_experiments(tmp_path / "a.json.gz")[0].runs[0].result.right == tuple(bits)


@pytest.mark.parametrize(
    ("command", "kept"),
    [
        ("mkfa transfer-curve --layers 1..18", "mkfa transfer-curve --layers 1..18"),
        ("MKFA_HOME=/mnt/e mkfa train letters", "MKFA_HOME=e mkfa train letters"),
        ("mkfa transfer-matrix --domains /d/a.h5,~/b.h5,emoji", "mkfa transfer-matrix --domains a.h5,b.h5,emoji"),
        ("mkfa train out/made.h5", "mkfa train out/made.h5"),
        ("see https://example.org/a/b it's there", "see https://example.org/a/b it's there"),
        ("it's in /home/jane/x", "it's in x"),
    ],
)
def test_commands_without_places(command, kept):
    assert command_without_places(command) == kept


@given(st.text(st.characters(codec="utf-8")), st.lists(st.from_regex(r"[a-z0-9._-]{1,8}", fullmatch=True), min_size=2))
def test_a_path_in_a_sentence_loses_its_folders_and_nothing_else(text, parts):
    before = without_places(f"{text} ")
    path = "/" + "/".join(parts)
    assert without_places(f"{text} {path} end") == f"{before}{parts[-1]} end"


def rewritten(path: Path, change) -> Path:
    record = json.loads(gzip.decompress(path.read_bytes()))
    change(record)
    path.write_bytes(gzip.compress(json.dumps(record).encode()))
    return path


def drop_half(record: dict) -> None:
    del record["experiments"][0]["runs"][0]["spec"]["arch"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda r: r.update(format="other"), "not a results file"),
        (lambda r: r.update(version=2), "version 2"),
        (lambda r: r.pop("experiments"), "damaged"),
        (drop_half, "damaged"),
        (lambda r: r["experiments"][0]["runs"][0]["spec"].update(seed=5), "has a specification of hash"),
        (
            lambda r: r["experiments"][0]["runs"][0].update(result=r["experiments"][0]["runs"][1]["result"]),
            "of another",
        ),
        (lambda r: r["experiments"][0]["runs"][0]["result"].update(top1_last="high"), "damaged"),
        (lambda r: r["experiments"][0].update(kind="song"), "song"),
        (lambda r: r["experiments"][0].update(runs=7), "damaged"),
    ],
)
def test_damage_is_named(tmp_path, change, told):
    path = tmp_path / "a.json.gz"
    write_experiments(path, [experiment()], overwrite=False)
    with pytest.raises(MkfaError, match=told):
        read_experiments(rewritten(path, change))


def test_what_is_no_gzip_cut_off_missing_or_too_long_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "a.json.gz"
    with pytest.raises(MkfaError, match="does not exist"):
        read_experiments(path)
    write_experiments(path, [experiment()], overwrite=False)
    whole = path.read_bytes()
    for damaged in (
        b"",
        whole[:-20],
        whole[:40] + b"\xff" * 20 + whole[60:],
        b"no gzip",
        gzip.compress(b"[1"),
        gzip.compress(b"[1]"),
        gzip.compress(b"[" * 100_000),
    ):
        path.write_bytes(damaged)
        with pytest.raises(MkfaError):
            read_experiments(path)
    path.write_bytes(whole)
    monkeypatch.setattr(result_file, "_LARGEST", 100)
    with pytest.raises(MkfaError, match="more than"):
        read_experiments(path)


def test_an_experiment_is_found_by_name_or_as_the_only_one():
    two = (experiment("first"), experiment("second"))
    assert find_experiment(two, "second").name == "second"
    assert find_experiment(two[:1], "").name == "first"
    with pytest.raises(UnknownNameError, match="first, second"):
        find_experiment(two, "")
    with pytest.raises(UnknownNameError, match="did you mean second"):
        find_experiment(two, "secnd")


def test_the_bundled_file_is_read_or_said_to_be_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(result_file, "data_file", lambda name: tmp_path / name)
    with pytest.raises(MkfaError, match="no results are bundled"):
        bundled_file()
    write_experiments(tmp_path / "experiments.json.gz", [experiment()], overwrite=False)
    assert read_experiments(bundled_file())[0].name == "one"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"[" * 100_000, "is damaged .it is nested too deeply"),
        (b'{"format": "mkfa.results", "version": ' + b"9" * 5000 + b"}", "is damaged .it has an integer of thousands"),
        (b'{"format": "mkfa.results", "version": NaN}', "is damaged .it has NaN"),
        (b'{"format": "x", "format": "mkfa.results"}', "is damaged .the key 'format' occurs twice"),
        (b'{"format": "caf\xe9"}', "is damaged .byte 15 is not UTF-8"),
    ],
)
def test_odd_text_is_refused_with_a_reason(tmp_path, text, words):
    path = tmp_path / "odd.json.gz"
    path.write_bytes(gzip.compress(text))
    with pytest.raises(MkfaError, match=words) as caught:
        read_experiments(path)
    assert caught.value.exit_code == 2 and len(str(caught.value)) < 300
