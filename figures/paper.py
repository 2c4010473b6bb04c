"""What the paper says about its curves, as a table of words: it gives no single values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mkfa.evidence.paper import PaperCurve, citation
from mkfa.figures.style import NARROW, wrapped
from mkfa.words import counted

if TYPE_CHECKING:
    from matplotlib.figure import Figure, SubFigure

COLUMNS = {"figure": 0.0, "network": 0.11, "data": 0.37, "what the paper says": 0.63}
"""Heading -> left edge."""
_LINE = 0.125


def height(curves: Sequence[PaperCurve], width: float) -> float:
    """Return the inches that the table needs in a figure of some width, inches."""
    if width >= NARROW:
        return 0.75 + 0.36 * len(curves) if curves else 0.0
    lines = sum(text.count("\n") + 2 for curve in curves for text in [_told(curve, width)])
    return 0.7 + _LINE * lines if curves else 0.0


def draw_curves(canvas: Figure | SubFigure, curves: Sequence[PaperCurve], width: float) -> None:
    """Write a row for each curve: network, data, the lowest value if the paper gives one, and the observation."""
    title = f"The paper ({citation()}) in words; it gives no single values of these curves"
    canvas.suptitle(wrapped(title, width), x=0.01, ha="left", fontsize=8)
    ax = canvas.subplots()
    ax.set_axis_off()
    ax.set_xlim(0, 1)
    if width < NARROW:
        text = "\n\n".join(_told(curve, width) for curve in curves)
        ax.text(0, 1, text, fontsize=7, va="top", transform=ax.transAxes)
        return
    ax.set_ylim(len(curves) - 0.5, -1)
    edges = [*COLUMNS.values(), 1.0]
    for name, x in COLUMNS.items():
        ax.text(x, -0.75, name, fontsize=7, fontweight="bold", va="center")
    ax.axhline(-0.5, color="black", linewidth=0.8)
    for row, curve in enumerate(curves):
        network = f"{curve.model}\n{curve.filters}, {counted(curve.layers, 'layer')}"
        texts = (curve.figure, network, curve.data.replace("->", "→"), _observation(curve))
        for left, right, text in zip(edges, edges[1:], texts, strict=False):
            ax.text(left, row, wrapped(text, (right - left) * width, 7), fontsize=7, va="center")


def _observation(curve: PaperCurve) -> str:
    lowest = "" if curve.worst is None else f"; lowest at any n: {curve.worst:g} % of the base's top-1"
    return curve.observation + lowest


def _told(curve: PaperCurve, width: float) -> str:
    """Return what is said of a curve as one text in lines of some width, inches."""
    data = curve.data.replace("->", "→")
    heading = f"{curve.figure}: {curve.model}, {curve.filters}, {counted(curve.layers, 'layer')}, {data}"
    told: str = wrapped(f"{heading}: {_observation(curve)}", width, 7)
    return told
