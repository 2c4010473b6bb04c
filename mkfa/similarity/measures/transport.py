"""One-to-one matching and optimal transport on 1 - |cos|."""

from __future__ import annotations

import numpy as np

from mkfa.array_types import F32
from mkfa.similarity.measures.cosines import cosines

EXACT_COST_LIMIT = 40_000
"""Largest number of filter pairs for which unequal clouds are transported exactly, by linear programming."""


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
