"""What a comparison means, in sentences."""

from __future__ import annotations

from typing import Any

import numpy as np

from mkfa.similarity.kind_comparison import KindComparison, NullResult
from mkfa.similarity.measures.table import MEASURES
from mkfa.stats.p_values import holm

ALPHA = 0.05


def strictest(kind: KindComparison, measure: str) -> NullResult:
    """Return the null that decides: the one with the largest p; of several, the one nearest to the value."""
    i = kind.row(measure)
    sign = 1 if MEASURES.find(measure).alike_is_more else -1
    return max(kind.nulls, key=lambda n: (n.p[i], sign * n.mean[i]))


def leading_measure(kind: KindComparison) -> str:
    """Return the measure that the sentence is about: coverage, or the first that was computed."""
    return "coverage" if "coverage" in kind.measures else kind.measures[0]


def in_words(kind: KindComparison, a: str, b: str) -> list[str]:
    """Return what one kind's numbers mean, in sentences."""
    measure = leading_measure(kind)
    i = kind.row(measure)
    near = [n for n in kind.nulls if n.p[i] <= ALPHA]
    far = [n for n in kind.nulls if n.p[i] > ALPHA]
    what = "halves of the same bank" if kind.same else f"{a} and {b}"
    parts = []
    if near:
        parts.append(f"closer than chance under {_join(n.null for n in near)} (p <= {max(n.p[i] for n in near):.3f})")
    beyond = [n for n in far if n.p_farther[i] <= ALPHA]
    if len(beyond) < len(far):
        same = [_with_p(n.null, n.p[i]) for n in far if n.p_farther[i] > ALPHA]
        parts.append(f"not distinguishable from chance under {_join(same)}")
    if beyond:
        parts.append(f"less alike than chance under {_join(_with_p(n.null, n.p[i]) for n in beyond)}")
    out = [f"By {measure}, the {kind.kind} filters of {what} are {'; '.join(parts)}."]
    agree = ", ".join(f"{n.null} {int((n.p <= ALPHA).sum())}" for n in kind.nulls)
    fewest = min(kind.nulls, key=lambda n: int((n.p <= ALPHA).sum()))
    passed = [name for name, p in zip(kind.measures, fewest.p, strict=True) if p <= ALPHA]
    which = f" ({_join(passed)})" if 0 < len(passed) < len(kind.measures) else ""
    counts = f"{agree}; fewest under {fewest.null}{which}"
    out.append(f"Measures closer than chance at p <= 0.05, of {len(kind.measures)}: {counts}.")
    place = kind.fraction[i]
    if np.isfinite(place):
        way = f"two halves of one network (0 %) to a {kind.ceiling_null} bank (100 %)"
        out.append(f"They lie {place:.0%} of the way from {way}.")
    out.extend(_exchange_in_words(kind))
    return out


def _exchange_in_words(kind: KindComparison) -> list[str]:
    if not kind.exchange.p:
        return []
    if kind.exchange.arrangements < 1 / ALPHA:
        return ["There are too few layers for a test that exchanges layers between the banks."]
    adjusted = dict(zip(kind.exchange.p, holm(list(kind.exchange.p.values())).tolist(), strict=True))
    different = [_with_p(name, p) for name, p in adjusted.items() if p <= ALPHA]
    rest = [_with_p(name, p) for name, p in adjusted.items() if p > ALPHA]
    if not different:
        return [f"Their layers do not differ more than layers exchanged at random (Holm: {', '.join(rest)})."]
    but = f", not by {_join(rest)}" if rest else ""
    return [f"Their layers differ more than layers exchanged at random by {_join(different)}{but} (Holm)."]


def _with_p(name: str, p: float) -> str:
    return f"{name} (p = {p:.3f})"


def _join(names: Any) -> str:
    items = list(names)
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"
