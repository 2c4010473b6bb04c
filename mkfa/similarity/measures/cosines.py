"""Distances and similarities between two clouds of canonical filters (numpy and scipy).

Every function takes clouds (N, K) float32 whose rows have zero mean and unit norm, looks only at |cos| between
them, and so does not see order, sign, gain or offset. The exception is `pca_kl`, which is another project's
measure and sees sign and offset as that one does.
"""

from __future__ import annotations

import numpy as np

from mkfa.array_types import F32


def cosines(a: F32, b: F32) -> F32:
    """Return |cos| between all filters, (N_a, N_b) float32 in [0, 1]."""
    return np.asarray(np.minimum(np.abs(a @ b.T), np.float32(1)), np.float32)
