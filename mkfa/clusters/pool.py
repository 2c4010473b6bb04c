"""The usable filters of several banks, of one kernel kind, in canonical form and side by side (numpy only)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mkfa.array_types import F32, F64, I32, I64, AnyArray, BoolArray
from mkfa.banks.bank import FilterBank, Kind
from mkfa.banks.library import Banks, load_banks
from mkfa.banks.usable import usable_filters
from mkfa.errors import MkfaError, UnknownNameError
from mkfa.frozen import ByContent, FrozenDict
from mkfa.similarity.lineage import families, family_of, find_lineage
from mkfa.words import counted

DEPTHS = ("shallow", "middle", "deep")
"""Thirds of the network by depth: [0, 1/3), [1/3, 2/3), [2/3, 1]."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Pool(ByContent):
    """Canonical filters of several banks.

    Attributes
    ----------
    kind : Kind
    banks : tuple of str
        Names, made distinct where two banks share one.
    vector : (N, K) float32, zero-mean rows of unit norm; only usable filters.
    bank : (N,) int32, row in `banks`.
    layer, channel : (N,) int32, row in the bank's layer table, and output channel there.
    depth : (N,) float32, 0 for the first layer of the bank to 1 for the last.
    excluded : for each bank the number of filters left out, by reason ("dead", "flat", "non-finite").
    other_kinds : filters of other kernel kinds in these banks, left out, by kind.
    families : names of banks with a common parent (`mkfa.similarity.lineage`). They count once: the filters of the
        first of each family that has any of this kind are counted, the others are only assigned to what was found.
    counted : (N,) bool, filters that groups, keys and their numbers rest on.
    """

    kind: Kind
    banks: tuple[str, ...]
    vector: F32
    bank: I32
    layer: I32
    channel: I32
    depth: F32
    excluded: tuple[Mapping[str, int], ...]
    other_kinds: Mapping[str, int]
    families: tuple[tuple[str, ...], ...]
    counted: BoolArray

    def __len__(self) -> int:
        return len(self.vector)

    @property
    def filters(self) -> F32:
        """(N, kh, kw) float32, the canonical filters as pictures."""
        return self.vector.reshape(-1, self.kind.kh, self.kind.kw)

    @property
    def place(self) -> I64:
        """(N,) int64, a number for each layer of each bank."""
        return self.bank.astype(np.int64) * (int(self.layer.max(initial=0)) + 1) + self.layer

    @property
    def independent(self) -> F32:
        """(n, K) float32, the filters that are counted."""
        return self.vector if self.counted.all() else self.vector[self.counted]

    def shares(self, label: NDArray[np.integer], groups: int) -> F64:
        """Return the share of each group among the counted filters, (groups,), from a label a filter, (N,)."""
        return np.bincount(label[self.counted], minlength=groups) / max(int(self.counted.sum()), 1)

    @property
    def third(self) -> I32:
        """(N,) int32, row in `DEPTHS`."""
        return np.asarray(np.minimum(self.depth * 3 + 1e-6, 2), np.int32)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of filters of each bank."""
        return tuple(np.bincount(self.bank, minlength=len(self.banks)).tolist())

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences on what is in the pool and what was left out."""
        of_bank = (f"{name} {n}" for name, n in zip(self.banks, self.sizes, strict=True))
        out = [f"Filters: {len(self)} of {self.kind} ({', '.join(of_bank)})."]
        counted = {self.banks[row] for row in np.unique(self.bank[self.counted])}
        for family in self.families:
            if which := next((name for name in family if name in counted), ""):
                out.append(
                    f"{', '.join(family)}: one parent, so they count once. What follows is of {which}; the filters of "
                    "the others are only assigned to it."
                )
        gone = {r: sum(e.get(r, 0) for e in self.excluded) for r in ("dead", "flat", "non-finite")}
        if any(gone.values()):
            out.append("Left out as unusable: " + ", ".join(f"{n} {r}" for r, n in gone.items() if n) + ".")
        if self.other_kinds:
            others = ", ".join(f"{n} of {kind}" for kind, n in self.other_kinds.items())
            out.append(f"Left out, other kernels (choose with --kernel-size): {others}.")
        return tuple(out)

    def facts(self) -> dict[str, Any]:
        """Return what JSON says of the pool."""
        return {
            "kernel": str(self.kind),
            "filters": len(self),
            "banks": dict(zip(self.banks, self.sizes, strict=True)),
            "excluded": self.excluded,
            "other_kinds": self.other_kinds,
            "families": self.families,
            "filters_counted": int(self.counted.sum()),
        }

    def to_arrays(self) -> dict[str, AnyArray]:
        """Return bank, layer and channel of each filter, and if it is counted, by their names in HDF5 files."""
        return {f"filters/{name}": getattr(self, name) for name in ("bank", "layer", "channel", "counted")}


