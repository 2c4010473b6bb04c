"""What a comparison of groups of banks says: distances, tests, variance components, a map, and the answer in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from mkfa.array_types import F64, AnyArray
from mkfa.frozen import ByContent
from mkfa.stats.grouped_distances import Components, GroupTest
from mkfa.storage.records import Result
from mkfa.words import counted


@dataclass(frozen=True, slots=True)
class GroupMember:
    """A bank of a comparison of groups.

    Attributes
    ----------
    name, group : of the bank, and of its group.
    counted : False for a bank with a parent in common with an earlier one (`family`): it is shown and not tested.
    family : the first bank of its family; "" without a relative.
    """

    name: str
    group: str
    counted: bool
    family: str


@dataclass(frozen=True, slots=True)
class Quota:
    """What was read of one kernel size of one bank: usable filters, filters taken, layers that they come from."""

    bank: str
    usable: int
    taken: int
    layers: int


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class GroupMeasure(ByContent):
    """One measure between all banks at one kernel size.

    Attributes
    ----------
    measure : its name.
    value : (N, N) float64, the measure of each pair; on the diagonal that of two disjoint samples of a bank.
    squared : (N, N) float64, squared distances: (1 - value)² of similarities, the value itself of mmd and energy, whose
        unbiased estimates of squared distances may be negative, and value² of other distances.
    place : (N, 2) float64, the map (classical scaling); map_share : (2,) share of |eigenvalues| of its axes.
    between, dispersion : tests of place and of scatter, on counted banks.
    p_holm : of `between`, adjusted over kernel sizes.
    pairs : (group, group, test, p adjusted by Holm over pairs of groups), from three groups on.
    parts : variance components, models as a random effect.
    """

    measure: str
    value: F64
    squared: F64
    place: F64
    map_share: F64
    between: GroupTest
    p_holm: float
    dispersion: GroupTest
    pairs: tuple[tuple[str, str, GroupTest, float], ...]
    parts: Components


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class GroupKind(ByContent):
    """One kernel size.

    Attributes
    ----------
    kind : kernel size and dilation, as text.
    members : the banks that have it, in the order of rows and columns.
    n : filters taken of each.
    quotas : what was read of each.
    measures : one for each, the primary one first.
    """

    kind: str
    members: tuple[GroupMember, ...]
    n: int
    quotas: tuple[Quota, ...]
    measures: tuple[GroupMeasure, ...]

    @property
    def sizes(self) -> dict[str, int]:
        """Counted banks of each group."""
        groups = dict.fromkeys(member.group for member in self.members)
        return {group: sum(m.counted for m in self.members if m.group == group) for group in groups}


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class GroupComparison(Result):
    """Groups of banks compared, with banks as units.

    Attributes
    ----------
    groups : name of each group, and its banks.
    kinds : kernel sizes, that with most banks first.
    families : names of banks with a common parent.
    left_out : what was left out, and why, in sentences.
    notes : what else must be known, in sentences.
    permutations, sample, seed : parameters.
    """

    KIND: ClassVar[str] = "group_comparison"

    groups: Mapping[str, tuple[str, ...]]
    kinds: tuple[GroupKind, ...]
    families: tuple[tuple[str, ...], ...]
    left_out: tuple[str, ...]
    notes: tuple[str, ...]
    permutations: int
    sample: int
    seed: int

    def headline(self) -> str:
        """Return the groups and the primary p of each kernel size."""
        groups = ", ".join(f"{name} ({len(banks)})" for name, banks in self.groups.items())
        tests = ", ".join(
            f"{kind.kind} {kind.measures[0].measure} p = {kind.measures[0].between.p:.3g}" for kind in self.kinds
        )
        return f"{groups}: {tests}"

    def rows(self) -> list[dict[str, Any]]:
        """Return one row for each kernel size, measure and pair of banks."""
        return [
            {
                "kernel": kind.kind,
                "measure": measure.measure,
                "a": a.name,
                "b": b.name,
                "group_a": a.group,
                "group_b": b.group,
                "value": measure.value[i, j],
                "squared_distance": measure.squared[i, j],
                "counted": a.counted and b.counted,
            }
            for kind in self.kinds
            for measure in kind.measures
            for i, a in enumerate(kind.members)
            for j, b in enumerate(kind.members[:i])
        ]

    def facts(self) -> dict[str, Any]:
        """Return groups, tests, components and sentences; the distances of pairs stand in CSV and HDF5 files."""
        return {
            "groups": self.groups,
            "kinds": [_kind_facts(kind) for kind in self.kinds],
            "families": self.families,
            "left_out": self.left_out,
            "notes": self.notes,
            "answer": self.in_words(),
            "permutations": self.permutations,
            "sample": self.sample,
            "seed": self.seed,
        }

    def to_arrays(self) -> dict[str, AnyArray]:
        """Return `KERNEL/MEASURE/value`, `squared` and `place`."""
        return {
            f"{kind.kind}/{measure.measure}/{name}": getattr(measure, name)
            for kind in self.kinds
            for measure in kind.measures
            for name in ("value", "squared", "place")
        }

    def in_words(self) -> list[str]:
        """Return the answer in a sentence or two for each kernel size."""
        return [_answer(kind) for kind in self.kinds]


def _kind_facts(kind: GroupKind) -> dict[str, Any]:
    return {
        "kernel": kind.kind,
        "filters_of_each": kind.n,
        "members": kind.members,
        "quotas": kind.quotas,
        "measures": [
            {
                "measure": m.measure,
                "between": m.between,
                "p_holm": m.p_holm,
                "dispersion": m.dispersion,
                "components": m.parts,
                "group_share": m.parts.group_share,
                "pairs": [{"a": a, "b": b, "test": test, "p_holm": p} for a, b, test, p in m.pairs],
                "map": m.place,
                "map_share": m.map_share,
            }
            for m in kind.measures
        ],
    }


def _answer(kind: GroupKind) -> str:
    primary = kind.measures[0]
    test = primary.between
    counts = ", ".join(f"{n} of {group}" for group, n in kind.sizes.items())
    head = f"At {kind.kind}, with banks as units ({counts}), "
    if not np.isfinite(test.p):
        return head + "nothing can be tested: two groups and more banks than groups are needed."
    p = f"PERMANOVA of {primary.measure}, pseudo-F {test.statistic:.2f}, R² {test.share:.2f}, p = {test.p:.3g}"
    if test.least > 0.05:
        return (
            f"{head}no test can say anything at 5 %: these banks can be divided in "
            f"{counted(round(1 / test.least), 'way')} only, so that p cannot be below {test.least:.2g} ({p}). "
            "Take more banks."
        )
    if primary.p_holm > test.p:
        p += f", {primary.p_holm:.3g} by Holm over the kernel sizes"
    passed = primary.p_holm <= 0.05
    said = f"the groups differ ({p})" if passed else f"the groups cannot be told from one another ({p})"
    spread = primary.dispersion.p
    if np.isfinite(spread) and spread <= 0.05:
        said += f"; but they scatter differently too (PERMDISP p = {spread:.3g}), which alone can make PERMANOVA pass"
    share = primary.parts.group_share
    if np.isfinite(share):
        said += f". Of the variance of models, that of their samples of filters aside, {share:.0%} is between groups"
    return f"{head}{said}."
