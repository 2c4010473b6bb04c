"""`mkfa compare --group`: tables, the answer in a sentence, a figure, and refusals."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from mkfa.banks.bank_file import write_bank
from mkfa.cli.app import app
from mkfa.errors import MkfaError


@pytest.fixture
def banks(bank_maker, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder, seeds in (("one", range(3)), ("two", range(3, 6))):
        (tmp_path / folder).mkdir()
        for seed in seeds:
            write_bank(bank_maker(((40, 5, 5),) * 3, seed=seed, name=f"n{seed}"), tmp_path / folder / f"n{seed}.h5")


def run(*arguments):
    result = CliRunner().invoke(app, ["compare", *arguments])
    if isinstance(result.exception, MkfaError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def test_groups_of_folders_are_compared(banks, tmp_path):
    out = run("--group", "first=one", "--groups", "second=two", "--figure", "g.png", "--out", "g.csv")
    for said in ("banks as units, 3 of first, 3 of second", "coverage (primary)", "all 10 ways", "cannot be below 0.1"):
        assert said in out.replace("\n", " "), said
    assert "no test can say anything at 5 %" in out.replace("\n", " ")
    assert (tmp_path / "g.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "g.csv").read_text().count("\n") == 2 + 3 * 15


def test_a_file_of_groups_and_json(banks, tmp_path):
    (tmp_path / "groups.toml").write_text('first = ["one"]\nsecond = ["two/n3.h5", "two/n4.h5"]\n')
    found = json.loads(run("--groups", "groups.toml", "--measures", "energy", "--draws", "19", "--json"))
    assert found["groups"] == {"first": ["n0", "n1", "n2"], "second": ["n3", "n4"]}
    assert [m["measure"] for m in found["kinds"][0]["measures"]] == ["energy"]
    assert found["permutations"] == 19


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["one/n0.h5"], "is in no group"),
        (["--nulls", "gaussian"], "compared with one another"),
        (["--threshold", "0.8"], "for pairs of banks"),
        (["--measures", "pca_kl"], "depends on the number of filters"),
        (["--kernel-size", "7x7"], "share no kernel size"),
        (["--out", "one/n0.h5", "--force"], "is a bank that the result is made from"),
    ],
)
def test_what_groups_cannot_do_is_refused(banks, more, said):
    with pytest.raises(MkfaError, match=said):
        run("--group", "a=one", "--group", "b=two", *more)
