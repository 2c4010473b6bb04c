"""Errors that reach the user: one sentence that names the thing, what is wrong with it and what to do."""

from __future__ import annotations

import copyreg
import difflib
from collections.abc import Iterable
from os import PathLike
from pathlib import Path
from typing import Any


class MkfaError(Exception):
    """A request that cannot be carried out; the command line turns it into one line and exit code 2.

    Parameters
    ----------
    thing : what it is about: a path, a name, an option.
    problem : what is wrong with it.
    remedy : what the user can do next.
    """

    exit_code = 2

    def __init__(self, thing: object, problem: str, remedy: str) -> None:
        self.thing, self.problem, self.remedy = str(thing), problem, remedy
        end = "" if remedy.endswith("?") else "."
        super().__init__(one_line(f"{self.thing}: {problem.rstrip('.')}; {remedy.rstrip('.')}{end}"))

    def __reduce__(
        self,
    ) -> tuple[Any, ...]:  # `__init__` has other arguments than `args`, and not the same in subclasses
        return copyreg.__newobj__, (type(self), *self.args), self.__dict__  # type: ignore[attr-defined]


class SourceError(MkfaError):
    """A checkpoint, graph or repository that filters cannot be harvested from."""


class BankError(MkfaError):
    """A bank file that cannot be read as one."""


class DamagedBankError(BankError):
    """A file of HDF5 whose bytes are not those that were written."""


class InUseError(BankError):
    """A file of HDF5 that another program has open for writing; it is sound, but cannot be read now."""


class OutputExistsError(MkfaError):
    """A file to be written exists, and nothing said that it may be replaced."""


class UnknownNameError(MkfaError):
    """A name that resolves to nothing."""


class UnknownBankError(UnknownNameError):
    """A name that is not a bank; `name` is what was asked for."""

    def __init__(self, name: str, remedy: str) -> None:
        self.name = name
        super().__init__(name, "is not a bank file, bank of the library, or bundled bank", remedy)


class WorkError(MkfaError):
    """The request was right but the work failed (network, disk, memory); exit code 1."""

    exit_code = 1


class DeviceMemoryError(WorkError):
    """A device has too little memory for a run, even with its images streamed; fewer runs at a time may fit."""


def wrong_type(given: object, thing: object, *, wanted: str, remedy: str) -> MkfaError:
    """Return the error of an argument of the wrong type, to be raised; `wanted` is what it should be.

    Examples
    --------
    >>> print(wrong_type(3, "place", wanted="a path", remedy="give a text or a Path"))
    place: is an int where a path is wanted; give a text or a Path.
    """
    kind = type(given).__name__
    what = "None" if given is None else f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"
    return MkfaError(thing, f"is {what} where {wanted} is wanted", remedy)


def as_path(given: object, thing: object, wanted: str = "a path") -> Path:
    """Return a text or path as a path; raises MkfaError, as `wrong_type`, for anything else."""
    if isinstance(given, str | PathLike):
        return Path(given)
    raise wrong_type(given, thing, wanted=wanted, remedy="give a text or a Path")


def as_text(given: object, thing: object, wanted: str) -> str:
    """Return a text; raises MkfaError, as `wrong_type`, for anything else."""
    if isinstance(given, str):
        return given
    raise wrong_type(given, thing, wanted=wanted, remedy="give a text")


def one_line(text: str) -> str:
    """Return `text` with control characters and runs of white space folded, so that a message is one line."""
    return " ".join(printable(text).split())


def printable(text: str) -> str:
    r"""Return `text` without what a terminal obeys or hides: for names that files and other computers give.

    White space becomes spaces; control characters, directional marks, characters of no width and lone surrogates
    become U+FFFD.

    Examples
    --------
    >>> ascii(printable("stem\x1b[2J\nnext \u202e"))
    "'stem\\ufffd[2J next \\ufffd'"
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else " " if c.isspace() else "\ufffd" for c in text)


def nearest(name: str, known: Iterable[str], count: int = 3) -> str:
    """Return a remedy clause with the known names nearest to `name`, or "" when nothing is near."""
    close = difflib.get_close_matches(name, list(known), n=count, cutoff=0.6)
    return f"did you mean {' or '.join(close)}?" if close else ""
