"""Accuracy relative to the base against the number of frozen layers: a line for each arm, its spread over seeds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mkfa.arms.arms import ARMS
from mkfa.colours import arm_looks
from mkfa.evidence.paper import PaperCurve
from mkfa.figures import inches
from mkfa.figures.paper import draw_curves, height
from mkfa.figures.style import NARROW, SMALL, in_few_words, new_figure, refuse_both, signed, style, width_of, wrapped
from mkfa.results.cells import Cell
from mkfa.results.contrasts import series_of
from mkfa.results.curve import Curve
from mkfa.words import counted, listed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

HEIGHT = 3.4
MOST_BANDS = 3
"""Arms whose spread over seeds is a band; of more arms bands cover each other, and bars stand side by side."""

SHARE_OF_PANEL = 0.7
"""Of a panel's width, the part that its axis takes; the rest is for labels and the legend."""

FLATTENED = 2.5
"""An arm with `Arm.must_hurt` that falls this many times deeper than all others gives these a panel of their own."""


def draw(curve: Curve, ax: Axes | None = None, *, paper: Sequence[PaperCurve] = (), width: str = "page") -> Figure:
    """Draw one line for each arm, in percentage points against the base; points are means, bands or bars one deviation.

    The axis reaches down to chance only if an arm comes near it. If an arm that must hurt falls much deeper than all
    others, a second panel shows the others closer: their differences would be flat in the first.

    Parameters
    ----------
    ax : the one panel to draw into, without the closer one; a new figure if None.
    paper : what the paper says of its curves, for panels below; only without `ax`.
    width : of a new figure: "column" or "page".

    Examples
    --------
    >>> from mkfa.results.archive import bundled_file, find_experiment, read_experiments
    >>> from mkfa.results.gather import rebuild
    >>> curve = rebuild(find_experiment(read_experiments(bundled_file()), "digits-18-layers"))
    >>> draw(curve).axes[0].get_title(loc="left").splitlines()[0]
    'fashion → digits, resmixer_32_18, 5 seeds'
    """
    with style():
        if ax is not None:
            refuse_both(ax, paper)
            arms = series_of(_trained(curve))
            _draw_curve([ax], curve, arms, ax.bbox.width / ax.figure.dpi)
            if arms:
                ax.legend(frameon=False)
            return ax.figure.figure
        wide = inches(width)
        below = height(paper, wide)
        panels = _panels(curve)
        tall = HEIGHT if wide >= NARROW else 2.3 * panels + 1.0
        figure: Figure = new_figure(wide, tall + below)
        if not paper:
            _draw_panels(figure, curve, wide)
        else:
            upper, lower = figure.subfigures(2, 1, squeeze=False, height_ratios=[tall, below], hspace=0.06)[:, 0]
            _draw_panels(upper, curve, wide)
            draw_curves(lower, paper, wide)
    return figure


def _panels(curve: Curve) -> int:
    return 2 if _closer(series_of(_trained(curve))) else 1


def _trained(curve: Curve) -> list[Cell]:
    return [cell for cell in curve.cells if cell.top1]


def _draw_panels(canvas: Figure | SubFigure, curve: Curve, width: float) -> None:
    """Draw the curve, and once more closer if one arm flattens the others."""
    arms = series_of(_trained(curve))
    limits, narrow = _closer(arms), width < NARROW
    panels = 2 if limits else 1
    axes = canvas.subplots(*((panels, 1) if narrow else (1, panels)), squeeze=False).ravel().tolist()
    if limits:
        axes[1].set_ylim(*limits)
    _draw_curve(axes, curve, arms, width / (1 if narrow else panels))
    if limits:
        axes[1].set_title("the same, closer", loc="right", fontsize=8)
        _mark_points_below(axes[1], arms, width / (1 if narrow else panels))
    if arms and narrow:
        canvas.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    elif arms:
        axes[-1].legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False, borderaxespad=0)


