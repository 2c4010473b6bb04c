"""Does likeness depend on depth? Permutation tests on the coverage of pairs of layers.

Three questions: are layers of similar relative depth more alike than others, beyond what the layers have in general
(a Mantel test, Mantel 1967, Cancer Research 27:209, on what is left after the means of rows and columns); and do the
layers of A, or of B, become more or less alike to the other network with depth? Layers are permuted within their
network. Coverage enters less its mean under a null, so that layers with more sampled filters have no advantage.

A trend is one of this pair of networks. Where the filters of both change steadily with depth, one end of A is nearer
to one end of B than to the other even if they have nothing in common, and which end it is, is chance: such pairs give
p <= 0.05 in two of three cases, with either sign (`tests/benchmarks/calibrate.py`, part `trend`; on Mantel tests of
smooth fields: Guillot & Rousset 2013, Methods in Ecology and Evolution 4:336). That networks in general are alike at
equal depth takes the same sign in many independent pairs.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import factorial

import numpy as np

from mkfa.array_types import F32, F64, I64
from mkfa.frozen import ByContent
from mkfa.stats.p_values import holm

PERMUTATIONS = 999
LEAST = 0.05
"""No p is given where the layers have too few arrangements to reach this."""
TRENDS = ("difference", "a", "b")


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class DepthTrend(ByContent):
    """Trends of the coverage of layer pairs with depth, in the order of `TRENDS`.

    Attributes
    ----------
    null : the null whose mean is subtracted.
    r : (3,) correlation with |difference of relative depth|, with the depth of A's layers and with that of B's. The
        first is negative where layers of similar depth are more alike. NaN where depths do not differ.
    p, p_holm : (3,) two-sided, and adjusted for the three; NaN with too few layers.
    m, seed : permutations and their seed.
    """

    null: str
    r: F64
    p: F64
    p_holm: F64
    m: int
    seed: int


def depth_trend(
    coverage: F32, depth: tuple[F64, F64], *, null: str, same: bool, m: int, rng: np.random.Generator, seed: int
) -> DepthTrend:
    """Test the trends of coverage with depth.

    Parameters
    ----------
    coverage : (L_a, L_b) coverage of the layer pairs less its mean under the null; NaN for layers without filters.
    depth : (L_a,) and (L_b,) relative depths.
    same : True for a network beside itself: layers are then permuted on both sides at once, and a layer beside itself
        does not count.
    """
    known = np.isfinite(coverage)
    rows, columns = known.any(axis=1), known.any(axis=0)
    if same:
        rows = columns = rows & columns
    value = np.asarray(coverage[np.ix_(rows, columns)], np.float64)
    one, other = depth[0][rows], depth[1][columns]
    if same:
        value = (value + value.T) / 2
    pairs = [_interaction(value, one, other, m, rng) if not same else _within(value, one, m, rng)]
    if same and len(value) > 1:
        np.fill_diagonal(value, np.nan)
    for axis, place in ((1, one), (0, other)):
        some = value.size > 0 and np.isfinite(value).any()
        pairs.append(_along(np.nanmean(value, axis=axis) if some else np.zeros(0), place, m, rng))
    r, p = np.array(pairs, np.float64).T
    return DepthTrend(null, r, p, holm(p), m, seed)


def _interaction(value: F64, one: F64, other: F64, m: int, rng: np.random.Generator) -> tuple[float, float]:
    """Correlate value and |difference of depth|, both without means of rows and columns; permute both."""
    la, lb = value.shape
    if min(la, lb) < 2:
        return np.nan, np.nan
    left, gap = _doubly_centred(value), _doubly_centred(np.abs(one[:, None] - other[None]))
    orders = [(rng.permutation(la), rng.permutation(lb)) for _ in range(m)]
    draws = [float(np.vdot(left[np.ix_(*order)], gap)) for order in orders]
    enough = factorial(min(la, 20)) * factorial(min(lb, 20)) / 2 >= 1 / LEAST  # turned around, both give the same
    return _result(float(np.vdot(left, gap)), draws, _norm(left, gap), enough)


def _within(value: F64, depth: F64, m: int, rng: np.random.Generator) -> tuple[float, float]:
    """The same for symmetric values between the layers of one network, without the diagonal; permute layers."""
    n = len(value)
    if n < 4:
        return np.nan, np.nan
    left, gap = (_symmetric_centred(x) for x in (value, np.abs(depth[:, None] - depth[None])))
    orders: list[I64] = [rng.permutation(n) for _ in range(m)]
    draws = [float(np.vdot(left[np.ix_(order, order)], gap)) for order in orders]
    enough = factorial(min(n, 20)) / 2 >= 1 / LEAST
    return _result(float(np.vdot(left, gap)), draws, _norm(left, gap), enough)


def _along(mean: F64, depth: F64, m: int, rng: np.random.Generator) -> tuple[float, float]:
    """Correlate the layers' means with their depth; permute layers."""
    if len(mean) < 3:
        return np.nan, np.nan
    left, place = mean - mean.mean(), depth - depth.mean()
    draws = [float(np.vdot(rng.permutation(left), place)) for _ in range(m)]
    enough = factorial(min(len(mean), 20)) / 2 >= 1 / LEAST  # two-sided: turned around, the layers are as extreme
    return _result(float(left @ place), draws, _norm(left, place), enough)


def _result(observed: float, draws: list[float], scale: float, enough: bool) -> tuple[float, float]:
    if scale <= 0:
        return np.nan, np.nan
    reached = np.abs(draws) >= abs(observed) - 1e-9 * scale  # equal arrangements differ by rounding
    p = float((1 + reached.sum()) / (1 + len(draws)))
    return observed / scale, p if enough else np.nan


def _norm(x: F64, y: F64) -> float:
    """Return the product of the norms, 0 where either is constant up to rounding."""
    norms = float(np.linalg.norm(x)), float(np.linalg.norm(y))
    return norms[0] * norms[1] if min(norms) > 1e-9 else 0.0


def _doubly_centred(x: F64) -> F64:
    return np.asarray(x - x.mean(axis=0, keepdims=True) - x.mean(axis=1, keepdims=True) + x.mean())


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
