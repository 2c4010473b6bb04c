"""One thing or several: what verbs read where they take several banks, names or paths."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

T = TypeVar("T")


def as_several(given: Any) -> tuple[Any, ...]:
    """Return the things in a list or another iterable; one thing alone as a tuple of it.

    A text is one name, not its letters; a bank or a result is one thing, although some results can be iterated.

    Examples
    --------
    >>> as_several("mobilenet_v2"), as_several(["ppocrv4_det", "ppocrv4_rec"])
    (('mobilenet_v2',), ('ppocrv4_det', 'ppocrv4_rec'))
    """
    alone = isinstance(given, str | bytes) or dataclasses.is_dataclass(given) or not isinstance(given, Iterable)
    return (given,) if alone else tuple(given)


def least(things: Iterable[T], key: Callable[[T], float]) -> list[T]:
    """Return all things with the smallest key, in their order; the first alone where keys cannot be compared (NaN).

    Examples
    --------
    >>> least(["shuffled", "blurred", "gaussian"], len)
    ['blurred']
    >>> least(["gaussian", "shuffled"], len)
    ['gaussian', 'shuffled']
    """
    kept = list(things)
    smallest = min(map(key, kept))
    return [thing for thing in kept if key(thing) == smallest] or kept[:1]
