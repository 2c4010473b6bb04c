"""Layers as the unit: permutation of layers between two banks, bootstrap over layers.

Filters of one layer are trained together and are not independent; layers are what can be exchanged or resampled.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import comb

import numpy as np

from mkfa.array_types import F32, F64, I64, BoolArray
from mkfa.frozen import FrozenDict
from mkfa.similarity.samples import Cloud
from mkfa.similarity.score import EXACT_TRANSPORT, Plan, Sample, matched_costs, score
from mkfa.stats.p_values import p_value

POOLED = 1024
"""Most filters of both banks together in the exchange of layers; each layer gives four or more all the same."""
MOST = 32
"""Most filters of a layer in it."""
THIN = 8
"""Layers of fewer filters take no part in it where enough others do."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """Test of the hypothesis that the layers of both banks come from one population.

    Attributes
    ----------
    p : measure -> p-value: share of exchanges after which the banks are at least as different.
    m : number of random exchanges.
    arrangements : number of ways to distribute the layers; p is at least about 1 / arrangements.
    per_layer : number of filters that every layer gave.
    left_out : names of the layers of A and of B that took no part, having fewer.
    """

    p: Mapping[str, float]
    m: int
    arrangements: int
    per_layer: int
    left_out: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())


def exchange_layers(
    a: Cloud, b: Cloud, rows: tuple[I64 | None, I64 | None], *, plan: Plan, m: int, rng: np.random.Generator
) -> Exchange:
    """Permute layers between two banks. Every layer gives the same number of filters.

    With more filters from one layer than from another, a filter would find nearer neighbours on the side that happens
    to have the large layers: the size of layers would be tested, not their filters. See `layer_quota`.

    Parameters
    ----------
    rows : for each cloud the rows to draw from, or None for all (halves, where a bank is compared with itself).
    """
    pools = [np.arange(len(cloud)) if r is None else np.sort(r) for cloud, r in zip((a, b), rows, strict=True)]
    sizes = [np.bincount(c.layer[pool], minlength=len(c.layers)) for c, pool in zip((a, b), pools, strict=True)]
    quota, kept = layer_quota(sizes[0], sizes[1])
    la, lb = (int(keep.sum()) for keep in kept)
    taken = [_draw_each(c, pool, keep, quota=quota, rng=rng) for c, pool, keep in zip((a, b), pools, kept, strict=True)]
    label = np.repeat(np.arange(la + lb), quota)
    kernel, distance, best = layer_blocks(np.concatenate(taken), label, layers=la + lb, bandwidth=plan.bandwidth)
    sides = np.zeros((m + 1, la + lb), bool)
    sides[0, :la] = True
    for row in sides[1:]:
        row[rng.permutation(la + lb)[:la]] = True
    statistics = _discrepancies(sides / la, ~sides / lb, kernel, distance)
    statistics["coverage"] = np.array([_coverage(best, side, label) for side in sides])
    p = {
        name: float(p_value(values[0], values[1:], larger=name != "coverage"))
        for name, values in statistics.items()
        if name in plan.measures
    }
    left = [
        tuple(x.name for x, keep in zip(c.layers, mask, strict=True) if not keep)
        for c, mask in zip((a, b), kept, strict=True)
    ]
    return Exchange(FrozenDict(p), m, comb(la + lb, la), quota, (left[0], left[1]))


def layer_quota(a: I64, b: I64) -> tuple[int, tuple[BoolArray, BoolArray]]:
    """Return how many filters each layer gives to the exchange of layers, and which layers of A and of B take part.

    The smallest layer says how many, up to `MOST`, and up to `POOLED` filters in all. Layers under `THIN` filters are
    left out, so that one of them does not impoverish the others, unless a bank would keep less than half its layers.

    Parameters
    ----------
    a, b : (L_a,) and (L_b,) int64, filters of each layer.

    Examples
    --------
    >>> import numpy as np
    >>> quota, (a, b) = layer_quota(np.array([5, 40, 60, 80]), np.array([16, 16, 300]))
    >>> quota, a.tolist(), b.tolist()
    (16, [False, True, True, True], [True, True, True])
    """
    kept = a >= THIN, b >= THIN
    if any(2 * keep.sum() < len(keep) for keep in kept):
        kept = a >= 2, b >= 2  # pairs of filters within a layer are needed
    layers = int(kept[0].sum() + kept[1].sum())
    smallest = min(int(x[keep].min(initial=MOST)) for x, keep in zip((a, b), kept, strict=True))
    return min(smallest, max(POOLED // max(layers, 1), 4)), kept


def _draw_each(cloud: Cloud, pool: I64, kept: BoolArray, *, quota: int, rng: np.random.Generator) -> F32:
    """Draw `quota` filters from each layer that is kept, in order of layers."""
    rows = [rng.permutation(pool[cloud.layer[pool] == layer])[:quota] for layer in np.flatnonzero(kept)]
    return np.asarray(cloud.vector[np.concatenate(rows)], np.float32)


def layer_blocks(vector: F32, label: I64, *, layers: int, bandwidth: float) -> tuple[F64, F64, F32]:
    """Return mean kernel and mean distance between layers, (L, L), and each filter's best |cos| in a layer, (n, L).

    A filter is not paired with itself.
    """
    square = np.minimum(np.square(vector @ vector.T), np.float32(1))
    members = (np.arange(layers)[:, None] == label[None]).astype(np.float32)
    size = members.sum(axis=1)
    pairs = np.outer(size, size) - np.diag(size)
    pairs[pairs == 0] = 1
    out = []
    for block in (np.exp((square - 1) / np.float32(bandwidth)), np.sqrt(1 - square)):
        np.fill_diagonal(block, 0)
        out.append((members @ block @ members.T).astype(np.float64) / pairs)
    np.fill_diagonal(square, 0)
    best = np.stack([square[label == i].max(axis=0, initial=0) for i in range(layers)], axis=1)
    return out[0], out[1], np.sqrt(best)


def _coverage(best: F32, side: BoolArray, label: I64) -> float:
    """Return mean best |cos| to the other side's layers over both directions; layers have equally many filters."""
    first = side[label]
    to_second, to_first = best[:, ~side].max(axis=1), best[:, side].max(axis=1)
    return float(to_second[first].mean() + to_first[~first].mean()) / 2


