"""Print for people: tables that fit the terminal, prose wrapped to it; and JSON for machines."""

from __future__ import annotations

import logging
import re
import shutil
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mkfa.cli.shared.streams import degrade, emit, encodes
from mkfa.errors import printable
from mkfa.progress import may_be_terminal

PROSE = 100
"""Characters in a line of prose, in wider terminals too."""
PIPE = 200
"""Characters in a line of a table that goes into a pipe or file."""
GAP = 2
FEW = 4
"""Lines that a cell may take before columns of numbers move into a further table."""
NAME, SHORT_NAME = 24, 12
"""Widths to which a column of names is narrowed: between words, and, if that is not enough, within them."""

SAID = logging.getLogger("mkfa.said")
"""What was printed; only a log file listens."""


@dataclass
class Voice:
    """How much the command says: set by options before or after the verb."""

    quiet: bool = False
    verbose: bool = False
    debug: bool = False
    logged: bool = False


VOICE = Voice()


def print_json(value: Any) -> None:
    """Print a result, or plain values, as JSON."""
    from mkfa.storage.records import to_json

    emit(to_json(value.to_dict() if hasattr(value, "to_dict") else value).replace("\x7f", "\\u007f"))


def print_list(kind: str, name: str, rows: Any, **more: Any) -> None:
    """Print a list as JSON: an object with the heading of every result, and the list under its name."""
    from mkfa.storage.heading import heading

    print_json(heading(kind) | {name: rows} | more)


def say(text: str, *, wrap: bool = True, hang: int = 0) -> None:
    """Print prose (no markup), wrapped to the terminal; a line with a path or a command is left whole.

    Further lines begin as the first one does, or after `hang` spaces.
    """
    line = clean(text.strip("\n"))
    SAID.info("%s", line)
    if VOICE.quiet:
        return
    before, after = (len(text) - len(text.lstrip("\n")), len(text) - len(text.rstrip("\n"))) if line else (0, 0)
    emit("\n" * before + (_wrapped(line, hang) if wrap else line) + "\n" * after)


def clean(text: str, *, err: bool = False) -> str:
    """Return one line of text fit for the terminal: without control characters, and none that it cannot show."""
    text = printable(text)
    return text if encodes(text, err=err) else degrade(text)


def _wrapped(line: str, hang: int = 0) -> str:
    indent = " " * (hang or len(line) - len(line.lstrip()))
    width = min(terminal_width(), PROSE)
    return textwrap.fill(
        line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False, drop_whitespace=True
    )


def say_wrote(*paths: Path | None) -> None:
    """Say which files were written."""
    for path in paths:
        if path is not None:
            say(f"Wrote {path}.", wrap=False)


def warn(text: str) -> None:
    """Print a remark on stderr, wrapped where that is a terminal."""
    line = clean(f"mkfa: {text}", err=True)
    SAID.info("%s", line.removeprefix("mkfa: "))
    if not VOICE.quiet:
        emit(_wrapped(line) if may_be_terminal(sys.stderr) else line, err=True)


def terminal_width() -> int:
    """Return the characters in a line: COLUMNS, the terminal's, or `PIPE` where there is no terminal."""
    return max(40, shutil.get_terminal_size((PIPE, 24)).columns)


def show(value: Any) -> str:
    """Return a cell's text: floats with three decimals, or one digit if these would be zeros; None as a dash."""
    if value is None:
        return "–"
    if isinstance(value, float):
        text = "–" if value != value else f"{value:.3f}"
        return f"{value:.1g}" if value and text.strip("-") == "0.000" else text
    return str(value)


def percent(share: Any) -> str:
    """Return a share as a whole percentage, a dash for none."""
    return "–" if share != share else f"{100 * float(share):.0f}%"


def columns_of(text: str) -> int:
    """Return how many columns of a terminal a text without control characters takes."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


@dataclass
class _Column:
    title: str
    cells: list[str]
    text: bool
    width: int = field(init=False)
    narrow: int = field(init=False)
    narrowest: int = field(init=False)

    def __post_init__(self) -> None:
        head = max((columns_of(word) for word in self.title.split()), default=0)
        longest = max(map(columns_of, self.cells), default=0)
        self.width = max(longest, columns_of(self.title))
        self.narrow = self.narrowest = max(longest, head)
        if self.text:
            words = max((columns_of(word) for cell in self.cells for word in cell.split()), default=0)
            self.narrow = min(self.narrow, max(head, min(words, NAME)))
            self.narrowest = min(self.narrow, max(head, SHORT_NAME))

    def lines(self, text: str) -> list[str]:
        """Return a cell in lines of the column's width: wrapped between words, long words shortened in the middle."""
        if not self.text and text != self.title:
            return [text]
        words = [shorten(word, self.width) for word in text.split(" ")]
        return textwrap.wrap(" ".join(words), self.width, break_long_words=False, break_on_hyphens=False) or [""]


