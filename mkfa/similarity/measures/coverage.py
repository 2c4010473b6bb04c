"""Coverage: how many filters of one set have a near neighbour in the other."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from mkfa.array_types import F32, F64
from mkfa.similarity.measures.cosines import cosines


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
