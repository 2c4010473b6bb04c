"""Learned less random filters along D / f^2 and along the steps: points with intervals, the line, where it ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mkfa.colours import MARKERS, arm_looks
from mkfa.figures.style import NARROW, in_few_words, new_figure, signed, style, width_of, wrapped
from mkfa.results.contrasts import REFERENCE, series_of
from mkfa.results.sweep import STEPS, WIDTH_RATIO, Sweep, SweepPoint
from mkfa.results.trends import Trend
from mkfa.words import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure, SubFigure

HEIGHT = 2.9
_LABELS = {WIDTH_RATIO: "D / f² (channels over taps)", STEPS: "optimiser steps"}


def draw(sweep: Sweep, fig: Figure | SubFigure | None = None, *, width: str = "page") -> Figure:
    """Draw, for each axis that varies, every arm against the base and the arms that borrow less `random`.

    Left: means over seeds, in points against the base of the same setting. Right: the differences with 95 % intervals,
    the least-squares line, and one point, below which a difference hardly matters; a star marks where the line
    reaches it.

    Parameters
    ----------
    width : of a new figure: "column" (the right panel below the left one) or "page".

    Examples
    --------
    >>> from mkfa.results.sweep import Sweep
    >>> nothing = Sweep((), (), {"source": "a", "target": "b", "arch": "resmixer_32_6"})
    >>> [text.get_text() for text in draw(nothing).texts]
    ['a → b, resmixer_32_6: no setting is done']
    """
    with style():
        axes = [axis for axis in (WIDTH_RATIO, STEPS) if any(trend.axis == axis for trend in sweep.trends)]
        axes = axes or [axis for axis in (WIDTH_RATIO, STEPS) if len(set(_places(sweep, axis))) > 1][:1]
        wide, count = width_of(fig, width), max(1, len(axes))
        columns = 2 if wide >= NARROW else 1
        figure: Figure | SubFigure = fig or new_figure(wide, HEIGHT * count * (2 // columns))
        p = sweep.parameters
        name = f"{in_few_words(p['source'])} → {p['target']}, {p['arch']}"
        if not axes:
            figure.text(0.5, 0.5, f"{name}: no setting is done", ha="center", wrap=True)
            return figure.figure
        panels = figure.subplots(count * (2 // columns), columns, squeeze=False).reshape(count, 2)
        for (left, right), axis in zip(panels, axes, strict=True):
            _draw_arms(left, sweep, axis)
            _draw_lines(right, sweep, axis)
            for panel in (left, right):
                panel.set_xscale("log", base=2)
                places = sorted(set(_places(sweep, axis)))
                panel.set_xlabel(_LABELS[axis])
                _ticks(panel, places, axis)
        figure.suptitle(wrapped(name, 0.9 * wide), fontsize=8)
        shown: dict[str, Any] = {}
        for panel in panels.ravel():
            shown |= dict(zip(*panel.get_legend_handles_labels()[::-1], strict=True))
        if shown:
            ncols = min(len(shown), 5 if columns == 2 else 2 if max(map(len, shown)) > 12 else 3)
            figure.legend(
                handles=list(shown.values()), labels=list(shown), loc="outside lower center", ncols=ncols, frameon=False
            )
    return figure.figure


def _places(sweep: Sweep, axis: str) -> list[float]:
    return [point.ratio if axis == WIDTH_RATIO else float(point.steps) for point in sweep.points]


def _draw_arms(ax: Any, sweep: Sweep, axis: str) -> None:
    names = list(dict.fromkeys(name for point in sweep.points for name in series_of(point.curve.cells)))
    looks = arm_looks(names)
    ax.axhline(0, color="black", linewidth=1, zorder=1)
    for name in names:
        found = [
            (place, 100 * cells[-1].relative)
            for point, place in zip(sweep.points, _places(sweep, axis), strict=True)
            if (cells := series_of(point.curve.cells).get(name)) and cells[-1].top1
        ]
        x, y = np.array(sorted(found)).T if found else (np.zeros(0), np.zeros(0))
        look = looks[name]
        ax.plot(x, y, look.marker, color=look.colour, markersize=4, label=name, zorder=3)
    ax.set_ylabel("top-1 less the base's (points)")


def _draw_lines(ax: Any, sweep: Sweep, axis: str) -> None:
    lines = [trend for trend in sweep.trends if trend.axis == axis and trend.against == REFERENCE]
    groups = _groups(sweep.points, axis)
    names = list(dict.fromkeys(groups))
    greys = [f"{grey:.2f}" for grey in np.linspace(0.1, 0.65, len(names))]  # colours are the arms'
    ax.axhline(0, color="black", linewidth=1, zorder=1)
    for trend in lines:
        x, y, width = (np.array(values) for values in (trend.x, trend.values, trend.half_widths))
        beside = 0.02 * np.log2(x.max() / x.min()) if axis == STEPS else 0.0  # or they would hide one another
        for i, name in enumerate(names):
            chosen = np.array([group == name for group in groups])
            ax.errorbar(
                x[chosen] * 2 ** (beside * (i - (len(names) - 1) / 2)),
                100 * y[chosen],
                100 * np.nan_to_num(width[chosen]),
                fmt=MARKERS[i % len(MARKERS)],
                color=greys[i],
                markersize=4,
                linewidth=0.9,
                capsize=2,
                label=name if trend is lines[0] else None,
                zorder=3,
            )
        _draw_line(ax, trend, x, y)
    if lines:
        ax.axhline(100 * lines[0].margin, color="black", linewidth=0.8, linestyle=":", zorder=1)
        ax.set_ylabel(f"{' / '.join(trend.series for trend in lines)}\nminus {REFERENCE} (points)")
        ax.set_title(wrapped(_title(lines[0]), 2.6), loc="left")
    else:
        ax.set_ylabel(f"minus {REFERENCE} (points)")
        ax.set_title("no line: too few arms or settings", loc="left")


def _draw_line(ax: Any, trend: Trend, x: Any, y: Any) -> None:
    place = np.log2(x) if trend.doubling else x
    at = np.array([x.min(), x.max()])
    ends = np.log2(at) if trend.doubling else at
    ax.plot(at, 100 * (y.mean() + trend.slope * (ends - place.mean())), color="black", linewidth=1.2, zorder=2)
    crossing = trend.crossing[0]
    if np.isfinite(crossing) and x.min() <= crossing <= x.max():
        ax.plot([crossing], [100 * trend.margin], "*", color="black", markersize=9, zorder=4)


def _groups(points: Sequence[SweepPoint], axis: str) -> list[str]:
    """Return what the marks of points say: the kernels along D / f^2, the filters along the steps."""
    if axis == WIDTH_RATIO:
        return [f"{point.kernel}x{point.kernel}" for point in points]
    return [f"{counted(point.width, 'channel')}, {point.kernel}x{point.kernel}" for point in points]


def _title(trend: Trend) -> str:
    slope = f"{signed(100 * trend.slope)} points a doubling"
    if not np.isfinite(trend.half_width):
        return slope
    low, high = (100 * (trend.slope + sign * trend.half_width) for sign in (-1, 1))
    return f"{slope} ({signed(low)} to {signed(high)})"


def _ticks(ax: Any, places: Sequence[float], axis: str) -> None:
    """Label powers of two along D / f^2; along the steps their numbers, as far as labels stay apart."""
    low, high = np.log2(places[0]), np.log2(places[-1])
    if axis == WIDTH_RATIO:
        chosen = [2.0**n for n in range(int(np.floor(low)), int(np.ceil(high)) + 1)]
        chosen = chosen[:: -(-len(chosen) // 8)]
    else:
        chosen = []
        for place in places:
            if not chosen or np.log2(place / chosen[-1]) > 0.18 * (high - low):
                chosen.append(place)
    ax.set_xticks(chosen, [f"{place:g}" for place in chosen])
    ax.minorticks_off()
