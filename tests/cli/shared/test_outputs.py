"""What every command says and writes goes through the same few functions."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from mkfa.banks.bank_file import write_bank
from mkfa.cli.shared.outputs import check_outputs, deliver, plain, print_table, say_wrapped, show, to_json
from mkfa.errors import MkfaError


@dataclass(frozen=True, slots=True)
class Result:
    share: float
    name: Path


class Picture:
    """Stands for a matplotlib figure."""

    def savefig(self, file, *, format, dpi):
        file.write(f"{format} at {dpi}".encode())


def test_json_knows_numpy_paths_and_results_and_has_no_nan():
    value = {1: Result(float("nan"), Path("a")), "x": (np.float32(0.5), np.arange(2), np.bool_(True), float("inf"))}
    assert json.loads(to_json(value)) == {"1": {"share": None, "name": "a"}, "x": [0.5, [0, 1], True, None]}
    assert plain({"a": None, "b": {3}}) == {"a": None, "b": [3]}


def given(told, **changes):
    usual = {
        "write": lambda path: path.write_text("arrays"),
        "draw": Picture,
        "tell": lambda: told.append("tables"),
        "force": False,
        "as_json": False,
    }
    return usual | changes


def test_a_result_goes_to_files_then_to_the_reader(tmp_path, capsys):
    told = []
    deliver(tmp_path / "r.h5", tmp_path / "r.PNG", lambda: {"k": 1}, **given(told))
    assert (tmp_path / "r.h5").read_text() == "arrays"
    assert (tmp_path / "r.PNG").read_text() == "png at 200"
    assert told == ["tables"]
    assert capsys.readouterr().out.splitlines() == [f"Wrote {tmp_path / 'r.h5'}.", f"Wrote {tmp_path / 'r.PNG'}."]


def test_json_on_screen_is_all_that_is_printed_and_the_same_as_in_the_file(tmp_path, capsys):
    told = []
    deliver(tmp_path / "r.json", None, lambda: {"k": 1}, **given(told, as_json=True))
    assert told == []
    assert json.loads(capsys.readouterr().out) == json.loads((tmp_path / "r.json").read_text()) == {"k": 1}


def test_without_files_nothing_is_named(capsys):
    told = []
    deliver(None, None, lambda: pytest.fail("nobody asked for the facts"), **given(told, draw=pytest.fail))
    assert (told, capsys.readouterr().out) == (["tables"], "")


def test_only_force_replaces_a_file(tmp_path):
    for name in ("r.json", "r.svg"):
        (tmp_path / name).write_text("old")
        paths = (tmp_path / name, None) if name == "r.json" else (None, tmp_path / name)
        with pytest.raises(MkfaError, match="exists already"):
            deliver(*paths, dict, **given([]))
        assert (tmp_path / name).read_text() == "old"
        deliver(*paths, dict, **given([], force=True))
        assert (tmp_path / name).read_text() != "old"


def test_outputs_are_checked_by_ending_place_and_bank(tmp_path, bank_maker):
    bank = write_bank(bank_maker(), tmp_path / "b.h5")
    check_outputs(tmp_path / "r.H5", tmp_path / "r.svg", force=False, banks=[str(bank)])
    check_outputs(tmp_path / "r.csv", None, force=False, endings=(".csv",))
    for out, figure, says in (
        (tmp_path / "r.csv", None, "end it in .h5 or .json"),
        (None, tmp_path / "r.h5", "end it in .png or .pdf or .svg"),
        (tmp_path / "gone" / "r.h5", None, "does not exist"),
        (bank, None, "is a bank that the result is made from"),
    ):
        with pytest.raises(MkfaError, match=says):
            check_outputs(out, figure, force=True, banks=[str(bank)])


def test_tables_show_text_as_it_is_and_numbers_short(capsys):
    print_table("[bold]", ("name", "x"), [("[red]a[/red]", 1 / 3), ("b", float("nan")), (None, 12)], notes=["A note."])
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines == [["[bold]"], ["name", "x"], ["[red]a[/red]", "0.333"], ["b", "–"], ["–", "12"], ["A", "note."]]
    assert show(2.0) == "2.000"


def test_long_sentences_are_folded_at_100_characters(capsys):
    say_wrapped("word " * 50)
    lines = capsys.readouterr().out.splitlines()
    assert [len(line) for line in lines] == [99, 99, 49]
