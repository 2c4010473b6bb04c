"""What the paper says about its curves, as a table of words: it gives no single values."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mkfa.evidence.paper import PaperCurve, citation

if TYPE_CHECKING:
    from matplotlib.figure import Figure, SubFigure

COLUMNS = {"figure": 0.0, "network": 0.11, "data": 0.37, "what the paper says": 0.63}
"""Heading -> left edge."""
WIDTH = 44
"""Characters in a line of the last column."""


def height(curves: Sequence[PaperCurve]) -> float:
    """Return the inches that the table needs."""
    return 0.75 + 0.36 * len(curves) if curves else 0.0


def draw_curves(canvas: Figure | SubFigure, curves: Sequence[PaperCurve]) -> None:
    """Write a row for each curve: network, data, the lowest value if the paper gives one, and the observation."""
    canvas.suptitle(
        f"The paper ({citation()}) in words; it gives no single values of these curves", x=0.01, ha="left", fontsize=8
    )
    ax = canvas.subplots()
    ax.set_axis_off()
    ax.set_ylim(len(curves) - 0.5, -1)
    for name, x in COLUMNS.items():
        ax.text(x, -0.75, name, fontsize=7, fontweight="bold", va="center")
    ax.axhline(-0.5, color="black", linewidth=0.8)
    for row, curve in enumerate(curves):
        lowest = "" if curve.worst is None else f"; lowest at any n: {curve.worst:g} % of the base's top-1"
        network = f"{curve.model}\n{curve.filters}, {curve.layers} layers"
        said = textwrap.fill(curve.observation + lowest, WIDTH)
        for x, text in zip(COLUMNS.values(), (curve.figure, network, curve.data.replace("->", "→"), said), strict=True):
            ax.text(x, row, text, fontsize=7, va="center")
