"""Compare two or more runs: differences in their specifications and in their results."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mkfa.errors import MkfaError, WorkError
from mkfa.results.record import RunRecord
from mkfa.stats.intervals import LEVEL, paired_shares
from mkfa.training.result import RunResult
from mkfa.training.spec import RunSpec
from mkfa.words import counted

FACTS = (
    *("state", "top1_last", "top1_best", "best_epoch", "chance", "loss_train", "loss_test", "images_per_second"),
    *("seconds", "parameters", "trained_parameters", "test_images"),
)
"""Fields of result.json that a comparison shows."""


@dataclass(frozen=True, slots=True)
class Difference:
    """The first run's last-epoch accuracy minus the second's, with an interval.

    Attributes
    ----------
    value, low, high : shares. The interval, at `level`, is paired by image (`mkfa.stats.intervals.paired_shares`); NaN
        unless both runs recorded which images they got right. An interval of two independent shares would hold the
        difference in 98 to 99 % of simulated pairs of runs, since both meet the same images.
    first, second : number of test images, out of `images`, that each run classified correctly.
    """

    value: float
    low: float
    high: float
    level: float
    first: int
    second: int
    images: int


@dataclass(frozen=True, slots=True)
class RunComparison:
    """Runs side by side.

    Attributes
    ----------
    hashes, labels : tuple of str
    differing : specification fields that differ between runs, with one value per run. A recipe field is "recipe.lr", a
        network option "options.patch"; the value is None if a run has no such option.
    facts : the result fields in `FACTS`, with one value per run; None if a run lacks the field.
    difference : only for two finished runs tested on the same images; otherwise `note` explains why it is missing.
    """

    hashes: tuple[str, ...]
    labels: tuple[str, ...]
    differing: Mapping[str, tuple[Any, ...]]
    facts: Mapping[str, tuple[Any, ...]]
    difference: Difference | None
    note: str


def compare_runs(records: Sequence[RunRecord]) -> RunComparison:
    """Compare runs.

    Raises MkfaError: there are fewer than two runs, or one is named twice. Raises WorkError: a run is unfinished.
    """
    if len(records) < 2:
        raise MkfaError(f"{len(records)} run", "is not enough for a comparison", "name two or more")
    hashes = tuple(r.hash for r in records)
    results = [_result(r) for r in records]
    for i, (key, result) in enumerate(zip(hashes, results, strict=True)):
        if any(k == key and r == result for k, r in zip(hashes[:i], results[:i], strict=True)):
            raise MkfaError(f"run {key}", "is named twice", "name two different runs")
    flat = [flat_spec(_spec(r)) for r in records]
    names = dict.fromkeys(name for fields in flat for name in fields)
    values = {name: tuple(fields.get(name) for fields in flat) for name in names}
    differing = {name: row for name, row in values.items() if any(v != row[0] for v in row)}
    facts = {name: tuple(result.record.get(name) for result in results) for name in FACTS}
    difference, note = _difference(records)
    return RunComparison(hashes, tuple(_spec(r).label for r in records), differing, facts, difference, note)


def flat_spec(spec: RunSpec) -> dict[str, Any]:
    """Return a run's identity as a flat mapping: recipe fields and network options get dotted names."""
    fields: dict[str, Any] = {}
    full = {"training_version": spec.training_version, "with_norm": spec.with_norm} | spec.identity
    for key, value in full.items():
        if isinstance(value, Mapping):
            fields |= {f"{key}.{name}": inner for name, inner in value.items()}
        else:
            fields[key] = value
    return fields


def _difference(records: Sequence[RunRecord]) -> tuple[Difference | None, str]:
    if len(records) != 2:
        return None, "A difference with an interval is given for two runs only."
    a, b = (_result(r) for r in records)
    if not a.done or not b.done:
        return None, "No difference: a run diverged and has no accuracy."
    if _spec(records[0]).domain_digest != _spec(records[1]).domain_digest:
        return None, "No difference: the runs were tested on different images."
    images = a.test_images
    right = tuple(round(r.top1_last * images) for r in (a, b))
    value = a.top1_last - b.top1_last
    if len(a.right) == len(b.right) == images:
        answers = list(zip(a.right, b.right, strict=True))
        counts = sum(x and not y for x, y in answers), sum(y and not x for x, y in answers)
        low, high = paired_shares(*counts, images)
        note = (
            f"Interval from the {counted(images, 'test image')}, paired: {counts[0]} only the first run got right, "
            f"{counts[1]} only the second (Agresti and Min); variation between seeds is not included."
        )
    else:
        low = high = math.nan
        note = (
            "No interval: a run of an earlier version did not record which images it got right, and without that the "
            f"{counted(images, 'test image')}, the same for both runs, would give one that is too wide."
        )
    return Difference(value, low, high, LEVEL, right[0], right[1], images), note


def _result(record: RunRecord) -> RunResult:
    if record.result is None:
        problem, remedy = f"is unfinished ({record.state})", "start its command again: it continues where it stopped"
        raise WorkError(f"run {record.hash}", problem, remedy)
    return record.result


def _spec(record: RunRecord) -> RunSpec:
    if record.spec is None:
        raise WorkError(f"run {record.hash}", "has no specification", "name a run that was started")
    return record.spec
