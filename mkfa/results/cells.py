"""Summaries over runs: cells, the curve over layers, and whether the experiment could detect an effect.

Uses numpy and scipy's t distribution only. Accuracies and their differences are shares (0-1).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mkfa.arms.arms import ARMS
from mkfa.frozen import ByContent
from mkfa.results.image_error import NONE, Answers, error_of_difference
from mkfa.results.record import RunRecord
from mkfa.several import least
from mkfa.stats.intervals import mean, welch
from mkfa.words import counted, listed


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Cell(ByContent):
    """One point: an arm at a number of layers, over its seeds.

    Attributes
    ----------
    source, target, arm : str
    layers : int
    seeds : of the finished runs.
    top1 : last epoch, seed by seed.
    mean, std : of `top1`; std with n - 1, NaN for one seed.
    relative : `mean` minus the base runs' mean.
    half_width : half-width of the 95 % interval of `relative`: Welch's t over the seeds of both, with the variance that
        other test images would add (`mkfa.results.image_error`); NaN if either has one seed, or if it is above 1.
    diverged : runs whose loss became NaN or infinite; excluded from the mean.
    missing : unfinished runs.
    seeds_half_width : half-width of the interval over seeds alone, on these test images.
    test_error : standard error of `relative` that the test images cause; 0 if unknown.
    test_error_exact : True if it is from the images that each run got right, False for its upper bound.
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
    seeds_half_width: float = math.nan
    test_error: float = 0.0
    test_error_exact: bool = False


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Sensitivity(ByContent):
    """Whether an experiment could have detected an effect of filters.

    `distance` is the base runs' mean minus the lowest cell's mean, in units of `spread`, the standard deviation over
    seeds pooled over all cells; NaN if no cell has two seeds. `bound` is the 5 % critical value: if filters make no
    difference, the lowest of this many cells exceeds it in at most one experiment in twenty.

    `detectable` is the resolution, which `distance` is not: the median over cells of the smallest true difference from
    the base that shows (p < .05) in four of five such experiments, by seeds and test images. `above` names the cells of
    arms that must hurt whose mean is above the base's, as "arm at n layers". `tied` has arm and number of layers of the
    cells that are as low as the worst.
    """

    worst_arm: str
    worst_layers: int
    drop: float
    spread: float
    distance: float
    bound: float = math.nan
    detectable: float = math.nan
    above: tuple[str, ...] = ()
    tied: tuple[tuple[str, int], ...] = ()

    @property
    def worst(self) -> tuple[tuple[str, int], ...]:
        """Arm and number of layers of every cell that is lowest."""
        return ((self.worst_arm, self.worst_layers), *self.tied)

    @property
    def worst_arms(self) -> str:
        """The arms of these cells, as a sentence lists them."""
        return listed(dict.fromkeys(arm for arm, _ in self.worst))


def make_cell(runs: Sequence[RunRecord], base: Sequence[float], *, base_runs: Sequence[RunRecord] = ()) -> Cell:
    """Summarise the runs of one point relative to the accuracies of the base runs.

    `base_runs` are the runs with these accuracies; without them, the interval is over seeds alone.
    """
    done = sorted((r.seed, r.result.top1_last) for r in runs if r.result and r.result.done)
    top1 = tuple(float(value) for _, value in done)
    first = runs[0]
    error = error_of_difference(Answers.of(runs), Answers.of(base_runs)) if base_runs else NONE
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
        half_width=welch(top1, base, further=error.variance).of_shares().half_width,
        diverged=sum(r.result is not None and not r.result.done for r in runs),
        missing=sum(r.result is None for r in runs),
        seeds_half_width=welch(top1, base).of_shares().half_width,
        test_error=error.sd,
        test_error_exact=error.exact,
    )


def sensitivity(base: Cell, cells: Sequence[Cell], *, beside: Sequence[Cell] = ()) -> Sensitivity | None:
    """Return how far the worst cell lies below the base, in units of the spread over seeds; None without finished runs.

    The cells in `beside` contribute to the spread only.
    """
    known = [c for c in cells if c.top1]
    if not known or not base.top1:
        return None
    worst, *tied = least(known, lambda c: c.mean)
    groups = [c.top1 for c in (base, *known, *beside) if len(c.top1) > 1]
    freedom = sum(len(g) - 1 for g in groups)
    spread = math.sqrt(sum((len(g) - 1) * _std(g) ** 2 for g in groups) / freedom) if freedom else math.nan
    drop = base.mean - worst.mean
    distance = drop / spread if spread > 0 else math.nan
    bound = _bound(len(known), freedom) * math.sqrt(1 / len(base.top1) + 1 / len(worst.top1)) if freedom else math.nan
    smallest = [welch(c.top1, base.top1, further=c.test_error**2).of_shares().detectable for c in known]
    shown = [value for value in smallest if math.isfinite(value)]
    detectable = float(np.median(shown)) if shown else math.nan
    above = tuple(
        f"{c.arm} at {counted(c.layers, 'layer')}"
        for c in known
        if c.mean > base.mean and c.arm in ARMS and ARMS[c.arm].must_hurt
    )
    others = tuple((c.arm, c.layers) for c in tied)
    return Sensitivity(worst.arm, worst.layers, drop, spread, distance, bound, detectable, above, others)


def _bound(cells: int, freedom: int) -> float:
    """Return the one-sided 5 % critical value of Student's t, Bonferroni-corrected for this many comparisons."""
    from scipy.stats import t

    return float(t.ppf(1 - 0.05 / cells, freedom))


def group_cells(
    runs: Sequence[RunRecord], base: Sequence[float], *, base_runs: Sequence[RunRecord] = ()
) -> tuple[Cell, ...]:
    """Summarise runs by source, arm and number of layers, in order of appearance; parameters as in `make_cell`."""
    points: dict[tuple[str, str, int], list[RunRecord]] = {}
    for run in runs:
        points.setdefault((run.source, run.arm, run.layers), []).append(run)
    return tuple(make_cell(group, base, base_runs=base_runs) for group in points.values())


def cell_rows(cell: Cell) -> list[dict[str, Any]]:
    """Return one row per seed of a point, as written to CSV files."""
    point = {"source": cell.source, "target": cell.target, "arm": cell.arm, "layers": cell.layers}
    summary = {"cell_mean": cell.mean, "cell_sd": cell.std, "change": cell.relative, "half_width_95": cell.half_width}
    summary |= {"seeds_half_width_95": cell.seeds_half_width, "test_error": cell.test_error}
    return [point | {"seed": seed, "top1": top1} | summary for seed, top1 in zip(cell.seeds, cell.top1, strict=True)]


def accuracies(runs: Sequence[RunRecord]) -> tuple[float, ...]:
    """Return the last-epoch accuracy of each finished run."""
    return tuple(r.result.top1_last for r in runs if r.result and r.result.done)


def chance_of(runs: Sequence[RunRecord]) -> float:
    """Return the chance level recorded by the first finished run; NaN if none is finished."""
    return next((r.result.chance for r in runs if r.result), math.nan)


def _std(values: Sequence[float]) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
