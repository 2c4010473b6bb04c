"""A figure or table of the paper beside our runs: both as rows, in columns of their own, never mixed."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from mkfa.evidence.paper import paper_curves, tables
from mkfa.evidence.printed import printed_points
from mkfa.evidence.programme import Entry
from mkfa.evidence.run_table import Point, RunTable, tables_of
from mkfa.frozen import ByContent
from mkfa.images.registry import registry
from mkfa.results.record import RunRecord
from mkfa.stats.intervals import one_sample
from mkfa.storage.records import Result
from mkfa.training.spec import BASE
from mkfa.words import counted

DOMAINS = {
    "Food": "food",
    "Sketch": "sketch",
    "Cifar10": "cifar10",
    "STL10": "stl10",
    "Pets": "pets",
    "Flowers": "flowers",
    "ImageNet": "imagenet",
    "man-made": "imagenet-manmade",
    "natural": "imagenet-natural",
}
"""The paper's data sets by mkfa's names."""


@dataclass(frozen=True, slots=True)
class Value:
    """One row: what it is about, our mean with its 95 % interval over seeds, and the paper's value.

    Shares; NaN where there is none. `seeds` is 0 without runs of ours. `setting` is that of our runs.
    """

    arm: str
    source: str
    target: str
    layers: int
    ours: float = math.nan
    low: float = math.nan
    high: float = math.nan
    seeds: int = 0
    paper: float = math.nan
    setting: str = ""

    @property
    def label(self) -> str:
        """The arm with its source and target."""
        pair = f"{self.source} -> {self.target}" if self.source and self.source != self.target else self.target
        return f"{self.arm}, {pair}" + (f", {counted(self.layers, 'layer')}" if self.layers else "")


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Reproduction(Result, ByContent):
    """A figure or table of the paper, trained at a scale, beside the paper's values.

    Attributes
    ----------
    name, title, question, scale : of the entry of the programme.
    settings : of our runs, in words.
    values : rows.
    sayings : what the paper says in words, where it prints no values.
    runs, done : number of runs that it needs, and of those that are finished.
    note : whether our rows and the paper's can be compared.
    """

    KIND: ClassVar[str] = "reproduction"
    name: str
    title: str
    question: str
    scale: str
    settings: tuple[str, ...]
    values: tuple[Value, ...]
    sayings: tuple[str, ...]
    runs: int
    done: int
    note: str

    def headline(self) -> str:
        """Return the title, the scale and the number of finished runs."""
        return f"{self.title}, {self.scale} scale, {self.done} of {counted(self.runs, 'run')}"

    def labels(self) -> list[str]:
        """Return what each row is about, with its setting where the same was trained in several."""
        times = Counter(value.label for value in self.values)
        return [v.label + (f" ({v.setting})" if v.setting and times[v.label] > 1 else "") for v in self.values]

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per value."""
        return [{f: getattr(value, f) for f in Value.__dataclass_fields__} for value in self.values]


def compare_with_paper(entry: Entry, scale: str, records: Iterable[RunRecord]) -> Reproduction:
    """Put the finished runs of an entry beside the paper's values."""
    records = list(records)
    found = tables_of(records)
    ours: dict[Point, dict[str, Value]] = {}
    for table in sorted(found, key=lambda table: -len(table.points)):  # the table that the entry is about comes first
        for point in table.points:
            value = _value(table, point)
            rows = ours.setdefault(_key(point, table), {})
            if all((value.ours, value.seeds) != (row.ours, row.seeds) for row in rows.values()):  # a base of two tables
                rows[value.setting] = value
    paper = _paper(entry)
    for point, top1 in paper.items():
        rows = ours.setdefault(point, {"": Value(point.arm, point.source, point.target, 0)})
        setting = next(iter(rows))
        rows[setting] = replace(rows[setting], paper=round(top1 / 100, 6))
    values = tuple(value for rows in ours.values() for value in rows.values())
    done = sum(r.result is not None and r.result.done for r in records)
    both = any(value.seeds and value.paper == value.paper for value in values)
    note = (
        "Rows with both values are of the same data, arm and layers; the paper gives no seeds or error bars."
        if both
        else "Ours and the paper's values are of different data and networks: compare signs and order, not numbers."
    )
    return Reproduction(
        entry.name,
        entry.title,
        entry.question,
        scale,
        tuple(dict.fromkeys(table.scale.text for table in found)),
        values,
        _sayings(entry),
        len(records),
        done,
        note if paper or entry.paper in ("conv", "depthwise") else "The paper has nothing of this kind.",
    )


