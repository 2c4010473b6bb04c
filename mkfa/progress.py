"""Progress of long work: silent, a bar, or a function of the caller's."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from mkfa.errors import printable

Advance = Callable[[float], None]
"""What the work calls with the amount that was done since the last call."""

Progress = bool | Callable[[float, float | None], object] | None
"""What a caller asks for: None or False for silence, True for a bar on stderr, or a function of (done, total)."""


@contextmanager
def follow(progress: Progress, label: str, total: float | None) -> Iterator[Advance]:
    """Yield the `advance` that the work calls; show what `progress` asks for until the body ends.

    Parameters
    ----------
    label : what is done, beside the bar.
    total : amount of work; None where nobody knows it.
    """
    if progress is True and may_be_terminal(sys.stderr):
        with _bar(label, total) as advance:
            yield advance
        return
    done = 0.0

    def count(amount: float = 1.0) -> None:
        nonlocal done
        done += amount
        if callable(progress):
            progress(done, total)

    yield count


def may_be_terminal(stream: TextIO | None) -> bool:
    """Return whether rich could take a stream for a terminal; asked first, since rich takes a while to import."""
    if stream is None:
        return False
    try:
        return stream.isatty() or bool({"FORCE_COLOR", "TTY_COMPATIBLE"} & os.environ.keys())
    except ValueError:  # it is closed
        return False


@contextmanager
def _bar(label: str, total: float | None) -> Iterator[Advance]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(printable(label), total=total)

        def advance(amount: float = 1.0) -> None:
            bar.update(task, advance=amount)

        yield advance
