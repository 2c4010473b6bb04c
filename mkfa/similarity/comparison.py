"""What a comparison found: values between floor and ceiling, chance, intervals, what it means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mkfa.array_types import F32, F64
from mkfa.banks.bank import Kind
from mkfa.errors import MkfaError
from mkfa.frozen import FrozenDict
from mkfa.nulls.draws import DEFAULT_NULLS, NULLS
from mkfa.similarity.layer_tests import Exchange
from mkfa.similarity.measures.kernels import BANDWIDTH
from mkfa.similarity.samples import LeftOut
from mkfa.similarity.score import MEASURES, Measure, check_measures

ALPHA = 0.05


@dataclass(frozen=True, slots=True)
class CompareSettings:
    """Parameters of a comparison; recorded in its result.

    Attributes
    ----------
    measures : rows of the table, see `mkfa.similarity.score.MEASURES`; "moments" stands for three.
    nulls : names in `mkfa.nulls.draws.NULLS`.
    permutations : draws of each null, and exchanges of layers; at least 19.
    sample : filters taken from each bank, fewer where one has not twice as many.
    threshold : |cos| at which `coverage_at` counts a filter as covered.
    bandwidth : kernel width of `mmd`; None takes the median of 1 - cos^2.
    kernels : kernel sizes to compare; all common ones where empty.
    bootstrap : resamplings of layers for the intervals.
    splits : split halves of each bank averaged for the floor.
    ceiling : the null whose mean is the ceiling; the first of `nulls` where it is not among them.
    """

    measures: tuple[str, ...] = MEASURES
    nulls: tuple[str, ...] = DEFAULT_NULLS
    permutations: int = 999
    seed: int = 0
    sample: int = 192
    threshold: float = 0.9
    bandwidth: float | None = BANDWIDTH
    kernels: tuple[tuple[int, int], ...] = ()
    bootstrap: int = 399
    splits: int = 8
    ceiling: str = "gaussian"

    def __post_init__(self) -> None:
        object.__setattr__(self, "measures", check_measures(tuple(self.measures)))
        object.__setattr__(self, "nulls", tuple(dict.fromkeys(self.nulls)))
        for null in self.nulls:
            NULLS.find(null)
        bounds = (
            ("permutations", self.permutations, 19),
            ("sample", self.sample, 16),
            ("bootstrap", self.bootstrap, 39),
            ("splits", self.splits, 1),
            ("seed", self.seed, 0),
        )
        for name, value, least in bounds:
            if value < least:
                raise MkfaError(f"{name} {value}", f"is less than {least}", f"give {least} or more")
        if not 0 < self.threshold < 1:
            raise MkfaError(f"threshold {self.threshold}", "is no |cos| between 0 and 1", "give one, e.g. 0.9")
        if self.bandwidth is not None and self.bandwidth <= 0:
            raise MkfaError(f"bandwidth {self.bandwidth}", "is not positive", "give a positive width or none")
        if not self.measures or not self.nulls:
            raise MkfaError("the comparison", "has no measure or no null", "name at least one of each")


@dataclass(frozen=True, slots=True)
class NullResult:
    """One null: what the measures give when one bank is replaced by a null bank, the other kept.

    Attributes
    ----------
    null, m : name, and number of draws for each side.
    mean, low, high : (M,) mean and central 95 % of the draws of both sides.
    p_sides : (2, M) share of null banks at least as alike, (1 + b) / (1 + m), with B replaced and with A replaced;
        each is uniform when the replaced bank is itself a draw of the null.
    p : (M,) the larger of the two: closer than chance only if both sides are (conservative).
    p_farther : (M,) the same for "at least as different": are the banks farther apart than chance?
    fraction : (M,) (value - floor) / (mean - floor); NaN where the floor lies among the draws.
    curve : (3, T) mean, 2.5 % and 97.5 % of the coverage curve.
    layer_mean, layer_p, layer_p_holm, layer_p_max : (3, L_a, L_b) by measure of `BY_LAYER`; p adjusted over all layer
        pairs by Holm, and by the maximum statistic of the joint draws (Westfall & Young), which m draws can support.
    stage_p, stage_p_holm : (3, S_a, S_b) the same for pairs of stages.
    """

    null: str
    m: int
    mean: F64
    low: F64
    high: F64
    p_sides: F64
    p: F64
    p_farther: F64
    fraction: F64
    curve: F64
    layer_mean: F32
    layer_p: F32
    layer_p_holm: F32
    layer_p_max: F32
    stage_p: F64
    stage_p_holm: F64


@dataclass(frozen=True, slots=True)
class KindComparison:
    """Two banks compared at one kernel size and dilation.

    Attributes
    ----------
    n : filters taken from each bank; all values, floors and nulls are at this size.
    usable : usable filters of each bank.
    layers_a, layers_b : names of the layers; numbers_a, numbers_b : their numbers in the whole network, from 1;
        depth_a, depth_b : their depths in it.
    per_layer : filters of a layer in the sample, smallest and largest over both banks.
    measures : names, M; value, floor, floor_layers, ceiling, fraction : (M,); interval : (2, M).
    directed : (2,) coverage of A by B and of B by A; directed_at the same at the threshold.
    bandwidth : the kernel width used.
    all_filters : measures on all usable filters instead of the samples (`pca_kl` as its authors compute it).
    thresholds, curve : (T,) and (2, T), the coverage curve of A in B and of B in A; curve_floor : (T,).
    layer_value, layer_floor : (3, L_a, L_b) by measure of `BY_LAYER`.
    stages_a, stages_b : names of the groups of layers; stage_value, stage_floor : (3, S_a, S_b).
    """

    kind: Kind
    n: int
    usable: tuple[int, int]
    layers_a: tuple[str, ...]
    layers_b: tuple[str, ...]
    numbers_a: tuple[int, ...]
    numbers_b: tuple[int, ...]
    depth_a: F64
    depth_b: F64
    per_layer: tuple[int, int]
    measures: tuple[Measure, ...]
    value: F64
    interval: F64
    floor: F64
    floor_layers: F64
    ceiling: F64
    ceiling_null: str
    fraction: F64
    directed: F64
    directed_at: F64
    bandwidth: float
    all_filters: Mapping[str, float]
    thresholds: F64
    curve: F64
    curve_floor: F64
    layer_value: F32
    layer_floor: F32
    stages_a: tuple[str, ...]
    stages_b: tuple[str, ...]
    stage_value: F64
    stage_floor: F64
    nulls: tuple[NullResult, ...]
    exchange: Exchange
    shared: int
    same: bool

    def row(self, measure: str) -> int:
        return [str(name) for name in self.measures].index(measure)

    @property
    def layer_fraction(self) -> F32:
        """(nulls, 3, L_a, L_b): each layer pair between its floor and each null."""
        return np.stack([fraction(self.layer_value, self.layer_floor, n.layer_mean) for n in self.nulls])


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two banks compared, kind by kind."""

    a: str
    b: str
    settings: CompareSettings
    kinds: tuple[KindComparison, ...]
    left_out: tuple[LeftOut, ...]
    notes: tuple[str, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=lambda: FrozenDict({}))


def fraction(value: Any, floor: Any, ceiling: Any) -> Any:
    """Return the place between floor (0) and ceiling (1); NaN where these do not differ."""
    gap = np.asarray(ceiling) - np.asarray(floor)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(np.abs(gap) > 1e-9, (np.asarray(value) - floor) / gap, np.nan)
