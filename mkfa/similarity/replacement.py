"""Chance by replacement: one bank of a pair gives way to a null bank, the other stays.

Both banks cannot be replaced at once: two null banks of one kind are draws of one distribution, so every distance
between them is about zero, and no pair of trained networks could ever be "closer than chance". So the question is
asked once for each side: does a null bank come as near to A as B does? Given A, a B that is itself a null bank is
exchangeable with the draws in its place, so each side's p-value is exactly uniform then.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from mkfa.array_types import F32, F64
from mkfa.banks.bank import FilterBank, Kind
from mkfa.nulls.draws import Null
from mkfa.similarity.measures.coverage import coverage_curve
from mkfa.similarity.samples import Cloud, make_cloud, split
from mkfa.similarity.score import BY_LAYER, THRESHOLDS, Plan, Profile, Sample, Scores, null_sample, profile, score, take

NETWORK_DRAWS = 5
"""Networks drawn for a null of whole networks; each costs seconds, so it is a ceiling rather than a test."""

BATCH = 4
"""Null banks drawn at a time: long enough outside Python's lock, small enough for the cache."""

Advance = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class Draws:
    """Measures under one null, (m, side, ...); side 0: B replaced, side 1: A replaced.

    Attributes
    ----------
    values : (m, 2, M) float64.
    layers : (m, 2, 3, L_a, L_b) float32, measures of `BY_LAYER`; half the memory, precise enough for ranks.
    curve : (m, T) float64, coverage curve, mean over sides and directions.
    """

    null: str
    values: F64
    layers: F32
    curve: F64


def workers() -> int:
    """Return the number of processors that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else (os.cpu_count() or 1)


@contextmanager
def single_blas() -> Iterator[None]:
    """Keep BLAS to one thread: the small products here are faster so, and threads draw side by side instead."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1, user_api="blas"):
        yield


def curves_of(result: Scores) -> F64:
    """Return the coverage curves of both directions averaged, (D, T)."""
    both = np.concatenate([result.nearest_a, result.nearest_b], axis=1)  # samples are equal, so this is the average
    return np.stack([coverage_curve(near, THRESHOLDS) for near in both])


def draw_against(
    null: Null,
    sides: tuple[Profile, Profile],
    clouds: tuple[Cloud, Cloud],
    *,
    plan: Plan,
    m: int,
    seed: int,
    advance: Advance,
) -> Draws:
    """Draw `m` null banks in the place of each side; draw k of a seed is the same on any number of processors.

    Parameters
    ----------
    sides : profiles of the samples of A and B, with roots.
    clouds : where the samples come from; the null `covariance` has the second moment of all their filters.
    """
    a, b = sides
    roots = tuple(None if null.root is None else null.root(cloud.weight) for cloud in clouds)
    values = np.empty((m, 2, len(plan.measures)))
    layers = np.empty((m, 2, len(BY_LAYER), len(a.size), len(b.size)), np.float32)
    curve = np.empty((m, len(THRESHOLDS)))

    def draw(first: int) -> int:
        part = range(first, min(first + BATCH, m))
        rngs = [np.random.default_rng([seed, null.stream, k]) for k in part]
        b_null, a_null = (  # in this order: recorded results depend on it
            profile(_null_in_place(null, sides[i].sample, clouds[i].kind, roots[i], rngs), plan) for i in (1, 0)
        )
        found = score(a, b_null, plan), score(a_null, b, plan)
        here = slice(part.start, part.stop)
        for side, result in enumerate(found):
            values[here, side], layers[here, side] = result.values, result.layers
        curve[here] = (curves_of(found[0]) + curves_of(found[1])) / 2
        return len(part)

    with single_blas(), ThreadPoolExecutor(workers()) as pool:
        for done in pool.map(draw, range(0, m, BATCH)):
            advance(float(done))
    return Draws(null.name, values, layers, curve)


def _null_in_place(null: Null, sample: Sample, kind: Kind, root: F32 | None, rngs: list[np.random.Generator]) -> Sample:
    """Draw one null bank from each generator."""
    if root is None:  # canonical taps: `null_sample` sets gain and offset, and raw ones may leave float32
        filters = sample.vector[0].reshape(-1, kind.kh, kind.kw)
        return null_sample(sample, np.stack([null.sample(filters, rng).reshape(len(filters), -1) for rng in rngs]))
    white = np.stack([rng.standard_normal(sample.weight.shape[1:], dtype=np.float32) for rng in rngs])
    return null_sample(sample, white @ root.T)


def networks_against(
    null: Null,
    sides: tuple[Profile, Profile],
    clouds: tuple[Cloud, Cloud],
    *,
    banks: tuple[FilterBank, FilterBank],
    plan: Plan,
    seed: int,
    advance: Advance,
) -> Draws:
    """Put `NETWORK_DRAWS` networks of the null in the place of each side.

    Raises
    ------
    MkfaError
        A bank names no architecture, or one that timm cannot build.
    """
    found: list[tuple[Scores, Scores]] = []
    a, b = sides
    if (draw_network := null.network) is None:
        raise TypeError(f"the null {null.name} is drawn filter by filter")
    for k in range(NETWORK_DRAWS):
        fresh = []
        for side, (bank, cloud) in enumerate(zip(banks, clouds, strict=True)):
            rng = np.random.default_rng([seed, null.stream, k, side])
            blank = make_cloud(draw_network(bank, seed + 1 + k), cloud.kind)
            fresh.append(profile(_like(sides[side].sample, cloud, blank, rng), plan))
        found.append((score(a, fresh[1], plan), score(fresh[0], b, plan)))
        advance(1.0)
    values = np.array([[s.values[0] for s in pair] for pair in found])
    layers = np.array([[s.layers[0] for s in pair] for pair in found], np.float32)
    return Draws(null.name, values, layers, np.concatenate([(curves_of(x) + curves_of(y)) / 2 for x, y in found]))


def _like(sample: Sample, cloud: Cloud, blank: Cloud, rng: np.random.Generator) -> Sample:
    """Sample an untrained bank with as many filters of each layer as the trained one gave."""
    place = {layer.index: i for i, layer in enumerate(blank.layers)}
    rows = []
    for i, count in enumerate(np.bincount(sample.layer, minlength=len(cloud.layers))):
        here = np.flatnonzero(blank.layer == place.get(cloud.layers[i].index, -1))
        rows.append(rng.permutation(here)[:count])
    chosen = take(blank, np.concatenate(rows))
    layer = np.repeat(np.arange(len(rows)), [len(r) for r in rows])
    return Sample(chosen.weight, chosen.vector, chosen.gain, chosen.offset, layer, sample.layers)


def floor_scores(cloud: Cloud, n: int, *, plan: Plan, splits: int, rng: np.random.Generator) -> list[Scores]:
    """Score disjoint halves of a bank, `splits` times; every half has the same number of filters of each layer."""
    found = []
    for _ in range(splits):
        first, second = (take(cloud, rows) for rows in split(cloud, n, rng))
        found.append(score(profile(first, plan, root=True), profile(second, plan), plan))
    return found