def _mark_points_below(ax: Axes, arms: Mapping[str, Sequence[Cell]], width: float) -> None:
    """Mark points below the axis by an arrowhead at its edge with the value, upright where values would touch.

    Where even upright ones would touch, as in curves of many layers, some arrowheads have none; the last always has.
    `width` is that of the panel in inches, labels of the axis included.
    """
    bottom, beside = ax.get_ylim()[0], _beside(arms)
    left, right = ax.get_xlim()
    points = 72 * SHARE_OF_PANEL * width / (right - left)  # a layer's width on paper; the layout is not known yet
    for arm, look in arm_looks(arms).items():
        x, y, _ = _points(arms[arm])
        x, y = (x + beside[arm])[y < bottom], y[y < bottom]
        upright = len(x) > 1 and np.diff(x).min() * points < 3 * SMALL
        named = np.inf
        for n, value in zip(x[::-1], y[::-1], strict=True):
            ax.plot([n], [bottom], "v", color=look.colour, markersize=4, clip_on=False, zorder=5)
            if (named - n) * points < SMALL:
                continue
            named = n
            ax.annotate(
                signed(value),
                (n, bottom),
                xytext=(0, 6 if upright else 4),
                textcoords="offset points",
                ha="center",
                rotation=90 if upright else 0,
                fontsize=SMALL,
                bbox={"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 0.3},
                zorder=5,
            )


def _draw_curve(axes: Sequence[Axes], curve: Curve, arms: Mapping[str, Sequence[Cell]], width: float) -> None:
    for i, ax in enumerate(axes):
        _draw_arms(ax, curve, arms, bottom=ax.get_ylim()[0] if i else -np.inf)
    _draw_chance(axes[0], curve)
    gap = "\n" if width_of(axes[0].figure, "page") < NARROW and len(axes) > 1 else " "
    base = f"{100 * curve.base.mean:.1f} %"
    shape = "bands" if len(arms) <= MOST_BANDS else "bars"
    axes[0].set_ylabel(f"top-1 less the base's{gap}{base} (points)\n{shape}: ±1 SD over seeds")
    # beside a second panel, which has a title too, one line has no room
    title = _title(curve).replace("; ", "\n" if len(axes) > 1 or width < NARROW else "; ")
    axes[0].set_title(wrapped(title, 0.8 * width), loc="left")


def _draw_arms(ax: Any, curve: Curve, arms: Mapping[str, Sequence[Cell]], *, bottom: float) -> None:
    """Draw lines, points and spreads. A bar that goes on below the bottom ends there in an open arrowhead."""
    ax.axhline(0, color="black", linewidth=1, zorder=1)
    spread = 0.0 if np.isnan(curve.base.std) else 100 * curve.base.std
    if spread:
        ax.axhspan(-spread, spread, color="black", alpha=0.08, linewidth=0, zorder=0, label="base, ±1 SD")
    beside = _beside(arms)
    for (arm, cells), look in zip(arms.items(), arm_looks(arms).values(), strict=True):
        x, y, spread = _points(cells)
        x = x + beside[arm]
        ax.plot(
            x,
            y,
            marker=look.marker,
            linestyle=look.line,
            markersize=3.5,
            linewidth=1.2,
            color=look.colour,
            label=arm,
            zorder=3,
        )
        if len(arms) <= MOST_BANDS:
            ax.fill_between(x, y - spread, y + spread, color=look.colour, alpha=0.12, linewidth=0, zorder=2)
        else:
            inside = y >= bottom  # of points below, `_mark_points_below` has the values
            x, low, high = x[inside], (y - spread)[inside], (y + spread)[inside]
            ax.vlines(x, np.maximum(low, bottom), high, color=look.colour, linewidth=0.9, zorder=2)
            if len(cut := x[low < bottom]):
                edge = np.full(len(cut), bottom)
                ax.plot(cut, edge, "v", color=look.colour, mfc="white", ms=3.5, ls="none", clip_on=False, zorder=4)
    numbers = sorted({c.layers for c in curve.cells})
    if len(numbers) <= 20:
        ax.set_xticks(numbers, [str(n) if len(numbers) <= 12 or n % 2 == 0 else "" for n in numbers])
    ax.set_xlabel("layers set and frozen, from the first")


def _beside(arms: Mapping[str, Sequence[Cell]]) -> dict[str, float]:
    """Return how far each arm stands beside its number of layers: not at all where the spread is a band."""
    numbers = sorted({cell.layers for cells in arms.values() for cell in cells})
    if len(arms) <= MOST_BANDS:
        return dict.fromkeys(arms, 0.0)
    step = min(0.6 * min(np.diff(numbers), default=1), 0.12 * max(1, numbers[-1] - numbers[0])) / len(arms)
    return {arm: float(step * (i - (len(arms) - 1) / 2)) for i, arm in enumerate(arms)}


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
        (int(inside), chance if inside else 0),
        xycoords=("axes fraction", "data") if inside else "axes fraction",
        xytext=(-2 if inside else 2, 2),
        textcoords="offset points",
        ha="right" if inside else "left",  # arms that fall do so on the right
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
    line = f"{in_few_words(p['source'])} → {p['target']}, {p['arch']}, {counted(seeds, 'seed')}"
    sensitivity = curve.sensitivity
    if sensitivity is None:
        return line
    where = listed(f"{arm} at {layers}" for arm, layers in sensitivity.worst)
    if np.isfinite(sensitivity.distance):
        resolution = f", resolution {100 * sensitivity.detectable:.1f} points" if sensitivity.detectable > 0 else ""
        return f"{line}; sensitivity {sensitivity.distance:.1f} SD ({where}){resolution}"
    return f"{line}; worst {100 * sensitivity.drop:.1f} points below base ({where})"
