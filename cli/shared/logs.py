"""What a command does, for --verbose on stderr and for --log-file."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from mkfa.cli.shared.printing import VOICE
from mkfa.errors import printable


class _Lines(logging.Formatter):
    """Makes lines that a terminal may show."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record without control characters."""
        lines = super().format(record).split("\n")
        return "\n".join("\t".join(map(printable, line.split("\t"))) for line in lines)


def log_to_stderr() -> None:
    """Show what the library and timm report, with the time since the start."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines("%(relativeCreated)7d ms  %(name)s: %(message)s"))
    handler.addFilter(lambda record: record.name != "mkfa.said")
    _add(handler, logging.INFO)


def log_to_file(path: Path) -> None:
    """Append what is printed, done and gone wrong to a file, each with its time.

    Raises
    ------
    MkfaError
        The file cannot be written.
    """
    from mkfa.errors import MkfaError

    try:
        handler = logging.FileHandler(path, encoding="utf-8")
    except OSError as error:
        raise MkfaError(path, f"cannot be written ({error.strerror})", "choose another --log-file") from error
    handler.setFormatter(_Lines("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    _add(handler, logging.INFO)


def _add(handler: logging.Handler, level: int) -> None:
    handler.setLevel(level)
    VOICE.logged = True
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(level)
