"""`mkfa demo`: every step is a command that parses, and the folder is not written over."""

from __future__ import annotations

import pytest
import typer

from mkfa.cli import demo
from mkfa.cli.app import VERBS, app
from mkfa.errors import MkfaError


def test_every_step_is_a_command_of_the_program():
    assert [command.split()[0] for _, _, command in demo.STEPS] == [
        "harvest",
        "figure",
        "compare",
        "assign",
        "atlas",
        "keys",
        "transfer-curve",
        "report",
    ]
    assert {command.split()[0] for _, _, command in demo.STEPS} <= set(VERBS)
    assert "demo" in VERBS


def test_steps_run_in_order_and_what_was_written_is_listed(tmp_path, monkeypatch, capsys):
    ran: list[list[str]] = []

    def fake(arguments: list[str], standalone_mode: bool) -> None:
        ran.append(arguments)

    demo.run_demo(fake, tmp_path / "d", force=False)
    assert [a[0] for a in ran] == [command.split()[0] for _, _, command in demo.STEPS]
    assert str(tmp_path / "d" / "ppocr_cls.safetensors") in ran[0]
    assert "ppocr_cls.safetensors" in (tmp_path / "d" / "README.txt").read_text()
    assert "$ mkfa harvest" in capsys.readouterr().out
    demo.run_demo(fake, tmp_path / "d", force=False)  # its own folder: what is done is replaced or gone on with
    assert "--force" in ran[-1] and "--force" not in ran[-2]
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "thesis.txt").write_text("mine")
    with pytest.raises(MkfaError, match="has files in it already"):
        demo.run_demo(fake, tmp_path / "own", force=False)


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(MkfaError, match="is a file"):
        demo.prepare(tmp_path / "file", force=False)
    with pytest.raises(MkfaError, match="cannot be made"):
        demo.prepare(tmp_path / "file" / "deeper", force=False)
    assert isinstance(app, typer.Typer)
