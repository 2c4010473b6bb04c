"""Three or more banks: one matrix over banks for each kernel size and measure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from mkfa.array_types import F64
from mkfa.banks.bank import FilterBank, Kind
from mkfa.similarity.comparison import Comparison, fraction
from mkfa.stats.p_values import holm


@dataclass(frozen=True, slots=True)
class BankMatrix:
    """One measure at one kernel size over all banks; NaN where two banks do not share that size, and on the diagonal.

    Attributes
    ----------
    names : N banks.
    value, fraction : (N, N) symmetric; fraction between the pair's floor and its ceiling.
    nulls : names of the nulls; p, p_holm : (nulls, N, N), Holm over the pairs of banks.
    seed_floor : mean value between banks of one architecture and training set (other seeds); NaN if there are none.
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
        found = next((k for k in result.kinds if k.kind == kind), None) if result else None
        if found is None:
            continue
        row = found.row(measure)
        value[i, j], place[i, j], ceiling[i, j] = found.value[row], found.fraction[row], found.ceiling[row]
        p[:, i, j] = [null.p[row] for null in found.nulls]
        if are_seeds(banks[i], banks[j]) and not found.same:
            seeds.append(found.value[row])
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
