"""What runs say together: cells, the curve over layers, and whether they could see anything.

Numpy and scipy's t distribution only; accuracies are shares (0-1), differences are shares too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mkfa.frozen import ByContent
from mkfa.results.record import RunRecord
from mkfa.stats.intervals import mean, welch


@dataclass(frozen=True, slots=True, eq=False)
class Cell(ByContent):
    """One point: an arm at a number of layers, over its seeds.

    Attributes
    ----------
    source, target, arm : str
    layers : int
    seeds : tuple of int
        Of the runs that are done.
    top1 : tuple of float
        Last epoch, seed by seed.
    mean, std : float
        Of `top1`; std with n - 1, NaN for one seed.
    relative : float
        mean less the base runs' mean.
    half_width : float
        Of the 95 % interval of `relative`: Welch's t over the seeds of both; NaN if either has one seed.
    diverged : int
        Runs whose loss became NaN or infinite; they are left out of the mean.
    missing : int
        Runs that are not over.
    """

    source: str
    target: str
    arm: str
    layers: int
    seeds: tuple[int, ...]
    top1: tuple[float, ...]
    mean: float
    std: float
    relative: float
    half_width: float
    diverged: int
    missing: int


@dataclass(frozen=True, slots=True, eq=False)
class Sensitivity(ByContent):
    """Whether an experiment could have seen that filters matter.

    `distance` is the base runs' mean less the lowest cell's mean, in units of `spread`, the standard deviation over
    seeds pooled over all cells; NaN where no cell has two seeds. `bound` is the distance that the lowest of as many
    cells passes in at most one experiment of twenty where filters make no difference.
    """

    worst_arm: str
    worst_layers: int
    drop: float
    spread: float
    distance: float
    bound: float = math.nan


def make_cell(runs: Sequence[RunRecord], base: Sequence[float]) -> Cell:
    """Sum up the runs of one point against the accuracies of the base runs."""
    done = sorted((r.seed, r.result.top1_last) for r in runs if r.result and r.result.done)
    top1 = tuple(float(value) for _, value in done)
    first = runs[0]
    return Cell(
        source=first.source,
        target=first.target,
        arm=first.arm,
        layers=first.layers,
        seeds=tuple(seed for seed, _ in done),
        top1=top1,
        mean=mean(top1),
        std=_std(top1),
        relative=mean(top1) - mean(base),
        half_width=welch(top1, base).half_width,
        diverged=sum(r.result is not None and not r.result.done for r in runs),
        missing=sum(r.result is None for r in runs),
    )


def sensitivity(base: Cell, cells: Sequence[Cell], *, beside: Sequence[Cell] = ()) -> Sensitivity | None:
    """Return how far the worst cell lies below the base, in units of the seeds' spread; None if nothing is done.

    Cells of `beside` go into the spread alone.
    """
    known = [c for c in cells if c.top1]
    if not known or not base.top1:
        return None
    worst = min(known, key=lambda c: c.mean)
    groups = [c.top1 for c in (base, *known, *beside) if len(c.top1) > 1]
    freedom = sum(len(g) - 1 for g in groups)
    spread = math.sqrt(sum((len(g) - 1) * _std(g) ** 2 for g in groups) / freedom) if freedom else math.nan
    drop = base.mean - worst.mean
    distance = drop / spread if spread > 0 else math.nan
    bound = _bound(len(known), freedom) * math.sqrt(1 / len(base.top1) + 1 / len(worst.top1)) if freedom else math.nan
    return Sensitivity(worst.arm, worst.layers, drop, spread, distance, bound)


def _bound(cells: int, freedom: int) -> float:
    """Return the one-sided quantile of Student's t at 5 %, shared by so many comparisons (Bonferroni)."""
    from scipy.stats import t

    return float(t.ppf(1 - 0.05 / cells, freedom))


def group_cells(runs: Sequence[RunRecord], base: Sequence[float]) -> tuple[Cell, ...]:
    """Sum up runs by source, arm and number of layers, in order of appearance, against the base runs' accuracies."""
    points: dict[tuple[str, str, int], list[RunRecord]] = {}
    for run in runs:
        points.setdefault((run.source, run.arm, run.layers), []).append(run)
    return tuple(make_cell(group, base) for group in points.values())


def cell_rows(cell: Cell) -> list[dict[str, Any]]:
    """Return one row a seed of a point, as files of comma-separated values have them."""
    point = {"source": cell.source, "target": cell.target, "arm": cell.arm, "layers": cell.layers}
    summary = {"cell_mean": cell.mean, "cell_sd": cell.std, "change": cell.relative, "half_width_95": cell.half_width}
    return [point | {"seed": seed, "top1": top1} | summary for seed, top1 in zip(cell.seeds, cell.top1, strict=True)]


def accuracies(runs: Sequence[RunRecord]) -> tuple[float, ...]:
    """Return the last accuracy of each run that is done."""
    return tuple(r.result.top1_last for r in runs if r.result and r.result.done)


def chance_of(runs: Sequence[RunRecord]) -> float:
    """Return the accuracy of guessing, as the first run that is over has it; NaN if none is."""
    return next((r.result.chance for r in runs if r.result), math.nan)


def _std(values: Sequence[float]) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
