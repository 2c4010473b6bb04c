"""The paper's values, shown beside the results of runs and never mixed with them.

Babaiee, Kiasari, Rus, Grosu: The Master Key Filters Hypothesis: Deep Filters Are General (arXiv:2412.16751). The values
are in data/paper_tables.json. The paper does not give the values of its figures, only observations in words.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from mkfa.errors import MkfaError
from mkfa.storage.folders import data_file

FILE = "paper_tables.json"


@dataclass(frozen=True, slots=True)
class PaperMatrix:
    """A table of the paper: frozen filters of every source on every target.

    Attributes
    ----------
    accuracy : top-1 in percent by target, then by source; for equal target and source, the paper's selffer.
    bases : top-1 in percent of plain training by target (Table 7).
    """

    table: str
    model: str
    what: str
    recipe: str
    sources: tuple[str, ...]
    targets: tuple[str, ...]
    accuracy: Mapping[str, Mapping[str, float]]
    bases: Mapping[str, float]

    def top1(self, source: str, target: str) -> float:
        """Return the accuracy of a source's filters on a target, percent."""
        return self.accuracy[target][source]

    def change(self, source: str, target: str) -> float:
        """Return that accuracy minus the target's selffer, percentage points."""
        return self.accuracy[target][source] - self.accuracy[target][target]


@dataclass(frozen=True, slots=True)
class PaperCurve:
    """The paper's statements about a curve over borrowed layers.

    `layers` is the largest number of borrowed layers, `worst` the lowest accuracy in percent of the base's (None if not
    stated), `observation` a sentence, `named` the first and last layer that it is about.
    """

    figure: str
    model: str
    filters: str
    data: str
    layers: int
    worst: float | None
    observation: str
    named: tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class PaperRows:
    """A table of scenarios or of sources, with all depthwise layers set and frozen.

    `rows` are labels with top-1 in percent; `base` is the top-1 of plain training on the target.
    """

    table: str
    model: str
    setting: str
    rows: tuple[tuple[str, float], ...]
    base: float


@lru_cache(maxsize=1)
def tables() -> dict[str, Any]:
    """Return the content of data/paper_tables.json."""
    content: dict[str, Any] = json.loads(data_file(FILE).read_text("utf-8"))
    return content


def citation() -> str:
    """Return a short reference to the paper, for titles."""
    source = tables()["source"]
    return f"{source['authors'].split(',')[0]} et al., arXiv:{source['arxiv']}"


def paper_matrix(what: str) -> PaperMatrix:
    """Return the table for a kind of layer: Table 2 for "depthwise", Table 5 for "pointwise".

    Raises MkfaError: the paper has no table for it.

    Examples
    --------
    >>> table = paper_matrix("depthwise")
    >>> table.table, len(table.sources), round(table.change("ImageNet", "Sketch"), 1)
    ('Table 2', 7, 0.5)
    """
    known = tables()["matrices"]
    if what not in known:
        problem = f"the paper has no matrix of {what} layers"
        raise MkfaError("--with-paper", problem, f"leave it out, or use --what {' or '.join(known)}")
    table, plain = known[what], tables()["bases"]["accuracy"]
    sources, targets = tuple(table["sources"]), tuple(table["targets"])
    bases = {target: plain[target] for target in targets}
    return PaperMatrix(
        table["table"], table["model"], what, table["recipe"], sources, targets, table["accuracy"], bases
    )


def paper_curves(what: str) -> tuple[PaperCurve, ...]:
    """Return the paper's three curves, for a curve of "depthwise" or "conv" layers.

    Raises MkfaError: the paper has no curve of such layers.
    """
    if what not in ("depthwise", "conv"):
        remedy = "leave it out; 'mkfa transfer-matrix --what pointwise' has the paper's Table 5"
        raise MkfaError("--with-paper", f"the paper has no curve of {what} layers", remedy)
    keys = ("figure", "model", "filters", "data", "layers", "observation")
    return tuple(
        PaperCurve(
            **{key: curve[key] for key in keys},
            worst=curve["worst_relative_accuracy"],
            named=tuple(curve["named_layers"]) if curve["named_layers"] else None,
        )
        for curve in tables()["curves"]
    )


def paper_rows(*, sources: bool, what: str) -> PaperRows:
    """Return Table 1, the scenarios of one source, or with `sources` Tables 3 and 4, one row per source.

    Raises MkfaError: the paper has no such table for these layers.
    """
    if what != "depthwise":
        raise MkfaError("--with-paper", f"the paper has no table of scenarios of {what} layers", "leave it out")
    known = tables()
    if not sources:
        one = known["scenarios"]
        rows = tuple((name.replace("_", " "), top1) for name, top1 in one["accuracy"].items())
        return PaperRows(one["table"], one["model"], one["setting"], rows, one["accuracy"]["baseline"])
    third, fourth = known["architectures"]
    base = known["bases"]["accuracy"][third["target"]]
    rows = (
        ("baseline", base),
        *((f"{third['training_set']}+{name}", top1) for name, top1 in third["accuracy"].items()),
        *fourth["accuracy"].items(),
    )
    title = f"{third['table']}, {fourth['table']}; baseline: {known['bases']['table']}"
    return PaperRows(title, third["model"], f"target {third['target']}, all depthwise layers", rows, base)
