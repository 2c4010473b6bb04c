"""Filters that share the second moments of others and nothing else."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mkfa.array_types import F32
from mkfa.banks.canonical import normalise


def tap_covariance(weight: F32) -> NDArray[np.float64]:
    """Return the second moment of the canonical filters, (K, K) float64.

    A filter's sign is arbitrary, so the cloud is symmetric about zero and this is its covariance.
    """
    vector, _, _, _, _ = normalise(weight.reshape(len(weight), -1))
    return np.asarray(vector.T.astype(np.float64) @ vector / max(len(vector), 1), dtype=np.float64)


def sphere_covariance(moment: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the covariance of a normal whose draws, scaled to unit norm, have this second moment; both (K, K).

    Drawing with the second moment itself gives a cloud that is rounder once its draws are scaled to unit norm (the
    first eigenvalue of 5x5 filters falls from .38 to .29), and any real bank would seem close beside it. With
    x ~ N(0, diag s), E[x_i^2 / |x|^2] is the integral over t > 0 of s_i / (1 + 2 s_i t) * prod_j (1 + 2 s_j t)^(-1/2),
    which is taken by the trapezoid rule in log t; s is found by the fixed point s_i <- s_i * wanted_i / got_i.
    """
    value, vector = np.linalg.eigh(moment)
    keep = value > 1e-9 * max(float(value[-1]), 1e-300) if len(value) else np.zeros(0, dtype=bool)
    if keep.sum() < 2:
        return moment
    wanted = value[keep] / value[keep].sum()
    s = wanted.copy()
    for _ in range(500):
        log_t = np.linspace(np.log(1e-8 / s.max()), np.log(1e10 / s.min()), 400)
        ts = np.exp(log_t)[:, None] * s
        got = (ts / (1 + 2 * ts) * np.exp(-0.5 * np.log1p(2 * ts).sum(axis=1))[:, None]).sum(axis=0)
        step = wanted / (got / got.sum())
        s = s * step / (s * step).sum()
        if np.abs(step - 1).max() < 1e-6:
            break
    full = np.zeros_like(value)
    full[keep] = s * value[keep].sum()
    return np.asarray((vector * full) @ vector.T, dtype=np.float64)


def sample_covariance(covariance: NDArray[np.float64], n: int, rng: np.random.Generator) -> F32:
    """Draw (n, K) float32 from a centred normal with this (K, K) covariance, which may be singular."""
    root = covariance_root(covariance)
    return np.asarray(rng.standard_normal((n, len(root)), dtype=np.float32) @ root.T, np.float32)


def covariance_root(covariance: NDArray[np.float64]) -> F32:
    """Return R (K, K) such that z @ R.T, z white, has this covariance; small negative eigenvalues count as 0."""
    value, vector = np.linalg.eigh(covariance)
    return np.asarray(vector * np.sqrt(np.clip(value, 0, None)), np.float32)
