"""The command as a user types it, in the process of the test."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from small import Ended

from mkfa.cli import app as command_line


@pytest.fixture
def mkfa(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., Ended]:
    """Return `mkfa(*words, cwd=...)`, which does what `main` does; without `cwd`, the folder is the test's own."""
    monkeypatch.chdir(tmp_path)

    def run(*words: object, cwd: Path = tmp_path) -> Ended:
        monkeypatch.setattr(sys, "argv", ["mkfa", *map(str, words)])
        with pytest.raises(SystemExit) as stopped, contextlib.chdir(cwd):
            command_line.main()
        return Ended(int(stopped.value.code or 0), *capsys.readouterr())

    return run
