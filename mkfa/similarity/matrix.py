"""Several banks: the comparisons of all pairs, and one matrix over banks for each kernel size and measure."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, ClassVar

import numpy as np

from mkfa.array_types import F64, AnyArray
from mkfa.banks.bank import FilterBank, Kind
from mkfa.frozen import ByContent
from mkfa.similarity.comparison import Comparison
from mkfa.similarity.kind_comparison import fraction
from mkfa.similarity.lineage import family_of
from mkfa.stats.p_values import holm
from mkfa.storage.records import Result
from mkfa.words import counted


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class BankMatrix(ByContent):
    """One measure at one kernel size over all banks; NaN where two banks do not share that size, and on the diagonal.

    Attributes
    ----------
    names : N banks.
    value, fraction : (N, N) symmetric; fraction between the pair's floor and its ceiling.
    nulls : names of the nulls; p, p_holm : (nulls, N, N), Holm over the pairs of banks. Banks of one parent count once:
        the largest p of the pairs between two families stands for all of them, and within a family p_holm is NaN.
    seed_floor : mean value between banks of one architecture and training set (other seeds) without a common parent;
        NaN without any.
    fraction_of_seeds : (N, N), with `seed_floor` in place of the split-half floor.
    """

    kind: Kind
    measure: str
    names: tuple[str, ...]
    value: F64
    fraction: F64
    nulls: tuple[str, ...]
    p: F64
    p_holm: F64
    seed_floor: float
    fraction_of_seeds: F64


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class PrimaryTest(ByContent):
    """The test chosen beforehand (`mkfa.similarity.settings.PRIMARY`) of one pair of banks at one kernel size."""

    a: str
    b: str
    kind: str
    measure: str
    null: str
    value: float
    null_mean: float
    p: float
    m: int
    p_holm: float


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Comparisons(Result):
    """Several banks compared in pairs.

    Attributes
    ----------
    names : N banks.
    pairs : one for each pair of banks, in the order of `itertools.combinations`; None where nothing can be compared.
    matrices : from three banks on, one for each kind and measure.
    skipped : why pairs were left out, in sentences.
    families : names of banks with a common parent, see `mkfa.similarity.lineage`. Each family counts once in every
        adjustment over pairs.
    primary : the primary test of each pair and kernel size, p_holm adjusted over all of them; NaN within a family.
    """

    KIND: ClassVar[str] = "comparison"

    names: tuple[str, ...]
    pairs: tuple[Comparison | None, ...]
    matrices: tuple[BankMatrix, ...]
    skipped: tuple[str, ...]
    families: tuple[tuple[str, ...], ...]
    primary: tuple[PrimaryTest, ...]

    @property
    def done(self) -> list[Comparison]:
        """The pairs that could be compared."""
        return [pair for pair in self.pairs if pair is not None]

    @property
    def tests(self) -> int:
        """The number of primary tests that are adjusted for one another; a pair of families is one."""
        family = {name: members for members in self.families for name in members}
        between = {(frozenset((family.get(t.a, t.a), family.get(t.b, t.b))), t.kind) for t in self.primary}
        return sum(len(pair) == 2 for pair, _ in between)

    def headline(self) -> str:
        """Return the banks and the number of pairs."""
        return f"{', '.join(self.names)}: {len(self.done)} of {counted(len(self.pairs), 'pair')} compared"

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows of all pairs."""
        return [row for pair in self.done for row in pair.rows()]

    def facts(self) -> dict[str, Any]:
        """Return the records of all pairs, and the matrices."""
        matrices = {"matrices": self.matrices} if self.matrices else {}
        known = {"comparisons": [pair.record() for pair in self.done]}
        return known | {"primary": self.primary, "families": self.families} | matrices

    def attributes(self) -> dict[str, Any]:
        """Return what is needed to read the arrays."""
        pairs = [pair.pair_attributes() for pair in self.done]
        settings = self.done[0].settings
        return {"settings": settings, "pairs": pairs, "primary": self.primary, "families": self.families}

    def to_arrays(self) -> dict[str, AnyArray]:
        """Return the arrays of all pairs."""
        return {name: value for pair in self.done for name, value in pair.to_arrays().items()}


def bank_matrices(banks: Sequence[FilterBank], results: Sequence[Comparison | None]) -> tuple[BankMatrix, ...]:
    """Arrange the comparisons of `compare_many`, kinds with most pairs first."""
    pairs = list(combinations(range(len(banks)), 2))
    family = family_of(len(banks), related_pairs(results, len(banks)))
    kinds: dict[Kind, int] = {}
    for result in results:
        for kind in result.kinds if result else ():
            kinds[kind.kind] = kinds.get(kind.kind, 0) + 1
    first = next(r for r in results if r is not None)
    measures = first.kinds[0].measures
    return tuple(
        _matrix(banks, pairs, results, (kind, measure), family)
        for kind in sorted(kinds, key=lambda k: (-kinds[k], k))
        for measure in measures
    )


