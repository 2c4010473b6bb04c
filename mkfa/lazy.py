"""Faces of packages: names that are imported when they are first used (PEP 562), and shown by `dir` and Tab.

numpy and h5py take a tenth of a second and torch takes seconds; `mkfa --help` and `import mkfa` need none of them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any


def face(package: str, file: str) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Return `__getattr__`, `__dir__` and `__all__` for a package.

    Its names are those that its file imports for type checkers, one in a line: `from MODULE import NAME as NAME`.
    """
    lines = (line.split() for line in Path(file).read_text("utf-8").splitlines() if line.startswith("    from "))
    homes = {words[5]: words[1] for words in lines if len(words) == 6 and words[4] == "as"}

    def get(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(homes[name]), name)
        setattr(sys.modules[package], name, value)
        return value

    def listed() -> list[str]:
        shown = [name for name in vars(sys.modules[package]) if name.startswith("__")]
        return sorted({*shown, *homes})

    return get, listed, list(homes)
