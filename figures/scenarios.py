"""A table of arms or sources at one number of layers, and their changes against the base."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mkfa.colours import CATEGORIES
from mkfa.evidence.paper import PaperRows, citation
from mkfa.figures.style import (
    NARROW,
    SMALL,
    beyond_axis,
    in_few_words,
    new_figure,
    shortened,
    signed,
    style,
    width_of,
    wrapped,
)
from mkfa.results.cells import Cell
from mkfa.results.table import Scenario, Scenarios
from mkfa.words import counted

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

LINE = 0.24
"""Height of a row, inches."""
NEAR = 2.5
"""Rows that fall this many times deeper than the others are beyond the axis."""
INK, FAINT, POINT = "black", "#777777", CATEGORIES[0]


@dataclass(frozen=True, slots=True)
class _Line:
    """A row of the table: texts, change in points, half its interval, the change of each seed."""

    texts: tuple[str, ...]
    change: float
    half_width: float
    seeds: tuple[float, ...] = ()


def draw(
    data: Scenarios, fig: Figure | SubFigure | None = None, *, paper: PaperRows | None = None, width: str = "page"
) -> Figure:
    """Draw the rows with accuracy, change and its interval into `fig` or a new figure.

    The paper's rows, if given, are drawn below with a scale of their own.

    Parameters
    ----------
    width : of a new figure: "column" (dots below the table) or "page" (beside it).

    Examples
    --------
    >>> from mkfa.results.archive import bundled_file, find_experiment, read_experiments
    >>> from mkfa.results.gather import rebuild
    >>> scenarios = rebuild(find_experiment(read_experiments(bundled_file()), "fashion-digits"))
    >>> [text.get_text() for text in draw(scenarios).axes[0].texts[5:7]]
    ['baseline', '93.9 ± 0.6']
    """
    lines = [_base(data.base), *(_line(row, data.base) for row in data.scenarios)]
    heads: tuple[str, ...] = ("", "top-1 ± SD (%)", "change [95 %]", "p", "seeds")
    wide = width_of(fig, width)
    heights = [_height(len(lines), wide)] + ([_height(len(paper.rows), wide)] if paper else [])
    with style():
        figure: Figure | SubFigure = fig or new_figure(wide, sum(heights))
        parts = figure.subfigures(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
        spread = 100 * data.base.std
        columns: tuple[float, ...] = (0.36, 0.17, 0.27, 0.09, 0.11)
        if wide < NARROW:
            columns, heads = (0.2, 0.2, 0.38, 0.12, 0.1), ("", "top-1 ± SD", "change [95 %]", "p", "seeds")
        titles = (wrapped(_title(data), wide), "change against the base (points)\nline: 95 % interval; strokes: seeds")
        _panel(parts[0], lines, heads, widths=columns, band=spread, titles=titles, wide=wide)
        if paper:
            rows = [
                _Line((name, f"{top1:.1f}", signed(top1 - paper.base)), top1 - paper.base, math.nan)
                for name, top1 in paper.rows
            ]
            title = f"The paper's ({citation()}), {paper.table}:\n{paper.model}, {paper.setting}; no seeds or intervals"
            titles = (wrapped(title.replace("->", "→"), wide), "change against the base (points)")
            _panel(
                parts[1],
                rows,
                ("", "top-1 (%)", "change"),
                widths=(0.6, 0.2, 0.2),
                band=math.nan,
                titles=titles,
                wide=wide,
            )
    return figure.figure


def _height(rows: int, width: float) -> float:
    table = 1.1 + LINE * (rows + 1)
    return table if width >= NARROW else 2 * table + 0.1


def _panel(
    canvas: Figure | SubFigure,
    lines: Sequence[_Line],
    heads: Sequence[str],
    *,
    widths: Sequence[float],
    band: float,
    titles: tuple[str, str],
    wide: float,
) -> None:
    """Draw a table and a panel of changes beside it, or below it where there is no room.

    Parameters
    ----------
    widths : of the columns, shares of the table.
    band : standard deviation of the base, points.
    titles : of the whole, and of the x axis.
    wide : inches.
    """
    narrow = wide < NARROW
    canvas.suptitle(titles[0], x=0.01, ha="left", fontsize=8)
    if narrow:
        upper, lower = np.ravel(np.array(canvas.subfigures(2, 1)))
        table, dots = upper.subplots(), lower.subplots()
        table.set_ylim(len(lines) - 0.5, -1.5)
    else:
        table, dots = canvas.subplots(1, 2, width_ratios=(2.1, 1), sharey=True)
    table.axis("off")
    table.set_xlim(0, 1)
    edges = np.concatenate([[0], np.cumsum(widths)])
    for j, head in enumerate(heads):
        _write(table, edges, j, y=-1, text=head, weight="bold", size=SMALL if narrow else 7)
    for i, line in enumerate(lines):
        for j, text in enumerate(line.texts):
            _write(table, edges, j, y=i, text=text, size=SMALL if narrow else 7)
    table.axhline(-0.5, color=INK, linewidth=0.8)
    dots.axvline(0, color=INK, linewidth=1, zorder=1)
    if band > 0:
        dots.axvspan(-band, band, color=INK, alpha=0.08, linewidth=0, zorder=0)
    near, far = _far_ones(lines)
    for i, line in enumerate(lines):
        _draw_line(dots, line, i)
    dots.set_ylim(len(lines) - 0.5, -0.5 if narrow else -1.5)
    dots.margins(x=0.08)
    if far:
        dots.set_xlim(left=1.15 * min([-1.0, *(_low(lines[i]) for i in near)]))
    for i in far:
        beyond_axis(dots, lines[i].change, i, text=signed(lines[i].change), colour=POINT)
    if narrow:
        dots.set_yticks(range(len(lines)), [shortened(line.texts[0], 16) for line in lines])
    else:
        dots.tick_params(axis="y", left=False, labelleft=False)
        dots.spines["left"].set_visible(False)
    dots.set_xlabel(titles[1] + ("\ngrey: ±1 SD of the base" if band > 0 else ""))


def _draw_line(ax: Axes, line: _Line, i: int) -> None:
    ax.plot(line.seeds, [i] * len(line.seeds), "|", color=FAINT, markersize=6, zorder=2)
    if math.isfinite(line.half_width):
        ax.plot(
            [line.change - line.half_width, line.change + line.half_width], [i, i], color=POINT, linewidth=1.4, zorder=3
        )
    ax.plot([line.change], [i], "o", color=POINT, markersize=4, zorder=4)


def _far_ones(lines: Sequence[_Line]) -> tuple[list[int], list[int]]:
    """Return the lines that are drawn, and those so far below the others that these would be squeezed."""
    middle = min(0.0, float(np.nanmedian([line.change for line in lines])))
    lowest = min([-1.0, *(_low(line) for line in lines if line.change >= NEAR * middle)])
    far = [i for i, line in enumerate(lines) if line.change < NEAR * lowest]
    return [i for i in range(len(lines)) if i not in far], far


def _low(line: _Line) -> float:
    return float(line.change - np.nan_to_num(line.half_width))


def _write(ax: Axes, edges: Any, column: int, *, y: float, text: str, weight: str = "normal", size: float = 7) -> None:
    """Write one field: the first column from its left edge, the others to their right edge."""
    x, side = (edges[0], "left") if column == 0 else (edges[column + 1] - 0.01, "right")
    ax.text(x, y, text, ha=side, va="center", fontsize=size, fontweight=weight)


def _base(cell: Cell) -> _Line:
    own = tuple(100 * (v - cell.mean) for v in cell.top1)
    return _Line(("baseline", _accuracy(cell), "", "", _seeds(cell)), 0.0, math.nan, own)


def _line(row: Scenario, base: Cell) -> _Line:
    c = row.cell
    low, high = (100 * (c.relative + sign * c.half_width) for sign in (-1, 1))
    interval = f" [{signed(low)}, {signed(high)}]" if math.isfinite(low) else ""
    change = f"{signed(100 * c.relative)}{interval}" if c.top1 else "–"
    p = "–" if math.isnan(row.p) else "<.001" if row.p < 0.001 else f"{row.p:.3f}".lstrip("0")
    own = tuple(100 * (v - base.mean) for v in c.top1)
    return _Line((row.label, _accuracy(c), change, p, _seeds(c)), 100 * c.relative, 100 * c.half_width, own)


def _accuracy(cell: Cell) -> str:
    spread = f" ± {100 * cell.std:.1f}" if math.isfinite(cell.std) else ""
    return f"{100 * cell.mean:.1f}{spread}" if cell.top1 else "–"


def _seeds(cell: Cell) -> str:
    planned = len(cell.seeds) + cell.missing + cell.diverged
    return f"{planned}" if len(cell.seeds) == planned else f"{len(cell.seeds)} of {planned}"


def _title(data: Scenarios) -> str:
    p = data.parameters
    sensitivity = data.sensitivity
    layers = f"{counted(data.scenarios[0].cell.layers, p['what'] + ' layer')} set"
    line = f"{in_few_words(p['source'])} → {p['target']}, {p['arch']}: {layers}"
    if sensitivity is not None and math.isfinite(sensitivity.distance):
        line += f"; sensitivity {sensitivity.distance:.1f} SD ({sensitivity.worst_arms})"
        line += f", resolution {100 * sensitivity.detectable:.1f} points" if sensitivity.detectable > 0 else ""
    return line
