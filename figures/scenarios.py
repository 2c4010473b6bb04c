"""A table of arms or sources at one number of layers, and their changes against the base."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mkfa.evidence.paper import PaperRows, citation
from mkfa.figures.style import PAGE, in_few_words, new_figure, signed, style
from mkfa.results.cells import Cell
from mkfa.results.table import Scenario, Scenarios

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

LINE = 0.24
"""Height of a row, inches."""
NEAR = 2.5
"""Rows that fall this many times deeper than the others are beyond the axis."""
INK, FAINT = "black", "#8a8a8a"


@dataclass(frozen=True, slots=True)
class _Line:
    """A row of the table: texts, change in points, half its interval, the change of each seed."""

    texts: tuple[str, ...]
    change: float
    half_width: float
    seeds: tuple[float, ...] = ()


def draw(data: Scenarios, fig: Figure | SubFigure | None = None, *, paper: PaperRows | None = None) -> Figure:
    """Draw the rows with accuracy, change and its interval into `fig` or a new figure.

    The paper's rows, if given, are drawn below with a scale of their own.

    Examples
    --------
    >>> from mkfa.results.archive import bundled_file, find_experiment, read_experiments
    >>> from mkfa.results.gather import rebuild
    >>> scenarios = rebuild(find_experiment(read_experiments(bundled_file()), "letters-table"))
    >>> [text.get_text() for text in draw(scenarios).axes[0].texts[5:7]]
    ['baseline', '69.7 ± 1.3']
    """
    lines = [_base(data.base), *(_line(row, data.base) for row in data.scenarios)]
    heads = ("", "top-1 ± SD (%)", "change [95 %]", "p", "seeds")
    heights = [_height(len(lines))] + ([_height(len(paper.rows))] if paper else [])
    with style():
        figure: Figure | SubFigure = fig or new_figure(PAGE, sum(heights))
        parts = figure.subfigures(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
        spread = 100 * data.base.std
        _panel(parts[0], lines, heads, widths=(0.36, 0.17, 0.27, 0.09, 0.11), band=spread, title=_title(data))
        if paper:
            rows = [
                _Line((name, f"{top1:.1f}", signed(top1 - paper.base)), top1 - paper.base, math.nan)
                for name, top1 in paper.rows
            ]
            title = f"The paper's ({citation()}), {paper.table}:\n{paper.model}, {paper.setting}; no seeds or intervals"
            title = title.replace("->", "→")
            _panel(parts[1], rows, ("", "top-1 (%)", "change"), widths=(0.6, 0.2, 0.2), band=math.nan, title=title)
    return figure.figure


def _height(rows: int) -> float:
    return 1.0 + LINE * (rows + 1)


def _panel(
    canvas: Figure | SubFigure,
    lines: Sequence[_Line],
    heads: Sequence[str],
    *,
    widths: Sequence[float],
    band: float,
    title: str,
) -> None:
    canvas.suptitle(title, x=0.01, ha="left", fontsize=8)
    table, dots = canvas.subplots(1, 2, width_ratios=(2.1, 1), sharey=True)
    table.axis("off")
    table.set_xlim(0, 1)
    edges = np.concatenate([[0], np.cumsum(widths)])
    for j, head in enumerate(heads):
        _write(table, edges, j, y=-1, text=head, weight="bold")
    for i, line in enumerate(lines):
        for j, text in enumerate(line.texts):
            _write(table, edges, j, y=i, text=text)
    table.axhline(-0.5, color=INK, linewidth=0.8)
    dots.axvline(0, color=INK, linewidth=1, zorder=1)
    if band > 0:
        dots.axvspan(-band, band, color=INK, alpha=0.08, linewidth=0, zorder=0)
    for i, line in enumerate(lines):
        dots.plot(line.seeds, [i] * len(line.seeds), "|", color=FAINT, markersize=6, zorder=2)
        if math.isfinite(line.half_width):
            dots.plot(
                [line.change - line.half_width, line.change + line.half_width],
                [i, i],
                color="#1f77b4",
                linewidth=1.4,
                zorder=3,
            )
        dots.plot([line.change], [i], "o", color="#1f77b4", markersize=4, zorder=4)
    _leave_far_ones_out(dots, lines)
    dots.set_ylim(len(lines) - 0.5, -1.5)
    dots.tick_params(axis="y", left=False, labelleft=False)
    dots.spines["left"].set_visible(False)
    dots.set_xlabel("change against the base (points)")
    dots.margins(x=0.08)


def _leave_far_ones_out(ax: Axes, lines: Sequence[_Line]) -> None:
    """Where some rows lie far below the others, end the axis at these, with an arrowhead for each far one."""
    middle = min(0.0, float(np.nanmedian([line.change for line in lines])))
    near = [line for line in lines if line.change >= NEAR * middle]
    lowest = min([-1.0, *(line.change - np.nan_to_num(line.half_width) for line in near)])
    far = [i for i, line in enumerate(lines) if line.change < NEAR * lowest]
    if far:
        ax.set_xlim(left=1.15 * lowest)
        ax.plot([1.13 * lowest] * len(far), far, "<", color="#1f77b4", markersize=5, zorder=4)


def _write(ax: Axes, edges: Any, column: int, *, y: float, text: str, weight: str = "normal") -> None:
    """Write one field: the first column from its left edge, the others to their right edge."""
    x, side = (edges[0], "left") if column == 0 else (edges[column + 1] - 0.01, "right")
    ax.text(x, y, text, ha=side, va="center", fontsize=7, fontweight=weight)


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
    layers = f"{data.scenarios[0].cell.layers} {p['what']} layers set"
    line = f"{in_few_words(p['source'])} → {p['target']}, {p['arch']}: {layers}"
    if sensitivity is not None and math.isfinite(sensitivity.distance):
        line += f"; sensitivity {sensitivity.distance:.1f} SD ({sensitivity.worst_arm})"
        line += f", resolution {100 * sensitivity.detectable:.1f} points" if sensitivity.detectable > 0 else ""
    return line
