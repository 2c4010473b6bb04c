"""Verdicts: what runs, banks or printed numbers say of a claim, and everything that it rests on."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, overload

from mkfa.errors import UnknownNameError
from mkfa.evidence.effects import Effect
from mkfa.evidence.programme import SCALES
from mkfa.evidence.run_table import Scale
from mkfa.evidence.statements import Finding
from mkfa.frozen import ByContent
from mkfa.storage.records import Listing, Shown
from mkfa.words import counted

State = Literal["supported", "contradicted", "inconclusive"]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Verdict(ByContent):
    """A verdict on a claim at one scale.

    Attributes
    ----------
    claim : id; sentence : what is judged.
    state : "supported", "contradicted" or "inconclusive".
    scale : network, pixels, steps and layers that it is about; None without evidence.
    basis : what it was judged from: pairs of domains, banks, or a table of the paper.
    effect : of the statement that decided, or of the first one that supports; None without evidence.
    findings : every statement of the criterion with its own effect.
    missing : what an inconclusive verdict lacks, one clause each, beginning with runs, seeds, sensitivity or scale.
    reason : one sentence on why the verdict is what it is.
    printed : True for a verdict on printed numbers.
    command : what trains or computes what is missing; "" if nothing is.
    """

    claim: str
    sentence: str
    state: State
    scale: Scale | None
    basis: str
    effect: Effect | None
    findings: tuple[Finding, ...]
    missing: tuple[str, ...]
    reason: str
    printed: bool = False
    command: str = ""

    @property
    def seeds(self) -> int:
        """Smallest number of seeds of the effect's sides; 0 without an effect or runs."""
        of_runs = self.effect is not None and self.scale is not None and self.scale.name in SCALES
        return min(self.effect.seeds) if self.effect is not None and of_runs else 0

    @property
    def in_short(self) -> str:
        """The effect as text: the difference and its interval, or a dash."""
        return effect_text(self.effect) if self.effect is not None else "–"

    def facts(self) -> dict[str, Any]:
        """Return the verdict as it is written to JSON, with the facts that every verdict must carry by name."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        e = self.effect
        more = {
            "seeds": self.seeds,
            "sensitivity": e.sensitivity if e is not None else None,
            "sensitivity_in_errors": sensitivity_in_errors(e) if e is not None else None,
            "smallest_visible_difference": e.detectable if e is not None else None,
            "sample": e.sample if e is not None else "",
            "setting": self.scale.text if self.scale is not None else "",
        }
        return fields | more


def effect_text(effect: Effect) -> str:
    """Return a difference in points (or rho, or a share in percent) with its interval.

    Examples
    --------
    >>> effect_text(Effect("digits", 0.094, 0.045, 0.142))
    '+9.4 (4.5 to 14.2)'
    """
    text = _scaled(effect, effect.difference, "" if effect.unit == "%" else "+")
    text += " %" if effect.unit == "%" else ""
    if effect.printed or math.isnan(effect.low):
        return text
    return f"{text} ({_scaled(effect, effect.low)} to {_scaled(effect, effect.high)})"


def visible_text(effect: Effect) -> str:
    """Return the smallest difference that the experiment shows, with its unit.

    Examples
    --------
    >>> visible_text(Effect("digits", 0.094, detectable=0.021))
    '2.1 points'
    >>> visible_text(Effect("digits", 0.23, detectable=0.474, unit="rho"))
    '0.47 of rho'
    """
    return _with_unit(effect, effect.detectable)


def sensitivity_text(effect: Effect) -> str:
    """Return the sensitivity with its unit and what it is of.

    Examples
    --------
    >>> sensitivity_text(Effect("digits", 0.094, error=0.02, sensitivity=0.42, control="delta on digits"))
    '42.0 points by delta on digits (21 standard errors)'
    >>> sensitivity_text(Effect("a and b", 0.01, sensitivity=0.105, control="two halves of one network", unit="cosine"))
    '0.105 of cosine by two halves of one network'
    """
    shown = replace(effect, unit="points") if effect.unit == "rho" else effect  # runs lose accuracy, not rank
    text = f"{_with_unit(shown, effect.sensitivity)} by {effect.control}"
    ratio = sensitivity_in_errors(effect)
    return text if math.isnan(ratio) else f"{text} ({ratio:.0f} standard errors)"


def _with_unit(effect: Effect, value: float) -> str:
    unit = {"rho": "of rho", "cosine": "of cosine", "%": "points"}.get(effect.unit, effect.unit)
    return f"{_scaled(effect, value)} {unit}"


def _scaled(effect: Effect, value: float, sign: str = "") -> str:
    factor, digits = {"rho": (1, 2), "cosine": (1, 3)}.get(effect.unit, (100, 1))
    return f"{factor * value:{sign}.{digits}f}"


def sensitivity_in_errors(effect: Effect) -> float:
    """Return the sensitivity in standard errors of the contrast; NaN if either is unknown or their units differ."""
    return effect.sensitivity / effect.error if effect.error > 0 and effect.unit == "points" else math.nan


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Judgement(Shown):
    """A claim with its verdicts: the `chosen` one, those at other settings, and that on printed numbers.

    `judged` is the date of the verdict (ISO 8601), `place` says whose it is: "bundled", "here" or what was read.
    """

    id: str
    sentence: str
    source: str
    number: str
    scales: tuple[str, ...]
    chosen: Verdict
    others: tuple[Verdict, ...] = ()
    printed: Verdict | None = None
    judged: str = ""
    place: str = ""

    def headline(self) -> str:
        """Return the claim, and whether it holds."""
        return f"{self.id}, {self.chosen.state}: {self.sentence}"

    def rows(self) -> list[dict[str, Any]]:
        """Return `row()` as the only row."""
        return [self.row()]

    def row(self) -> dict[str, Any]:
        """Return the claim as a row of a table."""
        v = self.chosen
        return {
            "id": self.id,
            "state": v.state,
            "claim": self.sentence,
            "source": self.source,
            "number": self.number,
            "scale": v.scale.name if v.scale else "",
            "setting": v.scale.text if v.scale else "",
            "basis": v.basis,
            "effect": v.effect.difference if v.effect else None,
            "low": v.effect.low if v.effect else None,
            "high": v.effect.high if v.effect else None,
            "p": v.effect.p if v.effect else None,
            "seeds": v.seeds,
            "sensitivity": v.effect.sensitivity if v.effect else None,
            "smallest_visible_difference": v.effect.detectable if v.effect else None,
            "missing": "; ".join(v.missing),
            "printed": self.printed.state if self.printed else "",
            "judged": self.judged,
            "place": self.place,
        }

    def record(self) -> dict[str, Any]:
        """Return the claim as it is written to JSON."""
        fields = {
            name: getattr(self, name) for name in ("id", "sentence", "source", "number", "scales", "judged", "place")
        }
        return fields | {
            "verdict": self.chosen.facts(),
            "others": [v.facts() for v in self.others],
            "printed": self.printed.facts() if self.printed else None,
        }


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Claims(Listing[Judgement]):
    """Claims with their verdicts, by number or by id: `found[0]`, `found["C12"]`."""

    KIND: ClassVar[str] = "claims"
    judgements: tuple[Judgement, ...]

    def headline(self) -> str:
        """Return the number of claims in each state."""
        return f"{counted(len(self.judgements), 'claim')}: {count_states(self.judgements)}"

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per claim."""
        return [judgement.row() for judgement in self.judgements]

    def facts(self) -> dict[str, Any]:
        """Return every claim with its verdicts."""
        return {"claims": [judgement.record() for judgement in self.judgements]}

    @overload
    def __getitem__(self, index: int | str) -> Judgement: ...

    @overload
    def __getitem__(self, index: slice) -> Claims: ...

    def __getitem__(self, index: int | str | slice) -> Judgement | Claims:
        """Return a claim by its number or id, or several by a slice; raises UnknownNameError: the id is not there."""
        if not isinstance(index, str):
            return Claims(self.judgements[index]) if isinstance(index, slice) else self.judgements[index]
        found = [judgement for judgement in self if judgement.id == index]
        if not found:
            ids = ", ".join(judgement.id for judgement in self)
            raise UnknownNameError(index, "is not among these claims", f"choose one of {ids}")
        return found[0]


def count_states(judgements: Sequence[Judgement]) -> str:
    """Return "3 supported, 2 contradicted, 17 inconclusive"."""
    states = [j.chosen.state for j in judgements]
    return ", ".join(f"{states.count(s)} {s}" for s in ("supported", "contradicted", "inconclusive"))
