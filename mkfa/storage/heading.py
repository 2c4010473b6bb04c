"""The heading of every result file: format, version of mkfa, date and command."""

from __future__ import annotations

import datetime as dt
from typing import Any

from mkfa.version import VERSION

_command: list[str] = [""]


def set_command(text: str) -> None:
    """Set the command line that results record; "" in a notebook."""
    _command[0] = text


def now() -> str:
    """Return date and time in UTC as files have them, to the second."""
    return dt.datetime.now(dt.UTC).isoformat(timespec="seconds")


def heading(kind: str, version: int = 1) -> dict[str, Any]:
    """Return the heading: format, its version, mkfa's version, date, command."""
    return {
        "format": f"mkfa.{kind}",
        "format_version": version,
        "mkfa_version": VERSION,
        "created": now(),
        "command": _command[0],
    }
