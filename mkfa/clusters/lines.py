"""Clusters of filters modulo sign: k-means among lines through the origin.

A filter f and -f are the same pattern, so what is clustered is the line through f, or the projector f f^T:
|f f^T - g g^T|^2 = 2 (1 - (f.g)^2). k-means with that distance, and centres kept on the lines themselves, is
diametrical clustering (Dhillon, Marcotte & Roshan 2003, Bioinformatics 19:1612): a filter goes to the prototype of
largest |cos|, a prototype is the leading eigenvector of its cluster's sum of f f^T. It needs two products with an
(N, K) matrix per step, where plain k-means on the projectors would need (N, K (K + 1) / 2).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mkfa.array_types import F32, I32, I64
from mkfa.frozen import ByContent
from mkfa.threads import in_threads

_STEPS = 200
_BLOCK = 2048
"""Filters compared with the prototypes at once: what is computed of them stays in the processor's cache."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class LineClusters(ByContent):
    """Clusters of unit vectors modulo sign, the largest first.

    Attributes
    ----------
    prototype : (k, K) float32, unit norm; the tap of largest magnitude is positive.
    label : (N,) int32, the prototype of largest |cos|.
    cosine : (N,) float32, signed cosine with that prototype.
    energy : float, mean cos^2: the share of the filters' energy that their prototypes explain (mean R²).
    seed, restarts : what made it.
    """

    prototype: F32
    label: I32
    cosine: F32
    energy: float
    seed: int
    restarts: int

    @property
    def size(self) -> I32:
        """(k,) int32, filters of each cluster."""
        return np.bincount(self.label, minlength=len(self.prototype)).astype(np.int32)

    @property
    def mean_r2(self) -> list[float]:
        """Mean cos² of each cluster's filters with its prototype; NaN for an empty cluster."""
        members = (self.cosine[self.label == j] for j in range(len(self.prototype)))
        return [float(np.square(cosine).mean()) if len(cosine) else float("nan") for cosine in members]


def cluster_lines(vector: F32, k: int, *, seed: int, restarts: int = 8, tolerance: float = 1e-6) -> LineClusters:
    """Cluster unit vectors modulo sign; the best of `restarts` starts.

    Parameters
    ----------
    vector : (N, K) float32 of unit norm.
    k : int
        Number of clusters, 1 to N.
    tolerance : float
        Stop when a step explains less than this share of the energy left.
    """
    rng, columns = np.random.default_rng(seed), np.ascontiguousarray(vector.T)
    best: tuple[float, F32] | None = None
    for _ in range(restarts):
        prototype, energy = _iterate(vector, columns, _spread(vector, columns, k, rng), tolerance)
        if best is None or energy > best[0]:
            best = energy, prototype
    assert best is not None
    return _finish(vector, best[1], seed=seed, restarts=restarts)


def polish_lines(vector: F32, prototype: F32, *, tolerance: float = 1e-6) -> LineClusters:
    """Continue the clustering from (k, K) prototypes."""
    columns = np.ascontiguousarray(vector.T)
    return _finish(vector, _iterate(vector, columns, prototype, tolerance)[0], seed=-1, restarts=0)


