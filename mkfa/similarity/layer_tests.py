"""Layers as the unit: permutation of layers between two banks.

Filters of one layer are trained together and are not independent; layers are what can be exchanged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import comb

import numpy as np

from mkfa.array_types import F32, F64, I64, BoolArray
from mkfa.frozen import FrozenDict
from mkfa.similarity.pairs import Plan
from mkfa.similarity.samples import Cloud
from mkfa.stats.p_values import p_value

POOLED = 1024
"""Most filters of both banks together in the exchange of layers; each layer gives four or more all the same."""
MOST = 32
"""Most filters of a layer in it."""
THIN = 8
"""Layers of fewer filters are left out where enough others remain."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """Test of the hypothesis that the layers of both banks come from one population.

    Attributes
    ----------
    p : measure -> p-value: share of exchanges after which the banks are at least as different.
    m : number of random exchanges.
    arrangements : number of ways to distribute the layers; p is at least about 1 / arrangements.
    per_layer : number of filters that every layer gave.
    left_out : names of the layers of A and of B that were left out, having fewer.
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
    """Return how many filters each layer gives to the exchange of layers, and which layers of A and of B are exchanged.

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


def _discrepancies(first: F64, second: F64, kernel: F64, distance: F64) -> dict[str, F64]:
    """Return mmd and energy (m,) between two weightings of the layers (m, L), from the layers' blocks (L, L)."""

    def mean(x: F64, y: F64, block: F64) -> F64:
        return np.asarray(np.einsum("ml,ml->m", x @ block, y))

    return {
        name: sign * (2 * mean(first, second, block) - mean(first, first, block) - mean(second, second, block))
        for name, block, sign in (("mmd", kernel, -1), ("energy", distance, 1))
    }
