"""The result of an assignment: the pattern of every filter of a bank, beside what each null gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mkfa.array_types import F32, I32, AnyArray, BoolArray
from mkfa.banks.bank import FilterBank, Kind
from mkfa.banks.bank_file import Analysis
from mkfa.banks.quality import layer_quality
from mkfa.frozen import ByContent, FrozenDict
from mkfa.patterns.fit import Fit, Parameters
from mkfa.storage.records import Result


@dataclass(frozen=True, slots=True, eq=False)
class NullFits(ByContent):
    """Fits of null filters of one kernel size: R² ascending, (D,) float32, and their classes, (D,) int16."""

    name: str
    r2: F32
    label: NDArray[np.int16]


@dataclass(frozen=True, slots=True, eq=False)
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


class Assigned(Result):
    """What the assignment to one basis and to several have in common."""

    __slots__ = ()
    KIND: ClassVar[str] = "assignment"

    @property
    def each(self) -> tuple[Assignment, ...]:
        """The assignments, one a basis."""
        raise NotImplementedError

    def rows(self) -> list[dict[str, Any]]:
        """Return a row for each basis and layer, numbered from 1, with a column for the share of each class."""
        from mkfa.patterns.summary import layer_shares

        rows = []
        for one in self.each:
            for layer in layer_shares(one):
                row = {"bank": one.bank.name, "basis": one.basis} | asdict(layer)
                rows.append(row | dict(zip(one.names, row.pop("shares"), strict=True)))
        return rows

    def facts(self) -> dict[str, Any]:
        """Return the summary of each basis, and the quality of the layers."""
        from mkfa.patterns.summary import summarise

        first = self.each[0]
        return {
            "assignments": [summarise(one) for one in self.each],
            "quality": layer_quality(first.bank, seed=first.seed),
        }

    def attributes(self) -> dict[str, Any]:
        """Return the bank's name and the parameters of each basis."""
        stored = [one.analysis() for one in self.each]
        return {"bank": self.each[0].bank.name, **{a.name: a.parameters for a in stored}}

    def to_arrays(self) -> dict[str, AnyArray]:
        """Return the arrays of `Assignment.analysis` by path, "assign-<basis>/<name>"."""
        stored = [one.analysis() for one in self.each]
        return {f"{a.name}/{name}": values for a in stored for name, values in a.arrays.items()}


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Assignment(Assigned):
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

    @property
    def each(self) -> tuple[Assignment, ...]:
        """This one."""
        return (self,)

    def headline(self) -> str:
        """Return the share of filters that fit better than 99 % of the chosen null's."""
        beyond = sum(int((k.fit.r2[k.usable] > np.quantile(k.nulls[0].r2, 0.99)).sum()) for k in self.kinds if k.nulls)
        share = f"{100 * beyond / len(self):.1f} % fit better than 99 % of {self.null} filters"
        return f"{self.bank.name}, {len(self):,} filters, basis {self.basis}: {share}"

    def analysis(self) -> Analysis:
        """Return what is stored in a bank file under /analysis/assign-<basis>.

        For each kernel size, arrays "<kh>x<kw>.<what>" with one row for each row of /filters/<kh>x<kw>: label (index
        into the parameters' `classes`, -1 for none), r2, runner_up, runner_up_r2, p, gain, offset, sigma_x, sigma_y,
        centre_x, centre_y, angle, surround, weight; NaN where there is no such value. "null.<kind>.<name>" has the
        ascending R² of the null filters.
        """
        arrays: dict[str, AnyArray] = {}
        for part in self.kinds:
            total = len(self.bank.groups[part.kind.kh, part.kind.kw])
            for name, values in part.columns().items():
                none = -1 if values.dtype.kind == "i" else np.nan
                whole = arrays.setdefault(f"{part.kind.kh}x{part.kind.kw}.{name}", np.full(total, none, values.dtype))
                whole[part.row] = np.where(part.usable, values, values.dtype.type(none))
            arrays |= {f"null.{part.kind}.{null.name}": null.r2 for null in part.nulls}
        described = {
            "basis": self.basis,
            "classes": list(self.names),
            "titles": list(self.titles),
            "null": self.null,
            "draws": self.draws,
            "seed": self.seed,
            "skipped": dict(self.skipped),
        }
        return Analysis(f"assign-{self.basis}", FrozenDict(arrays), FrozenDict(described))


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Assignments(Assigned):
    """A bank assigned to several bases."""

    parts: tuple[Assignment, ...]

    @property
    def each(self) -> tuple[Assignment, ...]:
        """The assignments, one a basis."""
        return self.parts

    def headline(self) -> str:
        """Return the headlines of all bases."""
        return "; ".join(one.headline() for one in self.parts)
