"""Distances between distributions: maximum mean discrepancy and energy distance."""

from __future__ import annotations

import numpy as np

from mkfa.array_types import F32, F64
from mkfa.similarity.measures.cosines import cosines

BANDWIDTH = 0.25
"""Kernel width h of `mmd`: 1 - cos^2 is bounded by 1, so a fixed width makes values comparable between pairs."""


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
