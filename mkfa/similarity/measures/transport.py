"""Optimal transport between two sets of canonical filters, modulo sign: exact for few, sliced for many."""

from __future__ import annotations

import numpy as np

from mkfa.array_types import F32

EXACT = 64
"""Up to this many filters `transport` is exact with cost 1 - |cos| (then, samples being equal, it is `matching`);
beyond, it is sliced."""


def transport_exact(a: F32, b: F32) -> float:
    """Return the optimal transport cost between uniform sets (N, K), ground cost 1 - |cos|; sizes may differ.

    Equal sizes are an assignment (Birkhoff), unequal ones a linear programme over the N_a * N_b couplings.
    """
    cost = 1 - np.minimum(np.abs(a @ b.T), np.float32(1))
    n, m = cost.shape
    if n == m:
        from scipy.optimize import linear_sum_assignment

        return float(cost[linear_sum_assignment(cost)].mean())
    from scipy.optimize import linprog
    from scipy.sparse import csr_array, eye_array, kron, vstack

    ones_n, ones_m = csr_array(np.ones((1, n))), csr_array(np.ones((1, m)))
    sums = vstack([kron(eye_array(n), ones_m), kron(ones_n, eye_array(m))])
    mass = np.concatenate([np.full(n, 1 / n), np.full(m, 1 / m)])
    return float(linprog(cost.ravel().astype(np.float64), A_eq=sums, b_eq=mass, method="highs").fun)


def directions(k: int, count: int, rng: np.random.Generator) -> F32:
    """Draw `count` unit directions uniformly among the zero-mean ones, where canonical filters live; (K, count)."""
    theta = rng.standard_normal((k, count))
    theta -= theta.mean(axis=0)
    return np.asarray(theta / np.linalg.norm(theta, axis=0), np.float32)


def slices_distance(a: F32, b: F32) -> float:
    """Return the 2-Wasserstein distance from sorted projections, (directions, N_a) and (directions, N_b)."""
    n, m = a.shape[1], b.shape[1]
    # Between two neighbouring jumps of either quantile function both are constant.
    edges = np.union1d(np.arange(1, n + 1) * m, np.arange(1, m + 1) * n)
    width = np.diff(edges, prepend=0) / (n * m)
    gap = a[:, (edges - 1) // m].astype(np.float64) - b[:, (edges - 1) // n]
    return float(np.sqrt((gap**2 @ width).mean()))
