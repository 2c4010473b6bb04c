"""The folders of mkfa's files on this machine: banks, data sets, runs and bundled data."""

from __future__ import annotations

import os
from pathlib import Path


def home() -> Path:
    """Return mkfa's data folder: $MKFA_HOME, else $XDG_DATA_HOME/mkfa, else ~/.local/share/mkfa."""
    if chosen := os.environ.get("MKFA_HOME"):
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "mkfa"


def data_file(name: str) -> Path:
    """Return the path of a bundled file: a bank, an image set, a checkpoint or an index."""
    from importlib.resources import files

    return Path(str(files("mkfa.data"))) / name
