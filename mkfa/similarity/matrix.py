"""Several banks: the comparisons of all pairs, and one matrix over banks for each kernel size and measure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, ClassVar

import numpy as np

from mkfa.array_types import F64, AnyArray
from mkfa.banks.bank import FilterBank, Kind
from mkfa.frozen import ByContent
from mkfa.similarity.comparison import Comparison
from mkfa.similarity.kind_comparison import fraction
from mkfa.stats.p_values import holm
from mkfa.storage.records import Result


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class BankMatrix(ByContent):
    """One measure at one kernel size over all banks; NaN where two banks do not share that size, and on the diagonal.

    Attributes
    ----------
    names : N banks.
    value, fraction : (N, N) symmetric; fraction between the pair's floor and its ceiling.
    nulls : names of the nulls; p, p_holm : (nulls, N, N), Holm over the pairs of banks.
    seed_floor : mean value between banks of one architecture and training set (other seeds); NaN without any.
    fraction_of_seeds : (N, N), with `seed_floor` in the place of the split-half floor.
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
class Comparisons(Result):
    """Several banks compared in pairs.

    Attributes
    ----------
    names : N banks.
    pairs : one for each pair of banks, in the order of `itertools.combinations`; None where nothing can be compared.
    matrices : from three banks on, one for each kind and measure.
    skipped : why pairs were left out, in sentences.
    """

    KIND: ClassVar[str] = "comparison"

    names: tuple[str, ...]
    pairs: tuple[Comparison | None, ...]
    matrices: tuple[BankMatrix, ...]
    skipped: tuple[str, ...]

    @property
    def done(self) -> list[Comparison]:
        """The pairs that could be compared."""
        return [pair for pair in self.pairs if pair is not None]

    def headline(self) -> str:
        """Return the banks and the number of pairs."""
        return f"{', '.join(self.names)}: {len(self.done)} of {len(self.pairs)} pairs compared"

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows of all pairs."""
        return [row for pair in self.done for row in pair.rows()]

    def facts(self) -> dict[str, Any]:
        """Return the records of all pairs, and the matrices."""
        matrices = {"matrices": self.matrices} if self.matrices else {}
        return {"comparisons": [pair.record() for pair in self.done], **matrices}

    def attributes(self) -> dict[str, Any]:
        """Return what is needed to read the arrays."""
        return {"settings": self.done[0].settings, "pairs": [pair.pair_attributes() for pair in self.done]}

    def to_arrays(self) -> dict[str, AnyArray]:
        """Return the arrays of all pairs."""
        return {name: value for pair in self.done for name, value in pair.to_arrays().items()}


def bank_matrices(banks: Sequence[FilterBank], results: Sequence[Comparison | None]) -> tuple[BankMatrix, ...]:
    """Arrange the comparisons of `compare_many`, kinds with most pairs first."""
    pairs = list(combinations(range(len(banks)), 2))
    kinds: dict[Kind, int] = {}
    for result in results:
        for kind in result.kinds if result else ():
            kinds[kind.kind] = kinds.get(kind.kind, 0) + 1
    first = next(r for r in results if r is not None)
    measures = first.kinds[0].measures
    return tuple(
        _matrix(banks, pairs, results, (kind, measure))
        for kind in sorted(kinds, key=lambda k: (-kinds[k], k))
        for measure in measures
    )


def _matrix(
    banks: Sequence[FilterBank],
    pairs: list[tuple[int, int]],
    results: Sequence[Comparison | None],
    which: tuple[Kind, str],
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
        if are_seeds(banks[i], banks[j]) and not compared.same:
            seeds.append(compared.value[row])
    adjusted = np.stack([holm(part) for part in p])
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


def are_seeds(a: FilterBank, b: FilterBank) -> bool:
    """True for two banks of one architecture and one training set, both known: they differ by their seed."""
    x, y = a.provenance, b.provenance
    known = bool(x.architecture and x.training_set)
    return known and (x.architecture, x.training_set) == (y.architecture, y.training_set)


def _both(upper: F64) -> F64:
    return np.where(np.isnan(upper), upper.T, upper)
