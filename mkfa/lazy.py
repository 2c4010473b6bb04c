"""Faces of packages: names that are imported when they are first used (PEP 562), and shown by `dir` and Tab.

numpy and h5py take a tenth of a second and torch takes seconds; `mkfa --help` and `import mkfa` need none of them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def face(package: str, homes: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Return `__getattr__`, `__dir__` and `__all__` for a package.

    Parameters
    ----------
    homes : the module that defines each name; names are shown in this order.
    """

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
