"""Several arms or sources at one number of layers: the paper's tables of scenarios and of architectures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from mkfa.arms.arms import ARMS
from mkfa.frozen import ByContent
from mkfa.results.cells import Cell, Sensitivity, cell_rows
from mkfa.results.contrasts import Contrast
from mkfa.results.curve import Curve
from mkfa.stats.intervals import welch
from mkfa.storage.records import Result
from mkfa.words import counted


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Scenario(ByContent):
    """One row.

    Attributes
    ----------
    label : the arm, the source, or both: what distinguishes the rows.
    cell : the row's accuracies; `cell.relative` and `cell.half_width` are its change from the base.
    p : two-sided p-value of that change (Welch's t, seeds and test images); NaN if either side has one seed.
    spreads : the change in units of the standard deviation over seeds, pooled over all rows; NaN without two seeds.
    """

    label: str
    cell: Cell
    p: float
    spreads: float


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Scenarios(Result):
    """The table: the base, the rows, and `contrasts` of each row with the base and, if it is a row, with `random`.

    `sensitivity` says whether the experiment could detect an effect of filters.
    """

    KIND: ClassVar[str] = "table"
    base: Cell
    scenarios: tuple[Scenario, ...]
    chance: float
    sensitivity: Sensitivity | None
    contrasts: tuple[Contrast, ...]
    parameters: Mapping[str, Any]

    def headline(self) -> str:
        """Return the source, the target and the number of rows."""
        p = self.parameters
        rows = counted(len(self.scenarios), "row")
        return f"{p.get('source')} to {p.get('target')}, {p.get('arch')}: {rows} beside the base"

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per finished run: its point, seed and accuracy, and the summary of the point."""
        return [row for cell in (self.base, *(s.cell for s in self.scenarios)) for row in cell_rows(cell)]

    def facts(self) -> dict[str, Any]:
        """Return the fields; in files the scenarios are called "rows"."""
        names = ("base", "chance", "sensitivity", "contrasts", "parameters")
        return {"rows": self.scenarios} | {name: getattr(self, name) for name in names}


def as_scenarios(curve: Curve) -> Scenarios:
    """Return a curve with one point per series as a table."""
    labels = row_labels(curve.cells)
    spread = curve.sensitivity.spread if curve.sensitivity else float("nan")
    rows = tuple(_row(label, cell, curve.base, spread) for label, cell in zip(labels, curve.cells, strict=True))
    return Scenarios(curve.base, rows, curve.chance, curve.sensitivity, curve.contrasts, curve.parameters)


def row_labels(cells: Sequence[Cell]) -> tuple[str, ...]:
    """Return what distinguishes the rows: arms if all have one source, sources if all have one arm, else both.

    An arm without a source (`random`) or with a fixed one (`selffer`) is labelled by its name.
    """
    own = [c.source == "" or (c.arm in ARMS and ARMS[c.arm].source == "own") for c in cells]
    sources = {c.source for c, alone in zip(cells, own, strict=True) if not alone}
    arms = {c.arm for c, alone in zip(cells, own, strict=True) if not alone}
    if len(sources) < 2:
        return tuple(c.arm for c in cells)
    return tuple(
        c.arm if alone else c.source if len(arms) == 1 else f"{c.arm}, {c.source}"
        for c, alone in zip(cells, own, strict=True)
    )


def _row(label: str, cell: Cell, base: Cell, spread: float) -> Scenario:
    spreads = cell.relative / spread if spread > 0 else float("nan")
    p = welch(cell.top1, base.top1, further=cell.test_error**2).p
    return Scenario(label, cell, p, spreads)
