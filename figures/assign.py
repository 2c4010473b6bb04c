"""An assignment: shares of the patterns in each layer, coverage beside the nulls, best and worst fits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mkfa.colours import CLASSES, null_look
from mkfa.figures.style import PAGE, draw_filter, new_figure, style
from mkfa.patterns.summary import CURVE, AssignmentSummary, Examples, examples, summarise

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

    from mkfa.patterns.assignment import Assignment


SHOWN = len(CLASSES)
"""Number of classes with a colour of their own; the rest are drawn together as "other"."""


def draw(data: Assignment, fig: Figure | SubFigure | None = None) -> Figure:
    """Draw an assignment in three panels, into `fig` or a new figure.

    Examples
    --------
    >>> import mkfa
    >>> draw(mkfa.assign("ppocrv4_det", basis="eight", draws=99)).savefig("assign.png")
    """
    summary = summarise(data)
    with style():
        figure: Figure | SubFigure = fig or new_figure(PAGE, 5.2)
        top, bottom = figure.subfigures(2, 1, height_ratios=(3.2, 2.0), squeeze=False)[:, 0]
        left, right = top.subplots(1, 2, width_ratios=(1.5, 1))
        _draw_shares(left, summary)
        _draw_coverage(right, summary)
        _draw_examples(bottom, *examples(data))
        figure.suptitle(f"{summary.bank}: {summary.filters:,} filters, basis {summary.basis}")
    return figure.figure


def _draw_shares(ax: Axes, summary: AssignmentSummary) -> None:
    """Draw a stacked bar of class shares for each layer; number and kernel size stand below."""
    layers = [layer for layer in summary.layers if layer.filters]
    shares = np.array([layer.shares for layer in layers])
    order = [i for i in np.argsort([-c.share for c in summary.classes]).tolist() if summary.classes[i].filters]
    shown, rest = order[:SHOWN], order[SHOWN:]
    base, place = np.zeros(len(layers)), np.arange(len(layers))
    for colour, index in zip(CLASSES, shown, strict=False):
        label = summary.classes[index].title.replace(", ", ",\n", 1)
        ax.bar(place, shares[:, index], bottom=base, width=0.9, color=colour, label=label)
        base += shares[:, index]
    if rest:
        ax.bar(place, shares[:, rest].sum(axis=1), bottom=base, width=0.9, color="0.8", label="other")
    ax.set(xlim=(-0.6, len(layers) - 0.4), ylim=(0, 1), ylabel="share of filters", xlabel="layer, first to last")
    step = -(-len(layers) // 12)  # as many labels as fit beside each other
    ticks = list(range(0, len(layers), step))
    ax.set_xticks(ticks, [f"{layers[i].layer}\n{layers[i].kind.split()[0]}" for i in ticks], fontsize=6)
    ax.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, handlelength=1.0, reverse=True)


def _draw_coverage(ax: Axes, summary: AssignmentSummary) -> None:
    """Draw the share of filters whose R² reaches each value, and that of every null."""
    ax.plot(CURVE, summary.whole[0].curve, color="black", lw=1.8, label="filters")
    for each, dash in zip(summary.whole, ("-", "--", "-.", ":", (0, (1, 3))), strict=False):
        ax.plot(CURVE, each.null_curve, color=null_look(each.null).colour, lw=1.1, ls=dash, label=each.null)
    ax.axvline(summary.r2, color="0.7", lw=0.8, zorder=0)
    ax.annotate(
        f"covered\nfrom {summary.r2:g}",
        (summary.r2, 1),
        xytext=(-2, -2),
        textcoords="offset points",
        va="top",
        ha="right",
        fontsize=6,
    )
    ax.set(xlim=(0, 1), ylim=(0, 1), xlabel="R²", ylabel="share with at least this R²")
    ax.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.45, -0.2), ncols=3, handlelength=1.6)


def _draw_examples(figure: Figure | SubFigure, best: Examples, worst: Examples) -> None:
    """Draw filters above their models, best fits left, worst right; each pair has one colour scale."""
    columns = [*best, None, *worst]
    widths = [0.35 if c is None else 1 for c in columns]
    axes = figure.subplots(2, len(columns), width_ratios=widths, squeeze=False)
    for ax_filter, ax_model, example in zip(axes[0], axes[1], columns, strict=True):
        if example is None:
            ax_filter.axis("off")
            ax_model.axis("off")
            continue
        limit = float(max(np.abs(example.filter).max(), np.abs(example.model).max())) or 1.0
        draw_filter(ax_filter, example.filter, limit=limit)
        draw_filter(ax_model, example.model, limit=limit)
        ax_filter.set_title(f"{example.r2:.2f}", pad=2)
        ax_model.set_xlabel(_short(example.title), fontsize=6, labelpad=2)
    axes[0][0].set_ylabel("filter")
    axes[1][0].set_ylabel("model")
    figure.suptitle("R² of the best fit of each class (left) and of the worst fits (right)", fontsize=8)


def _short(title: str) -> str:
    """Break a title of several words, so that it fits below a filter."""
    words = title.split(" ")
    return title if len(title) < 11 or len(words) == 1 else f"{' '.join(words[:-1])}\n{words[-1]}"
