"""Comparisons: layer pairs, coverage and every measure beside chance; a matrix for several banks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mkfa.colours import AMOUNT, null_look
from mkfa.figures.style import NARROW, SMALL, beyond_axis, hatch, ink, new_figure, shortened, style, width_of
from mkfa.similarity.comparison import Comparison
from mkfa.similarity.kind_comparison import KindComparison
from mkfa.similarity.matrix import BankMatrix, Comparisons
from mkfa.similarity.wording import strictest
from mkfa.words import counted

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

LIMITS = -0.3, 1.6
"""Of the axis from floor (0) to ceiling (1)."""
LEAST_CELL = 0.3
"""Squares of a matrix that are smaller than this, inches, have a colour and no number."""


def draw(data: Comparison | Comparisons, fig: Figure | SubFigure | None = None, *, width: str = "page") -> Figure:
    """Draw layer pairs, coverage and the place of each measure for each kernel size, into `fig` or a new figure.

    Layers are numbered from 1 over all depthwise layers of the network. Three banks or more are drawn by `draw_matrix`.

    Examples
    --------
    >>> import mkfa
    >>> comparison = mkfa.compare("efficientnet_lite0", "ppocrv4_rec", draws=19, measures="coverage")
    >>> draw(comparison).savefig("comparison.png")
    """
    if isinstance(data, Comparisons):
        single = not data.matrices
        return draw(data.done[0], fig, width=width) if single else draw_matrix(data.matrices, fig, width=width)
    wide = width_of(fig, width)
    kinds = len(data.kinds)
    with style():
        if wide < NARROW:
            figure: Figure | SubFigure = fig or new_figure(wide, 7.6 * kinds + 0.9)
            rows = figure.subplots(3 * kinds, 1, squeeze=False, height_ratios=(1.2, 1, 1) * kinds).reshape(kinds, 3)
        else:
            figure = fig or new_figure(wide, 2.7 * kinds + 0.5)
            rows = figure.subplots(kinds, 3, squeeze=False, width_ratios=(1.25, 1, 0.85))
        for row, kind in zip(rows, data.kinds, strict=True):
            _layer_pairs(row[0], data, kind)
            _curves(row[1], data, kind)
            _places(row[2], kind)
        handles, labels = rows[0, 1].get_legend_handles_labels()
        columns = 1 if wide < NARROW else 3
        figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False, handlelength=2.6)
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
    bar = ax.figure.colorbar(picture, ax=ax, fraction=0.06, pad=0.03, label=f"{name}; lines: floor, nulls")
    empty = bool(np.ma.getmaskarray(value).any())
    if empty:
        hatch(ax)
    for level, colour in marks:  # the mean floor in black, the means of the nulls in their colours
        bar.ax.axhline(level, color="white", lw=3.2)
        bar.ax.axhline(level, color=colour, lw=2)
    _layer_ticks(ax, kind)
    ax.set_xlabel(f"layer of {shortened(data.b, 26)}")
    ax.set_ylabel(f"layer of {shortened(data.a, 22)}")
    marked = f"dot: p ≤ .05,\nnull: {null.null}" + ("\nhatched: no usable filter" if empty else "")
    ax.set_title(f"{kind.kind} layer pairs\n{marked}", loc="left")


def _layer_ticks(ax: Axes, kind: KindComparison) -> None:
    for axis, numbers in ((ax.xaxis, kind.numbers_b), (ax.yaxis, kind.numbers_a)):
        step = max(1, -(-len(numbers) // 9))
        axis.set_ticks(range(0, len(numbers), step), [str(number) for number in numbers[::step]])


def _curves(ax: Axes, data: Comparison, kind: KindComparison) -> None:
    """Draw the share of filters with a neighbour at |cos| >= t against t; bands are the nulls' central 95 %."""
    a, b = (shortened(name, 18) for name in (data.a, data.b))
    for null in kind.nulls:
        look = null_look(null.null)
        ax.fill_between(kind.thresholds, null.curve[1], null.curve[2], color=look.colour, alpha=0.25, lw=0)
        ax.plot(kind.thresholds, null.curve[0], color=look.colour, ls=look.line, lw=1.1, label=null.null)
    ax.plot(kind.thresholds, kind.curve_floor, color="black", lw=0.9, ls="--", label="floor (halves)")
    ax.plot(kind.thresholds, kind.curve[0], color="black", lw=1.5, label=f"{a} in {b}")
    ax.plot(kind.thresholds, kind.curve[1], color="black", lw=1.5, ls=":", label=f"{b} in {a}")
    ax.set_xlim(0.2, 1)
    ax.set_ylim(0, 1.02)
    ax.set_xlabel("|cos| of nearest\nneighbour ≥ t")
    ax.set_ylabel("share of filters")
    ax.set_title(f"coverage,\n{counted(kind.n, 'filter')} each\nbands: 95 % of draws", loc="left")


