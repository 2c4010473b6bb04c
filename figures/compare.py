"""Comparisons: layer pairs, coverage and every measure beside chance; a matrix for several banks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mkfa.colours import AMOUNT, null_look
from mkfa.figures.style import PAGE, hatch, new_figure, style
from mkfa.similarity.comparison import Comparison
from mkfa.similarity.kind_comparison import KindComparison
from mkfa.similarity.matrix import BankMatrix, Comparisons
from mkfa.similarity.wording import strictest

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

LIMITS = -0.3, 1.6
"""Of the axis from floor (0) to ceiling (1)."""


def draw(data: Comparison | Comparisons, fig: Figure | SubFigure | None = None) -> Figure:
    """Draw one row for each kernel size into `fig` or a new figure: layer pairs, coverage, place of each measure.

    Layers are numbered from 1 over all depthwise layers of the network. Three banks or more are drawn by `draw_matrix`.

    Examples
    --------
    >>> import mkfa
    >>> comparison = mkfa.compare("efficientnet_lite0", "ppocrv4_rec", permutations=19, measures="coverage")
    >>> draw(comparison).savefig("comparison.png")
    """
    if isinstance(data, Comparisons):
        return draw_matrix(data.matrices, fig) if data.matrices else draw(data.done[0], fig)
    with style():
        figure: Figure | SubFigure = fig or new_figure(PAGE, 2.6 * len(data.kinds) + 0.4)
        axes = figure.subplots(len(data.kinds), 3, squeeze=False, width_ratios=(1.25, 1, 0.85))
        for row, kind in zip(axes, data.kinds, strict=True):
            _layer_pairs(row[0], data, kind)
            _curves(row[1], data, kind)
            _places(row[2], kind)
        handles, labels = axes[0, 1].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    return figure.figure


def _layer_pairs(ax: Axes, data: Comparison, kind: KindComparison) -> None:
    """Draw the layer pairs; a dot marks those closer than the strictest null, adjusted for all pairs.

    Layers without a usable filter are hatched.
    """
    if not kind.by_layer:
        ax.set_axis_off()
        return
    i, name = kind.by_layer[0]
    null = strictest(kind, name)
    value = np.ma.masked_invalid(kind.layer_value[i])
    marks = [(float(np.nanmean(kind.layer_floor[i])), "black")]
    marks += [(float(np.nanmean(n.layer_mean[i])), null_look(n.null).colour) for n in kind.nulls]
    limits = [float(value.min()), float(value.max()), *(level for level, _ in marks)]
    picture = ax.imshow(
        value, cmap=AMOUNT, origin="lower", aspect="auto", interpolation="nearest", vmin=min(limits), vmax=max(limits)
    )
    x, y = np.nonzero(null.layer_p_max[i].T <= 0.05)
    span = max(value.shape)
    ax.plot(x, y, "o", color="white", mec="black", mew=0.4, ms=max(1.2, min(4.0, 55 / span)), ls="none")
    bar = ax.figure.colorbar(picture, ax=ax, fraction=0.06, pad=0.03, label=f"{name}; lines: mean of floor and nulls")
    empty = bool(np.ma.getmaskarray(value).any())
    if empty:
        hatch(ax)
    for level, colour in marks:  # the mean floor in black, the means of the nulls in their colours
        bar.ax.axhline(level, color="white", lw=3.2)
        bar.ax.axhline(level, color=colour, lw=2)
    _layer_ticks(ax, kind)
    ax.set_xlabel(f"layer of {data.b}")
    ax.set_ylabel(f"layer of {data.a}")
    marked = f"dot: p ≤ .05 under {null.null}, all pairs" + ("\nhatched: no usable filter" if empty else "")
    ax.set_title(f"{kind.kind} {name} of layer pairs\n{marked}", loc="left")


def _layer_ticks(ax: Axes, kind: KindComparison) -> None:
    for axis, numbers in ((ax.xaxis, kind.numbers_b), (ax.yaxis, kind.numbers_a)):
        step = max(1, -(-len(numbers) // 9))
        axis.set_ticks(range(0, len(numbers), step), [str(number) for number in numbers[::step]])


def _curves(ax: Axes, data: Comparison, kind: KindComparison) -> None:
    """Draw the share of filters with a neighbour at |cos| >= t against t; bands are the nulls' central 95 %."""
    for null in kind.nulls:
        colour = null_look(null.null).colour
        ax.fill_between(kind.thresholds, null.curve[1], null.curve[2], color=colour, alpha=0.3, lw=0)
        ax.plot(kind.thresholds, null.curve[0], color=colour, lw=0.9, label=null.null)
    ax.plot(kind.thresholds, kind.curve_floor, color="black", lw=0.9, ls="--", label="floor (halves)")
    ax.plot(kind.thresholds, kind.curve[0], color="black", lw=1.5, label=f"{data.a} in {data.b}")
    ax.plot(kind.thresholds, kind.curve[1], color="black", lw=1.5, ls=":", label=f"{data.b} in {data.a}")
    ax.set_xlim(0.2, 1)
    ax.set_ylim(0, 1.02)
    ax.set_xlabel("|cos| of nearest neighbour ≥ t")
    ax.set_ylabel("share of filters")
    ax.set_title(f"coverage, {kind.n} filters each", loc="left")


