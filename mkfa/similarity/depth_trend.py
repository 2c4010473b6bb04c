"""Does likeness depend on depth? Tests on the coverage of pairs of layers.

Three questions: are layers of similar relative depth more alike than others, beyond what the layers have in general
(correlation with the difference of depth of what is left after the means of rows and columns); and do the layers of A,
or of B, become more or less alike to the other network with depth?

p is the larger of two. Layers are permuted within both networks (Mantel 1967, Cancer Research 27:209). Alone, that
passes for half of the pairs of unrelated networks that change with depth or from stage to stage: their layers cannot be
exchanged, and as one end of A is always nearer to one end of B, which one it is, is chance (Guillot & Rousset 2013,
Methods in Ecology and Evolution 4:336). So all filters of B are also turned together, by random rotations of the space
of zero-mean filters: whatever holds within B stays, how its layers change too, and only which patterns of A they meet
is left to chance (on rotation tests: Langsrud 2005, Statistics and Computing 15:53). Alone, that would be wrong where
the layers of both are of one population. Simulations: `tests/benchmarks/CALIBRATION.md`.

Between the layers of one network, layers are permuted only: that a network changes steadily with depth is there what
is sought.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import factorial

import numpy as np

from mkfa.array_types import F32, F64, I64
from mkfa.frozen import ByContent
from mkfa.similarity.pairs import Pair, Sample
from mkfa.stats.p_values import holm

PERMUTATIONS, TURNS = 999, 199
TURNED = "turned"
LEAST = 0.05
"""No p is given where the layers have too few arrangements to reach this."""
BLOCK = 20
"""Turned banks that are compared at a time."""
TRENDS = ("difference", "a", "b")


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class DepthTrend(ByContent):
    """Trends of the coverage of layer pairs with depth, in the order of `TRENDS`.

    Attributes
    ----------
    null : the mean under this null is subtracted: `TURNED`, or within a network a null of `mkfa.nulls`.
    r : (3,) correlation with |difference of relative depth|, with the depth of A's layers and with that of B's. The
        first is negative where layers of similar depth are more alike. NaN where depths do not differ.
    p, p_holm : (3,) two-sided, and adjusted for those that are tested; NaN with too few layers, and within a network
        for the depth of layers.
    m, seed : turned banks and permutations of layers, and their seed.
    """

    null: str
    r: F64
    p: F64
    p_holm: F64
    m: int
    seed: int


def depth_trend(
    a: Sample, b: Sample, depth: tuple[F64, F64], *, m: int, rng: np.random.Generator, seed: int
) -> DepthTrend:
    """Test the trends of coverage with depth between two networks.

    Parameters
    ----------
    a, b : samples of the filters of two banks, of one plan.
    depth : (L_a,) and (L_b,) relative depths.
    m : number of turned banks, and of permutations.
    """
    rows, columns = a.size > 0, b.size > 0
    value = np.concatenate([Pair(a, b).nearest[2], turned_coverage(a, b, rng, m=m)])[:, rows][:, :, columns]
    left = value.astype(np.float64) - value.mean(axis=0, dtype=np.float64)
    one, other = depth[0][rows], depth[1][columns]
    means = _centred(left.mean(axis=2)), _centred(left.mean(axis=1))
    gap, left = _doubly_centred(_apart(one, other)), _doubly_centred(left)
    la, lb = gap.shape
    orders = [(rng.permutation(la), rng.permutation(lb)) for _ in range(m)]
    found = [
        _larger(
            left, np.array([left[0][np.ix_(*order)] for order in orders]), gap, arrangements=_orders(la) * _orders(lb)
        ),
        _larger(
            means[0], means[0][0][np.array([order for order, _ in orders])], _centred(one), arrangements=_orders(la)
        ),
        _larger(
            means[1], means[1][0][np.array([order for _, order in orders])], _centred(other), arrangements=_orders(lb)
        ),
    ]
    r, p = np.array(found).T
    return DepthTrend(TURNED, r, p, holm(p), m, seed)


def turned_coverage(a: Sample, b: Sample, rng: np.random.Generator, *, m: int) -> F32:
    """Return the coverage of layer pairs with all filters of B turned together, at random m times, (m, L_a, L_b)."""
    k = b.vector.shape[2]
    axes = np.linalg.qr(np.eye(k)[:, :-1] - 1 / k)[0]  # zero-mean filters
    out = []
    for start in range(0, m, BLOCK):
        turn, upper = np.linalg.qr(rng.standard_normal((min(BLOCK, m - start), k - 1, k - 1)))
        turn = axes @ (turn * np.sign(np.einsum("dii->di", upper))[:, None]) @ axes.T
        turned = replace(b, vector=(b.vector[0] @ turn).astype(np.float32), drawn=True)
        out.append(Pair(a, turned).nearest[2])
    return np.concatenate(out)


def depth_trend_within(
    coverage: F32, depth: F64, *, null: str, m: int, rng: np.random.Generator, seed: int
) -> DepthTrend:
    """Test whether layers of similar depth are more alike than others within one network.

    Parameters
    ----------
    coverage : (L, L) coverage of pairs of layers less its mean under the null, from disjoint filters; NaN for layers
        without filters. A layer beside itself does not count.
    depth : (L,) relative depths.
    """
    known = np.isfinite(coverage)
    some = known.any(axis=1) & known.any(axis=0)
    value = np.asarray(coverage[np.ix_(some, some)], np.float64)
    value = (value + value.T) / 2
    r, p = np.full(3, np.nan), np.full(3, np.nan)
    n = len(value)
    if n > 3:
        left, gap = (_symmetric_centred(x) for x in (value, _apart(depth[some], depth[some])))
        orders: list[I64] = [rng.permutation(n) for _ in range(m)]
        permuted = np.array([left[np.ix_(order, order)] for order in orders])
        r[0], p[0] = _larger(left[None], permuted, gap, arrangements=_orders(n))
    if n > 2:
        np.fill_diagonal(value, np.nan)
        r[1:] = _correlations(_centred(np.nanmean(value, axis=1))[None], _centred(depth[some]))
    return DepthTrend(null, r, p, holm(p), m, seed)


def _larger(value: F64, permuted: F64, place: F64, *, arrangements: float) -> tuple[float, float]:
    """Return the correlation of the first of (D, ...) centred values with places, and the larger p of both tests.

    Parameters
    ----------
    value : the others are of turned banks; permuted : the first with its layers permuted.
    arrangements : orders of layers.
    """
    r, turned = _correlations(value[:1], place)[0], _correlations(value[1:], place)
    parts = [draws for draws in (turned, _correlations(permuted, place)) if len(draws)]
    # Equal arrangements differ by rounding; turned around, the layers are as extreme.
    p = max(float((1 + (np.abs(draws) >= abs(r) - 1e-9).sum()) / (1 + len(draws))) for draws in parts)
    return r, p if arrangements / 2 >= 1 / LEAST and np.isfinite(r) else np.nan


def _orders(layers: int) -> float:
    return float(factorial(min(layers, 20)))


def _correlations(x: F64, y: F64) -> F64:
    """Return the correlations of D centred arrays with another, (D,); NaN where one is constant, or has under three."""
    x, y = x.reshape(len(x), y.size), y.ravel()
    scale = np.linalg.norm(x, axis=1) * np.linalg.norm(y)
    some = (np.linalg.norm(x, axis=1) > 1e-9) & (np.linalg.norm(y) > 1e-9) & (len(y) > 2)  # constant up to rounding
    return np.asarray(np.divide(x @ y, scale, out=np.full(len(x), np.nan), where=some))


def _apart(one: F64, other: F64) -> F64:
    return np.asarray(np.abs(one[:, None] - other[None]))


def _centred(x: F64) -> F64:
    return np.asarray(x - x.mean(axis=-1, keepdims=True))


def _doubly_centred(x: F64) -> F64:
    rows, columns = x.mean(axis=-1, keepdims=True), x.mean(axis=-2, keepdims=True)
    return np.asarray(x - rows - columns + x.mean(axis=(-2, -1), keepdims=True))


def _symmetric_centred(x: F64) -> F64:
    """Return what an additive model of row and column leaves of a symmetric matrix; the diagonal counts as missing."""
    n = len(x)
    out = x.copy()
    np.fill_diagonal(out, 0)
    grand = out.sum() / (n * (n - 1))
    effect = (out.sum(axis=1) / (n - 1) - grand) * (n - 1) / (n - 2)
    out -= grand + effect[:, None] + effect[None]
    np.fill_diagonal(out, 0)
    return out
