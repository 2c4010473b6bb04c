"""mkfa's folder: the user's choice, else the system's, else the usual one."""

from __future__ import annotations

from pathlib import Path

import pytest

from mkfa.storage.folders import home


@pytest.mark.parametrize(
    ("chosen", "system", "where"),
    [
        ("/a/b", "/data", "/a/b"),
        ("~/mine", "/data", "HOME/mine"),
        (None, "/data", "/data/mkfa"),
        ("", "/data", "/data/mkfa"),
        (None, None, "HOME/.local/share/mkfa"),
        ("", "", "HOME/.local/share/mkfa"),
    ],
)
def test_where_files_are_kept(monkeypatch, tmp_path, chosen, system, where):
    monkeypatch.setenv("HOME", str(tmp_path))
    for variable, value in (("MKFA_HOME", chosen), ("XDG_DATA_HOME", system)):
        if value is None:
            monkeypatch.delenv(variable, raising=False)
        else:
            monkeypatch.setenv(variable, value)
    assert home() == Path(where.replace("HOME", str(tmp_path)))
