"""All measures between two samples at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mkfa.array_types import F32, F64
from mkfa.similarity.measures.table import MEASURES, layer_measures
from mkfa.similarity.measures.transport import directions
from mkfa.similarity.pairs import Pair, Plan, Sample

DIRECTIONS = 64
DIRECTIONS_SEED = 20261
"""The directions of `transport` are fixed, as the stimuli of `responses` are: its value does not scatter with the seed
of a comparison, and intervals need not allow for that."""
THRESHOLDS: F64 = np.linspace(0, 1, 41)


def make_plan(
    size: tuple[int, int], chosen: tuple[str, ...], *, threshold: float, bandwidth: float, rng: np.random.Generator
) -> Plan:
    """Draw the directions of `transport` for one kernel size, and plan the measures."""
    theta = directions(size[0] * size[1], DIRECTIONS, rng)
    return Plan(chosen, layer_measures(chosen), threshold, bandwidth, theta, size)


@dataclass(frozen=True, slots=True)
class Scores:
    """Measures of D pairs of samples.

    Attributes
    ----------
    values : (D, M) float64, in the order of the measures.
    layers : (D, J, L_a, L_b) float32, the measures of the plan's `by_layer`; NaN where a layer has no filter in the
        sample.
    nearest_a, nearest_b : (D, n) float32, |cos| of each filter to its nearest in the other sample; (D, 0) where
        coverage was not asked for.
    """

    values: F64
    layers: F32
    nearest_a: F32
    nearest_b: F32


def score(a: Sample, b: Sample, *, measures: Sequence[str] | None = None) -> Scores:
    """Score two samples by the plan's measures, or some of them; where one has D = 1 it meets all of the other."""
    pair, measures = Pair(a, b), a.plan.measures if measures is None else measures
    values = np.stack([np.broadcast_to(measured(pair, name), pair.depth) for name in measures], axis=1)
    layers = np.full((pair.depth, len(a.plan.by_layer), len(a.size), len(b.size)), np.nan, np.float32)
    for name in measures:
        for known, of_layers in by_layer(pair, name).items():
            layers[:, a.plan.by_layer.index(known)] = of_layers
    nothing = np.zeros((pair.depth, 0), np.float32)
    near_a, near_b, _ = pair.nearest if "nearest" in vars(pair) else (nothing,) * 3  # known if a measure needed it
    return Scores(values, layers, near_a, near_b)


def measured(pair: Pair, name: str) -> F64:
    """Return a measure of all D pairs."""
    measure = MEASURES.find(name)
    if measure.pairs is not None:
        return measure.pairs(pair)
    assert measure.score is not None
    return np.array([measure.score(x, y) for x, y in pair.one_by_one()], np.float64)


def by_layer(pair: Pair, name: str) -> Mapping[str, F32]:
    """Return what a measure says of all pairs of layers: name in the plan's `by_layer` -> (D, L_a, L_b)."""
    measure = MEASURES.find(name)
    if measure.layers is not None:
        return measure.layers(pair)
    if measure.score is None or not measure.by_layer:
        return {}
    a, b = pair.a, pair.b
    out = np.full((pair.depth, len(a.size), len(b.size)), np.nan, np.float32)
    for d, (x, y) in enumerate(pair.one_by_one()):
        for i, j in np.ndindex(out.shape[1:]):
            if a.size[i] and b.size[j]:
                out[d, i, j] = measure.score(x[a.layer == i], y[b.layer == j])
    return {name: out}


def coverage_curve(best: F32) -> F64:
    """Return the share of filters whose nearest neighbour has |cos| >= t, for each of `THRESHOLDS`."""
    order = np.sort(best)
    below = np.searchsorted(order, np.asarray(THRESHOLDS, order.dtype), side="left")
    return np.asarray(1 - below / max(len(order), 1), np.float64)
