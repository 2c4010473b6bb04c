"""Every source on every target: accuracy and its distance from the target's base; selffer on the diagonal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mkfa.evidence.paper import PaperMatrix, citation
from mkfa.figures.grid import Words, draw_grid
from mkfa.figures.style import PAGE, new_figure, style
from mkfa.results.matrix import Matrix

if TYPE_CHECKING:
    from matplotlib.figure import Figure, FigureBase


NARROWEST = 4.2
"""Inches, which the title needs."""


def draw(matrix: Matrix, paper: PaperMatrix | None = None) -> Figure:
    """Draw one square a pair: top-1 in percent, an arrow with the points gained or lost, coloured about zero.

    Controls are rows in brackets below a line.

    The paper's table, where given, is a panel of its own below ours, with its own scale.
    """
    rows, columns = len(_rows(matrix)), len(matrix.domains)
    height = 1.3 + 0.5 * (rows + 1)
    figure: Figure
    with style():
        if paper is None:
            figure = new_figure(min(PAGE, max(NARROWEST, 2.1 + 0.85 * columns)), height)
            _ours(figure, matrix)
            return figure
        below = 1.5 + 0.5 * (len(paper.sources) + 1)
        figure = new_figure(PAGE, height + below)
        ours, theirs = figure.subfigures(2, 1, squeeze=False, height_ratios=[height, below], hspace=0.04)[:, 0]
        _ours(ours, matrix)
        _theirs(theirs, paper)
    return figure


def _rows(matrix: Matrix) -> list[tuple[str, str]]:
    """Return source and arm of each row; the arm is "" where it is not a control, the source where it is one."""
    return [*((source, "") for source in matrix.sources), *dict.fromkeys(("", c.arm) for c in matrix.controls)]


def _ours(container: FigureBase, matrix: Matrix) -> None:
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
        container,
        value,
        Words(
            [f"({arm})" if arm else source for source, arm in rows],
            bases,
            left,
            "target, with its base accuracy (%)",
            title,
            "points against the base",
            apart,
        ),
    )


def _theirs(container: FigureBase, paper: PaperMatrix) -> None:
    def value(i: int, j: int) -> tuple[float, float]:
        pair = paper.sources[i], paper.targets[j]
        return paper.top1(*pair), paper.change(*pair)

    columns = [f"{name}\n{paper.bases[name]:.1f}" for name in paper.targets]
    title = (
        f"The paper's {paper.table} ({citation()}): {paper.what} filters of {paper.model}, frozen;\n"
        f"{paper.recipe}; arrows and colours: against selffer (source = target), as in the paper"
    )
    draw_grid(
        container,
        value,
        Words(
            paper.sources,
            columns,
            "source of the filters",
            "target, with its base accuracy (%, Table 7)",
            title,
            "points against selffer",
        ),
    )