def pool_banks(banks: Banks, *, kernel_size: str | Kind | None = None) -> Pool:
    """Bring the usable filters of one kernel size together.

    Parameters
    ----------
    banks : one or several names, paths or banks.
    kernel_size : such as "5x5" or "7x7 dilated 3x3"; None takes the one with most filters over all banks.

    Raises
    ------
    MkfaError
        No bank, no filter of that kind, or no usable one.
    """
    loaded = load_banks(banks)
    count = count_kinds(loaded)
    if not count:
        raise MkfaError("banks", "no bank was named", "name at least one; 'mkfa banks' lists them")
    kind = find_kind(kernel_size, loaded) if kernel_size else next(iter(count))
    names = _distinct([bank.name for bank in loaded])
    parts, excluded = [], []
    for row, bank in enumerate(loaded):
        usable = usable_filters(bank, kind)
        depth = np.array([layer.depth for layer in bank.layers], np.float32)
        here = np.full(len(usable), row, np.int32)
        parts.append((usable.vector, here, usable.layer, usable.channel, depth[usable.layer]))
        excluded.append(usable.excluded)
    vector, bank_row, layer, channel, depth = (np.concatenate(p) for p in zip(*parts, strict=True))
    if not len(vector):
        raise MkfaError(" ".join(names), f"no usable filter of kernel {kind}", f"choose one of {_listed(count)}")
    others = FrozenDict({str(k): n for k, n in count.items() if k != kind})
    every = combinations(range(len(loaded)), 2)
    related = [(i, j) for i, j in every if find_lineage(loaded[i], loaded[j]).found]
    first: dict[int, int] = {}  # of each family the first bank that has filters of this kind
    for row, family in enumerate(family_of(len(loaded), related)):
        if len(parts[row][0]):
            first.setdefault(family, row)
    counted = np.isin(bank_row, list(first.values()))
    return Pool(
        kind=kind,
        banks=names,
        vector=vector,
        bank=bank_row,
        layer=layer,
        channel=channel,
        depth=depth,
        excluded=tuple(excluded),
        other_kinds=others,
        families=families(names, related),
        counted=counted,
    )


def count_kinds(banks: Sequence[FilterBank]) -> dict[Kind, int]:
    """Return the number of filters of each kind over all banks, most frequent first."""
    count: dict[Kind, int] = {}
    for bank in banks:
        for layer in bank.layers:
            count[layer.kind] = count.get(layer.kind, 0) + layer.channels
    return dict(sorted(count.items(), key=lambda item: (-item[1], item[0])))


def find_kind(text: str | Kind, banks: Sequence[FilterBank]) -> Kind:
    """Return the kind that a text such as "5x5" or "7x7 dilated 3x3" names.

    Raises
    ------
    UnknownNameError
        No bank has filters of it, or the size is there with several dilations and none of them is 1.
    """
    count = count_kinds(banks)
    wanted = re.sub(r"\s+", " ", str(text).strip().lower())
    same_size = [k for k in count if f"{k.kh}x{k.kw}" == wanted]
    for kind in count:
        if str(kind) == wanted or same_size == [kind]:
            return kind
    raise UnknownNameError(str(text), "no bank has filters of this size", f"choose one of {_listed(count)}")


def _listed(count: Mapping[Kind, int]) -> str:
    return ", ".join(f"'{k}' ({counted(n, 'filter')})" for k, n in count.items())


def _distinct(names: Sequence[str]) -> tuple[str, ...]:
    out: list[str] = []
    for name in names:
        number, new = 1, name
        while new in out:
            number += 1
            new = f"{name} ({number})"
        out.append(new)
    return tuple(out)