def bootstrap_layers(a: Sample, b: Sample, *, draws: int, rng: np.random.Generator) -> F64:
    """Return the measures after resampling the layers of both banks with replacement, (draws, M) float64.

    mmd and energy follow from layer blocks, in which a filter is never paired with its own copy. For coverage and
    matching the layers whose filters are counted are resampled while the neighbours stay: a bank with repeated
    layers has fewer different neighbours to offer, which would shift every draw. The rest is computed anew.
    """
    plan = a.plan
    out = np.full((draws, len(plan.measures)), np.nan)
    column: dict[str, int] = {name: i for i, name in enumerate(plan.measures)}
    weights = [_resample(s, draws, rng) for s in (a, b)]  # how often each layer was drawn
    if {"coverage", "coverage_at"} & set(column):
        best = score(a, b, measures=["coverage"])
        for name, cut in (("coverage", 0.0), ("coverage_at", plan.threshold)):
            if name in column:
                each = [x[0] if name == "coverage" else x[0] >= cut for x in (best.nearest_a, best.nearest_b)]
                means = [_weighted(x, s.layer, w) for x, s, w in zip(each, (a, b), weights, strict=True)]
                out[:, column[name]] = (means[0] + means[1]) / 2
    assigned = {"matching", "transport"} if max(len(a), len(b)) <= EXACT_TRANSPORT else {"matching"}
    for name in assigned & set(column):
        out[:, column[name]] = _weighted(matched_costs(a, b)[0], a.layer, weights[0])
    if {"mmd", "energy"} & set(column):
        _resample_blocks(a, b, weights, out, plan)
    done = {"coverage", "coverage_at", "mmd", "energy", *assigned}
    if anew := [name for name in plan.measures if name not in done]:
        for i in range(draws):
            one, other = (_repeat(s, w[i]) for s, w in zip((a, b), weights, strict=True))
            out[i, [column[name] for name in anew]] = score(one, other, measures=anew).values[0]
    return out


def _resample(sample: Sample, draws: int, rng: np.random.Generator) -> I64:
    present = np.unique(sample.layer)
    counts = rng.multinomial(len(present), np.full(len(present), 1 / len(present)), size=draws)
    out = np.zeros((draws, sample.layers), np.int64)
    out[:, present] = counts
    return out


def _weighted(value: np.ndarray[tuple[int], np.dtype[np.generic]], layer: I64, weight: I64) -> F64:
    size = np.bincount(layer, minlength=weight.shape[1])
    total = np.bincount(layer, weights=value.astype(np.float64), minlength=weight.shape[1])
    drawn = weight @ size
    return np.where(drawn > 0, weight @ total / np.maximum(drawn, 1), np.nan)


def _resample_blocks(a: Sample, b: Sample, weights: list[I64], out: F64, plan: Plan) -> None:
    label = np.concatenate([a.layer, b.layer + a.layers])
    pooled = np.concatenate([a.vector[0], b.vector[0]])
    kernel, distance, _ = layer_blocks(pooled, label, layers=a.layers + b.layers, bandwidth=plan.bandwidth)
    size = np.bincount(label, minlength=a.layers + b.layers)
    first, second = np.zeros((2, len(out), len(size)))
    first[:, : a.layers], second[:, a.layers :] = weights[0] * size[: a.layers], weights[1] * size[a.layers :]
    first, second = (w / w.sum(axis=1, keepdims=True) for w in (first, second))
    for name, values in _discrepancies(first, second, kernel, distance).items():
        if name in plan.measures:
            out[:, plan.measures.index(name)] = values


def _discrepancies(first: F64, second: F64, kernel: F64, distance: F64) -> dict[str, F64]:
    """Return mmd and energy (m,) between two weightings of the layers (m, L), from the layers' blocks (L, L)."""

    def mean(x: F64, y: F64, block: F64) -> F64:
        return np.asarray(np.einsum("ml,ml->m", x @ block, y))

    return {
        name: sign * (2 * mean(first, second, block) - mean(first, first, block) - mean(second, second, block))
        for name, block, sign in (("mmd", kernel, -1), ("energy", distance, 1))
    }


def _repeat(sample: Sample, times: I64) -> Sample:
    rows = np.repeat(np.arange(len(sample)), times[sample.layer])
    rows = rows[np.argsort(sample.layer[rows], kind="stable")]
    return replace(
        sample,
        weight=sample.weight[:, rows],
        vector=sample.vector[:, rows],
        gain=sample.gain[rows],
        offset=sample.offset[rows],
        layer=sample.layer[rows],
    )


def centred_interval(draws: F64, value: F64) -> F64:
    """Return the central 95 % of bootstrap draws, (2, M), moved so that their median lies on the value.

    Resampled layers repeat, which shifts plug-in distances by a constant; only the spread is informative.
    """
    with np.errstate(invalid="ignore"):
        low, middle, high = np.nanquantile(draws, (0.025, 0.5, 0.975), axis=0)
    return np.stack([value + low - middle, value + high - middle])
