"""Every source on every target: the matrix, its controls, its sensitivity and its overall effect.

Rows are sources: first those that are only sources, then the domains, which are also the targets. Controls are arms
that need no source, trained on every target. They are separate rows, excluded from means over sources. Accuracies and
their differences are shares (0-1).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from mkfa.errors import MkfaError
from mkfa.frozen import ByContent
from mkfa.results.cells import Cell, Sensitivity, accuracies, cell_rows, chance_of, group_cells, make_cell, sensitivity
from mkfa.results.contrasts import REFERENCE
from mkfa.results.record import RunRecord
from mkfa.stats.intervals import of_shares, paired_half_width
from mkfa.storage.records import Result
from mkfa.training.spec import BASE
from mkfa.words import counted

SELFFER = "selffer"
"""The arm on the diagonal."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Overall(ByContent):
    """The off-diagonal cells compared with a reference on the same target, over all targets.

    Attributes
    ----------
    arm : the arm off the diagonal.
    against : "baseline", "selffer" (the diagonal) or "random" (the control).
    difference : each target's mean over its sources minus the reference, averaged over targets with equal weight. This
        equals the mean over cells if all targets have the same number of cells.
    half_width : half-width of the 95 % interval with targets as units: Student's t of their differences; NaN for one
        target, for equal differences, and above 1. Each target has test images of its own, whose part is therefore in
        the variance between targets.
    cells, targets : numbers included: those for which both accuracies are known.
    """

    arm: str
    against: str
    difference: float
    half_width: float
    cells: int
    targets: int


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Matrix(Result):
    """Accuracy with the filters of every source on every target, with controls.

    Attributes
    ----------
    domains : targets, which are also sources.
    bases : by target.
    cells : ordered by row (source).
    chance : by target.
    parameters : mapping
    sources : all rows: those that are only sources, then `domains`.
    controls : ordered by row (arm); their source is "".
    sensitivity : by target: how far its worst control lies below its base, in units of the spread over seeds of all its
        runs; None if there is no control.
    overall : tuple of Overall
    """

    KIND: ClassVar[str] = "matrix"
    domains: tuple[str, ...]
    bases: Mapping[str, Cell]
    cells: tuple[Cell, ...]
    chance: Mapping[str, float]
    parameters: Mapping[str, Any]
    sources: tuple[str, ...]
    controls: tuple[Cell, ...]
    sensitivity: Mapping[str, Sensitivity | None]
    overall: tuple[Overall, ...]

    def headline(self) -> str:
        """Return the number of sources and targets."""
        shape = f"{counted(len(self.sources), 'source')} on {counted(len(self.domains), 'target')}"
        return f"{shape}, {self.parameters.get('arch')}"

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per finished run: its cell, seed and accuracy, and the summary of the cell."""
        return [row for cell in (*self.bases.values(), *self.cells, *self.controls) for row in cell_rows(cell)]


def make_matrix(
    runs: Sequence[RunRecord], *, domains: Sequence[str], parameters: Mapping[str, Any], sources: Sequence[str] = ()
) -> Matrix:
    """Summarise the runs of a matrix; each target has its own base runs.

    Runs without a source are controls. Base runs on other domains only provide filters.

    Parameters
    ----------
    sources : names of all rows in order; by default `domains`.

    Raises MkfaError: a run's source is not a row.
    """
    rows = tuple(sources) or tuple(domains)
    bases: dict[str, Cell] = {}
    cells: list[Cell] = []
    controls: list[Cell] = []
    chance: dict[str, float] = {}
    seen: dict[str, Sensitivity | None] = {}
    for target in domains:
        here = [r for r in runs if r.target == target]
        base_runs = [r for r in here if r.arm == BASE]
        base = bases[target] = make_cell(base_runs, accuracies(base_runs))
        made = group_cells([r for r in here if r.arm != BASE], base.top1, base_runs=base_runs)
        if stray := next((c.source for c in made if c.source and c.source not in rows), ""):
            raise MkfaError(f"source {stray}", "is not a row of the matrix", "run its command again")
        apart = [c for c in made if not c.source]
        cells += [c for c in made if c.source]
        controls += apart
        chance[target] = chance_of(here)
        seen[target] = sensitivity(base, apart, beside=[c for c in made if c.source])
    column = {name: i for i, name in enumerate(domains)}
    arms = list(dict.fromkeys(r.arm for r in runs))
    cells.sort(key=lambda c: (rows.index(c.source), column[c.target]))
    controls.sort(key=lambda c: (arms.index(c.arm), column[c.target]))
    return Matrix(
        tuple(domains),
        bases,
        tuple(cells),
        chance,
        dict(parameters),
        rows,
        tuple(controls),
        seen,
        _overall(bases, cells, controls),
    )


def _overall(bases: Mapping[str, Cell], cells: Sequence[Cell], controls: Sequence[Cell]) -> tuple[Overall, ...]:
    """Compare the off-diagonal cells with base, diagonal and random control; references without results are skipped."""
    off = [c for c in cells if c.source != c.target and c.top1]
    others = {
        BASE: bases,
        SELFFER: {c.target: c for c in cells if c.source == c.target},
        REFERENCE: {c.target: c for c in controls if c.arm == REFERENCE},
    }
    return tuple(o for name, other in others.items() if (o := _against(name, other, off)) is not None)


def _against(name: str, other: Mapping[str, Cell], off: Sequence[Cell]) -> Overall | None:
    by_target: dict[str, list[float]] = {}
    for cell in off:
        if cell.target in other and other[cell.target].top1:
            by_target.setdefault(cell.target, []).append(cell.mean - other[cell.target].mean)
    if not by_target:
        return None
    units = [float(np.mean(values)) for values in by_target.values()]
    count = sum(len(values) for values in by_target.values())
    width = of_shares(paired_half_width(units))
    return Overall(off[0].arm, name, float(np.mean(units)), width, count, len(units))


def sentence(overall: Overall) -> str:
    """Describe an overall comparison: points, numbers of cells and targets, interval, and whether it excludes 0."""
    o = overall
    than = {BASE: "the base", SELFFER: "selffer (the diagonal)", REFERENCE: "the control random"}[o.against]
    cells = f"{counted(o.cells, 'cell')} off the diagonal"
    text = f"{o.arm} minus {than} of the same target: {100 * o.difference:+.1f} points, mean of {cells}"
    if o.targets < 2:
        return f"{text}; no interval (needs two targets)."
    if math.isnan(o.half_width):
        targets = counted(o.targets, "target")
        return f"{text}; no interval, because the {targets} do not differ, or too much for so few."
    low, high = 100 * (o.difference - o.half_width), 100 * (o.difference + o.half_width)
    within = abs(o.difference) <= o.half_width
    verdict = f"0 is inside: {counted(o.targets, 'target')} are not conclusive" if within else "0 is outside"
    return (
        f"{text}; 95 % interval {low:+.1f} to {high:+.1f} (t over {counted(o.targets, 'target')} as units); {verdict}."
    )


def tell_sensitivity(matrix: Matrix) -> str:
    """Describe how far each target's worst control lies below its base; name the targets where none clearly does."""
    known = {target: s for target, s in matrix.sensitivity.items() if s is not None}
    if not known:
        why = "no control is finished" if matrix.controls else "the matrix has no control (--controls)"
        return f"Sensitivity: unknown, {why}: 'no drop' alone is not evidence."
    parts = []
    for target, s in known.items():
        spreads = "" if math.isnan(s.distance) else f" ({s.distance:.1f} SD)"
        seen = "" if math.isnan(s.detectable) else f", resolution {100 * s.detectable:.1f}"
        parts.append(f"{target} {100 * s.drop:.1f}{spreads} by {s.worst_arms}{seen}")
    seeds = "" if any(s.distance == s.distance for s in known.values()) else "; SDs over seeds need two seeds"
    text = f"Sensitivity, points that the worst control lies below the base: {'; '.join(parts)}{seeds}."
    if lacking := [t for t in matrix.sensitivity if t not in known]:
        text += f" Unknown on {', '.join(lacking)}: no control is finished."
    blind = [t for t, s in known.items() if s.drop <= 0 or s.distance <= s.bound]
    if blind:
        text += f" On {', '.join(blind)} no control lies clearly below the base: there, 'no drop' is not evidence."
    return text
