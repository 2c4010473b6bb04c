"""Which classes cannot be told apart at a kernel size, and the rows that they share in tables (numpy only).

At a kernel size a class is not a pattern of its own if at least `MERGED` of its range of parameters, at the scales that
filters have, carries other names. Its filters are then counted in the row of the class that names most of that range.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from mkfa.array_types import F32, I32
from mkfa.patterns.dictionary import Dictionary, dictionary, grid
from mkfa.patterns.families import kernels, scale_to_coordinate
from mkfa.patterns.fit import fit

MERGED = 0.75
"""Share of its range from which a class is counted in another's row."""
SCALES = (0.4, 1.4)
"""Sigmas of the range, pixels: those of fitted depthwise filters. Coarser ones are alike in small kernels."""


@dataclass(frozen=True, slots=True)
class Merge:
    """A class of whose range of parameters, scales within `SCALES`, a share carries the name of another class."""

    name: str
    into: str
    share: float


@lru_cache(maxsize=8)
def merged_classes(kh: int, kw: int, basis: str = "families") -> tuple[Merge, ...]:
    """Return which classes coincide with another at a kernel size, and over which share of their range.

    Computed: the patterns of every class, on a grid finer than the dictionary's, are themselves fitted.
    """
    book = dictionary(basis, kh, kw)
    out = []
    for index, name in enumerate(book.names if book.families else ()):
        label = fit(_range(book, index), book).label
        for other in np.unique(label[(label != index) & (label >= 0)]).tolist():
            out.append(Merge(name, book.names[other], float(np.mean(label == other))))
    return tuple(out)


@dataclass(frozen=True, slots=True)
class Merged:
    """A class that is counted in another's row at a kernel size, as `share` of its range carries other names."""

    name: str
    size: str
    share: float


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of a table of classes, in order of classes.

    Attributes
    ----------
    names, titles : what each row counts: where classes are merged at some size "gaussian/dog" and "Gaussian, DoG".
    merged : of each row, the classes merged into it, those included that coincide throughout, which no filter is named.
    of : by kernel size (kh, kw), the row of each class, (C,) int32.
    """

    names: tuple[str, ...]
    titles: tuple[str, ...]
    merged: tuple[tuple[Merged, ...], ...]
    of: Mapping[tuple[int, int], I32]


def table_rows(basis: str, sizes: Sequence[tuple[int, int]]) -> Rows:
    """Return the rows of a table of the classes of a basis in kernels of some sizes.

    Examples
    --------
    >>> rows = table_rows("families", [(3, 3)])
    >>> rows.names[1]
    'gaussian/laplacian/dog'
    """
    sizes = list(dict.fromkeys(sizes))
    book = dictionary(basis, *sizes[0])
    into = {size: _into(basis, size) for size in sizes}
    own = [i for i in range(len(book.names)) if any(into[size][i][0] == i for size in sizes)]
    names, titles, merged = [], [], []
    for row in own:
        guests = [
            (i, size, into[size][i][1]) for i in range(len(book.names)) for size in sizes if into[size][i][0] == row
        ]
        guests = [guest for guest in guests if guest[0] != row]
        members = [row, *dict.fromkeys(i for i, size, _ in guests if _has_atoms(basis, size, i))]
        names.append("/".join(book.names[i] for i in members))
        alone = [size for size in sizes if into[size][row][0] == row]
        only = "" if len(alone) == len(sizes) else f" ({', '.join(_said(size) for size in alone)})"
        titles.append(", ".join(book.titles[i] for i in members) + only)
        merged.append(tuple(Merged(book.names[i], _said(size), share) for i, size, share in guests))
    place = {row: at for at, row in enumerate(own)}
    of = {size: np.array([place[row] for row, _ in into[size]], np.int32) for size in sizes}
    return Rows(tuple(names), tuple(titles), tuple(merged), of)


def _into(basis: str, size: tuple[int, int]) -> list[tuple[int, float]]:
    """Return for each class the class whose row it is counted in, and the share of its range with other names."""
    names = list(dictionary(basis, *size).names)
    lost: dict[str, dict[str, float]] = {}
    for merge in merged_classes(*size, basis):
        lost.setdefault(merge.name, {})[merge.into] = merge.share
    out = []
    for index, name in enumerate(names):
        shares = lost.get(name, {})
        total = sum(shares.values())
        out.append((names.index(max(shares, key=lambda n: shares[n])) if total >= MERGED else index, total))
    # A class may be merged into one that is itself merged.
    for index in range(len(out)):
        row, seen = out[index][0], {index}
        while out[row][0] != row and row not in seen:
            seen.add(row)
            row = out[row][0]
        out[index] = (row, out[index][1])
    return out


def _has_atoms(basis: str, size: tuple[int, int], index: int) -> bool:
    start = dictionary(basis, *size).start
    return bool(start[index] < start[index + 1])


def _said(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def _range(book: Dictionary, index: int) -> F32:
    """Return the patterns of a class on a fine grid of its range, (n, K); scales are within `SCALES`."""
    table, parts = kernels(*book.size), []
    low, high = scale_to_coordinate(SCALES)
    for variant in np.flatnonzero(book.variant_class == index).tolist():
        family = book.families[variant]
        pattern, place = grid(family, table, 4 if len(family.axes) < 3 else 2)
        scales = place[:, [column for column, axis in enumerate(family.axes) if axis in ("x", "y", "s")]]
        parts.append(pattern[((scales >= low - 1e-9) & (scales <= high + 1e-9)).all(axis=1)])
    return np.concatenate(parts)
