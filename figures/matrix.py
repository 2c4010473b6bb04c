"""Every source on every target: accuracy and change against the target's base; selffer on the diagonal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mkfa.evidence.paper import PaperMatrix, citation
from mkfa.figures import inches
from mkfa.figures.grid import Words, draw_grid
from mkfa.figures.style import NARROW, new_figure, refuse_both, style, wrapped
from mkfa.results.matrix import Matrix

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


NARROWEST = 4.2
"""Width that the title needs, inches."""


def draw(matrix: Matrix, ax: Axes | None = None, *, paper: PaperMatrix | None = None, width: str = "page") -> Figure:
    """Draw one square for each pair: top-1 in percent, and an arrow with the points gained or lost.

    Controls are rows in brackets below a line.

    Parameters
    ----------
    ax : the panel to draw into; a new figure if None.
    paper : the paper's table, for a panel below with a scale of its own; only without `ax`.
    width : of a new figure: "column" or "page".

    Examples
    --------
    >>> from mkfa.results.archive import bundled_file, find_experiment, read_experiments
    >>> from mkfa.results.gather import rebuild
    >>> matrix = rebuild(find_experiment(read_experiments(bundled_file()), "matrix-18-layers"))
    >>> draw(matrix).axes[0].texts[0].get_text()
    '42.8\\n↓ 2.8'
    """
    rows, columns = len(_rows(matrix)), len(matrix.domains)
    refuse_both(ax, paper)
    wide = inches(width)
    narrow = ax is None and wide < NARROW
    square = 0.42 if narrow else 0.5
    height = (1.9 if narrow else 1.3) + square * (rows + 1)
    with style():
        if paper is None:
            new = min(wide, max(NARROWEST, 2.1 + 0.85 * columns))
            ax = ax or new_figure(new, height).add_subplot()
            _draw_result(ax, matrix, new, narrow=narrow)
            return ax.figure.figure
        below = (2.3 if narrow else 1.5) + square * (len(paper.sources) + 1)
        figure: Figure = new_figure(wide, height + below)
        upper, lower = figure.subfigures(2, 1, squeeze=False, height_ratios=[height, below], hspace=0.04)[:, 0]
        _draw_result(upper.add_subplot(), matrix, wide, narrow=narrow)
        _draw_paper(lower.add_subplot(), paper, wide, narrow=narrow)
    return figure


def _rows(matrix: Matrix) -> list[tuple[str, str]]:
    """Return (source, "") for each source, and ("", arm) for each control."""
    return [*((source, "") for source in matrix.sources), *dict.fromkeys(("", c.arm) for c in matrix.controls)]


def _draw_result(ax: Axes, matrix: Matrix, width: float, *, narrow: bool) -> None:
    rows, names, p = _rows(matrix), matrix.domains, matrix.parameters
    cells = {
        (rows.index((c.source, "" if c.source else c.arm)), names.index(c.target)): c
        for c in (*matrix.cells, *matrix.controls)
        if c.top1
    }

    def value(i: int, j: int) -> tuple[float, float] | None:
        cell = cells.get((i, j))
        return None if cell is None else (100 * cell.mean, 100 * cell.relative)

    bases = [f"{name}\n{100 * matrix.bases[name].mean:.1f}" for name in names]
    apart = len(rows) - len(matrix.sources)
    title = f"{p['what']} filters of {p['arch']}, frozen; seeds: {p['seeds']}\ndiagonal: selffer"
    left = "source of the filters"
    if apart:
        title += "; below the line: controls"
        left += ", (control)"
    draw_grid(
        ax,
        value,
        Words(
            [f"({arm})" if arm else source for source, arm in rows],
            bases,
            left,
            "target, with its base accuracy (%)",
            wrapped(title, 0.72 * width),
            "points against the base",
            apart,
        ),
        narrow=narrow,
    )


def _draw_paper(ax: Axes, paper: PaperMatrix, width: float, *, narrow: bool) -> None:
    def value(i: int, j: int) -> tuple[float, float]:
        pair = paper.sources[i], paper.targets[j]
        return paper.top1(*pair), paper.change(*pair)

    columns = [f"{name}\n{paper.bases[name]:.1f}" for name in paper.targets]
    title = (
        f"The paper's {paper.table} ({citation()}): {paper.what} filters of {paper.model}, frozen;\n"
        f"{paper.recipe};\narrows and colours: against selffer (source = target), as in the paper"
    )
    draw_grid(
        ax,
        value,
        Words(
            paper.sources,
            columns,
            "source of the filters",
            "target, with its base accuracy (%, Table 7)",
            wrapped(title, 0.72 * width),
            "points against selffer",
        ),
        narrow=narrow,
    )
