"""The result of a comparison of two banks: all kinds, what was left out, and everything as rows, JSON and arrays."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from mkfa.array_types import AnyArray
from mkfa.similarity.kind_comparison import KindComparison
from mkfa.similarity.lineage import Lineage
from mkfa.similarity.settings import CompareSettings
from mkfa.similarity.wording import in_words, leading_measure
from mkfa.storage.records import Result


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Comparison(Result):
    """Two banks compared, kind by kind; `lineage` says whether they have a common parent."""

    KIND: ClassVar[str] = "comparison"

    a: str
    b: str
    settings: CompareSettings
    kinds: tuple[KindComparison, ...]
    left_out: tuple[str, ...]
    notes: tuple[str, ...]
    lineage: Lineage

    def headline(self) -> str:
        """Return the leading measure of each kind."""
        parts = []
        for kind in self.kinds:
            i = kind.row(leading_measure(kind))
            parts.append(
                f"{kind.kind} {kind.measures[i]} {kind.value[i]:.3f} (p = {max(n.p[i] for n in kind.nulls):.3g})"
            )
        return f"{self.a} and {self.b}, {', '.join(parts)}"

    def rows(self) -> list[dict[str, Any]]:
        """Return a row for each pair of banks, stages or layers, measure and null."""
        return [
            {"a": self.a, "b": self.b, **row, "seed": self.settings.seed, "filters": kind.n}
            for kind in self.kinds
            for row in kind.rows()
        ]

    def facts(self) -> dict[str, Any]:
        """Return everything but the numbers of each draw, as the one entry of "comparisons"."""
        return {"comparisons": [self.record()]}

    def record(self) -> dict[str, Any]:
        """Return the entry of this pair in JSON."""
        threshold = self.settings.threshold
        return {"settings": self.settings} | self._entry(lambda kind: kind.facts(threshold))

    def attributes(self) -> dict[str, Any]:
        """Return what is needed to read the arrays."""
        return {"settings": self.settings, "pairs": [self.pair_attributes()]}

    def pair_attributes(self) -> dict[str, Any]:
        """Return the entry of this pair in the attributes of an HDF5 file."""

        def more(kind: KindComparison) -> dict[str, Any]:
            nulls = {n.null: n.m for n in kind.nulls}
            return {"nulls": nulls, "exchange": kind.exchange.p, "by_layer": kind.layer_measures}

        return self._entry(more)

    def _entry(self, more: Callable[[KindComparison], dict[str, Any]]) -> dict[str, Any]:
        kinds = [k.summary() | {"in_words": in_words(k, self.a, self.b)} | more(k) for k in self.kinds]
        known = {"a": self.a, "b": self.b, "lineage": self.lineage}
        return known | {"left_out": self.left_out, "notes": self.notes, "kinds": kinds}

    def to_arrays(self) -> dict[str, AnyArray]:
        """Return every array by path, "<a> and <b>/<kind>/<name>", those of a null under its name."""
        out: dict[str, AnyArray] = {}
        for kind in self.kinds:
            at = f"{self.a} and {self.b}".replace("/", "-") + f"/{kind.kind}"
            for place, item in ((at, kind), *((f"{at}/{null.null}", null) for null in kind.nulls)):
                out.update({f"{place}/{name}": value for name, value in _arrays(item)})
        return out


def _arrays(item: Any) -> Iterator[tuple[str, AnyArray]]:
    for f in dataclasses.fields(item):
        value = getattr(item, f.name)
        if isinstance(value, np.ndarray):
            yield f.name, value
        elif isinstance(value, tuple) and value and isinstance(value[0], str):
            yield f.name, np.array(value)
