"""Results go to files, then to the reader; a file that cannot be written is refused before the work."""

from __future__ import annotations

import json

import pytest

from mkfa.banks.bank_file import write_bank
from mkfa.cli.shared.outputs import Output
from mkfa.errors import MkfaError


class Result:
    """Stands for the result of a verb."""

    def save(self, path, *, overwrite):
        path.write_text("saved")

    def to_dict(self):
        return {"k": 1}


class Picture:
    """Stands for a matplotlib figure without texts."""

    def __init__(self, width):
        assert width == "page"

    def findobj(self, _):
        return []

    def savefig(self, file, *, format, dpi):
        file.write(f"{format} at {dpi}".encode())


def test_a_result_goes_to_files_then_to_the_reader(tmp_path, capsys):
    shown = []
    output = Output(tmp_path / "r.h5", tmp_path / "r.PNG")
    output.deliver(Result(), show=lambda: shown.append("tables"), draw=Picture)
    assert (tmp_path / "r.h5").read_text() == "saved"
    assert (tmp_path / "r.PNG").read_text() == "png at 200"
    assert shown == ["tables"]
    assert capsys.readouterr().out.splitlines() == [f"Wrote {tmp_path / 'r.h5'}.", f"Wrote {tmp_path / 'r.PNG'}."]


def test_json_on_screen_is_all_that_is_printed(tmp_path, capsys):
    Output(tmp_path / "r.json", as_json=True).deliver(Result(), show=pytest.fail, draw=pytest.fail)
    assert json.loads(capsys.readouterr().out) == {"k": 1}


def test_without_files_nothing_is_named(capsys):
    Output().deliver(Result(), show=lambda: None, draw=pytest.fail)
    assert capsys.readouterr().out == ""


def test_outputs_are_checked_by_ending_place_and_bank(tmp_path, bank_maker):
    bank = write_bank(bank_maker(), tmp_path / "b.h5")
    Output(tmp_path / "r.H5", tmp_path / "r.svg").check([str(bank)])
    for out, figure, says in (
        (tmp_path / "r.txt", None, "end the name in .json or .csv or .h5"),
        (None, tmp_path / "r.h5", "end the name in .png or .pdf or .svg"),
        (tmp_path / "gone" / "r.h5", None, "does not exist"),
        (bank, None, "is a bank that the result is made from"),
    ):
        with pytest.raises(MkfaError, match=says):
            Output(out, figure, force=True).check([str(bank)])
    (tmp_path / "r.h5").write_text("old")
    with pytest.raises(MkfaError, match="exists already"):
        Output(tmp_path / "r.h5").check()