def _matrix(
    banks: Sequence[FilterBank],
    pairs: list[tuple[int, int]],
    results: Sequence[Comparison | None],
    which: tuple[Kind, str],
    family: Sequence[int],
) -> BankMatrix:
    kind, measure = which
    n = len(banks)
    first = next(r for r in results if r is not None)
    nulls = tuple(null.null for null in first.kinds[0].nulls)
    value, place, ceiling = (np.full((n, n), np.nan) for _ in range(3))
    p = np.full((len(nulls), n, n), np.nan)
    seeds = []
    for (i, j), result in zip(pairs, results, strict=True):
        compared = next((k for k in result.kinds if k.kind == kind), None) if result else None
        if compared is None:
            continue
        row = compared.row(measure)
        value[i, j], place[i, j], ceiling[i, j] = compared.value[row], compared.fraction[row], compared.ceiling[row]
        p[:, i, j] = [null.p[row] for null in compared.nulls]
        if are_seeds(banks[i], banks[j]) and family[i] != family[j]:
            seeds.append(compared.value[row])
    adjusted = np.full_like(p, np.nan)
    rows, columns = np.array(pairs).T
    groups = [_families(family, *pair) for pair in pairs]
    for part, out in zip(p, adjusted, strict=True):
        out[rows, columns] = holm_by_group(part[rows, columns], groups)
    floor = float(np.mean(seeds)) if seeds else float("nan")
    return BankMatrix(
        kind,
        measure,
        tuple(bank.name for bank in banks),
        _both(value),
        _both(place),
        nulls,
        np.stack([_both(x) for x in p]),
        np.stack([_both(x) for x in adjusted]),
        floor,
        _both(np.asarray(fraction(value, floor, ceiling), np.float64)),
    )


def primary_tests(names: Sequence[str], results: Sequence[Comparison | None]) -> tuple[PrimaryTest, ...]:
    """Return the primary tests of all pairs and kernel sizes, adjusted over all of them by Holm."""
    family = family_of(len(names), related_pairs(results, len(names)))
    tests: list[dict[str, Any]] = []
    groups: list[Hashable | None] = []
    for pair, result in zip(combinations(range(len(names)), 2), results, strict=True):
        for kind in result.kinds if result else ():
            if kind.primary is not None:
                tests.append({"a": names[pair[0]], "b": names[pair[1]], "kind": str(kind.kind), **kind.primary})
                between = _families(family, *pair)
                groups.append(None if between is None else (between, kind.kind))
    adjusted = holm_by_group(np.array([test["p"] for test in tests], np.float64), groups)
    return tuple(PrimaryTest(**test, p_holm=float(p)) for test, p in zip(tests, adjusted, strict=True))


def holm_by_group(p: F64, groups: Sequence[Hashable | None]) -> F64:
    """Adjust p-values by Holm where those of one group are one test, with the largest of them; NaN for group None.

    Examples
    --------
    >>> holm_by_group(np.array([0.01, 0.02, 0.03, 0.5]), ["x", "x", "y", None]).tolist()
    [0.04, 0.04, 0.04, nan]
    """
    largest: dict[Hashable, float] = {}
    for value, group in zip(p, groups, strict=True):
        if group is not None and np.isfinite(value):
            largest[group] = max(float(value), largest.get(group, 0.0))
    adjusted = dict(zip(largest, holm(list(largest.values())).tolist(), strict=True))
    return np.array(
        [adjusted[g] if g in adjusted and np.isfinite(x) else np.nan for x, g in zip(p, groups, strict=True)]
    )


def related_pairs(results: Sequence[Comparison | None], n: int) -> list[tuple[int, int]]:
    """Return the pairs of n banks that have a common parent."""
    every = zip(combinations(range(n), 2), results, strict=True)
    return [pair for pair, result in every if result is not None and result.lineage.found]


def _families(family: Sequence[int], i: int, j: int) -> tuple[int, int] | None:
    """Return the two families of a pair of banks; None where it is one."""
    low, high = sorted((family[i], family[j]))
    return None if low == high else (low, high)


def are_seeds(a: FilterBank, b: FilterBank) -> bool:
    """True for two banks of one architecture and one training set, both known: they differ by their seed."""
    x, y = a.provenance, b.provenance
    known = bool(x.architecture and x.training_set)
    return known and (x.architecture, x.training_set) == (y.architecture, y.training_set)


def _both(upper: F64) -> F64:
    return np.where(np.isnan(upper), upper.T, upper)