def _value(table: RunTable, point: Point) -> Value:
    top1 = list(table.points[point].top1.values())
    test = one_sample(top1)
    width = test.half_width if test.error > 0 else math.nan
    mean = test.difference
    return Value(
        point.arm,
        point.source,
        point.target,
        point.layers,
        mean,
        mean - width,
        mean + width,
        len(top1),
        setting=table.scale.text,
    )


def _key(point: Point, table: RunTable) -> Point:
    """Return a point in the form of the paper's: all layers are 0, and a target's own source is the target."""
    layers = 0 if point.layers == table.scale.layers else point.layers
    source = point.target if point.arm == "selffer" else "" if point.arm == BASE else point.source
    return Point(point.arm, source, point.target, layers)


def _paper(entry: Entry) -> dict[Point, float]:
    """Return the paper's values in percent, by arm, source and target in mkfa's names."""
    if entry.paper == "Table 7":
        accuracy = tables()["bases"]["accuracy"]
        return {Point(BASE, "", DOMAINS[name], 0): value for name, value in accuracy.items()}
    return {
        Point(p.arm, _source(entry, p), DOMAINS.get(p.target, p.target), 0): value
        for p, value in printed_points(entry.paper).items()
    }


def _source(entry: Entry, point: Point) -> str:
    if entry.paper == "Table 3":
        return "imagenet" if point.source == "convnext_femto" else f"imagenet+{point.source}"
    if entry.paper == "Table 4" and point.arm == "stack":
        return "food+hornet_tiny"
    return DOMAINS.get(point.source, point.source)


def _sayings(entry: Entry) -> tuple[str, ...]:
    if entry.paper not in ("conv", "depthwise"):
        return ()
    curves = [curve for curve in paper_curves(entry.paper) if curve.figure == entry.title]
    return tuple(
        f"{c.figure}, {c.model}, {c.data}: {c.observation}"
        + (f"; at worst {c.worst:g} % of the base's accuracy is kept" if c.worst is not None else "")
        + "."
        for c in curves
    )


def data_set_sizes() -> list[dict[str, Any]]:
    """Return Table 6: classes and images of each data set, mkfa's and the paper's.

    Examples
    --------
    >>> [row["train"] - row["paper_train"] for row in data_set_sizes() if row["domain"] == "food"]
    [750]
    """
    names = {"ImageNet": "imagenet", "Food 101": "food", "Sketch": "sketch", "CIFAR-10": "cifar10", "STL-10": "stl10"}
    names |= {"Oxford-IIIT Pets": "pets", "Oxford 102 Flowers": "flowers"}
    rows = []
    for title, *numbers in tables()["data_sets"]["rows"]:
        info = registry()[names[title]]
        row: dict[str, Any] = {"domain": info.name, "classes": info.classes, "train": info.train, "test": info.test}
        rows.append(row | dict(zip(("paper_classes", "paper_train", "paper_test"), numbers, strict=True)))
    return rows


def as_text(values: Sequence[float]) -> str:
    """Return "90.1 (89.0 to 91.2)" in percent; a dash for NaN."""
    mean, low, high = (100 * value for value in values)
    if mean != mean:
        return "–"
    return f"{mean:.1f}" + (f" ({low:.1f} to {high:.1f})" if low == low else "")
