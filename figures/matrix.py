"""Every source on every target: accuracy and its distance from the target's base, selffer on the diagonal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mkfa.figures.style import PAGE, SIGNED, new_figure, style
from mkfa.training.results import Matrix

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw(matrix: Matrix) -> Figure:
    """Draw one square a pair: top-1 in percent, an arrow with the points gained or lost, coloured about zero."""
    names = matrix.domains
    size = len(names)
    place = {name: i for i, name in enumerate(names)}
    change = np.full((size, size), np.nan)
    for cell in matrix.cells:
        change[place[cell.source], place[cell.target]] = 100 * cell.relative
    known = change[np.isfinite(change)]
    limit = max(1.0, float(np.abs(known).max(initial=0)))
    figure: Figure
    with style():
        figure = new_figure(min(PAGE, 1.9 + 0.85 * size), 1.3 + 0.5 * (size + 1))
        ax = figure.add_subplot()
        picture = ax.imshow(change, cmap=SIGNED, vmin=-limit, vmax=limit, aspect="auto")
        for cell in matrix.cells:
            if not cell.top1:
                continue
            value = 100 * cell.relative
            arrow = "↑" if value > 0 else "↓" if value < 0 else "="
            dark = abs(value) > 0.6 * limit
            ax.text(place[cell.target], place[cell.source], f"{100 * cell.mean:.1f}\n{arrow} {abs(value):.1f}",
                    ha="center", va="center", fontsize=7, color="white" if dark else "black")  # fmt: skip
        bases = [f"{name}\n{100 * matrix.bases[name].mean:.1f}" for name in names]
        ax.set_xticks(range(size), bases)
        ax.set_yticks(range(size), names)
        ax.set_xlabel("target, with its base accuracy (%)")
        ax.set_ylabel("source of the filters")
        ax.spines[:].set_visible(False)
        ax.tick_params(length=0)
        p = matrix.parameters
        ax.set_title(f"{p['what']} filters of {p['arch']}, frozen; diagonal: selffer; seeds: {p['seeds']}", loc="left")
        figure.colorbar(picture, ax=ax, label="points against the base", fraction=0.046, pad=0.02)
    return figure