def _places(ax: Axes, kind: KindComparison) -> None:
    """Draw where each measure lies between floor (0) and ceiling (1), with its interval and the other nulls.

    A measure whose floor lies among the draws of the ceiling has no place, and no row: the title names it.

    Nothing falls off the axis: an arrowhead at the edge stands for a value beyond it, and the value is written there;
    an interval that goes on beyond the edge ends in an open arrowhead.
    """
    left, right = LIMITS
    judged = [i for i in range(len(kind.measures)) if np.isfinite(kind.fraction[i])]
    without = [name for i, name in enumerate(kind.measures) if i not in judged and name not in kind.all_filters]
    more = "" if not without else f"\nno place: {without[0]}" + (f", {len(without) - 1} more" if without[1:] else "")
    if not judged:
        ax.set_axis_off()
        ax.set_title(f"each measure{more}", loc="left")
        return
    rows = np.arange(len(judged))[::-1]
    floor, place = kind.floor[judged], kind.fraction[judged]
    gap = kind.ceiling[judged] - floor
    ax.set_xlim(left, right)
    ax.set_ylim(-0.7, len(rows) - 0.3)
    with np.errstate(divide="ignore", invalid="ignore"):
        ends = (kind.interval[:, judged] - floor) / gap
        nulls = {null.null: (null.mean[judged] - floor) / gap for null in kind.nulls}
    low, high = ends.min(axis=0), ends.max(axis=0)
    ax.hlines(rows, np.clip(low, left, right), np.clip(high, left, right), color="black", lw=1, zorder=2)
    for edge, marker, beyond in ((left, "<", low < left), (right, ">", high > right)):
        if beyond.any():
            edges = np.full(int(beyond.sum()), edge)
            ax.plot(edges, rows[beyond], marker, color="black", mfc="white", ms=3.5, clip_on=False)
    for at, row in enumerate(rows):
        outside = []
        for name, places in nulls.items():
            if left <= places[at] <= right or not np.isfinite(places[at]):
                ax.plot(places[at], row, "|", color=null_look(name).colour, ms=7, mew=1.5, zorder=3)
            else:
                outside.append((abs(places[at]), places[at], null_look(name).colour))
        for _, beyond, colour in sorted(outside)[-1:]:  # the farthest: more than one would cover one another
            others = f" (+{len(outside) - 1})" if len(outside) > 1 else ""
            beyond_axis(ax, beyond, row + 0.3, text=f"{beyond:.1f}{others}", colour=colour, margin=True)
    inside = (place >= left) & (place <= right)
    ax.plot(place[inside], rows[inside], "o", color="black", ms=3.5, zorder=4)
    for row, value in zip(rows[~inside], place[~inside], strict=True):
        if np.isfinite(value):
            beyond_axis(ax, value, row, text=f"{value:.1f}", margin=True)
    ax.axvline(0, color="black", lw=0.7, ls="--", zorder=1)
    ax.set_yticks(rows, [kind.measures[i] for i in judged])
    ax.set_xlabel(f"0: floor, 1: {kind.ceiling_null}\n← more alike")
    ax.set_title(f"each measure,\n95 % interval;\nstrokes: nulls{more}", loc="left")


def draw_matrix(data: Sequence[BankMatrix], fig: Figure | SubFigure | None = None, *, width: str = "page") -> Figure:
    """Draw the first measure for each pair of banks, a panel for each kernel size, into `fig` or a new figure."""
    chosen = [m for m in data if m.measure == data[0].measure]
    top = max(float(np.nanmax(np.where(np.isfinite(m.fraction), m.fraction, 0))) for m in chosen)
    top = min(1.0, max(0.1, np.ceil(10 * top) / 10))
    wide = width_of(fig, width)
    narrow, count = wide < NARROW, max(len(m.names) for m in chosen)
    panel = wide if narrow else min(wide, max(3.4, wide / len(chosen)))
    cell = (panel - 1.5) / count
    with style():
        shape = (len(chosen), 1) if narrow else (1, len(chosen))
        height = (1.2 + max(0.25, cell) * count) * (len(chosen) if narrow else 1)
        figure: Figure | SubFigure = fig or new_figure(max(panel, wide * (len(chosen) > 1)), max(2.4, height))
        axes: Any = figure.subplots(*shape, squeeze=False).ravel()
        for ax, matrix in zip(axes, chosen, strict=True):
            shown = np.where(np.eye(len(matrix.names), dtype=bool), 0, matrix.fraction)
            picture = ax.imshow(np.ma.masked_invalid(shown), cmap=AMOUNT, vmin=0, vmax=top)
            for i, j in np.ndindex(shown.shape):
                if np.isfinite(shown[i, j]) and cell > LEAST_CELL:
                    passed = i != j and bool(matrix.p_holm[:, i, j].max() <= 0.05)
                    ax.text(
                        j,
                        i,
                        f"{shown[i, j]:.2f}{'*' if passed else ''}",
                        ha="center",
                        va="center",
                        color=ink(picture, shown[i, j]),
                        fontsize=SMALL if cell < 0.45 else 7,
                    )
            names = [shortened(name, 20) for name in matrix.names]
            size = 7 if cell > LEAST_CELL else SMALL
            ax.set_xticks(range(len(names)), names, rotation=90, fontsize=size)
            ax.set_yticks(range(len(names)), names if ax is axes[0] or narrow else [], fontsize=size)
            ax.tick_params(length=0)
            ax.set_title(f"{matrix.kind}: {matrix.measure}", loc="left")
            ax.spines[:].set_visible(False)
        figure.colorbar(
            picture,
            ax=list(axes),
            fraction=0.04,
            label="0: floor (more alike), 1: ceiling (chance)",
            extend="max" if any((m.fraction > top).any() for m in chosen) else "neither",
        )
        if any("*" in text.get_text() for ax in axes for text in ax.texts):
            figure.supxlabel("*: closer than every null, p ≤ .05 (Holm)", fontsize=7)
    return figure.figure
