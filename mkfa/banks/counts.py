"""Counts of a bank's layers and filters."""

from __future__ import annotations

from dataclasses import dataclass

from mkfa.banks.bank import FilterBank, Kind
from mkfa.banks.usable import usable_filters
from mkfa.words import counted

MANY_DEAD = 0.2
"""Share of dead filters in a bank that calls for a warning."""


@dataclass(frozen=True, slots=True)
class KindCount:
    """Numbers of layers, filters and unusable filters of one kernel size and dilation."""

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
    """Return a count for each kernel size and dilation, most filters first."""
    counts = []
    for kind in bank.kinds:
        layers = sum(layer.kind == kind for layer in bank.layers)
        counts.append(KindCount(kind, layers, bank.count(kind), *usable_filters(bank, kind).excluded.values()))
    return tuple(counts)


def dead_warning(bank: FilterBank) -> str:
    """Return a sentence if more than a fifth of a bank's filters are dead, else ""."""
    counts = count_kinds(bank)
    dead, filters = sum(count.dead for count in counts), sum(count.filters for count in counts)
    if dead <= MANY_DEAD * filters:
        return ""
    return (
        f"{dead:,} of {counted(filters, 'filter')} {'is' if dead == 1 else 'are'} dead (nearly zero beside "
        "their layer's typical weights) and left out of analyses; check that the weights are trained ones"
    )
