"""Tables of the parts that users can add: arms, nulls and measures, each found by its name (standard library only).

A part from outside is added by `mkfa.register(part)`. The command line, and the processes that train runs, import the
modules and files that the variable MKFA_PLUGINS names, separated by commas, before they look a name up.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Protocol, TypeVar

from mkfa.errors import MkfaError, UnknownNameError, nearest

PLUGINS = "MKFA_PLUGINS"
"""Environment variable: modules or .py files that register parts of their own."""


class Part(Protocol):
    """What stands in a table."""

    @property
    def name(self) -> str:
        """What users call it."""
        ...

    @property
    def help(self) -> str:
        """What it is, in one clause."""
        ...


P = TypeVar("P", bound=Part)


class Table(Mapping[str, P]):
    """Parts of one kind by name, in order; those of plugins come last."""

    def __init__(self, what: str, parts: Iterable[P]) -> None:
        self.what = what
        self._parts = {part.name: part for part in parts}

    def register(self, part: P) -> P:
        """Add a part and return it.

        Raises
        ------
        MkfaError
            Its name is taken, or is none that a command could take.
        """
        if not part.name or set(part.name) & set(" ,:/=") or part.name.startswith("-"):
            raise MkfaError(f"{self.what} {part.name!r}", "has a name that no command can take", "use letters and '-'")
        if part.name in self._parts:
            raise MkfaError(f"{self.what} {part.name}", "is in the table already", "choose another name")
        self._parts[part.name] = part
        return part

    def unregister(self, name: str) -> None:
        """Take a part out of the table."""
        del self._parts[name]

    def find(self, name: str) -> P:
        """Return the part of this name; raises UnknownNameError, which offers the nearest names."""
        load_plugins()
        if name in self._parts:
            return self._parts[name]
        raise UnknownNameError(
            name, f"unknown {self.what}", nearest(name, self._parts) or f"choose one of {', '.join(self._parts)}"
        )

    def __getitem__(self, name: str) -> P:
        load_plugins()
        return self._parts[name]

    def __iter__(self) -> Iterator[str]:
        load_plugins()
        return iter(self._parts)

    def __len__(self) -> int:
        load_plugins()
        return len(self._parts)


def register(part: P) -> P:
    """Add an arm, a null or a measure of your own to its table, to be used by its name; return it.

    Parameters
    ----------
    part : Arm, Null or Measure

    Raises
    ------
    MkfaError
        It is none of these, or its name is taken.

    Examples
    --------
    >>> import mkfa
    >>> flipped = mkfa.register(mkfa.Null("flipped", "each filter upside down", lambda weight, rng: weight[:, ::-1]))
    >>> from mkfa.nulls.draws import NULLS
    >>> NULLS.find("flipped").help
    'each filter upside down'
    >>> NULLS.unregister("flipped")
    """
    table: Table[P] | None = getattr(type(part), "TABLE", None)
    if table is None:
        raise MkfaError(f"a {type(part).__name__}", "cannot be registered", "pass an Arm, a Null or a Measure")
    return table.register(part)


_loaded: set[str] = set()


def load_plugins() -> None:
    """Import what MKFA_PLUGINS names, each once.

    Raises MkfaError: a module or file cannot be imported.
    """
    for name in os.environ.get(PLUGINS, "").split(","):
        if (name := name.strip()) and name not in _loaded:
            _loaded.add(name)
            try:
                _load(name)
            except Exception as error:
                _loaded.discard(name)
                problem = f"names {name}, which cannot be imported ({type(error).__name__}: {error})"
                raise MkfaError(PLUGINS, problem, "mend the module, or unset the variable") from error


def _load(name: str) -> None:
    if not name.endswith(".py"):
        importlib.import_module(name)
        return
    path = Path(name).expanduser().resolve()
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is not a Python file")
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
