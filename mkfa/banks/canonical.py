"""Canonical form of filters: zero mean and unit norm, with gain, offset and sign.

Analyses use `mkfa.banks.usable`, which computes it once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mkfa.array_types import F32, BoolArray
from mkfa.banks.bank import FilterGroup
from mkfa.banks.dead import dead_filters

FLAT_RATIO = 1e-6
"""A filter whose centred norm is below this share of its norm is flat: constant up to float32 rounding."""

BLOCK = 16384
"""Rows normalised at a time, in float64; 16,384 filters of 7x7 take 6 MB."""


@dataclass(frozen=True, slots=True)
class CanonicalFilters:
    """Filters in canonical form.

    Attributes
    ----------
    vector : (N, K) float32, each row zero-mean and of unit norm; rows of unusable filters are zero.
    gain : (N,) float32, norm of the centred filter, so that weight = gain * vector + offset.
    offset : (N,) float32, mean of the filter's taps.
    dead, flat, nonfinite : (N,) bool, why a filter is not usable; a norm over float32's largest is non-finite.
    """

    vector: F32
    gain: F32
    offset: F32
    dead: BoolArray
    flat: BoolArray
    nonfinite: BoolArray

    @property
    def usable(self) -> BoolArray:
        """(N,) bool: neither dead nor flat nor non-finite."""
        return ~(self.dead | self.flat | self.nonfinite)

    @property
    def sign(self) -> F32:
        """(N,) float32 in {-1, 1}: the sign of each row's tap of largest magnitude."""
        if not len(self.vector):
            return np.ones(0, np.float32)
        peak = np.take_along_axis(self.vector, np.abs(self.vector).argmax(axis=1)[:, None], axis=1)[:, 0]
        return np.where(peak < 0, np.float32(-1), np.float32(1))


def canonical(group: FilterGroup) -> CanonicalFilters:
    """Bring the filters of one kernel size into canonical form.

    Sums run in float64, so that gains from 1e-30 to 1e30 neither overflow nor vanish.
    """
    rows = group.weight.reshape(len(group), group.size[0] * group.size[1])
    vector, gain, offset, is_flat, nonfinite = normalise(rows)
    dead = dead_filters(group) & ~nonfinite
    vector[dead] = 0
    return CanonicalFilters(vector, gain, offset, dead, is_flat & ~dead, nonfinite)


def normalise(rows: F32) -> tuple[F32, F32, F32, BoolArray, BoolArray]:
    """Centre and normalise rows; return vector (N, K), gain (N,), offset (N,), flat (N,), nonfinite (N,)."""
    if len(rows) <= BLOCK:
        return _normalise(rows)
    parts = [_normalise(rows[start : start + BLOCK]) for start in range(0, len(rows), BLOCK)]
    vector, gain, offset, flat, nonfinite = (np.concatenate(part) for part in zip(*parts, strict=True))
    return vector, gain, offset, flat, nonfinite


def _normalise(rows: F32) -> tuple[F32, F32, F32, BoolArray, BoolArray]:
    nonfinite: BoolArray = np.asarray(~np.isfinite(rows).all(axis=1))
    block = np.where(nonfinite[:, None], np.float64(0), rows.astype(np.float64))
    offset = block.mean(axis=1) if rows.shape[1] else np.zeros(len(rows))
    size = np.sqrt(np.einsum("nk,nk->n", block, block))
    block -= offset[:, None]
    gain = np.sqrt(np.einsum("nk,nk->n", block, block))
    huge = gain > np.finfo(np.float32).max  # finite taps, but a norm that float32 cannot hold
    nonfinite |= huge
    offset[huge] = gain[huge] = 0
    flat: BoolArray = (gain <= FLAT_RATIO * size) & ~nonfinite
    usable = ~(flat | nonfinite)
    block /= np.where(usable, gain, 1)[:, None]
    block[~usable] = 0
    with np.errstate(over="ignore"):
        return (block.astype(np.float32), gain.astype(np.float32), offset.astype(np.float32), flat, nonfinite)
