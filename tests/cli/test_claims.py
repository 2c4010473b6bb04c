"""mkfa claims: the list is quick and needs no torch; verdicts are printed, written and read again."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import mkfa
from mkfa.evidence.stored import read_claims


def mkfa_of(*words, code=0):
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "mkfa.cli.app", *words], capture_output=True, text=True
    )
    assert done.returncode == code, done.stderr[-2000:]
    return done


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    monkeypatch.setenv("MKFA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.chdir(tmp_path)


def test_the_list_needs_neither_torch_nor_timm():
    done = mkfa_of("claims")
    for name in ("torch", "timm", "sklearn", "matplotlib"):
        assert f"| {name}\n" not in done.stderr
    for id in ("C1 ", "C8a", "C12", "C21"):
        assert f"\n{id}" in done.stdout
    assert "22 claims" in done.stdout


def test_check_judges_runs_and_writes_what_can_be_read_again(tmp_path):
    shown = mkfa_of("claims", "check", "C12", "--from", "bundled", "--out", "v.json").stdout
    assert "Setting: laptop scale" in shown and "seeds" in shown and "smallest visible difference" in shown
    assert "As printed: Contradicted" in shown
    found = read_claims(tmp_path / "v.json")
    again = mkfa.check_claims("C12", place="bundled")
    assert found["C12"].chosen == again["C12"].chosen
    assert found["C12"].printed.reason == again["C12"].printed.reason


def test_verdicts_judged_here_are_listed(tmp_path):
    from mkfa.evidence.stored import verdict_file

    verdict_file("C12", "laptop").parent.mkdir(parents=True)
    mkfa.check_claims("C12", place="bundled").save(verdict_file("C12", "laptop"))
    [row] = json.loads(mkfa_of("claims", "list", "C12", "--json").stdout)["claims"]
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
def test_bad_requests_get_a_sentence(words, message):
    assert message in mkfa_of("claims", *words, code=2).stderr


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