def _places(ax: Axes, kind: KindComparison) -> None:
    """Draw where each measure lies between floor (0) and ceiling (1), with its interval and the other nulls.

    An arrowhead at the edge stands for a value outside the axis.
    """
    left, right = LIMITS
    judged = [i for i, name in enumerate(kind.measures) if name not in kind.all_filters]
    rows = np.arange(len(judged))[::-1]
    floor, place = kind.floor[judged], kind.fraction[judged]
    gap = kind.ceiling[judged] - floor
    with np.errstate(divide="ignore", invalid="ignore"):
        ends = (kind.interval[:, judged] - floor) / gap
        for null in kind.nulls:
            ax.plot((null.mean[judged] - floor) / gap, rows, "|", color=null_look(null.null).colour, ms=7, mew=1.5)
    low, high = ends.min(axis=0), ends.max(axis=0)
    ax.hlines(rows, low, high, color="black", lw=1)
    ax.plot(place, rows, "o", color="black", ms=3.5)
    for edge, marker, beyond in ((left, "<", place < left), (right, ">", place > right)):
        if beyond.any():
            ax.plot([edge] * int(beyond.sum()), rows[beyond], marker, color="black", ms=4, clip_on=False)
    ax.axvline(0, color="black", lw=0.7, ls="--")
    ax.set_xlim(left, right)
    ax.set_ylim(-0.7, len(rows) - 0.3)
    ax.set_yticks(rows, [kind.measures[i] for i in judged])
    ax.set_xlabel(f"0: floor, 1: {kind.ceiling_null}")
    ax.set_title("each measure, 95 %\n(left: more alike)", loc="left")


def draw_matrix(data: Sequence[BankMatrix], fig: Figure | SubFigure | None = None) -> Figure:
    """Draw the first measure for each pair of banks, a panel for each kernel size, into `fig` or a new figure."""
    chosen = [m for m in data if m.measure == data[0].measure]
    top = max(float(np.nanmax(np.where(np.isfinite(m.fraction), m.fraction, 0))) for m in chosen)
    top = min(1.0, max(0.1, np.ceil(10 * top) / 10))
    with style():
        figure: Figure | SubFigure = fig or new_figure(max(PAGE / 2, min(PAGE, 3.4 * len(chosen))), 3.1)
        axes: Any = figure.subplots(1, len(chosen), squeeze=False)[0]
        for ax, matrix in zip(axes, chosen, strict=True):
            shown = np.where(np.eye(len(matrix.names), dtype=bool), 0, matrix.fraction)
            picture = ax.imshow(np.ma.masked_invalid(shown), cmap=AMOUNT, vmin=0, vmax=top)
            for i, j in np.ndindex(shown.shape):
                if np.isfinite(shown[i, j]):
                    passed = i != j and bool(matrix.p_holm[:, i, j].max() <= 0.05)
                    ax.text(
                        j,
                        i,
                        f"{shown[i, j]:.2f}{'*' if passed else ''}",
                        ha="center",
                        va="center",
                        color="white" if shown[i, j] < 0.6 * top else "black",
                        fontsize=7,
                    )
            ax.set_xticks(range(len(matrix.names)), matrix.names, rotation=40, ha="right", rotation_mode="anchor")
            ax.set_yticks(range(len(matrix.names)), matrix.names if ax is axes[0] else [])
            ax.set_title(f"{matrix.kind}: {matrix.measure}", loc="left")
            ax.spines[:].set_visible(False)
        figure.colorbar(
            picture,
            ax=list(axes),
            fraction=0.04,
            label="0: floor, 1: ceiling",
            extend="max" if any((m.fraction > top).any() for m in chosen) else "neither",
        )
        if any("*" in text.get_text() for ax in axes for text in ax.texts):
            figure.supxlabel("*: closer than every null, p ≤ .05 (Holm)", fontsize=7)
    return figure.figure
