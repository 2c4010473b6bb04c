"""The heading of every result file: its format, which mkfa made it, when, and by which command."""

from __future__ import annotations

import datetime as dt
from typing import Any

from mkfa.version import VERSION

_command: list[str] = [""]


def set_command(text: str) -> None:
    """Say which command line is running; results record it. In a notebook there is none: ""."""
    _command[0] = text


def heading(kind: str, version: int = 1) -> dict[str, Any]:
    """Return what every file of a result begins with: format, its version, mkfa's version, date, command."""
    return {
        "format": f"mkfa.{kind}",
        "format_version": version,
        "mkfa_version": VERSION,
        "created": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "command": _command[0],
    }
