"""What a comparison means, in sentences."""

from __future__ import annotations

import numpy as np

from mkfa.several import least
from mkfa.similarity.depth_trend import TRENDS
from mkfa.similarity.kind_comparison import KindComparison, NullResult
from mkfa.similarity.settings import PRIMARY
from mkfa.stats.p_values import holm, p_text
from mkfa.words import listed

ALPHA = 0.05


def strictest(kind: KindComparison, measure: str) -> NullResult:
    """Return the null whose mean is most alike by this measure, see `KindComparison.strictest`."""
    name = kind.strictest[kind.row(measure)]
    return next(null for null in kind.nulls if null.null == name)


def leading_measure(kind: KindComparison) -> str:
    """Return the measure that the sentence is about: the primary one, or the first that has chance beside it."""
    judged = [name for name, null in zip(kind.measures, kind.strictest, strict=True) if null]
    return PRIMARY[0] if PRIMARY[0] in judged else judged[0]


def in_words(kind: KindComparison, a: str, b: str) -> list[str]:
    """Return what one kind's numbers mean, in sentences."""
    measure = leading_measure(kind)
    i = kind.row(measure)
    near = [n for n in kind.nulls if n.p[i] <= ALPHA]
    far = [n for n in kind.nulls if n.p[i] > ALPHA]
    what = "halves of the same bank" if kind.same else f"{a} and {b}"
    parts = []
    if near:
        parts.append(
            f"closer than chance under {listed(n.null for n in near)} (p <= {p_text(max(n.p[i] for n in near))})"
        )
    beyond = [n for n in far if n.p_farther[i] <= ALPHA]
    if len(beyond) < len(far):
        same = [_with_p(n.null, n.p[i]) for n in far if n.p_farther[i] > ALPHA]
        parts.append(f"not distinguishable from chance under {listed(same)}")
    if beyond:
        parts.append(f"less alike than chance under {listed(_with_p(n.null, n.p[i]) for n in beyond)}")
    out = [f"By {measure}, the {kind.kind} filters of {what} are {'; '.join(parts)}."]
    out.append(_primary_in_words(kind))
    if sum(map(bool, kind.strictest)) > 1:
        out.append(_count_in_words(kind))
    out.extend(_place_in_words(kind, i))
    out.extend(_exchange_in_words(kind))
    out.extend(_trend_in_words(kind, a, b))
    return out


def _primary_in_words(kind: KindComparison) -> str:
    measure, null = PRIMARY
    test = kind.primary
    if test is None:
        return f"The primary test, {measure} under {null}, was not asked for: every p here is exploratory."
    return f"The primary test, {measure} under {null}, gives p = {p_text(test['p'])}; every other p is exploratory."


def _count_in_words(kind: KindComparison) -> str:
    judged = sum(map(bool, kind.strictest))
    agree = ", ".join(f"{n.null} {int((n.p <= ALPHA).sum())}" for n in kind.nulls)
    fewest = []
    for null in least(kind.nulls, lambda n: int((n.p <= ALPHA).sum())):
        passed = [name for name, p in zip(kind.measures, null.p, strict=True) if p <= ALPHA]
        fewest.append(null.null + (f" ({listed(passed)})" if 0 < len(passed) < judged else ""))
    told = f"; fewest under {listed(fewest)}" if len(fewest) < len(kind.nulls) else ""
    return (
        f"Measures closer than chance at p <= {ALPHA}, of {judged}: {agree}{told}. "
        f"Chance alone gives {ALPHA * judged:.2g} of {judged} under each null, and the measures are correlated."
    )


def _place_in_words(kind: KindComparison, i: int) -> list[str]:
    if not np.isfinite(kind.fraction[i]):
        return []
    text = f"They lie {kind.fraction[i]:.0%} of the way from two halves of one network to the null {kind.ceiling_null}"
    hardest, place = kind.strictest[i], kind.fraction_strictest[i]
    if hardest != kind.ceiling_null:
        where = f"{place:.0%} of the way to" if np.isfinite(place) else "at no measurable place before"
        text += f", and {where} the strictest null, {hardest}"
    return [f"{text}."]


def _trend_in_words(kind: KindComparison, a: str, b: str) -> list[str]:
    trend = kind.depth_trend
    tested = [p for p in trend.p_holm if p == p]
    if not tested:
        return []
    out = []
    for name, r, p in zip(TRENDS, trend.r, trend.p_holm, strict=True):
        if p > ALPHA or p != p:
            continue
        shown = f"(r = {r:.2f}, p = {p_text(p)}, Holm)"
        when = "earlier" if r < 0 else "later"
        if name == "difference":
            out.append(f"layers of similar relative depth are {'more' if r < 0 else 'less'} alike than others {shown}")
        elif not kind.same:
            bank, other = (a, b) if name == "a" else (b, a)
            out.append(f"the {when} a layer of {bank}, the closer it is to {other} {shown}")
        elif name == "a":
            out.append(f"the {when} a layer, the closer it is to the others {shown}")
    if out:
        return [f"In this pair, {listed(out)}."]
    return [f"Coverage of layer pairs shows no trend with depth (Holm: p >= {p_text(min(tested))})."]


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
    but = f", not by {listed(rest)}" if rest else ""
    return [f"Their layers differ more than layers exchanged at random by {listed(different)}{but} (Holm)."]


def _with_p(name: str, p: float) -> str:
    return f"{name} (p = {p_text(p)})"
