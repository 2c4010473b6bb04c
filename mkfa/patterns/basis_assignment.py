"""The patterns of all filters of a bank: the data of an assignment, one basis and kernel size after the other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from mkfa.array_types import F32, I32, AnyArray, BoolArray
from mkfa.banks.bank import FilterBank, Kind
from mkfa.frozen import ByContent
from mkfa.patterns.fit import Fit, Parameters


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class NullFits(ByContent):
    """Fits of null filters of one kernel size: R² ascending, (D,) float32, and their classes, (D,) int16."""

    name: str
    r2: F32
    label: NDArray[np.int16]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class KindAssignment(ByContent):
    """The assignment of all filters of one kernel size and dilation.

    Rows are those of `bank.of_kind(kind)`; `row` gives their place under /filters/<kh>x<kw>.

    Attributes
    ----------
    kind : kernel size and dilation.
    row, layer : (N,) int32
    dead, flat, nonfinite : (N,) bool, filters without a class (label -1, R² and p NaN in files), and why.
    fit, parameters : the best pattern of each filter.
    gain : (N,) float32, so that weight ~ gain * pattern + offset, the pattern zero-mean and of unit norm; its sign
        says on or off.
    offset : (N,) float32
    p : (N,) float32, p-value of R² under the chosen null; NaN for unusable filters.
    nulls : what each null gives; the chosen one is first.
    """

    kind: Kind
    row: I32
    layer: I32
    dead: BoolArray
    flat: BoolArray
    nonfinite: BoolArray
    fit: Fit
    parameters: Parameters
    gain: F32
    offset: F32
    p: F32
    nulls: tuple[NullFits, ...]

    @property
    def usable(self) -> BoolArray:
        """(N,) bool, filters that have a class."""
        return ~(self.dead | self.flat | self.nonfinite)

    @property
    def unscored(self) -> Mapping[str, int]:
        """Number of filters without a class, by reason."""
        return {"dead": int(self.dead.sum()), "flat": int(self.flat.sum()), "non-finite": int(self.nonfinite.sum())}

    def columns(self) -> dict[str, AnyArray]:
        """Return the arrays of one row a filter as they are stored."""
        names = ("label", "r2", "runner_up", "runner_up_r2")
        out: dict[str, AnyArray] = {name: getattr(self.fit, name) for name in names}
        out |= {"p": self.p, "gain": self.gain, "offset": self.offset}
        for field in fields(Parameters):
            out[field.name.replace("offset_", "centre_")] = getattr(self.parameters, field.name)
        return out


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class BasisAssignment(ByContent):
    """Every filter of a bank with its pattern.

    Attributes
    ----------
    bank : the bank.
    basis : "families" or a named set.
    names, titles : classes that labels index.
    kinds : an assignment for each kernel size and dilation, those with most filters first.
    null : the null that p-values and thresholds refer to.
    draws, seed : of the nulls.
    r2 : R² from which a filter counts as covered.
    skipped : kernel sizes that the basis has no pattern for, with the reason.
    """

    bank: FilterBank
    basis: str
    names: tuple[str, ...]
    titles: tuple[str, ...]
    kinds: tuple[KindAssignment, ...]
    null: str
    draws: int
    seed: int
    r2: float
    skipped: Mapping[str, str]

    def __len__(self) -> int:
        return sum(int(k.usable.sum()) for k in self.kinds)