def shorten(text: str, width: int) -> str:
    """Return a name in at most `width` characters, its middle replaced by "…"."""
    if len(text) <= width:
        return text
    tail = (width - 1) // 2
    return f"{text[: width - 1 - tail]}…{text[len(text) - tail :]}"


def print_table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], *, notes: Sequence[str] = (), left: int = 1
) -> None:
    """Print a table that fits the terminal, and its notes below it.

    The first `left` columns hold text and are left-aligned: where the terminal is narrow their cells are wrapped
    between words and long names are shortened in the middle. Numbers are never cut: columns that do not fit follow in
    a further table with the same first column.
    """
    title = clean(title)
    made = [_Column(clean(name), [clean(show(row[i])) for row in rows], i < left) for i, name in enumerate(columns)]
    lines = ["\t".join(column.cells[i] for column in made) for i in range(len(rows))]
    SAID.info("%s", "\n".join([title, "\t".join(columns), *lines, *map(clean, notes)]))
    if VOICE.quiet:
        return
    bold = _bold if may_be_terminal(sys.stdout) else emit
    for line in _wrapped(title).split("\n") if title else ():
        bold(line)
    for part in _parts(made, terminal_width(), left):
        _fit(part, terminal_width())  # parts share their first columns
        if any(column.title for column in part):
            for line in _lines(part, [column.title for column in part]):
                bold(line)
        for i in range(len(rows)):
            for line in _lines(part, [column.cells[i] for column in part]):
                emit(line)
    for note in notes:
        say(note)


def _bold(line: str) -> None:
    from rich.console import Console
    from rich.text import Text

    Console().print(Text(line, style="bold"), soft_wrap=True)


def _parts(columns: list[_Column], width: int, left: int) -> list[list[_Column]]:
    """Return the columns in parts that each fit the width; the first part has all columns of text."""
    if _fit(columns, width) and not _cramped(columns):
        return [columns]
    first = columns[: max(left, 1)]
    distinct = len(set(zip(*(column.cells for column in columns[:1]), strict=True)))
    key = columns[:1] if left <= 1 or distinct == len(columns[0].cells) else first
    parts: list[list[_Column]] = [list(first)]
    for column in columns[max(left, 1) :]:
        if (_fit([*parts[-1], column], width, "narrow") and not _cramped(parts[-1])) or len(parts[-1]) == len(key):
            parts[-1].append(column)
        else:
            parts.append([*key, column])
    return parts


def _cramped(columns: Sequence[_Column]) -> bool:
    """True if a cell takes more than `FEW` lines, so that prose stands in a narrow column."""
    return any(len(column.lines(cell)) > FEW for column in columns if column.text for cell in column.cells)


def _fit(columns: Sequence[_Column], width: int, *floors: str) -> bool:
    """Narrow the columns, the widest first, until they fit the width; False where they do not."""
    for column in columns:
        column.__post_init__()
    for floor in floors or ("narrow", "narrowest"):
        while sum(c.width for c in columns) + GAP * (len(columns) - 1) > width:
            wide = [c for c in columns if c.width > getattr(c, floor)]
            if not wide:
                break
            max(wide, key=lambda c: c.width).width -= 1
    return sum(c.width for c in columns) + GAP * (len(columns) - 1) <= width


def _lines(columns: Sequence[_Column], texts: Sequence[str]) -> list[str]:

    cells = [column.lines(text) for column, text in zip(columns, texts, strict=True)]
    made = []
    for i in range(max(map(len, cells))):
        line = []
        for column, cell in zip(columns, cells, strict=True):
            text = cell[i] if i < len(cell) else ""
            space = " " * (column.width - columns_of(text))
            line.append(text + space if column.text else space + text)
        made.append((" " * GAP).join(line).rstrip())
    return made


def words(text: str) -> list[str]:
    """Return the words of a list that is joined by commas."""
    return [word for word in re.split(r"\s*,\s*", text.strip()) if word]
