"""Two banks compared at one kernel size: values between floor and ceiling, chance, intervals, pairs of layers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from mkfa.array_types import F32, F64, I64
from mkfa.banks.bank import Kind
from mkfa.frozen import ByContent
from mkfa.similarity.depth_trend import DepthTrend
from mkfa.similarity.layer_tests import Exchange
from mkfa.similarity.settings import PRIMARY

DECIMALS = 5
"""Digits of layer matrices in JSON and CSV; the HDF5 file has them all."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class NullResult(ByContent):
    """One null: what the measures give when one bank is replaced by a null bank, the other kept.

    Attributes
    ----------
    null, m : name, and number of draws for each side.
    draws : (M,) int64, draws that each measure was computed for; fewer than m where it is slow, 0 for a measure without
        chance.
    mean, low, high : (M,) mean and central 95 % of the draws of both sides.
    p_sides : (2, M) share of null banks at least as alike, (1 + b) / (1 + m), with B replaced and with A replaced;
        each is uniform when the replaced bank is itself a draw of the null.
    p : (M,) the larger of the two: closer than chance only if both sides are (conservative).
    p_farther : (M,) the same for "at least as different": are the banks farther apart than chance?
    fraction : (M,) (value - floor) / (mean - floor); NaN where the floor lies among the draws.
    curve : (3, T) mean, 2.5 % and 97.5 % of the coverage curve.
    layer_mean, layer_p, layer_p_holm, layer_p_max : (J, L_a, L_b) by measure of `layer_measures`; p adjusted over all
        layer pairs by Holm, and by the maximum statistic of the joint draws (Westfall & Young), which m draws can
        support.
    stage_p, stage_p_holm : (J, S_a, S_b) the same for pairs of stages.
    """

    null: str
    m: int
    draws: I64
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

    def facts(self, i: int) -> dict[str, Any]:
        """Return what JSON says of this null for measure i."""
        sides = {"p_b_replaced": self.p_sides[0, i], "p_a_replaced": self.p_sides[1, i]}
        names = ("mean", "low", "high", "fraction", "p", "p_farther")
        return {"m": self.draws[i], **{name: getattr(self, name)[i] for name in names}, **sides}


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class KindComparison(ByContent):
    """Two banks compared at one kernel size and dilation.

    Attributes
    ----------
    n : filters taken from each bank; all values, floors and nulls are at this size.
    usable : usable filters of each bank.
    layers_a, layers_b : names of the layers; numbers_a, numbers_b : their numbers in the whole network, from 1;
        depth_a, depth_b : their depths in it.
    per_layer : filters of a layer in the sample, smallest and largest over both banks.
    measures : names, M; value, floor, floor_layers, ceiling, fraction : (M,); interval : (2, M). All but the value are
        NaN for a measure of all filters (`Measure.whole`).
    no_interval : for each measure why it has no interval, "" where it has one.
    strictest : for each measure the null whose mean is most alike, "" without one; fraction_strictest : (M,) `fraction`
        with the mean of that null as the ceiling.
    directed : (2,) coverage of A by B and of B by A; directed_at the same at the threshold.
    bandwidth : the kernel width used.
    all_filters : the measures that were computed on all usable filters instead of the samples.
    thresholds, curve : (T,) and (2, T), the coverage curve of A in B and of B in A; curve_floor : (T,).
    layer_measures : names, J; layer_value, layer_floor : (J, L_a, L_b), NaN for those that were not asked for.
    stages_a, stages_b : names of the groups of layers; stage_value, stage_floor : (J, S_a, S_b).
    depth_trend : does coverage depend on depth?
    shared : filters of A that occur in B bit for bit; same : True where both banks have the same filters.
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
    measures: tuple[str, ...]
    value: F64
    interval: F64
    no_interval: tuple[str, ...]
    floor: F64
    floor_layers: F64
    ceiling: F64
    ceiling_null: str
    fraction: F64
    strictest: tuple[str, ...]
    fraction_strictest: F64
    directed: F64
    directed_at: F64
    bandwidth: float
    all_filters: Mapping[str, float]
    thresholds: F64
    curve: F64
    curve_floor: F64
    layer_measures: tuple[str, ...]
    layer_value: F32
    layer_floor: F32
    stages_a: tuple[str, ...]
    stages_b: tuple[str, ...]
    stage_value: F64
    stage_floor: F64
    nulls: tuple[NullResult, ...]
    exchange: Exchange
    depth_trend: DepthTrend
    shared: int
    same: bool

    def row(self, measure: str) -> int:
        """Return the place of a measure in the arrays."""
        return self.measures.index(measure)

    @property
    def primary(self) -> dict[str, Any] | None:
        """The test chosen beforehand, `mkfa.similarity.settings.PRIMARY`; None where it was not asked for."""
        measure, name = PRIMARY
        null = next((null for null in self.nulls if null.null == name), None)
        if null is None or measure not in self.measures:
            return None
        i = self.row(measure)
        known = {"value": self.value[i], "null_mean": null.mean[i], "p": null.p[i]}
        return {
            "measure": measure,
            "null": name,
            **{key: float(x) for key, x in known.items()},
            "m": int(null.draws[i]),
        }

    @property
    def by_layer(self) -> list[tuple[int, str]]:
        """The measures that were computed for pairs of layers, and their place in the arrays."""
        return [(i, name) for i, name in enumerate(self.layer_measures) if name in self.measures]

    def summary(self) -> dict[str, Any]:
        """Return sizes and names, as JSON and HDF5 files have them."""
        return {
            "kind": str(self.kind),
            "filters_sampled": self.n,
            "usable": self.usable,
            "ceiling": self.ceiling_null,
            "primary": self.primary,
            "depth_trend": self.depth_trend,
            "same_filters": self.same,
            "shared_filters": self.shared,
        }

    def facts(self, threshold: float) -> dict[str, Any]:
        """Return what else JSON says of this kind, but for what it means in words."""
        one, other = ("a_in_b", "b_in_a")
        coverage = {
            **dict(zip((one, other), self.directed, strict=True)),
            "at": threshold,
            **dict(zip((f"{one}_at", f"{other}_at"), self.directed_at, strict=True)),
            "thresholds": self.thresholds,
            "curves": self.curve,
            "floor_curve": self.curve_floor,
            "null_curves": {n.null: n.curve for n in self.nulls},
        }
        return {
            "per_layer": self.per_layer,
            "mmd_bandwidth": self.bandwidth,
            "all_filters": self.all_filters,
            "measures": {name: self._measure_facts(i) for i, name in enumerate(self.measures)},
            "coverage": coverage,
            "exchange": self.exchange,
            "stages": {"a": self.stages_a, "b": self.stages_b, **self._part_facts("stage", ("p", "p_holm"))},
            "layers": {
                "a": self.layers_a,
                "b": self.layers_b,
                **self._part_facts("layer", ("mean", "p", "p_holm", "p_max")),
            },
        }

    def _measure_facts(self, i: int) -> dict[str, Any]:
        return {
            "value": self.value[i],
            "low": self.interval[0, i],
            "high": self.interval[1, i],
            "no_interval": self.no_interval[i] or None,
            "floor": self.floor[i],
            "floor_between_layers": self.floor_layers[i],
            "ceiling": self.ceiling[i],
            "fraction": self.fraction[i],
            "strictest": self.strictest[i],
            "fraction_strictest": self.fraction_strictest[i],
            "filters": self.usable if self.measures[i] in self.all_filters else (self.n, self.n),
            "nulls": {n.null: n.facts(i) for n in self.nulls},
        }

    def _part_facts(self, scope: str, keys: tuple[str, ...]) -> dict[str, Any]:
        def of(item: Any, key: str, i: int) -> Any:
            return np.round(getattr(item, f"{scope}_{key}")[i], DECIMALS)

        return {
            name: {
                "value": of(self, "value", i),
                "floor": of(self, "floor", i),
                "nulls": {n.null: {key: of(n, key, i) for key in keys} for n in self.nulls},
            }
            for i, name in self.by_layer
        }

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield a row for each pair of banks, stages or layers, measure and null."""
        for i, name in enumerate(self.measures):
            for n in self.nulls:
                known = {"value": self.value, "low": self.interval[0], "high": self.interval[1], "floor": self.floor}
                known |= {"null_mean": n.mean, "fraction": n.fraction, "p": n.p}
                yield self._row("bank", name, n, {key: array[i] for key, array in known.items()})
        for scope in ("stage", "layer"):
            names = getattr(self, f"{scope}s_a"), getattr(self, f"{scope}s_b")
            for n in self.nulls:
                known = {key: getattr(self, f"{scope}_{key}") for key in ("value", "floor")}
                known |= {key: getattr(n, f"{scope}_{key}") for key in ("p", "p_holm")}
                if scope == "layer":
                    place = fraction(self.layer_value, self.layer_floor, n.layer_mean)
                    known |= {"null_mean": n.layer_mean, "fraction": place, "p_max": n.layer_p_max}
                for i, name in self.by_layer:
                    for x, y in np.ndindex(*map(len, names)):
                        row = {key: array[i, x, y] for key, array in known.items()}
                        yield self._row(scope, name, n, row, (names[0][x], names[1][y]))

    def _row(
        self, scope: str, measure: str, null: NullResult, known: Mapping[str, float], parts: tuple[str, str] = ("", "")
    ) -> dict[str, Any]:
        row: dict[str, Any] = {"kind": str(self.kind), "scope": scope, "part_a": parts[0], "part_b": parts[1]}
        row["measure"] = measure
        row |= {key: _cell(known.get(key)) for key in ("value", "low", "high", "floor")}
        row["null"] = null.null
        row["role"] = "primary" if scope == "bank" and (measure, null.null) == PRIMARY else "exploratory"
        row |= {key: _cell(known.get(key)) for key in ("null_mean", "fraction", "p", "p_holm", "p_max")}
        row["m"] = int(null.draws[self.row(measure)])
        return row


def fraction(value: Any, floor: Any, ceiling: Any) -> Any:
    """Return the place between floor (0) and ceiling (1); NaN where these do not differ."""
    gap = np.asarray(ceiling) - np.asarray(floor)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(np.abs(gap) > 1e-9, (np.asarray(value) - floor) / gap, np.nan)


def _cell(value: Any) -> float | None:
    return None if value is None or not np.isfinite(value) else round(float(value), DECIMALS)
