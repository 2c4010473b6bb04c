"""Which filters of a layer are dead: a rule that a few large filters cannot move, and the published one.

A batch normalisation folded into a depthwise convolution multiplies each channel by gamma / sqrt(variance + eps). A
channel whose input hardly varies gets a factor of hundreds, so the layer's largest weight says nothing of the others.
"""

from __future__ import annotations

import numpy as np

from mkfa.array_types import F32, F64, BoolArray
from mkfa.banks.bank import FilterGroup

DEAD_FRACTION = 0.01
"""A filter whose largest |weight| is under this share of its layer's typical one is dead."""

TINY_FRACTION = 1e-5
"""Filters under this share of the layer's 90 % quantile do not count towards its typical one."""

TINY = 1e-6
"""Largest |weight| of a filter that is dead if it is also under `TINY_FRACTION` of its layer's largest."""


def filter_peaks(weight: F32) -> F32:
    """Return max |weight| of each filter, (N,) float32, without a full-size temporary array."""
    flat = weight.reshape(len(weight), -1)
    return np.asarray(np.maximum(flat.max(axis=1), -flat.min(axis=1)), np.float32)


def dead_filters(group: FilterGroup) -> BoolArray:
    """Return (N,) bool, which filters are dead; see `dead_peaks`.

    Non-finite filters are not dead, and do not count for the others.
    """
    dead = np.zeros(len(group), dtype=bool)
    if not len(group):
        return dead
    peaks = filter_peaks(group.weight)
    starts = np.flatnonzero(np.r_[True, np.diff(group.layer) != 0])
    for start, stop in zip(starts, [*starts[1:], len(group)], strict=True):
        dead[start:stop] = dead_peaks(peaks[start:stop])
    return dead


def dead_peaks(peaks: F32) -> BoolArray:
    """Return which filters of one layer are dead, from their largest |weight|.

    A filter is dead if its largest |weight| is zero; or under 1 % of the layer's typical one; or under 1e-6 and under
    1e-5 of the layer's largest. The typical one is the lower median of the filters that are not near zero, which are
    those of at least 1e-5 of the layer's 90 % quantile. So neither one large filter nor a majority of dead ones
    decides over the others.

    Parameters
    ----------
    peaks : (N,) float32, from `filter_peaks`.

    Examples
    --------
    >>> import numpy as np
    >>> from mkfa.banks.dead import dead_peaks
    >>> dead_peaks(np.array([1, 0.9, 1e-8, 1.1, 500], np.float32)).tolist()
    [False, False, True, False, False]
    """
    size: F64 = np.asarray(peaks, np.float64)
    finite = np.isfinite(size)
    dead: BoolArray = finite & (size == 0)
    if not (finite & ~dead).any():
        return dead
    dead |= finite & (size < TINY) & (size < TINY_FRACTION * size[finite].max())
    alive = np.sort(size[finite & ~dead])
    alive = alive[alive >= TINY_FRACTION * _upper(alive)]
    typical = alive[(len(alive) - 1) // 2]
    return np.asarray(dead | (finite & (size < DEAD_FRACTION * typical)), bool)


def _upper(ascending: F64) -> float:
    """Return the 90 % quantile as `np.quantile` does, which would import NumPy's masked arrays for it."""
    at = 0.9 * (len(ascending) - 1)
    low = int(at)
    below, above = float(ascending[low]), float(ascending[min(low + 1, len(ascending) - 1)])
    return below + (above - below) * (at - low)


def sparse_peaks(peaks: F32) -> BoolArray:
    """Return which filters of one layer are under 1 % of its largest |weight|, or zero.

    Source: Gavrikov & Keuper, CNN Filter DB (CVPR 2022), section 4.3, the sparsity threshold. One filter of a hundred
    times the others' size makes all others sparse.

    Parameters
    ----------
    peaks : (N,) float32, finite, from `filter_peaks`.
    """
    if not len(peaks):
        return np.zeros(0, bool)
    return np.asarray((peaks < np.float32(DEAD_FRACTION) * peaks.max()) | (peaks == 0), bool)