def halves(
    vector: F32, k: int, rng: np.random.Generator, *, runs: int, restarts: int, tolerance: float = 1e-6
) -> list[I32]:
    """Cluster random halves of the filters; return the labels of all filters, (N,) int32, from each half."""
    drawn = [
        (vector[subsample(len(vector), max(len(vector) // 2, k), rng)], int(rng.integers(2**31))) for _ in range(runs)
    ]

    def labels(half: tuple[F32, int]) -> I32:
        found = cluster_lines(half[0], k, seed=half[1], restarts=restarts, tolerance=tolerance)
        return assign_lines(vector, found.prototype)[0]

    return list(in_threads(labels, drawn))


def assign_lines(vector: F32, prototype: F32) -> tuple[I32, F32]:
    """Return the prototype of largest |cos| of each filter, (N,) int32, and that signed cosine, (N,) float32."""
    return _nearest(vector.T, prototype)


def projectors(vector: F32) -> F32:
    """Return each f f^T as a vector, (N, K (K + 1) / 2) float32.

    Upper triangle, off the diagonal times sqrt 2, so that the squared Euclidean distance of two rows is exactly
    2 (1 - cos^2): methods that know nothing of signs can run on it.
    """
    row, column = np.triu_indices(vector.shape[1])
    scale = np.where(row == column, 1, np.sqrt(2)).astype(np.float32)
    return vector[:, row] * vector[:, column] * scale


def distances(vector: F32, other: F32 | None = None) -> F32:
    """Return 1 - cos^2 between all rows, (N, M) float32, exactly 0 on the diagonal of a set with itself."""
    cosine = vector @ (vector if other is None else other).T
    out: F32 = np.maximum(1 - cosine * cosine, np.float32(0))
    if other is None:
        np.fill_diagonal(out, 0)
    return out


def silhouette(vector: F32, label: NDArray[np.integer], *, seed: int, most: int = 1500) -> float:
    """Return the mean silhouette with the distance 1 - cos^2 over at most `most` filters; NaN for one cluster.

    Source: Rousseeuw (1987), J. Comput. Appl. Math. 20:53. 1 tight and apart, 0 on the border, < 0 misplaced.
    """
    from sklearn.metrics import silhouette_score

    rows = subsample(len(vector), most, np.random.default_rng(seed))
    there = len(np.unique(label[rows]))
    if not 2 <= there < len(rows):
        return float("nan")
    return float(silhouette_score(distances(vector[rows]), label[rows], metric="precomputed"))


def subsample(n: int, most: int, rng: np.random.Generator) -> I64:
    """Return at most `most` of n rows, ascending, without replacement."""
    if n <= most:
        return np.arange(n)
    return np.sort(rng.choice(n, most, replace=False))


def _nearest(columns: F32, prototype: F32) -> tuple[I32, F32]:
    """Do what `assign_lines` does for (K, N) filters as columns; fastest where these are contiguous.

    The largest of k numbers is sought for all filters at once: NumPy's argmax would go through them filter by filter.
    """
    (k, n), small = (len(prototype), columns.shape[1]), np.min_scalar_type(len(prototype))
    label, cosine = np.empty(n, np.int32), np.empty(n, np.float32)
    rank = np.arange(k, 0, -1, dtype=small)[:, None]  # among equals the first prototype has the highest
    for start in range(0, n, _BLOCK):
        part = slice(start, start + _BLOCK)
        block = prototype @ columns[:, part]
        size = np.abs(block)
        first = k - ((size == size.max(axis=0)) * rank).max(axis=0)
        label[part] = first
        cosine[part] = block[first, np.arange(len(first))]
    return label, cosine


def _spread(vector: F32, columns: F32, k: int, rng: np.random.Generator) -> F32:
    """Return k starting prototypes by greedy k-means++ with the distance 1 - cos^2 (Arthur & Vassilvitskii 2007)."""
    n, trials = len(vector), 2 + int(np.log(k))
    prototype = np.empty((k, vector.shape[1]), np.float32)
    prototype[0] = vector[rng.integers(n)]
    far = np.clip(1 - (prototype[0] @ columns) ** 2, 0, None)
    for j in range(1, k):
        total = np.cumsum(far, dtype=np.float64)
        if total[-1] <= 0:  # fewer distinct lines than clusters: any filter will do
            prototype[j:] = vector[rng.integers(n, size=k - j)]
            break
        picked = np.minimum(np.searchsorted(total, rng.random(trials) * total[-1], side="right"), n - 1)
        left = np.minimum(far, np.clip(1 - (vector[picked] @ columns) ** 2, 0, None))
        best = int(left.sum(axis=1, dtype=np.float64).argmin())
        prototype[j], far = vector[picked[best]], left[best]
    return prototype


def _iterate(vector: F32, columns: F32, prototype: F32, tolerance: float) -> tuple[F32, float]:
    """Alternate assignment and one power step a cluster until the energy settles; return prototypes and energy.

    A full eigenvector per step gains nothing while the assignment still moves; a power step started from the last
    prototype is one sparse product, and as the matrix is positive semidefinite it never lowers the energy.
    """
    from scipy.sparse import csc_matrix

    n, last = len(vector), -1.0
    weight = csc_matrix((np.ones(n, np.float32), np.zeros(n, np.int32), np.arange(n + 1)), shape=(len(prototype), n))
    for step in range(_STEPS + 1):
        label, cosine = _nearest(columns, prototype)
        energy = float(np.square(cosine, dtype=np.float64).mean())
        if energy - last < tolerance * (1 - energy) or step == _STEPS:
            break
        last = energy
        weight.indices, weight.data = label, cosine  # a new matrix a step would cost more than the product
        prototype = weight @ vector
        norm = np.linalg.norm(prototype, axis=1, keepdims=True)
        prototype = np.asarray(prototype / np.where(norm > 0, norm, 1), np.float32)
        empty = np.flatnonzero(norm[:, 0] == 0)
        if len(empty):  # an empty cluster restarts at the worst explained filters
            prototype[empty] = vector[np.argsort(np.square(cosine), kind="stable")[: len(empty)]]
    return prototype, energy


def _finish(vector: F32, prototype: F32, *, seed: int, restarts: int) -> LineClusters:
    """Take exact eigenvectors, fix the signs, put the largest cluster first."""
    label, _ = assign_lines(vector, prototype)
    exact = prototype.copy()
    for j in range(len(prototype)):
        members = vector[label == j]
        if len(members):
            exact[j] = np.linalg.eigh(members.T.astype(np.float64) @ members)[1][:, -1]
    peak = np.take_along_axis(exact, np.abs(exact).argmax(axis=1)[:, None], axis=1)
    exact *= np.where(peak < 0, np.float32(-1), np.float32(1))
    label, cosine = assign_lines(vector, exact)
    order = np.argsort(-np.bincount(label, minlength=len(exact)), kind="stable")
    place = np.empty(len(order), np.int32)
    place[order] = np.arange(len(order), dtype=np.int32)
    energy = float(np.square(cosine, dtype=np.float64).mean())
    return LineClusters(exact[order], place[label], cosine, energy, seed, restarts)
