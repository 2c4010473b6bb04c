"""Every source on every target: accuracy and its distance from the target's base, selffer on the diagonal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mkfa.figures.grid import Words, draw_grid
from mkfa.figures.style import PAGE, new_figure, style
from mkfa.training.paper import PaperMatrix, citation
from mkfa.training.results import Matrix

if TYPE_CHECKING:
    from matplotlib.figure import Figure, FigureBase


def draw(matrix: Matrix, paper: PaperMatrix | None = None) -> Figure:
    """Draw one square a pair: top-1 in percent, an arrow with the points gained or lost, coloured about zero.

    The paper's table, where given, is a panel of its own below ours, with its own scale.
    """
    rows = len(matrix.domains)
    height = 1.3 + 0.5 * (rows + 1)
    figure: Figure
    with style():
        if paper is None:
            figure = new_figure(min(PAGE, 1.9 + 0.85 * rows), height)
            _ours(figure, matrix)
            return figure
        below = 1.5 + 0.5 * (len(paper.sources) + 1)
        figure = new_figure(PAGE, height + below)
        ours, theirs = figure.subfigures(2, 1, squeeze=False, height_ratios=[height, below], hspace=0.04)[:, 0]
        _ours(ours, matrix)
        _theirs(theirs, paper)
    return figure


def _ours(container: FigureBase, matrix: Matrix) -> None:
    names, p = matrix.domains, matrix.parameters
    cells = {(names.index(c.source), names.index(c.target)): c for c in matrix.cells if c.top1}

    def value(i: int, j: int) -> tuple[float, float] | None:
        cell = cells.get((i, j))
        return None if cell is None else (100 * cell.mean, 100 * cell.relative)

    bases = [f"{name}\n{100 * matrix.bases[name].mean:.1f}" for name in names]
    title = f"{p['what']} filters of {p['arch']}, frozen; diagonal: selffer; seeds: {p['seeds']}"
    draw_grid(container, value, Words(names, bases, "source of the filters", "target, with its base accuracy (%)",
                                      title, "points against the base"))  # fmt: skip


def _theirs(container: FigureBase, paper: PaperMatrix) -> None:
    def value(i: int, j: int) -> tuple[float, float]:
        pair = paper.sources[i], paper.targets[j]
        return paper.top1(*pair), paper.change(*pair)

    columns = [f"{name}\n{paper.bases[name]:.1f}" for name in paper.targets]
    title = (f"The paper's {paper.table} ({citation()}): {paper.what} filters of {paper.model}, frozen;\n"
             f"{paper.recipe}; arrows and colours: against selffer (source = target), as in the paper")  # fmt: skip
    draw_grid(container, value, Words(paper.sources, columns, "source of the filters",
                                      "target, with its base accuracy (%, Table 7)", title,
                                      "points against selffer"))  # fmt: skip
