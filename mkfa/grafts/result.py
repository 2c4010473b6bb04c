"""The result of a graft: how many answers a network keeps with other filters, and what that says."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np

from mkfa.array_types import AnyArray
from mkfa.grafts.estimates import Estimate, reach
from mkfa.storage.records import Result
from mkfa.words import counted

KEPT, RENEWED = "kept", "re-estimated"
"""What is done with batch statistics."""
_ANSWER = ("vocabulary", "role", "batch_norm", "reached", "size", "low", "high", "largest")


@dataclass(frozen=True, slots=True)
class Point:
    """One setting, over all its draws.

    Attributes
    ----------
    curve : "size", "first" (layers 1 to n), "alone" (one layer), "similarity", or "unchanged" (no filter replaced).
    vocabulary, role : its name; "asked", "control" or "unchanged".
    size : number of filters of each kernel size that could be chosen from, 0 for none.
    layers : the layers that were replaced, numbered from 1 in the whole network.
    threshold : |cos| from which filters were replaced; 0 for all.
    batch_norm : "kept" or "re-estimated".
    draws, images : numbers of draws and images that the values are means over.
    agreement, kl, correlation, accuracy : share of images with the unchanged network's first class; Kullback-Leibler
        divergence of the probabilities from the network's own, nats; correlation of the logits; share of right answers.
    own_accuracy : share of right answers of the unchanged network on these images; NaN without labels.
    cosine : mean |cos| of replaced filters to what replaces them.
    replaced : share of the filters in `layers` that were replaced; dead and flat ones stay.
    """

    curve: str
    vocabulary: str
    role: str
    size: int
    layers: tuple[int, ...]
    threshold: float
    batch_norm: str
    draws: int
    images: int
    agreement: Estimate
    kl: Estimate
    correlation: Estimate
    accuracy: Estimate
    own_accuracy: float
    cosine: float
    replaced: float

    def row(self) -> dict[str, Any]:
        """Return the point as one flat row."""
        out: dict[str, Any] = {}
        for f in fields(self):
            value = getattr(self, f.name)
            if isinstance(value, Estimate):
                out |= {f.name: value.mean, f"{f.name}_low": value.low, f"{f.name}_high": value.high}
            elif f.name == "layers":
                out[f.name] = ranges(value)
            else:
                out[f.name] = value
        return out


@dataclass(frozen=True, slots=True)
class Answer:
    """How many filters of a vocabulary keep the share of answers.

    Attributes
    ----------
    vocabulary, title, role, batch_norm : of the curve.
    size : number of filters of each kernel size, interpolated between the sizes that were tried; infinity where the
        share is not reached.
    low, high : interval: where the upper and the lower end of the agreement's interval reach the share.
    largest : the largest size that was tried.
    agreement : at that size.
    """

    vocabulary: str
    title: str
    role: str
    batch_norm: str
    size: float
    low: float
    high: float
    smallest: int
    largest: int
    agreement: Estimate

    @property
    def reached(self) -> bool:
        """True if the share is reached at a size that was tried."""
        return math.isfinite(self.size)

    def words(self, *, brief: bool = False) -> str:
        """Return the number with its interval, or that it was not reached; `brief` is for controls."""
        if not self.reached and brief:
            return f"not reached with {self.largest} ({_percent(self.agreement.mean)})"
        if not self.reached:
            a = self.agreement
            low = f", perhaps from {self.low:.0f}" if math.isfinite(self.low) else ""
            return f"not reached with {self.largest} ({_percent(a.mean)}, {_percent(a.low)} to {_percent(a.high)}{low})"
        if self.smallest == self.largest:
            sure = "" if math.isfinite(self.high) else ", though the interval reaches below"
            return f"{self.size:.0f}{sure}"
        about = "at most" if self.size <= self.smallest else "about"
        high = f"{self.high:.0f}" if math.isfinite(self.high) else f"more than {self.largest}"
        low = f"{self.low:.0f}" if self.low > self.smallest else f"{self.smallest} or fewer"
        return f"{about} {self.size:.0f} ({low} to {high})"


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Graft(Result):
    """What a network answers when its depthwise filters are replaced by those of vocabularies.

    Attributes
    ----------
    network : name.
    source, sha256 : of its weights.
    preprocessing : how the images were prepared.
    images : name of the set; `asked` images were shown to the network, `calibrated` others gave the batch statistics.
    layers : rows of the replaced layers: number, name, kernel, filters, dead.
    vocabularies : of each, its name, title, role ("asked" or "control") and number of filters by kernel size.
    keep : the share of answers.
    points : all settings.
    seed, draws : parameters.
    own_accuracy : of the unchanged network on the images with known labels; NaN without labels.
    notes : sentences.
    """

    KIND: ClassVar[str] = "graft"

    network: str
    source: str
    sha256: str
    preprocessing: dict[str, Any]
    images: str
    asked: int
    calibrated: int
    layers: tuple[dict[str, Any], ...]
    vocabularies: tuple[dict[str, Any], ...]
    keep: float
    points: tuple[Point, ...]
    seed: int
    draws: int
    own_accuracy: float
    notes: tuple[str, ...]

    def curve(self, name: str, vocabulary: str, batch_norm: str = KEPT) -> tuple[Point, ...]:
        """Return the points of one curve of a vocabulary, in order."""
        found = [
            p for p in self.points if p.curve == name and p.vocabulary == vocabulary and p.batch_norm == batch_norm
        ]
        return tuple(sorted(found, key=lambda p: (p.size, p.layers, p.threshold)))

    @property
    def norms(self) -> tuple[str, ...]:
        """What was done with batch statistics: "kept", "re-estimated" or both."""
        return tuple(dict.fromkeys(p.batch_norm for p in self.points))

    def unchanged(self, batch_norm: str = KEPT) -> Point:
        """Return the control in which no filter was replaced."""
        return next(p for p in self.points if p.curve == "unchanged" and p.batch_norm == batch_norm)

    def answers(self, batch_norm: str | None = None) -> tuple[Answer, ...]:
        """Return how many filters of each vocabulary keep the share of answers, asked ones first."""
        norm = batch_norm or self.norms[0]
        out = []
        for vocabulary in self.vocabularies:
            points = self.curve("size", vocabulary["name"], norm)
            if not points:
                continue
            sizes = [p.size for p in points]
            size, high, low = (
                reach(sizes, [getattr(p.agreement, end) for p in points], self.keep) for end in ("mean", "low", "high")
            )
            out.append(
                Answer(
                    vocabulary["name"],
                    vocabulary["title"],
                    vocabulary["role"],
                    norm,
                    size,
                    low,
                    high,
                    sizes[0],
                    sizes[-1],
                    points[-1].agreement,
                )
            )
        return tuple(out)

    def sentence(self, batch_norm: str | None = None) -> str:
        """Return the answer in one sentence: how many filters keep the share of answers, with the controls."""
        norm = batch_norm or self.norms[0]
        answers = self.answers(norm)
        if not answers:
            return f"{self.network}: no curve over the number of filters was asked for."
        share = f"{100 * self.keep:g} %"
        asked = [a for a in answers if a.role == "asked"] or list(answers)
        controls = [a for a in answers if a.role == "control"]
        renewed = "" if norm == KEPT else " after its batch statistics are re-estimated"
        parts = [f"of {a.title} {a.words()}" for a in asked]
        beside = (
            "; of the controls, " + ", ".join(f"{a.title} {a.words(brief=True)}" for a in controls) if controls else ""
        )
        lead = f"To keep {share} of its answers{renewed}, {self.network} needs this many filters of each kernel size"
        return f"{lead}: {', '.join(parts)}{beside}."

    def caveat(self) -> str:
        """Return a sentence on the unchanged network with re-estimated batch statistics; "" if they were kept only."""
        if RENEWED not in self.norms:
            return ""
        point = self.unchanged(RENEWED)
        share = (
            f"{_percent(point.agreement.mean)} ({_percent(point.agreement.low)} to {_percent(point.agreement.high)})"
        )
        on = f"re-estimated on {counted(self.calibrated, 'image')}"
        if point.agreement.mean < self.keep:
            return (
                f"With its batch statistics {on}, the network keeps only {share} of its answers although no filter is "
                "replaced: compare those numbers with this one, or give more, and more varied, images."
            )
        return f"With its batch statistics {on} and no filter replaced, the network keeps {share} of its answers."

    def headline(self) -> str:
        """Return the network, the images and the first answer."""
        answers = self.answers()
        first = f": {answers[0].title} {answers[0].words()}" if answers else ""
        return f"{self.network}, {counted(self.asked, 'image')} of {self.images}{first}"

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per setting."""
        return [p.row() for p in self.points]

    def facts(self) -> dict[str, Any]:
        """Return the content of the JSON file."""
        out = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "points"}
        answers = [a for norm in self.norms for a in self.answers(norm)]
        return {
            **out,
            "answer": self.sentence(),
            "caveat": self.caveat(),
            "answers": [
                {
                    **{key: getattr(a, key) for key in _ANSWER},
                    "agreement": a.agreement.mean,
                    "agreement_low": a.agreement.low,
                    "agreement_high": a.agreement.high,
                    "sentence": f"{a.title}: {a.words()}",
                }
                for a in answers
            ],
            "points": self.rows(),
        }

    def attributes(self) -> dict[str, Any]:
        """Return what an HDF5 file records beside the arrays."""
        facts = self.facts()
        facts.pop("points")
        return {**facts, "settings": [[p.curve, p.vocabulary, p.batch_norm, ranges(p.layers)] for p in self.points]}

    def to_arrays(self) -> dict[str, AnyArray]:
        """Return columns of `rows` that are numbers, (points,) each, by name."""
        rows = self.rows()
        names = [name for name, value in rows[0].items() if isinstance(value, int | float)] if rows else []
        return {f"points/{name}": np.array([row[name] for row in rows]) for name in names}


def ranges(numbers: Sequence[int]) -> str:
    """Return numbers as options have them: 1, 2, 3, 7 becomes "1..3,7".

    Examples
    --------
    >>> ranges([1, 2, 3, 7, 9, 10])
    '1..3,7,9,10'
    """
    parts: list[list[int]] = []
    for number in numbers:
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ",".join(f"{p[0]}..{p[-1]}" if len(p) > 2 else ",".join(str(n) for n in p) for p in parts)


def _percent(share: float) -> str:
    return "–" if share != share else f"{100 * share:.0f} %"
