"""A table of accuracies: each square has its value, an arrow with the points gained or lost, and a colour."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mkfa.colours import SIGNED
from mkfa.figures.style import SMALL, ink

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from mkfa.array_types import F64

Value = Callable[[int, int], tuple[float, float] | None]
FLAT = 2.0
"""Colours are clipped where rows below the line change this many times more than those above it."""


@dataclass(frozen=True, slots=True)
class Words:
    """The texts around a grid; labels of columns may have several lines. The last `apart` rows stand below a line."""

    rows: Sequence[str]
    columns: Sequence[str]
    left: str
    below: str
    title: str
    scale: str
    apart: int = 0


def draw_grid(ax: Axes, value: Value, words: Words, *, narrow: bool = False) -> None:
    """Draw a grid with its colour bar.

    Colours reach to the largest change. If a change below the line would leave those above it pale, they reach to the
    largest above it, and the scale says so.

    Parameters
    ----------
    value : called with row and column; returns accuracy in percent and change in points, or None for no square.
    narrow : True puts the colour bar below.
    """
    shape, size = (len(words.rows), len(words.columns)), SMALL if narrow else 7
    squares = {(i, j): square for i, j in np.ndindex(shape) if (square := value(i, j)) is not None}
    change = np.full(shape, np.nan)
    for place, (_, points) in squares.items():
        change[place] = points
    main, below = _largest(change[: shape[0] - words.apart]), _largest(change[shape[0] - words.apart :])
    clipped = below > FLAT * main
    limit = main if clipped else max(main, below)
    picture = ax.imshow(change, cmap=SIGNED, vmin=-limit, vmax=limit, aspect="auto")
    for (i, j), (top1, points) in squares.items():
        # the arrow agrees with the text: a change that rounds to 0.0 is neither up nor down
        arrow = "=" if round(points, 1) == 0 else "↑" if points > 0 else "↓"
        ax.text(
            j,
            i,
            f"{top1:.1f}\n{arrow} {abs(points):.1f}",
            ha="center",
            va="center",
            fontsize=size,
            color=ink(picture, points),
        )
    ax.set_xticks(range(shape[1]), list(words.columns), fontsize=size)
    ax.set_yticks(range(shape[0]), list(words.rows), fontsize=size)
    if words.apart:
        ax.axhline(shape[0] - words.apart - 0.5, color="black", linewidth=0.8)
    ax.set_xlabel(words.below)
    ax.set_ylabel(words.left)
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    ax.set_title(words.title, loc="left")
    low, high = bool((change < -limit).any()), bool((change > limit).any())
    ends = "both" if low and high else "min" if low else "max" if high else "neither"
    label = f"{words.scale}\n(below the line clipped at {limit:.1f})" if clipped else words.scale
    where: Any = {"location": "bottom", "aspect": 30, "pad": 0.02} if narrow else {"pad": 0.02}
    ax.figure.colorbar(picture, ax=ax, label=label, extend=ends, fraction=0.046, **where)


def _largest(change: F64) -> float:
    """Return the largest change in points, at least 1."""
    known = np.abs(change[np.isfinite(change)])
    return max(1.0, float(known.max(initial=0.0)))
