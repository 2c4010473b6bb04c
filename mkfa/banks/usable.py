"""The usable filters of a bank in canonical form, computed once for each kind and cached in the bank."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mkfa.array_types import F32, I32, AnyArray, BoolArray
from mkfa.banks.bank import FilterBank, Kind
from mkfa.banks.canonical import canonical
from mkfa.frozen import ByContent, FrozenDict

REASONS = ("dead", "flat", "non-finite")
"""Why a filter is not usable; see `mkfa.banks.canonical.CanonicalFilters`."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class UsableFilters(ByContent):
    """The usable filters of one bank and one kind, in order of layers. The arrays are read-only.

    Attributes
    ----------
    kind : kernel size and dilation.
    vector : (N, K) float32, canonical: each row zero-mean and of unit norm.
    weight : (N, kh, kw) float32, as harvested.
    gain, offset : (N,) float32, so that weight = gain * vector + offset.
    row : (N,) int32, place in `bank.of_kind(kind)`.
    layer : (N,) int32, row in the layer table.
    channel : (N,) int32, output channel within the layer.
    dead, flat, nonfinite : (M,) bool, one for each filter of `bank.of_kind(kind)`: why it is not usable.
    """

    kind: Kind
    vector: F32
    weight: F32
    gain: F32
    offset: F32
    row: I32
    layer: I32
    channel: I32
    dead: BoolArray
    flat: BoolArray
    nonfinite: BoolArray

    def __len__(self) -> int:
        return len(self.vector)

    @property
    def excluded(self) -> Mapping[str, int]:
        """Number of filters left out, by reason: "dead", "flat", "non-finite"."""
        masks = (self.dead, self.flat, self.nonfinite)
        return FrozenDict({reason: int(mask.sum()) for reason, mask in zip(REASONS, masks, strict=True)})


def usable_filters(bank: FilterBank, kind: Kind | str) -> UsableFilters:
    """Return the filters of one kind, in canonical form, that are neither dead nor flat nor non-finite.

    The bank caches the result. A bank without filters of the kind gives an empty one.

    Examples
    --------
    >>> import mkfa
    >>> from mkfa.banks.usable import usable_filters
    >>> filters = usable_filters(mkfa.load_bank("efficientnet_lite0"), "5x5")
    >>> filters.vector.shape[1], sorted(filters.excluded)
    (25, ['dead', 'flat', 'non-finite'])
    """
    kind = Kind.parse(kind)
    return bank.remember(("usable", kind), lambda: _usable_filters(bank, kind))


def _usable_filters(bank: FilterBank, kind: Kind) -> UsableFilters:
    group = bank.of_kind(kind)
    form = canonical(group)
    usable = form.usable
    keep: slice | BoolArray = slice(None) if usable.all() else usable  # a slice copies nothing
    arrays = (form.vector, group.weight, form.gain, form.offset, np.arange(len(group), dtype=np.int32))
    kept = [a[keep] for a in (*arrays, group.layer, group.channel)]
    return UsableFilters(kind, *(_read_only(a) for a in (*kept, form.dead, form.flat, form.nonfinite)))


def _read_only(array: AnyArray) -> AnyArray:
    view = array.view()
    view.flags.writeable = False
    return view
