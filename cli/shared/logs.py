"""What a command does, for --verbose on stderr and for --log-file."""

from __future__ import annotations

import contextlib
import logging
import sys
from pathlib import Path

from mkfa.cli.shared.printing import VOICE
from mkfa.cli.shared.streams import emit
from mkfa.errors import printable


class _Lines(logging.Formatter):
    """Makes lines that a terminal may show."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record without control characters."""
        lines = super().format(record).split("\n")
        return "\n".join("\t".join(map(printable, line.split("\t"))) for line in lines)


class _File(logging.FileHandler):
    """A log file. If it can no longer be written (a full disk), that is said once and the work goes on."""

    failed = False

    def handleError(self, record: logging.LogRecord) -> None:
        """Say what is wrong, the first time; `logging` would print a traceback for each line."""
        if not self.failed:
            self.failed = True
            error = sys.exc_info()[1]
            reason = getattr(error, "strerror", None) or type(error).__name__
            emit(f"mkfa: {printable(self.baseFilename)}: is incomplete, as it cannot be written ({reason}).", err=True)

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line, unless an earlier one failed."""
        if not self.failed:
            super().emit(record)

    def close(self) -> None:
        """Close the file; what is still buffered is lost if the disk is full."""
        with contextlib.suppress(OSError):
            super().close()


def log_to_stderr() -> None:
    """Show what the library and timm report, with the time since the start."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines("%(relativeCreated)7d ms  %(name)s: %(message)s"))
    handler.addFilter(lambda record: record.name != "mkfa.said")
    _add(handler, logging.INFO)


def log_to_file(path: Path) -> None:
    """Append what is printed, done and gone wrong to a file, each with its time.

    Raises MkfaError: the file cannot be written.
    """
    from mkfa.errors import MkfaError

    try:
        if path.is_fifo() or path.is_socket():  # opening a pipe waits for a reader
            raise OSError(0, "it is a pipe or socket")
        handler = _File(path, encoding="utf-8")
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
