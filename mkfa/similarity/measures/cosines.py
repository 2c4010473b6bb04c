"""Distances and similarities between two clouds of canonical filters (numpy and scipy).

Every function takes clouds (N, K) float32 whose rows have zero mean and unit norm, looks only at |cos| between
them, and so does not see order, sign, gain or offset. The exception is `pca_kl`, which is another project's
measure and sees sign and offset as that one does.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mkfa.banks.bank import F32

F64 = NDArray[np.float64]

BANDWIDTH = 0.25
"""Kernel width h of `mmd`: 1 - cos^2 is bounded by 1, so a fixed width makes values comparable between pairs."""
BINS = 70
EXACT_COST_LIMIT = 40_000
"""Largest number of filter pairs for which unequal clouds are transported exactly, by linear programming."""


def cosines(a: F32, b: F32) -> F32:
    """Return |cos| between all filters, (N_a, N_b) float32 in [0, 1]."""
    return np.asarray(np.minimum(np.abs(a @ b.T), np.float32(1)), np.float32)


def nearest(a: F32, b: F32, *, block: int = 2048) -> tuple[F32, F32]:
    """Return |cos| of each filter of A to its nearest in B, (N_a,), and of each of B to its nearest in A, (N_b,)."""
    best_a, best_b = np.zeros(len(a), np.float32), np.zeros(len(b), np.float32)
    for start in range(0, len(a), block):
        part = cosines(a[start : start + block], b)
        best_a[start : start + block] = part.max(axis=1, initial=0)
        np.maximum(best_b, part.max(axis=0, initial=0), out=best_b)
    return best_a, best_b


def coverage_curve(best: F32, thresholds: ArrayLike) -> F64:
    """Return the share of filters whose nearest neighbour has |cos| >= t, for each t, (T,) float64.

    The area under this curve over [0, 1] is the mean of `best`.
    """
    order = np.sort(best)
    below = np.searchsorted(order, np.asarray(thresholds, order.dtype), side="left")
    return np.asarray(1 - below / max(len(order), 1), np.float64)


def matching(a: F32, b: F32) -> float:
    """Return the mean cost 1 - |cos| of the best one-to-one assignment; unequal clouds leave filters unmatched."""
    from scipy.optimize import linear_sum_assignment

    cost = 1 - cosines(a, b)
    return float(cost[linear_sum_assignment(cost)].mean())


def transport_exact(a: F32, b: F32) -> float:
    """Return the optimal transport cost between the uniform clouds, ground cost 1 - |cos|; sizes may differ.

    Equal sizes are an assignment (Birkhoff), unequal ones a linear programme over the N_a * N_b couplings.

    Raises
    ------
    ValueError
        Unequal clouds with more than `EXACT_COST_LIMIT` pairs: use `transport_sliced`.
    """
    if len(a) == len(b):
        return matching(a, b)
    n, m = len(a), len(b)
    if n * m > EXACT_COST_LIMIT:
        raise ValueError(f"{n} x {m} couplings are too many to transport exactly; use transport_sliced")
    from scipy.optimize import linprog
    from scipy.sparse import csr_array, eye_array, kron, vstack

    ones_n, ones_m = csr_array(np.ones((1, n))), csr_array(np.ones((1, m)))
    sums = vstack([kron(eye_array(n), ones_m), kron(ones_n, eye_array(m))])
    mass = np.concatenate([np.full(n, 1 / n), np.full(m, 1 / m)])
    cost = (1 - cosines(a, b)).astype(np.float64)
    return float(linprog(cost.ravel(), A_eq=sums, b_eq=mass, method="highs").fun)


def directions(k: int, count: int, rng: np.random.Generator) -> F32:
    """Draw `count` unit directions uniformly among the zero-mean ones, where canonical filters live; (K, count)."""
    theta = rng.standard_normal((k, count))
    theta -= theta.mean(axis=0)
    return np.asarray(theta / np.linalg.norm(theta, axis=0), np.float32)


def slices(cloud: F32, theta: F32) -> F32:
    """Return the sorted |projection| on each direction, (directions, N) float32."""
    return np.sort(np.abs(cloud @ theta).T, axis=1)


def transport_sliced(a: F32, b: F32, theta: F32) -> float:
    """Return the sliced 2-Wasserstein distance between the symmetrised clouds {f, -f}.

    A projected symmetrised cloud is symmetric about zero, its quantile function is odd, and so the distance between
    two of them is that between their absolute values: nothing is doubled. Bonneel et al. 2015, equation 9.

    Parameters
    ----------
    theta : (K, directions) float32, unit columns.
    """
    return slices_distance(slices(a, theta), slices(b, theta))


def slices_distance(a: F32, b: F32) -> float:
    """Return the sliced 2-Wasserstein distance from sorted projections, (directions, N_a) and (directions, N_b)."""
    n, m = a.shape[1], b.shape[1]
    if n == m:
        return float(np.sqrt(np.square(a - b, dtype=np.float32).mean(dtype=np.float64)))
    # Between two neighbouring jumps of either quantile function both are constant.
    edges = np.union1d(np.arange(1, n + 1) * m, np.arange(1, m + 1) * n)
    width = np.diff(edges, prepend=0) / (n * m)
    gap = a[:, (edges - 1) // m].astype(np.float64) - b[:, (edges - 1) // n]
    return float(np.sqrt((gap**2 @ width).mean()))


def mmd(a: F32, b: F32, bandwidth: float = BANDWIDTH) -> float:
    """Return the unbiased squared maximum mean discrepancy; it may be slightly negative.

    Kernel exp(-(1 - cos^2) / h): a Gaussian of the distance between the projectors ff^T and gg^T, whose squared
    Frobenius norm is 2 - 2 cos^2. (The polynomial kernel cos^2 would give `frobenius` squared: second moments only.)
    Gretton et al. 2012, equation 3.
    """

    def kernel(x: F32, y: F32) -> F64:
        return np.asarray(np.exp((np.minimum(np.square(x @ y.T), 1) - 1) / bandwidth), np.float64)

    return off_diagonal(kernel(a, a)) + off_diagonal(kernel(b, b)) - 2 * float(kernel(a, b).mean())


def median_bandwidth(a: F32, b: F32) -> float:
    """Return the median of 1 - cos^2 over the pairs of the pooled clouds, the usual choice of h."""
    pooled = np.concatenate([a, b])
    upper = np.triu_indices(len(pooled), 1)
    return max(float(np.median(1 - np.square(cosines(pooled, pooled))[upper])), 1e-3)


def energy(a: F32, b: F32) -> float:
    """Return the energy distance 2 E d(f, g) - E d(f, f') - E d(g, g') without the pairs of a filter with itself.

    d = sqrt(1 - cos^2), the chordal distance of projective space: it is the Euclidean distance of the projectors
    up to a factor, hence of strong negative type, and the energy distance vanishes only for equal distributions.
    (sqrt(2 - 2|cos|) has no such proof.) Szekely & Rizzo 2013.
    """

    def distance(x: F32, y: F32) -> F64:
        return np.asarray(np.sqrt(1 - np.minimum(np.square((x @ y.T).astype(np.float64)), 1)), np.float64)

    return 2 * float(distance(a, b).mean()) - off_diagonal(distance(a, a)) - off_diagonal(distance(b, b))


def off_diagonal(square: F64) -> float:
    """Return the mean of a square matrix without its diagonal."""
    n = len(square)
    return float((square.sum() - np.trace(square)) / (n * (n - 1)))


def second_moment(cloud: F32) -> F64:
    """Return the mean of ff^T, (K, K) float64, of trace 1."""
    return np.asarray((cloud.T @ cloud).astype(np.float64) / len(cloud), np.float64)


def frobenius(a: F64, b: F64) -> float:
    """Return ||A - B||_F of two second moments: the (biased) MMD of the kernel cos^2."""
    return float(np.linalg.norm(a - b))


def root(moment: F64) -> F64:
    """Return the symmetric square root of a second moment."""
    value, vector = np.linalg.eigh(moment)
    return np.asarray((vector * np.sqrt(np.clip(value, 0, None))) @ vector.T, np.float64)


def bures(root_a: F64, b: F64) -> float:
    """Return the Bures distance sqrt(tr A + tr B - 2 tr (A^1/2 B A^1/2)^1/2), given A^1/2 and B."""
    fidelity = np.sqrt(np.clip(np.linalg.eigvalsh(root_a @ b @ root_a), 0, None)).sum()
    return float(np.sqrt(max(np.square(root_a).sum() + np.trace(b) - 2 * fidelity, 0)))


def leading(moment: F64, rank: int) -> F64:
    """Return the eigenvectors of the `rank` largest eigenvalues, (K, rank)."""
    return np.asarray(np.linalg.eigh(moment)[1][:, -rank:], np.float64)


def subspace_rank(k: int) -> int:
    """Return the dimension of the compared subspaces: a quarter of the zero-mean ones (2 of 8, 6 of 24, 12 of 48)."""
    return max((k - 1) // 4, 1)


def mean_angle(a: F64, b: F64) -> float:
    """Return the mean principal angle between two subspaces with orthonormal bases (K, r), in degrees."""
    cosine = np.linalg.svd(a.T @ b, compute_uv=False)
    return float(np.degrees(np.arccos(np.clip(cosine, -1, 1))).mean())


def peak_scaled(weight: F32) -> F32:
    """Return filters over their largest |tap|, (N, K) float32, as CNN Filter DB scales them."""
    rows = weight.reshape(len(weight), -1)
    peak = np.abs(rows).max(axis=1, keepdims=True)
    return np.asarray(rows / np.where(peak > 0, peak, 1), np.float32)


def pca_kl(a: F32, b: F32) -> float:
    """Return the distribution shift of CNN Filter DB between clouds of `peak_scaled` filters, (N, K).

    PCA of the pooled filters with all K components; 70 bins on one range common to all components and both clouds;
    empty bins take the float32 epsilon, and the histograms are normalised again; symmetric Kullback-Leibler divergence
    (nats) weighted by the explained variance. Gavrikov & Keuper, CVPR 2022, section 4.2. Sign and offset are seen.
    """
    return float(pca_kl_pooled(np.concatenate([a, b])[None], len(a))[0])


def pca_kl_pooled(pooled: F32, first: int) -> F64:
    """Return `pca_kl` for D pairs, (D,), from their pooled filters (D, N, K), the first `first` rows being A's."""
    depth, _, k = pooled.shape
    pooled = pooled - pooled.mean(axis=1, keepdims=True)
    value, vector = np.linalg.eigh((pooled.swapaxes(1, 2) @ pooled).astype(np.float64))
    value = np.clip(value, 0, None)
    peak = np.take_along_axis(vector, np.abs(vector).argmax(axis=1)[:, None], axis=1)
    score = pooled @ (vector * np.where(peak < 0, -1, 1)).astype(np.float32)
    low, high = score.min(axis=(1, 2), keepdims=True), score.max(axis=(1, 2), keepdims=True)
    spread = np.where(high > low, high - low, 1)
    bins = np.minimum(((score - low) * (BINS / spread).astype(np.float32)).astype(np.int32), BINS - 1)
    bins += BINS * np.arange(depth * k, dtype=np.int32).reshape(depth, 1, k)
    p, q = (_histogram(part, depth * k).reshape(depth, k, BINS) for part in (bins[:, :first], bins[:, first:]))
    weight = value / np.maximum(value.sum(axis=1, keepdims=True), np.finfo(float).tiny)
    return np.asarray(np.einsum("dkh,dk->d", (p - q) * np.log(p / q), weight), np.float64)


def _histogram(bins: NDArray[np.int32], components: int) -> F64:
    """Return the shares of `BINS` bins for each component, (components, BINS); empty ones take the epsilon."""
    count = np.bincount(bins.ravel(), minlength=components * BINS).reshape(components, BINS)
    share = np.where(count == 0, np.finfo(np.float32).eps, count / bins.shape[1])
    return np.asarray(share / share.sum(axis=1, keepdims=True), np.float64)
