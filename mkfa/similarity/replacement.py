"""Chance by replacement: a null bank takes the place of one bank of a pair, the other stays.

Both banks cannot be replaced at once: two null banks of one kind are draws of one distribution, so every distance
between them is about zero, and no pair of trained networks could ever be "closer than chance". So the question is
asked once for each side: does a null bank come as near to A as B does? Given A, a B that is itself a null bank is
exchangeable with the draws in its place, so each side's p-value is uniform then. That is exact for nulls that do not
depend on the bank ("gaussian", "blurred") or rearrange its own values ("shuffled"). The covariance nulls estimate what
they keep; tests/benchmarks gives their rates of false alarms.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from mkfa.array_types import F32, F64, I64
from mkfa.banks.bank import FilterBank
from mkfa.nulls.draws import Null
from mkfa.progress import Advance
from mkfa.similarity.measures.table import MEASURES
from mkfa.similarity.pairs import Sample, null_sample, take
from mkfa.similarity.samples import Cloud, make_cloud
from mkfa.similarity.score import THRESHOLDS, Scores, coverage_curve, score
from mkfa.threads import in_threads

NETWORK_DRAWS = 19
"""Networks drawn for a null of whole networks: each costs seconds, and with fewer p could not reach 0.05."""

BATCH = 4
"""Null banks drawn at a time: long enough outside Python's lock, small enough for the cache."""


def slow_draws(m: int) -> int:
    """Return for how many of m draws a slow measure is computed: `matching` takes twice as long as all others."""
    return min(m, max(39, m // 10))


@dataclass(frozen=True, slots=True)
class Side:
    """One bank of a comparison of one kind: its usable filters, and the sample of them that is compared.

    `rows` (n,) int64 are the places of the sample's filters in the cloud, ascending.
    """

    bank: FilterBank
    cloud: Cloud
    rows: I64
    sample: Sample


@dataclass(frozen=True, slots=True)
class Draws:
    """Measures under one null, (m, side, ...); side 0: B replaced, side 1: A replaced.

    Attributes
    ----------
    values : (m, 2, M) float64.
    counts : (M,) int64, draws that each measure was computed for: the first ones. Its other values do not count.
    layers : (m, 2, J, L_a, L_b) float32, measures of the plan's `by_layer`; half the memory, precise enough for ranks.
    curve : (m, T) float64, coverage curve, mean over sides and directions.
    """

    null: str
    values: F64
    counts: I64
    layers: F32
    curve: F64


def curves_of(result: Scores) -> F64:
    """Return the coverage curves of both directions averaged, (D, T)."""
    both = np.concatenate([result.nearest_a, result.nearest_b], axis=1)  # samples are equal, so this is the average
    return np.stack([coverage_curve(near) for near in both])


def draw_against(null: Null, sides: tuple[Side, Side], *, m: int, seed: int, advance: Advance) -> Draws:
    """Put null banks in place of each side: `m`, or `NETWORK_DRAWS` for a null of whole networks.

    Draw k of a seed is the same on any number of processors. Raises MkfaError where a null cannot be drawn for a bank.
    """
    if null.network is not None:
        return _networks_against(null, sides, seed=seed, advance=advance)
    a, b = (side.sample for side in sides)
    n = len(a)
    drawers = [_drawer(null, side) for side in sides]
    measures = np.array(a.plan.measures)
    counts = np.where([MEASURES.find(name).slow for name in a.plan.measures], slow_draws(m), m)
    values = np.full((m, 2, len(measures)), np.nan)
    layers = np.empty((m, 2, len(a.plan.by_layer), len(a.size), len(b.size)), np.float32)
    curve = np.empty((m, len(THRESHOLDS)))

    def draw(first: int) -> int:
        part = range(first, min(first + BATCH, m))
        rngs = [np.random.default_rng([seed, null.stream, k]) for k in part]
        b_null, a_null = (  # in this order: recorded results depend on it
            null_sample(sides[i].sample, np.stack([drawers[i](rng).reshape(n, -1) for rng in rngs])) for i in (1, 0)
        )
        here, wanted = slice(part.start, part.stop), part.start < counts
        scores = [score(*pair, measures=measures[wanted].tolist()) for pair in ((a, b_null), (a_null, b))]
        for side, result in enumerate(scores):
            values[here, side, wanted], layers[here, side] = result.values, result.layers
        curve[here] = (curves_of(scores[0]) + curves_of(scores[1])) / 2
        return len(part)

    for done in in_threads(draw, range(0, m, BATCH)):
        advance(done)
    return Draws(null.name, values, counts, layers, curve)


def _drawer(null: Null, side: Side) -> Callable[[np.random.Generator], F32]:
    cloud = side.cloud  # canonical taps: `null_sample` sets gain and offset, and raw ones may leave float32
    return null.prepare(cloud.vector.reshape(-1, cloud.kind.kh, cloud.kind.kw), cloud.layer, side.rows)


def _networks_against(null: Null, sides: tuple[Side, Side], *, seed: int, advance: Advance) -> Draws:
    assert null.network is not None
    pairs: list[tuple[Scores, Scores]] = []
    a, b = (side.sample for side in sides)
    for k in range(NETWORK_DRAWS):
        fresh = []
        for i, side in enumerate(sides):
            rng = np.random.default_rng([seed, null.stream, k, i])
            fresh.append(_like(side, make_cloud(null.network(side.bank, seed + 1 + k), side.cloud.kind), rng))
        pairs.append((score(a, fresh[1]), score(fresh[0], b)))
        advance(1.0)
    values = np.array([[s.values[0] for s in pair] for pair in pairs])
    layers = np.array([[s.layers[0] for s in pair] for pair in pairs], np.float32)
    counts = np.full(values.shape[2], len(values))
    return Draws(
        null.name, values, counts, layers, np.concatenate([(curves_of(x) + curves_of(y)) / 2 for x, y in pairs])
    )


def _like(side: Side, blank: Cloud, rng: np.random.Generator) -> Sample:
    """Sample an untrained network with as many filters of each layer as the trained one gave."""
    place = {layer.index: i for i, layer in enumerate(blank.layers)}
    rows = []
    for layer, count in zip(side.cloud.layers, side.sample.size, strict=True):
        here = np.flatnonzero(blank.layer == place.get(layer.index, -1))
        rows.append(rng.permutation(here)[:count])
    chosen = take(blank, np.concatenate(rows), side.sample.plan)
    layer_of = np.repeat(np.arange(len(rows)), [len(r) for r in rows])
    return replace(chosen, layer=layer_of, layers=side.sample.layers, drawn=True)
