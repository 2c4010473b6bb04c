"""Accuracy relative to the base against the number of frozen layers: a line for each arm, bands over seeds."""

from __future__ import annotations

from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np

from mkfa.arms.arms import ARMS
from mkfa.evidence.paper import PaperCurve
from mkfa.figures.paper import draw_curves, height
from mkfa.figures.style import PAGE, in_few_words, new_figure, refuse_both, style
from mkfa.results.cells import Cell
from mkfa.results.contrasts import series_of
from mkfa.results.curve import Curve

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

HEIGHT = 3.4

COLOURS = {
    "transfer": "#1f77b4",
    "selffer": "#2ca02c",
    "transfer+": "#17becf",
    "selffer+": "#98df8a",
    "random": "#ff7f0e",
    "shuffle": "#9467bd",
    "shuffle-network": "#c5b0d5",
    "covariance": "#8c564b",
    "delta": "#d62728",
    "box": "#e377c2",
    "stack": "#bcbd22",
    "first-k": "#7f7f7f",
    "basis": "#111111",
    "keys": "#555555",
}
MARKERS = "os^vDPX<>*hpd"
FLATTENED = 2.5
"""An arm with `Arm.must_hurt` that falls this many times deeper than all others gives these a panel of their own."""


def draw(curve: Curve, ax: Axes | None = None, *, paper: Sequence[PaperCurve] = ()) -> Figure:
    """Draw one line for each arm, in percentage points against the base; points are means, bands one deviation.

    The axis reaches down to chance only if an arm comes near it. If an arm that must hurt falls much deeper than all
    others, a second panel shows the others closer: their differences would be flat in the first.

    Parameters
    ----------
    ax : the one panel to draw into, without the closer one; a new figure if None.
    paper : what the paper says of its curves, for panels below; only without `ax`.

    Examples
    --------
    >>> from mkfa.results.archive import bundled_file, find_experiment, read_experiments
    >>> from mkfa.results.gather import rebuild
    >>> curve = rebuild(find_experiment(read_experiments(bundled_file()), "digits-18-layers"))
    >>> draw(curve).axes[0].get_title(loc="left")
    'fashion → digits, convmixer_32_18, 3 seeds; sensitivity 2.9 SD (random at 13), resolution 13.1 points'
    """
    with style():
        if ax is not None:
            refuse_both(ax, paper)
            arms = series_of(_trained(curve))
            _draw_curve([ax], curve, arms)
            if arms:
                ax.legend(frameon=False)
            return ax.figure.figure
        below = height(paper)
        figure: Figure = new_figure(PAGE, HEIGHT + below)
        if not paper:
            _draw_panels(figure, curve)
        else:
            upper, lower = figure.subfigures(2, 1, squeeze=False, height_ratios=[HEIGHT, below], hspace=0.06)[:, 0]
            _draw_panels(upper, curve)
            draw_curves(lower, paper)
    return figure


def _trained(curve: Curve) -> list[Cell]:
    return [cell for cell in curve.cells if cell.top1]


def _draw_panels(canvas: Figure | SubFigure, curve: Curve) -> None:
    """Draw the curve, and once more closer if one arm flattens the others."""
    arms = series_of(_trained(curve))
    limits = _closer(arms)
    axes = canvas.subplots(1, 2 if limits else 1, squeeze=False)[0]
    _draw_curve(axes, curve, arms)
    if limits:
        axes[1].set_ylim(*limits)
        axes[1].set_title("the same, closer", loc="right", fontsize=8)
    if arms:
        axes[-1].legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False, borderaxespad=0)


def _draw_curve(axes: Sequence[Axes], curve: Curve, arms: Mapping[str, Sequence[Cell]]) -> None:
    for ax in axes:
        _draw_arms(ax, curve, arms)
    _draw_chance(axes[0], curve)
    axes[0].set_ylabel(f"top-1 less the base's {100 * curve.base.mean:.1f} % (points)\nbands: SD over seeds")
    # beside a second panel, which has a title too, one line has no room
    axes[0].set_title(_title(curve).replace("; ", "\n" if len(axes) > 1 else "; "), loc="left")


