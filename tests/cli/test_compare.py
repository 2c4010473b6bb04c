from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mkfa.banks.bank import FilterBank
from mkfa.banks.bank_file import write_bank
from mkfa.cli.app import app
from mkfa.errors import MkfaError
from mkfa.storage.result_files import read_arrays

QUICK = ["--draws", "19", "--sample", "32"]


@pytest.fixture
def two(tmp_path: Path, bank_maker: Callable[..., FilterBank]) -> list[str]:
    for name, seed in (("one", 1), ("two", 2)):
        write_bank(bank_maker([(40, 5, 5), (30, 5, 5), (20, 3, 3)], seed=seed, name=name), tmp_path / f"{name}.h5")
    return ["--a", str(tmp_path / "one.h5"), "--b", str(tmp_path / "two.h5")]


def invoke(*args: str) -> str:
    result = CliRunner().invoke(app, ["compare", *args], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def refused(*args: str) -> str:
    with pytest.raises(MkfaError) as caught:
        CliRunner().invoke(app, ["compare", *args], catch_exceptions=False)
    return str(caught.value)


def test_the_table_fits_a_hundred_columns_and_names_null_seed_and_size(two: list[str]):
    text = invoke(*two, *QUICK, "--seed", "3")
    assert max(map(len, text.splitlines())) <= 100
    for part in (
        "one and two, 5x5: 32 filters of each, of 70 and 70",
        "19 draws, seed 3",
        "covariance-layer",
        "pca_kl",
        "responses",
        "one and two, 3x3: ",
        "By coverage, the 5x5 filters of one and two",
        "No common parent of one and two was found: in 3 pairs of layers of equal shape",
    ):
        assert part in text


@pytest.mark.parametrize("ending", ["h5", "json", "csv"])
def test_files_are_written_once_unless_forced(two: list[str], tmp_path: Path, ending: str):
    out = tmp_path / f"r.{ending}"
    quick = [*two, *QUICK, "--measures", "coverage,energy", "--kernel-size", "5x5", "--out", str(out)]
    assert f"Wrote {out}." in invoke(*quick)
    assert "exists already" in refused(*quick)
    invoke(*quick, "--force")
    if ending == "h5":
        arrays, attributes = read_arrays(out, kind="comparison")
        assert arrays["one and two/5x5/value"].shape == (2,)
        assert attributes["settings"]["permutations"] == 19 and attributes["pairs"][0]["left_out"]
    elif ending == "json":
        assert json.loads(out.read_text())["comparisons"][0]["kinds"][0]["kind"] == "5x5"
    else:
        assert out.read_text().splitlines()[1].startswith("a,b,kind,scope")


def test_json_and_three_banks(two: list[str], tmp_path: Path):
    third = [str(tmp_path / "one.h5")]
    quick = [*QUICK, "--measures", "coverage", "--nulls", "gaussian"]
    data = json.loads(invoke(*two, *third, *quick, "--json"))
    names = [(c["a"], c["b"]) for c in data["comparisons"]]
    assert names == [("one (1)", "two"), ("one (1)", "one (3)"), ("two", "one (3)")]
    assert data["comparisons"][1]["kinds"][0]["same_filters"] is True
    assert len(data["matrices"]) == 2
    text = invoke(*two[1::2], third[0], *quick, "--figure", str(tmp_path / "m.png"))
    assert "fraction of the way from floor to ceiling" in " ".join(text.split())
    assert (tmp_path / "m.png").stat().st_size > 5000


def test_requests_that_cannot_be_met_are_refused_before_work(two: list[str], tmp_path: Path):
    assert "needs two banks" in refused("--a", "x")
    assert "end the name in .json or .csv or .h5" in refused(*two, "--out", str(tmp_path / "r.xlsx"))
    assert "end the name in .png or .pdf or .svg" in refused(*two, "--figure", str(tmp_path / "r.bmp"))
    assert "does not exist" in refused(*two, "--out", str(tmp_path / "no" / "r.csv"))
    assert "unknown null" in refused(*two, "--nulls", "gausian")
    assert "is not a kernel size" in refused(*two, "--kernel-size", "5by5")
    assert "no kernel size and dilation in common among 9x9" in refused(*two, "--kernel-size", "9x9")
    assert "names no architecture" in refused(*two, *QUICK, "--nulls", "init")
    assert "efficientnet_lite0" in refused("--a", "efficientnet_lite", "--b", "ppocrv4_rec")


def test_force_does_not_replace_a_bank_by_the_result(two: list[str]):
    bank = Path(two[3])
    before = bank.read_bytes()
    with pytest.raises(MkfaError, match="is a bank that the result is made from"):
        invoke(*two, *QUICK, "--out", str(bank), "--force")
    assert bank.read_bytes() == before


def test_a_name_in_brackets_is_printed_as_it_is(tmp_path: Path, bank_maker: Callable[..., FilterBank]):
    for seed, name in enumerate(("[bold]one", "two")):
        write_bank(bank_maker([(40, 3, 3)], seed=seed, name=name), tmp_path / f"{seed}.h5")
    said = invoke(str(tmp_path / "0.h5"), str(tmp_path / "1.h5"), *QUICK, "--measures", "mmd")
    assert said.startswith("[bold]one and two, 3x3")
