"""Second moments: covariance distances and angles between leading subspaces."""

from __future__ import annotations

import numpy as np

from mkfa.array_types import F32, F64


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
