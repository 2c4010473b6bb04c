"""The result of an assignment: the pattern of every filter of a bank, beside what each null gives."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np

from mkfa.array_types import AnyArray
from mkfa.banks.bank_file import Analysis
from mkfa.banks.quality import layer_quality
from mkfa.frozen import FrozenDict
from mkfa.patterns.basis_assignment import BasisAssignment
from mkfa.patterns.dictionary import version
from mkfa.patterns.summary import layer_shares, rows_of, summarise
from mkfa.storage.records import Result
from mkfa.words import counted


class Assigned(Result):
    """What the assignment to one basis and to several have in common."""

    __slots__ = ()
    KIND: ClassVar[str] = "assignment"

    @property
    def each(self) -> tuple[Assignment, ...]:
        """The assignments, one a basis."""
        raise NotImplementedError

    def rows(self) -> list[dict[str, Any]]:
        """Return a row for each basis and layer, numbered from 1, with a column for each row of classes."""
        rows = []
        for one in self.each:
            names = rows_of(one).names
            for layer in layer_shares(one):
                row: dict[str, Any] = {"bank": one.bank.name, "basis": one.basis, "basis_version": version(one.basis)}
                row |= asdict(layer)
                rows.append(row | dict(zip(names, row.pop("shares"), strict=True)))
        return rows

    def facts(self) -> dict[str, Any]:
        """Return the summary of each basis, and the quality of the layers."""
        first = self.each[0]
        return {
            "assignments": [summarise(one) for one in self.each],
            "quality": layer_quality(first.bank, seed=first.seed).layers,
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
class Assignment(BasisAssignment, Assigned):
    """Every filter of a bank with its pattern; the fields are those of `BasisAssignment`."""

    @property
    def each(self) -> tuple[Assignment, ...]:
        """This one."""
        return (self,)

    def headline(self) -> str:
        """Return the share of filters that fit better than 99 % of the chosen null's."""
        beyond = sum(int((k.fit.r2[k.usable] > np.quantile(k.nulls[0].r2, 0.99)).sum()) for k in self.kinds if k.nulls)
        share = f"{100 * beyond / len(self):.1f} % fit better than 99 % of {self.null} filters"
        return f"{self.bank.name}, {counted(len(self), 'filter')}, basis {self.basis}: {share}"

    def analysis(self) -> Analysis:
        """Return what is stored in a bank file under /analysis/assign-<basis>.

        For each kernel size, arrays "<kh>x<kw>.<what>" with one row for each row of /filters/<kh>x<kw>: label (index
        into the parameters' `classes`, -1 for none), r2, runner_up, runner_up_r2, p, gain, offset, sigma_x, sigma_y,
        centre_x, centre_y, angle, surround, weight, stretch; NaN where there is no such value. "null.<kind>.<name>" has
        the ascending R² of the null filters, "null_label.<kind>.<name>" their classes, which earlier files lack. The
        parameters name the basis and its version: files without a version hold version 1, whose labels mean other
        classes.
        """
        arrays: dict[str, AnyArray] = {}
        for part in self.kinds:
            total = len(self.bank.groups[part.kind.kh, part.kind.kw])
            for name, values in part.columns().items():
                none = -1 if values.dtype.kind == "i" else np.nan
                whole = arrays.setdefault(f"{part.kind.kh}x{part.kind.kw}.{name}", np.full(total, none, values.dtype))
                whole[part.row] = np.where(part.usable, values, values.dtype.type(none))
            arrays |= {f"null.{part.kind}.{null.name}": null.r2 for null in part.nulls}
            arrays |= {f"null_label.{part.kind}.{null.name}": null.label for null in part.nulls}
        described = {
            "basis": self.basis,
            "basis_version": version(self.basis),
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
