"""Counts of a bank that every command shows (numpy only)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mkfa.banks.bank import FilterBank, Kind
from mkfa.banks.canonical import canonical


@dataclass(frozen=True, slots=True)
class KindCount:
    """How many layers and filters of one kernel size and dilation a bank holds, and how many cannot be used."""

    kind: Kind
    layers: int
    filters: int
    dead: int
    flat: int
    nonfinite: int

    @property
    def usable(self) -> int:
        return self.filters - self.dead - self.flat - self.nonfinite


def count_kinds(bank: FilterBank) -> tuple[KindCount, ...]:
    """Return a count for each kernel size and dilation, those with most filters first."""
    counts = []
    for kind in bank.kinds:
        group = bank.of_kind(kind)
        form = canonical(group)
        unusable = (int(form.dead.sum()), int(form.flat.sum()), int(form.nonfinite.sum()))
        counts.append(KindCount(kind, len(np.unique(group.layer)), len(group), *unusable))
    return tuple(counts)
