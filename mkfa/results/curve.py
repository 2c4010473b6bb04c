"""Accuracy as a function of the number of layers that are set and frozen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from mkfa.results.allowance import Answer, answer
from mkfa.results.cells import Cell, Sensitivity, accuracies, cell_rows, chance_of, group_cells, make_cell, sensitivity
from mkfa.results.contrasts import Contrast, contrasts_of
from mkfa.results.record import RunRecord
from mkfa.results.trends import Trend, depth_trends
from mkfa.storage.records import Result
from mkfa.training.spec import BASE
from mkfa.words import counted


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Curve(Result):
    """Accuracy by number of borrowed layers: base, cells, chance level, sensitivity and parameters.

    `contrasts` compares the arms with `random` and the base, and gives the last step of the arms that borrow. `answer`
    says how many layers may be frozen before more than a point is lost (`mkfa.results.allowance`), `trends` how arms
    and their differences from `random` change with every further layer (`mkfa.results.trends.depth_trends`).
    """

    KIND: ClassVar[str] = "curve"
    base: Cell
    cells: tuple[Cell, ...]
    chance: float
    sensitivity: Sensitivity | None
    parameters: Mapping[str, Any]
    contrasts: tuple[Contrast, ...] = ()
    answer: Answer | None = None
    trends: tuple[Trend, ...] = ()

    def headline(self) -> str:
        """Return the source, the target and the number of points."""
        p = self.parameters
        points = counted(len(self.cells), "point")
        return f"{p.get('source')} to {p.get('target')}, {p.get('arch')}: {points} beside the base"

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per finished run: its point, seed and accuracy, and the summary of the point."""
        return [row for cell in (self.base, *self.cells) for row in cell_rows(cell)]


def make_curve(runs: Sequence[RunRecord], *, parameters: Mapping[str, Any]) -> Curve:
    """Summarise the runs of a curve; those of arm "baseline" are its base."""
    base_runs = [r for r in runs if r.arm == BASE and not r.source.startswith(f"{r.target}+")]
    base = make_cell(base_runs, accuracies(base_runs))
    planted = [r for r in runs if r.arm != BASE]
    cells = group_cells(planted, base.top1, base_runs=base_runs)
    contrasts = contrasts_of(base, cells, runs=[*base_runs, *planted]) if base.top1 else ()
    said = answer(base, cells, contrasts=contrasts)
    trends = depth_trends(planted)
    return Curve(base, cells, chance_of(runs), sensitivity(base, cells), dict(parameters), contrasts, said, trends)
