"""A benchmark job: our command and what a user would run instead, both measured as whole processes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Job:
    """One line of the benchmark table.

    Attributes
    ----------
    name : what is done.
    ours : command; "{work}" in an argument is the folder that `prepare` filled.
    alternative : the command a user would run instead, or None.
    limit_s, limit_mb : what the project promises.
    prepare : makes the inputs in a folder (not measured); skipped when they are there already.
    scale : factor by which the alternative's own time is multiplied (it was run on 1/scale of the work).
    note : how to read the line.
    around : context manager factory `(work) -> context` entered around each timed run (a server, say); yields
        extra environment variables for the command.
    """

    name: str
    ours: list[str]
    alternative: list[str] | None = None
    limit_s: float | None = None
    limit_mb: float | None = None
    prepare: Callable[[Path], None] | None = None
    scale: float = 1.0
    note: str = ""
    around: Callable[[Path], object] | None = None
