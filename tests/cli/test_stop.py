"""Ctrl-C at the command line: one line and exit code 130."""

from __future__ import annotations

import sys

import pytest

from mkfa.cli import app as module


def test_ctrl_c_is_one_line_and_exit_code_130(monkeypatch, capsys):
    from mkfa.banks import library

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(library, "list_banks", interrupted)
    monkeypatch.setattr(sys, "argv", ["mkfa", "banks"])
    with pytest.raises(SystemExit) as stop:
        module.main()
    assert stop.value.code == 130
    assert capsys.readouterr().err.strip() == "mkfa: stopped; what was finished is kept."
