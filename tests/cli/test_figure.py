"""`mkfa figure` draws from banks, lists what there is, and points to the verb for the rest."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from mkfa.banks.bank_file import write_bank
from mkfa.cli.app import app
from mkfa.errors import MkfaError
from mkfa.figures import FIGURES


def run(*arguments):
    result = CliRunner().invoke(app, ["figure", *map(str, arguments)])
    if isinstance(result.exception, MkfaError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def test_filters_of_two_banks(bank_maker, tmp_path):
    paths = [write_bank(bank_maker(name=n, seed=i), tmp_path / f"{n}.h5") for i, n in enumerate("ab")]
    out = tmp_path / "f.png"
    assert "seed 3" in run("filters", *paths, "--out", out, "--seed", 3)
    assert out.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(MkfaError, match="exists already"):
        run("filters", paths[0], "--out", out)


def test_without_out_the_figure_has_its_name(bank_maker, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_bank(bank_maker(), tmp_path / "a.h5")
    assert json.loads(run("filters", "a.h5", "--json"))["path"] == "filters.png"
    assert (tmp_path / "filters.png").is_file()


def test_list_shows_figures_from_banks_and_those_of_verbs():
    known = json.loads(run("--list", "--json"))
    assert {f["name"] for f in known["figures"]} == set(FIGURES)
    assert "mkfa figure filters" in run()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("filtres",), "did you mean filters"),
        (("zzz",), "mkfa figure --list"),
        (("atlas",), "use 'mkfa atlas BANK"),
        (("filters",), "no bank was named"),
        (("filters", "a", "--out", "x.gif"), "end the name in .png"),
    ],
)
def test_wrong_requests_say_what_to_do(arguments, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MkfaError, match=says):
        run(*arguments)


def test_the_width_of_a_picture_is_that_of_a_column_or_a_page(bank_maker, tmp_path):
    import matplotlib.image

    bank = write_bank(bank_maker(), tmp_path / "a.h5")

    for width, inches in (("column", 3.4), ("page", 7.0)):
        path = tmp_path / f"{width}.png"
        run("filters", bank, "--width", width, "-o", path)
        assert matplotlib.image.imread(path).shape[1] == round(200 * inches)
    with pytest.raises(MkfaError, match="choose column or page"):
        run("filters", bank, "--width", "foot", "-o", tmp_path / "no.png")
    assert not (tmp_path / "no.png").exists()
    result = CliRunner().invoke(app, ["compare", "a", "b", "--width", "column"])
    assert "none was asked for" in str(result.exception)
