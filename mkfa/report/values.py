"""Values of result files, which others may have written, as what the page expects: text, numbers, lists."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from mkfa.errors import printable
from mkfa.results.archive import without_places

LONGEST = 2000
"""Characters of a text on the page; the rest is cut."""


def text(value: Any, *, most: int = LONGEST) -> str:
    """Return a value as one line that can be shown, without paths of the machine that made it.

    Examples
    --------
    >>> text("from /home/me/nets/best.pth")
    'from best.pth'
    """
    if value is None:
        return ""
    shown = without_places(printable(str(value)[: most + 1]))
    return shown if len(shown) <= most else shown[: most - 1] + "…"


def number(value: Any, digits: int = 5) -> float | None:
    """Return a finite number, rounded; None for anything else.

    Examples
    --------
    >>> number(0.1234567), number("x"), number(float("nan")), number(True)
    (0.12346, None, None, None)
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return round(float(value), digits)


def whole(value: Any) -> int:
    """Return a whole number, 0 for anything else."""
    return int(value) if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 53 else 0


def pick(entry: Mapping[str, Any], make: Callable[..., Any], names: str, **options: Any) -> dict[str, Any]:
    """Return values of a mapping by their names, each as `make` gives it: `text`, `number`, `whole`.

    Examples
    --------
    >>> pick({"share": 0.1234567, "p": "x"}, number, "share p")
    {'share': 0.12346, 'p': None}
    """
    return {name: make(entry.get(name), **options) for name in names.split()}


def numbers(value: Any, digits: int = 5) -> list[float | None]:
    """Return a list of finite numbers, None in place of others; empty for anything but a list."""
    return [number(one, digits) for one in value] if isinstance(value, list | tuple) else []


def texts(value: Any) -> list[str]:
    """Return a list of texts; empty for anything but a list."""
    return [text(one) for one in value] if isinstance(value, list | tuple) else []


def mapping(value: Any) -> Mapping[str, Any]:
    """Return a mapping; an empty one for anything else."""
    return value if isinstance(value, Mapping) else {}


def rows(value: Any) -> Iterator[Mapping[str, Any]]:
    """Yield the mappings of a list; anything else is passed over."""
    yield from (one for one in value if isinstance(one, Mapping)) if isinstance(value, list | tuple) else ()


def pairs(value: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the names and mappings of a mapping of mappings; anything else is passed over."""
    if isinstance(value, Mapping):
        yield from ((text(key), one) for key, one in value.items() if isinstance(one, Mapping))


def table(value: Any, shape: tuple[int, int], digits: int = 4) -> list[list[float | None]] | None:
    """Return a table of numbers of a shape; None if it is not one."""
    made = [numbers(row, digits) for row in value] if isinstance(value, list | tuple) else []
    return made if (len(made), *{len(row) for row in made}) == shape else None
