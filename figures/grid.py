"""A table of accuracies: each square has its value, an arrow with the points gained or lost, a colour about zero."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mkfa.figures.style import SIGNED

if TYPE_CHECKING:
    from matplotlib.figure import FigureBase

Value = Callable[[int, int], tuple[float, float] | None]


@dataclass(frozen=True, slots=True)
class Words:
    """What stands around a grid; labels of the columns may have several lines."""

    rows: Sequence[str]
    columns: Sequence[str]
    left: str
    below: str
    title: str
    scale: str


def draw_grid(container: FigureBase, value: Value, words: Words) -> None:
    """Draw a grid into a figure or a part of one.

    Parameters
    ----------
    value : called with row and column; returns accuracy in percent and the change in points, None for no square.
    """
    shape = len(words.rows), len(words.columns)
    squares = {(i, j): found for i in range(shape[0]) for j in range(shape[1]) if (found := value(i, j)) is not None}
    change = np.full(shape, np.nan)
    for place, (_, points) in squares.items():
        change[place] = points
    limit = max(1.0, float(np.nanmax(np.abs(change)))) if np.isfinite(change).any() else 1.0
    ax = container.add_subplot()
    picture = ax.imshow(change, cmap=SIGNED, vmin=-limit, vmax=limit, aspect="auto")
    for (i, j), (top1, points) in squares.items():
        # the arrow follows what is written: a rounded 0.0 is neither up nor down
        arrow = "=" if round(points, 1) == 0 else "↑" if points > 0 else "↓"
        ax.text(j, i, f"{top1:.1f}\n{arrow} {abs(points):.1f}", ha="center", va="center", fontsize=7,
                color="white" if abs(points) > 0.6 * limit else "black")  # fmt: skip
    ax.set_xticks(range(shape[1]), list(words.columns))
    ax.set_yticks(range(shape[0]), list(words.rows))
    ax.set_xlabel(words.below)
    ax.set_ylabel(words.left)
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    ax.set_title(words.title, loc="left")
    container.colorbar(picture, ax=ax, label=words.scale, fraction=0.046, pad=0.02)
