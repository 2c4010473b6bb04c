"""What the paper says about its curves, in panels without points: it gives no single values."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mkfa.evidence.paper import PaperCurve, citation

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

TOP, BOTTOM = 103.0, 86.0
"""Limits of the accuracy axis, percent of the base; the paper's lowest value is 92.5."""


def draw_curves(canvas: Figure | SubFigure, curves: Sequence[PaperCurve]) -> None:
    """Draw a panel for each curve: the base, the lowest value if the paper gives one, and the layers it names."""
    canvas.suptitle(
        f"The paper ({citation()}) in words; it gives no single values of these curves", x=0.01, ha="left", fontsize=8
    )
    axes = canvas.subplots(1, len(curves), squeeze=False)[0]
    for ax, curve in zip(axes, curves, strict=True):
        _draw_one(ax, curve)


def _draw_one(ax: Axes, curve: PaperCurve) -> None:
    ax.set_xlim(0, curve.layers)
    ax.set_xticks(sorted({0, curve.layers, *(curve.named or ())}))
    ax.set_ylim(BOTTOM, TOP)
    ax.set_xlabel("transferred layers")
    if curve.named:
        ax.axvspan(*curve.named, color="black", alpha=0.08, linewidth=0)
    ax.set_yticks([])
    if curve.figure.startswith("Figure 2"):  # Figure 4 shows accuracies, but the paper states none
        ax.axhline(100, color="black", linewidth=1)
        ax.set_yticks([100] if curve.worst is None else [curve.worst, 100])
        ax.set_ylabel("% of the base's top-1")
    else:
        ax.set_ylabel("top-1 (no values given)")
    if curve.worst is not None:
        ax.axhline(curve.worst, color="#d62728", linewidth=1, linestyle="--")
        ax.annotate(
            f"lowest at any n: {curve.worst:g} %",
            (0, curve.worst),
            xytext=(3, 2),
            textcoords="offset points",
            fontsize=7,
            color="#d62728",
            va="bottom",
        )
    ax.annotate(
        "\n".join(textwrap.wrap(curve.observation, 34)),
        (0, 0),
        xycoords="axes fraction",
        xytext=(3, 4),
        textcoords="offset points",
        fontsize=7,
        va="bottom",
    )
    data = curve.data.replace("->", "→")
    ax.set_title(
        f"{curve.figure}: {curve.model}\n{curve.filters}, {curve.layers} layers\n{data}", loc="left", fontsize=7
    )
