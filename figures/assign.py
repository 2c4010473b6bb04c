"""An assignment: shares of the patterns in each layer, coverage beside the nulls, best and worst fits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mkfa.colours import GROUPS, NO_CLASS, class_look, group_of, null_look
from mkfa.figures.style import NARROW, SMALL, draw_filter, new_figure, shortened, style, width_of, wrapped
from mkfa.patterns.summary import CURVE, AssignmentSummary, Example, Examples, examples, summarise
from mkfa.words import counted

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

    from mkfa.patterns.assignment import Assignment


MOST_CLASSES = 16
"""Classes with a look of their own; those with the fewest filters are drawn together as "other"."""


def draw(data: Assignment, fig: Figure | SubFigure | None = None, *, width: str = "page") -> Figure:
    """Draw an assignment in three panels, into `fig` or a new figure.

    Classes have the colour of their group (as on the map of `mkfa atlas`) and differ in a group by their hatches.

    Examples
    --------
    >>> import mkfa
    >>> draw(mkfa.assign("ppocrv4_det", basis="eight", draws=99)).savefig("assign.png")
    """
    summary = summarise(data)
    wide = width_of(fig, width)
    narrow = wide < NARROW
    best, worst = examples(data)
    heights = (4.6, 2.8, 3.8) if narrow else (3.5, 1.9)
    with style():
        figure: Figure | SubFigure = fig or new_figure(wide, sum(heights))
        parts = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
        if narrow:
            left, right = parts[0].subplots(), parts[1].subplots()
        else:
            left, right = parts[0].subplots(1, 2, width_ratios=(1.5, 1))
        _draw_shares(left, summary, narrow=narrow)
        _draw_coverage(right, summary)
        _draw_examples(parts[-1], best, worst, wide)
        title = f"{shortened(summary.bank, 30)}: {counted(summary.filters, 'filter')}, basis {summary.basis}"
        figure.suptitle(title, fontsize=7 if narrow else 9)
    return figure.figure


def _draw_shares(ax: Axes, summary: AssignmentSummary, *, narrow: bool) -> None:
    """Draw a stacked bar of class shares for each layer, by groups; number and kernel size stand below."""
    layers = [layer for layer in summary.layers if layer.filters]
    shares = np.array([layer.shares for layer in layers])
    by_size = [i for i in np.argsort([-c.share for c in summary.classes]).tolist() if summary.classes[i].filters]
    groups, names = list(GROUPS), [c.name for c in summary.classes]
    shown = sorted(
        by_size[:MOST_CLASSES], key=lambda i: groups.index(group_of(names[i])) if group_of(names[i]) else len(groups)
    )
    rest = by_size[MOST_CLASSES:]
    base, place = np.zeros(len(layers)), np.arange(len(layers))
    edge: dict[str, Any] = {"edgecolor": "white", "linewidth": 0.4, "width": 0.9}
    for index in shown:
        look = class_look(names[index])
        label = wrapped(summary.classes[index].title, 1.6 if narrow else 1.45, 7)
        ax.bar(place, shares[:, index], bottom=base, color=look.colour, hatch=look.hatch, label=label, **edge)
        base += shares[:, index]
    if rest:
        ax.bar(place, shares[:, rest].sum(axis=1), bottom=base, color=NO_CLASS.colour, label="other", **edge)
    ax.set(xlim=(-0.6, len(layers) - 0.4), ylim=(0, 1), ylabel="share of filters", xlabel="layer, first to last")
    step = -(-len(layers) // (10 if narrow else 12))  # as many labels as fit beside each other
    ticks = list(range(0, len(layers), step))
    ax.set_xticks(ticks, [f"{layers[i].layer}\n{layers[i].kind.split()[0]}" for i in ticks], fontsize=SMALL)
    if narrow:
        ax.figure.legend(loc="outside lower center", ncols=2, frameon=False, handlelength=1.4, fontsize=6.5)
    else:
        where: dict[str, Any] = {"loc": "center left", "bbox_to_anchor": (1.0, 0.5)}
        ax.legend(**where, frameon=False, handlelength=1.4, labelspacing=0.35, reverse=True)


def _draw_coverage(ax: Axes, summary: AssignmentSummary) -> None:
    """Draw the share of filters whose R² reaches each value, and that of every null."""
    ax.plot(CURVE, summary.whole[0].curve, color="black", lw=1.8, label="filters")
    for each in summary.whole:
        look = null_look(each.null)
        ax.plot(CURVE, each.null_curve, color=look.colour, lw=1.2, ls=look.line, label=f"null: {each.null}")
    ax.axvline(summary.r2, color="0.6", lw=0.8, zorder=0)
    ax.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="R²", ylabel="share with at least this R²")
    ax.set_title(f"grey line: covered, R² ≥ {summary.r2:g}", loc="left")
    ax.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.45, -0.2), ncols=2, handlelength=2.6)


def _draw_examples(figure: Figure | SubFigure, best: Examples, worst: Examples, width: float) -> None:
    """Draw filters above their models, best fits left (or above), worst right; each pair has one colour scale."""
    narrow = width < NARROW
    blocks: list[list[Example | None]] = [list(best), list(worst)] if narrow else [[*best, None, *worst]]
    columns = max(len(block) for block in blocks)
    widths = [1.0] * columns if narrow else [0.35 if c is None else 1.0 for c in blocks[0]]
    axes = figure.subplots(2 * len(blocks), columns, width_ratios=widths, squeeze=False)
    for ax in axes.ravel():
        ax.axis("off")
    for pair, block in enumerate(blocks):
        for column, example in enumerate(block):
            if example is not None:
                _draw_pair(axes[2 * pair, column], axes[2 * pair + 1, column], example, width / columns)
        for ax, text in ((axes[2 * pair, 0], "filter"), (axes[2 * pair + 1, 0], "model")):
            ax.text(-0.12, 0.5, text, rotation=90, ha="right", va="center", transform=ax.transAxes, fontsize=7)
    where = "above" if narrow else "left", "below" if narrow else "right"
    title = (
        f"R² of the best fit of each class ({where[0]}) and of the worst fits ({where[1]}); "
        "blue is negative, red positive, one scale for a filter and its model"
    )
    figure.suptitle(wrapped(title, width), fontsize=8)


def _draw_pair(above: Axes, below: Axes, example: Example, width: float) -> None:
    limit = float(max(np.abs(example.filter).max(), np.abs(example.model).max())) or 1.0
    for ax, values in ((above, example.filter), (below, example.model)):
        ax.axis("on")
        draw_filter(ax, values, limit=limit)
    above.set_title(f"{example.r2:.2f}", pad=2, fontsize=7)
    room = 0.8 * width  # what labels leave of it, with a gap to the neighbour's caption
    below.set_xlabel(wrapped(example.title, room, SMALL), fontsize=SMALL, labelpad=2)