def _draw_arms(ax: Any, curve: Curve, arms: Mapping[str, Sequence[Cell]]) -> None:
    ax.axhline(0, color="black", linewidth=1, zorder=1)
    spread = 0.0 if np.isnan(curve.base.std) else 100 * curve.base.std
    if spread:
        ax.axhspan(-spread, spread, color="black", alpha=0.08, linewidth=0, zorder=0)
    others = cycle([c for name, c in COLOURS.items() if name not in arms] or list(COLOURS.values()))
    for i, (arm, cells) in enumerate(arms.items()):
        x, y, band = _points(cells)
        colour = COLOURS.get(arm) or next(others)  # a series "arm source" has no colour of its own
        ax.plot(
            x, y, marker=MARKERS[i % len(MARKERS)], markersize=3.5, linewidth=1.2, color=colour, label=arm, zorder=3
        )
        ax.fill_between(x, y - band, y + band, color=colour, alpha=0.15, linewidth=0, zorder=2)
    numbers = sorted({c.layers for c in curve.cells})
    if len(numbers) <= 20:
        ax.set_xticks(numbers, [str(n) if len(numbers) <= 12 or n % 2 == 0 else "" for n in numbers])
    ax.set_xlabel("layers set and frozen, from the first")


def _draw_chance(ax: Any, curve: Curve) -> None:
    chance = 100 * (curve.chance - curve.base.mean)
    lowest = min([0.0, *(100 * c.relative for c in curve.cells if c.top1)])
    if not np.isfinite(chance):
        return
    inside = lowest < 0.5 * chance
    if inside:
        ax.axhline(chance, color="black", linewidth=1, linestyle=":", zorder=1)
    ax.annotate(
        "chance" if inside else f"chance {100 * curve.chance:.1f} %, below the axis",
        (1, chance if inside else 0),
        xycoords=("axes fraction", "data") if inside else "axes fraction",
        xytext=(-2, 2),
        textcoords="offset points",
        ha="right",
        va="bottom",
        fontsize=7,
        bbox={"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 0.5},
        zorder=4,
    )


def _points(cells: Sequence[Cell]) -> tuple[Any, Any, Any]:
    """Return layers, means and deviations of a series, (n,) each; the latter two in points."""
    x = np.array([c.layers for c in cells])
    y = 100 * np.array([c.relative for c in cells])
    return x, y, 100 * np.nan_to_num(np.array([c.std for c in cells]))


def _closer(arms: Mapping[str, Sequence[Cell]]) -> tuple[float, float] | None:
    """Return the limits of the closer panel; None if no arm that must hurt flattens the others."""
    ends = {
        arm: (float((y - band).min()), float((y + band).max()))
        for arm, (_, y, band) in ((arm, _points(cells)) for arm, cells in arms.items())
    }
    rest = [end for arm, end in ends.items() if not (arm in ARMS and ARMS[arm].must_hurt)]
    if not rest:
        return None
    low, high = min([0.0, *(a for a, _ in rest)]), max([0.0, *(b for _, b in ends.values())])
    if min(a for a, _ in ends.values()) > FLATTENED * low - 1:
        return None
    margin = 0.08 * (high - low)
    return low - margin, high + margin


def _title(curve: Curve) -> str:
    p = curve.parameters
    seeds = len(curve.base.seeds)
    line = f"{in_few_words(p['source'])} → {p['target']}, {p['arch']}, {seeds} seed{'' if seeds == 1 else 's'}"
    sensitivity = curve.sensitivity
    if sensitivity is None:
        return line
    where = f"{sensitivity.worst_arm} at {sensitivity.worst_layers}"
    if np.isfinite(sensitivity.distance):
        resolution = f", resolution {100 * sensitivity.detectable:.1f} points" if sensitivity.detectable > 0 else ""
        return f"{line}; sensitivity {sensitivity.distance:.1f} SD ({where}){resolution}"
    return f"{line}; worst {100 * sensitivity.drop:.1f} points below base ({where})"
