"""The standard streams of the command: they never fail in the middle of the work, and pass on nothing that a terminal
would obey.

Results are worth more than what is printed of them. If nobody reads the output any longer (`mkfa banks | head -1`), the
work goes on in silence; if the output could not be written, the command says so at its end.
"""

from __future__ import annotations

import codecs
import contextlib
import errno
import io
import os
import re
import sys
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from mkfa.errors import WorkError

_UNSAFE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f]"
)
"""Control characters except tabs and ends of lines, directional marks, characters of no width, tags."""
_STYLE = re.compile(r"(\x1b\[(?:\?25[hl]|[0-9;]*[mAGK]))")
"""Control sequences of progress bars and bold titles: styles, cursor up, column, erase, cursor on and off."""
_PLAIN = {
    "–": "-",
    "—": "-",
    "−": "-",
    "‐": "-",
    "‑": "-",
    "→": "->",
    "←": "<-",
    "↔": "<->",
    "…": "...",
    "×": "x",
    "·": ".",
    "±": "+-",
    "≤": "<=",
    "≥": ">=",
    "≠": "!=",
    "≈": "~",
    "°": " deg",
    "‘": "'",
    "’": "'",
    "“": '"',
    "”": '"',
    "•": "*",
    "σ": "sigma",
    "µ": "u",
    "μ": "u",
    "θ": "theta",
    "ρ": "rho",
    "ß": "ss",
    "æ": "ae",
    "ø": "o",
    "œ": "oe",
    "━": "-",
    "╸": "-",
    "╺": "-",
    "█": "#",
    "\u00a0": " ",
    "²": "^2",
    "³": "^3",
}
"""Replacements of characters that a terminal does not have."""


def degrade(text: str) -> str:
    """Return `text` in ASCII: accents are dropped, arrows and dashes written out, the rest becomes a question mark.

    Examples
    --------
    >>> degrade("Müller’s R² → 0.5 – 0.7 漢")
    "Muller's R^2 -> 0.5 - 0.7 ?"
    """
    import unicodedata

    def plain(character: str) -> str:
        if character.isascii():
            return character
        known = _PLAIN.get(character)
        return known or unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode() or "?"

    return "".join(map(plain, text))


def _degraded(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return degrade(error.object[error.start : error.end]), error.end


codecs.register_error("mkfa.degrade", _degraded)


class Screen(io.TextIOWrapper):
    """A standard stream."""

    failed: OSError | None = None
    """Why nothing could be written any longer; None also if nobody reads the output."""
    beneath: io.TextIOWrapper
    """The stream that Python made; it is kept, since it would close the file when it is deleted."""

    def write(self, text: str) -> int:
        """Write what is safe to show; after a failure nothing."""
        try:
            super().write(self._safe(text))
        except OSError as error:
            self._give_up(error)
        return len(text)

    def flush(self) -> None:
        """Write what is waiting."""
        try:
            super().flush()
        except OSError as error:
            self._give_up(error)

    def _safe(self, text: str) -> str:
        styled = self.isatty() or "FORCE_COLOR" in os.environ or "TTY_COMPATIBLE" in os.environ
        if not styled:
            return _UNSAFE.sub("\ufffd", text.replace("\r", " ") if "\r" in text else text)
        if "\x1b" not in text:
            return _UNSAFE.sub("\ufffd", text)
        parts = _STYLE.split(text)
        return "".join(part if i % 2 else _UNSAFE.sub("\ufffd", part) for i, part in enumerate(parts))

    def _give_up(self, error: OSError) -> None:
        """Discard everything from now on, and what is still waiting."""
        if error.errno != errno.EPIPE:
            self.failed = self.failed or error
        with contextlib.suppress(OSError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            super().flush()


def guard_streams() -> None:
    """Put a `Screen` in place of stdout and stderr; streams that are closed become the null device.

    A file that is opened while stdout is closed would get its number, and with it all that libraries print.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        stream = getattr(sys, name)
        if stream is None:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
            stream = open(number, "w" if number else "r", encoding="utf-8", closefd=False)  # noqa: SIM115
            setattr(sys, name, stream)
        if number and type(stream) is io.TextIOWrapper:
            stream.flush()
            screen = Screen(stream.buffer, stream.encoding, "mkfa.degrade", line_buffering=True)
            screen.beneath = stream
            setattr(sys, name, screen)


def encodes(text: str, *, err: bool = False) -> bool:
    """True if the stream has all characters of `text`."""
    encoding = getattr(sys.stderr if err else sys.stdout, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def emit(text: str, *, err: bool = False) -> None:
    """Write a line to stdout or stderr."""
    stream = sys.stderr if err else sys.stdout
    if stream is not None:
        stream.write(text + "\n")
        stream.flush()


def output_error() -> WorkError | None:
    """Return the error if output could not be written, else None."""
    from mkfa.errors import WorkError

    sys.stdout.flush()
    failed = cast("OSError | None", getattr(sys.stdout, "failed", None))
    if failed is None:
        return None
    problem = f"cannot be written ({failed.strerror or failed})"
    return WorkError("standard output", problem, "send it elsewhere; files that were asked for are written")
