"""mkfa claims: the list is quick and needs no torch; verdicts are printed, written and read again."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

from mkfa import check_claims
from mkfa.evidence.stored import read_claims


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    monkeypatch.setenv("MKFA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "160")


@pytest.fixture
def mkfa_of(mkfa):
    """Run the command, which must end with the exit code."""

    def run(*words, code=0):
        done = mkfa(*words)
        assert done.code == code, done.err
        return done

    return run


def test_the_list_needs_neither_torch_nor_timm():
    words = [sys.executable, "-X", "importtime", "-m", "mkfa.cli.app", "claims"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    for name in ("torch", "timm", "sklearn", "matplotlib"):
        assert f"| {name}\n" not in done.stderr
    for id in ("C1 ", "C8a", "C12", "C21"):
        assert f"\n{id}" in done.stdout
    assert "22 claims" in done.stdout


def test_check_judges_runs_and_writes_what_can_be_read_again(mkfa_of, tmp_path):
    shown = mkfa_of("claims", "check", "C12", "--from", "bundled", "--out", "v.json").out
    assert "Setting: laptop scale" in shown and "seeds" in shown and "smallest visible difference" in shown
    assert "As printed: Contradicted" in shown
    found = read_claims(tmp_path / "v.json")
    again = check_claims("C12", place="bundled")
    assert found["C12"].chosen == again["C12"].chosen
    assert found["C12"].printed.reason == again["C12"].printed.reason


def test_verdicts_judged_here_are_listed(mkfa_of, tmp_path):
    from mkfa.evidence.stored import verdict_file

    verdict_file("C12", "laptop").parent.mkdir(parents=True)
    check_claims("C12", place="bundled").save(verdict_file("C12", "laptop"))
    [row] = json.loads(mkfa_of("claims", "list", "C12", "--json").out)["claims"]
    assert (row["place"], row["verdict"]["scale"]["name"]) == ("here", "laptop")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["list", "C99"], "C99: unknown claim"),
        (["check", "--scale", "huge"], "--scale huge: is not a scale; choose one of laptop, gpu, paper"),
        (["check", "--from", "nowhere"], "nowhere: is neither a folder nor a results file"),
        (["check", "--out", "x.txt"], "x.txt: has an unknown ending; end the name in .json or .csv"),
        (["check", "C17", "--graft", "no.json"], "no.json: cannot be read"),
    ],
)
def test_bad_requests_get_a_sentence(mkfa_of, words, message):
    assert message in mkfa_of("claims", *words, code=2).err


def test_files_that_hold_no_verdicts_are_refused(tmp_path):
    from mkfa.errors import MkfaError

    for text, message in [
        ("{", "is not JSON"),
        ("[]", "does not hold verdicts"),
        ('{"format": "mkfa.curve"}', "verdicts"),
    ]:
        (tmp_path / "x.json").write_text(text)
        with pytest.raises(MkfaError, match=message):
            read_claims(tmp_path / "x.json")
    broken = {"format": "mkfa.claims", "format_version": 1, "claims": [{"id": "C1"}]}
    (tmp_path / "x.json").write_text(json.dumps(broken))
    with pytest.raises(MkfaError, match="is damaged"):
        read_claims(tmp_path / "x.json")
    (tmp_path / "x.json").write_text(json.dumps(broken | {"format_version": 2}))
    with pytest.raises(MkfaError, match="version 2"):
        read_claims(tmp_path / "x.json")


SMALL = [
    *("--arch", "resmixer_4_2", "--equal-steps", "2", "--set", "batch=4"),
    *("--seeds", "2", "--device", "cpu", "--threads", "1", "--jobs", "1"),
]


def test_run_trains_what_is_missing_once_and_judges(mkfa_of, tmp_path):
    first = mkfa_of("claims", "run", "C15", "--out", "x", *SMALL).out
    assert "10 runs, 0 done" in first and "Verdict: Inconclusive: seeds: 2 of 5" in first
    again = mkfa_of("claims", "run", "C15", "--out", "x", *SMALL).out
    assert "10 runs, 10 done" in again
    # another network than the scale's: shown, but not kept as a verdict at laptop scale
    assert not (tmp_path / "home" / "claims").exists()
    assert mkfa_of("claims", "list", "C15", "--json").out.count('"place": "here"') == 0


def test_run_says_what_it_would_train_at_the_papers_scale_without_its_images(mkfa_of):
    shown = mkfa_of("claims", "run", "C16", "--scale", "paper", "--dry-run").out
    assert "convnextv2_tiny" in shown and "30 runs in all, at paper scale" in shown
    assert "keys-8" in shown and "imagenet" in shown
    assert "is not one at which C2 can be run" in mkfa_of("claims", "run", "C2", "--dry-run", code=2).err


def test_a_dry_run_at_the_papers_scale_counts_the_images_of_halves_of_imagenet_that_are_not_here(mkfa_of):
    """An epoch of the natural half has 575,244 of the 1,281,167 images, its share of the classes."""
    shown = mkfa_of("reproduce", "table1", "--scale", "paper", "--dry-run", "--json").out
    plans = json.loads(shown)
    assert {run["domain"] for run in plans["runs"]} == {"imagenet-natural", "imagenet-manmade"}
    told = mkfa_of("reproduce", "table1", "--scale", "paper", "--dry-run").out
    steps = int(re.search(r"0 done; ([\d,]+) steps to go", told)[1].replace(",", ""))
    images = {"imagenet-natural": 575_244, "imagenet-manmade": 705_923}
    batch, epochs = 1024, 300
    assert steps == sum(epochs * (images[run["domain"]] // batch) for run in plans["runs"])


def test_reproduce_writes_the_comparison_and_what_the_verb_writes(mkfa_of, tmp_path):
    shown = mkfa_of("reproduce", "table1", "--out", "y", *SMALL).out
    assert "ours, top-1 %" in shown and "the paper's" in shown and "86.2" in shown and "nan" not in shown
    written = {path.name for path in (tmp_path / "y").iterdir()}
    assert written >= {"table1.json", "table1.csv", "table.json", "table.csv", "table.png"}
    values = json.loads((tmp_path / "y" / "table1.json").read_text())["values"]
    assert not [v for v in values if v["ours"] is not None and v["paper"] is not None]  # other data: other rows


def test_reproduce_lists_the_programme_and_refuses_what_it_does_not_know(mkfa_of):
    shown = mkfa_of("reproduce").out
    assert all(word in shown for word in ("Figure 2b", "Figure 4", "Table 7", "C13"))
    assert "figure9: unknown figure or table" in mkfa_of("reproduce", "figure9", code=2).err
    assert "it needs no runs" not in mkfa_of("reproduce", "table6").err
