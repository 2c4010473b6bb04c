"""What each rule of a criterion means: a statement about runs holds, fails, or stays open.

A rule never sees which verdict would be welcome: it looks at the interval of its effect and at its margin. What else a
verdict needs (seeds, sensitivity, targets) is asked by `mkfa.evidence.judge`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from mkfa.array_types import F64
from mkfa.evidence.bend import fit_bend
from mkfa.evidence.claims import Claim, Statement
from mkfa.evidence.effects import (
    MOST_SEEDS,
    Effect,
    common_seeds,
    control_drop,
    controls_in_words,
    curve_of,
    difference,
    effects_of,
    mean_effect,
    of_test,
    printed_effect,
    seeds_to_decide,
    slope_effect,
)
from mkfa.evidence.run_table import RunTable
from mkfa.several import least
from mkfa.stats.equivalence import SIDE, tost
from mkfa.stats.intervals import POWER, mean, of_shares, one_sample
from mkfa.words import counted, listed

POINT = 0.01
"""One point of top-1, as a share."""
FARTHEST = 1000
"""D / f^2 beyond which no network is named."""
SEEN_BESIDE_CONTROLS = ("above", "below", "within", "kept", "trend", "rank", "ordered", "slope", "knee", "straight")
"""Rules about accuracies: the experiment must have been able to see differences."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A statement and what the runs say about it.

    Attributes
    ----------
    text : the statement in words.
    side : "supports" or "contradicts": which list of the claim it is of.
    holds : whether it is shown; None if the runs needed are not there.
    effect : what it was judged by; None without runs.
    units : the effects of the single targets or pairs.
    p : p-value of its test; NaN where there is none.
    note : what else the user should know; what is missing where `holds` is None.
    rule : the statement's rule.
    every, some : whether it is about every unit, or holds if it does for one.
    lacks : what must be there before it counts: runs, seeds, sensitivity.
    refuted : whether the opposite of the statement is shown.
    seeds_needed : number of seeds that would decide it if the effect stays as it is; 0: no number would, or it is not
        known.
    needs : what would decide it where seeds would not.
    """

    text: str
    side: str
    holds: bool | None
    effect: Effect | None = None
    units: tuple[Effect, ...] = ()
    p: float = math.nan
    note: str = ""
    rule: str = ""
    every: bool = False
    some: bool = False
    lacks: tuple[str, ...] = ()
    refuted: bool = False
    seeds_needed: int = 0
    needs: str = ""


def sensitive(effect: Effect, claim: Claim) -> bool:
    """True if the worst control costs so many standard errors of the effect that an effect would have been seen."""
    return effect.error > 0 and effect.sensitivity >= claim.sensitivity * effect.error


def evaluate(statement: Statement, claim: Claim, tables: Sequence[RunTable], *, side: str) -> Finding:
    """Evaluate a statement about runs; `tables` is one table, or for trend all tables of one family."""
    rules = {"slope": _slope, "knee": _bend, "straight": _bend, "trend": _trend, "rank": _rank, "ordered": _ordered}
    found = rules.get(statement.rule, _difference)(statement, claim, tables, side)
    some = statement.over == "any" or statement.falls
    margin = claim.margin_of(statement) * POINT
    refuted = found.effect is not None and _refuted(statement.rule, found.effect, margin)
    needed = 0
    if found.effect is not None and not found.effect.printed and statement.rule in ("above", "below", "within"):
        margins = (-margin, margin) if statement.rule == "within" else (margin,)
        tests = 1 if statement.over == "mean" else max(1, len(found.units))
        needed = seeds_to_decide(found.effect, margins, tests=tests)
    return replace(
        found, rule=statement.rule, every=statement.over == "every", some=some, refuted=refuted, seeds_needed=needed
    )


def _refuted(rule: str, effect: Effect, margin: float) -> bool:
    """True if the whole interval is on the other side of a statement's margin."""
    if rule == "within":
        return effect.above(margin) or effect.below(-margin)
    return effect.below(margin) if rule == "above" else effect.above(margin) if rule == "below" else False


def words(statement: Statement, claim: Claim) -> str:
    """Return a statement in words."""
    s, margin = statement, claim.margin_of(statement)
    points = counted(abs(margin), "point")
    where = {"mean": "", "every": f", for every {s.by}", "any": f", for some {s.by}"}[s.over]
    if s.rule in ("above", "below"):
        off = "" if not margin else f" by more than {points}" if (margin > 0) == (s.rule == "above") else ""
        if s.rule == "above":
            not_below = f"{s.of} is not below {s.than} by {points}{where}"
            return not_below if margin < 0 else f"{s.of} is above {s.than}{off}{where}"
        if margin > 0:
            return f"{s.of} is not above {s.than} by {points}{where}"
        return f"{s.of} is below {s.than}{off}{where}"
    texts = {
        "within": f"{s.of} equals {s.than} within {points}{where}",
        "slope": f"{s.of} changes with the number of layers by less than {points} in all",
        "kept": f"{s.of} keeps {s.low:g} to {s.high:g} % of {s.than}",
        "knee": f"the curve of {s.of} bends ({s.shape}) at {s.low:g} to {s.high:g} layers"
        + (f" of {s.layers}" if s.layers else ""),
        "straight": f"the curve of {s.of} does not bend ({s.shape})",
        "trend": f"{s.of} less {s.than} does not change with D / f^2"
        if s.flat
        else f"{s.of} less {s.than} falls with D / f^2, from above {points} to below",
        "rank": f"accuracy rises with the source's training images (rho {s.side} {margin:g})"
        if s.side == "above"
        else f"accuracy does not rise with the source's training images (rho below {margin:g})",
        "ordered": f"{s.of} falls from some source to the next better one"
        if s.falls
        else f"{s.of} rises from every source to the next better one",
        "share": f"of every bank, by {points} more filters are a x + b of eight than of covariance noise"
        if s.side == "above"
        else f"of some bank, not by {points} more filters are a x + b of eight than of covariance noise",
        "likeness": "two domains' filters are closer than noise of their layers' covariance, without a common parent"
        if s.side == "closer"
        else "all pairs of domains that are closer than chance have a common parent",
        "agreement": f"with eight filters ({s.of}) a network keeps "
        f"{'at least' if s.side == 'above' else 'less than'} {margin:g} % of its answers",
    }
    return texts[s.rule]


def _open(statement: Statement, claim: Claim, side: str, note: str) -> Finding:
    return Finding(words(statement, claim), side, None, note=note)


def _difference(s: Statement, claim: Claim, tables: Sequence[RunTable], side: str) -> Finding:
    table, margin = tables[0], claim.margin_of(s) * POINT
    by = "pair" if s.by == "pair" else "target"
    units = effects_of(table, s.of, s.than, by=by, controls=claim.controls)
    if not units:
        lacking = [arm for arm in (s.of, s.than) if not table.targets(arm)]
        return _open(s, claim, side, f"{' and '.join(lacking) or f'{s.of} and {s.than} on one target'}")
    text = words(s, claim)
    if s.rule == "kept":
        return _kept(s, claim, table, units, side)
    if s.over == "mean":
        effect = mean_effect(units, _mean_label(units))
        return Finding(
            text, side, _holds(s.rule, effect, margin), effect, units, _p(s.rule, effect, margin), _spread(units)
        )
    lowest = (s.rule == "above") == (s.over == "every")  # the unit that decides: the one farthest from "every",
    worst = (min if lowest else max)(units, key=lambda e: e.difference)  # or nearest to "any"
    if s.over == "every":
        return Finding(
            text, side, all(_holds(s.rule, e, margin) for e in units), worst, units, _p(s.rule, worst, margin)
        )
    shown, p = _some(s.rule, _eligible(units, claim), margin)
    note = f"{len(shown)} of {len(units)}: {', '.join(e.label for e in shown)}" if shown else ""
    return Finding(text, side, bool(shown), worst, units, p, note)


def _spread(units: Sequence[Effect]) -> str:
    """Say how far targets differ, and what the interval is with them as units: that of targets like these."""
    if len(units) < 2 or any(e.printed for e in units):
        return ""
    low, high = least(units, lambda e: e.difference), least(units, lambda e: -e.difference)
    ends = [f"{100 * some[0].difference:+.1f} ({listed(e.label for e in some)})" for some in (low, high)]
    text = f"from {' to '.join(ends)}"
    test = one_sample([e.difference for e in units]).of_shares()
    if math.isnan(test.half_width):
        return text
    span = [100 * (test.difference + sign * test.half_width) for sign in (-1, 1)]
    return f"{text}; with the {counted(len(units), 'target')} as units {span[0]:.1f} to {span[1]:.1f}"


def _mean_label(units: Sequence[Effect]) -> str:
    return units[0].label if len(units) == 1 else f"mean of {counted(len(units), 'target')}"


def _holds(rule: str, effect: Effect, margin: float) -> bool:
    if rule == "within":
        return effect.above(-margin) and effect.below(margin)
    return effect.above(margin) if rule == "above" else effect.below(margin)


def _p(rule: str, effect: Effect, margin: float) -> float:
    if rule == "within":
        return tost(effect.difference, effect.error, effect.freedom, margin=margin)
    return effect.p_side(margin, rule)


def _eligible(units: Sequence[Effect], claim: Claim) -> list[Effect]:
    """Return the units that may decide by themselves: printed ones, or those with enough seeds and sensitivity."""
    return [e for e in units if e.printed or (min(e.seeds) >= claim.seeds and sensitive(e, claim))]


def _some(rule: str, units: Sequence[Effect], margin: float) -> tuple[list[Effect], float]:
    """Return the units for which a one-sided statement holds, by Holm's method over units, and the smallest p."""
    if any(e.printed for e in units):
        return [e for e in units if _holds(rule, e, margin)], math.nan
    ordered = sorted((e for e in units if not math.isnan(_p(rule, e, margin))), key=lambda e: _p(rule, e, margin))
    shown: list[Effect] = []
    for i, effect in enumerate(ordered):
        if _p(rule, effect, margin) * (len(ordered) - i) > SIDE:
            break
        shown.append(effect)
    p = min(1.0, _p(rule, ordered[0], margin) * len(ordered)) if ordered else math.nan
    return [e for e in units if e in shown], p


def _kept(s: Statement, claim: Claim, table: RunTable, units: tuple[Effect, ...], side: str) -> Finding:
    """Fieller's way: a ratio lies between two bounds if a - low b is above 0 and a - high b below."""
    text = words(s, claim)
    ends = [
        mean_effect(effects_of(table, s.of, s.than, controls=claim.controls, factor=bound / 100), "")
        for bound in (s.low, s.high)
    ]
    effect = mean_effect(units, _mean_label(units))
    p = max(ends[0].p_side(0.0, "above"), ends[1].p_side(0.0, "below")) if not effect.printed else math.nan
    base = mean([mean(list(a.top1.values())) for t in table.targets(s.of) for a in table.at(s.than, t, 0)])
    kept = 100 * (1 + effect.difference / base) if base else math.nan
    return Finding(text, side, ends[0].above(0.0) and ends[1].below(0.0), effect, units, p, f"{kept:.1f} % kept")


def _slope(s: Statement, claim: Claim, tables: Sequence[RunTable], side: str) -> Finding:
    table, margin = tables[0], claim.margin_of(s) * POINT
    found = [(t, e) for t in table.targets(s.of) if (e := slope_effect(table, s.of, t)) is not None]
    drops = [control_drop(table, t, claim.controls, layers=table.scale.layers) for t, _ in found]
    units = tuple(
        replace(e, sensitivity=drop, control=control) for (_, e), (drop, control) in zip(found, drops, strict=True)
    )
    if not units:
        return _open(s, claim, side, f"{s.of} at three or more numbers of layers")
    effect = mean_effect(units, _mean_label(units))
    return Finding(words(s, claim), side, _holds("within", effect, margin), effect, units, _p("within", effect, margin))


def _bend(s: Statement, claim: Claim, tables: Sequence[RunTable], side: str) -> Finding:
    table = tables[0]
    best: tuple[int, str] = max(((len(curve_of(table, s.of, t)), t) for t in table.targets(s.of)), default=(0, ""))
    curve = curve_of(table, s.of, best[1])
    seeds = common_seeds(list(curve.values()))
    bend = (
        fit_bend({n: np.array([a.top1[x] for x in seeds]) for n, a in curve.items()}, shape=s.shape) if seeds else None
    )
    if bend is None:
        return _open(s, claim, side, f"{s.of} at four or more numbers of layers")
    factor = table.scale.layers / s.layers if s.layers else 1.0  # a knee is named in layers of the paper's network
    low, high = s.low * factor, s.high * factor
    holds = bend.gain <= 0 if s.rule == "straight" else bend.gain > 0 and low <= bend.low and bend.high <= high
    span = f", 95 % {bend.low:g} to {bend.high:g}" if not math.isnan(bend.low) else ""
    better = "better than" if bend.gain > 0 else "no better than"
    how = f"knee at {bend.knot:g} of {counted(table.scale.layers, 'layer')}{span}; two pieces are {better} a line"
    ends = curve[max(curve)], curve[min(curve)]
    rise = [ends[0].top1[x] - ends[1].top1[x] for x in seeds]
    drop, control = control_drop(table, best[1], claim.controls, layers=table.scale.layers)
    effect = of_test(best[1], one_sample(rise), seeds=(len(seeds), len(seeds)))
    effect = replace(effect, sensitivity=drop, control=control)
    return Finding(words(s, claim), side, holds, effect, (), math.nan, how)


def _trend(s: Statement, claim: Claim, tables: Sequence[RunTable], side: str) -> Finding:
    """Weighted least squares of the difference on log2(D / f^2), and the difference at both ends.

    The line of `mkfa.results.trends` describes the settings that were trained. A claim is about others too, so settings
    count by their errors here, and what they differ by beyond these widens the interval.
    """
    margin = claim.margin_of(s) * POINT
    found = []
    for table in sorted(tables, key=lambda t: t.ratio):
        units = effects_of(table, s.of, s.than, controls=claim.controls)
        if units and not math.isnan(table.ratio):
            effect = mean_effect(units, _mean_label(units))
            found.append((math.log2(table.ratio), replace(effect, label=f"D / f^2 = {table.ratio:.2f}")))
    usable = [(x, e) for x, e in found if e.error > 0]
    if len({x for x, _ in usable}) < 3:
        return _open(s, claim, side, f"{s.of} and {s.than} at three or more widths or kernels")
    x = np.array([x for x, _ in usable])
    y = np.array([e.difference for _, e in usable])
    weight = np.array([1 / e.error**2 for _, e in usable])
    middle = float((weight * x).sum() / weight.sum())
    spread = float((weight * (x - middle) ** 2).sum())
    slope = float((weight * (x - middle) * y).sum() / spread)
    rest = y - float((weight * y).sum() / weight.sum()) - slope * (x - middle)
    excess = max(1.0, float((weight * rest**2).sum()) / (len(x) - 2))  # settings differ by more than their errors say
    known = sum(e.freedom for _, e in usable)  # their errors explain the rest: they are known from so many seeds
    error, freedom = math.sqrt(excess / spread), known if excess == 1.0 else float(len(x) - 2)
    from scipy.stats import t

    reach = float(x.max() - x.min())
    width = of_shares(reach * float(t.ppf(1 - SIDE, freedom)) * error)
    first, last = usable[0][1], usable[-1][1]
    seeds = (min(e.seeds[0] for _, e in usable), min(e.seeds[1] for _, e in usable))
    drop = mean([e.sensitivity for _, e in usable])
    effect = Effect(
        f"from D / f^2 = {first.label.rpartition(' ')[2]} to {last.label.rpartition(' ')[2]}",
        reach * slope,
        reach * slope - width,
        reach * slope + width,
        reach * error,
        freedom,
        float(2 * t.sf(abs(slope) / error, freedom)),
        seeds,
        of_shares(reach * float(t.ppf(1 - SIDE, freedom) + t.ppf(POWER, freedom)) * error),
        drop,
        first.control,
    )
    if s.flat:
        holds, p = _holds("within", effect, margin), _p("within", effect, margin)
    else:
        holds, p = effect.below(0.0) and first.above(margin) and last.below(margin), effect.p_side(0.0, "below")
    note = "; ".join(f"{e.label}: {100 * e.difference:+.1f}" for _, e in usable)
    needs = (
        ""
        if holds
        else _trend_needs(
            effect,
            x,
            slope=slope,
            height=float((weight * y).sum() / weight.sum()) - slope * middle,
            margin=margin,
            excess=excess,
        )
    )
    return Finding(words(s, claim), side, holds, effect, tuple(e for _, e in usable), p, note, needs=needs)


def _trend_needs(effect: Effect, x: F64, *, slope: float, height: float, margin: float, excess: float) -> str:
    """Say how many settings would show the slope, and at which D / f^2 its line is below the margin.

    Parameters
    ----------
    x : (n,) logarithms of D / f^2 of the settings.
    slope, height : of the line, a share for each doubling, and at D / f^2 = 1.
    excess : how much farther the settings lie from the line than their own errors say, as a ratio of variances.
    """
    from scipy.stats import t

    parts = []
    if excess > 1 and not (effect.above(0.0) or effect.below(0.0)):
        counts = np.arange(len(x) + 1, MOST_SEEDS)
        width = t.ppf(1 - SIDE, counts - 2) * effect.error * np.sqrt(len(x) / counts)
        enough = counts[width < abs(effect.difference)]
        parts.append(
            f"the settings lie {math.sqrt(excess):.1f} times as far from the line as their errors say, so that more "
            f"seeds do not help: about {counted(enough[0], 'setting')} over this range would show a slope like this one"
            if len(enough)
            else "no number of settings over this range would show a slope like this one"
        )
    if slope < 0:
        reached = 2 ** ((margin - height) / slope)
        where = (
            f"at D / f^2 = {reached:.3g} (with 3x3 kernels, {9 * reached:,.0f} channels)"
            if reached < FARTHEST
            else f"beyond D / f^2 = {FARTHEST}"
        )
        parts.append(f"this line reaches {counted(100 * margin, 'point')} {where}")
    return "; ".join(parts)


def _rank(s: Statement, claim: Claim, tables: Sequence[RunTable], side: str) -> Finding:
    from scipy.stats import spearmanr, t

    table = tables[0]
    units, rhos, drops, fewest = [], [], [], 99
    for target in table.targets(s.of):
        sources = [x for x in table.sources(s.of, target) if x != target and table.images.get(x)]
        if len(sources) < 3:
            continue
        fewest = min(fewest, len(sources))
        count = table.scale.layers
        top1 = [mean([v for a in table.at(s.of, target, count, x) for v in a.top1.values()]) for x in sources]
        rhos.append(float(spearmanr([table.images[x] for x in sources], top1).statistic))
        seeds = min(len(a.top1) for x in sources for a in table.at(s.of, target, count, x))
        units.append((target, seeds))
        drops.append(control_drop(table, target, claim.controls, layers=count))
    if len(rhos) < 2:
        return _open(s, claim, side, f"{s.of} from three or more sources on two or more targets")
    test = one_sample(rhos)
    seeds = min(number for _, number in units)
    label = f"Spearman's rho, mean of {counted(len(rhos), 'target')}"
    if test.error == 0:  # all targets agree: the error of a mean of rhos if size did not matter (Kendall 1948)
        error, freedom = math.sqrt(1 / (fewest - 1) / len(rhos)), len(rhos) - 1.0
        width = float(t.ppf(1 - SIDE, freedom)) * error
        test = replace(
            test,
            half_width=width,
            error=error,
            freedom=freedom,
            p=float(2 * t.sf(abs(test.difference) / error, freedom)),
        )
    effect = replace(
        of_test(label, test, seeds=(seeds, seeds)),
        unit="rho",
        sensitivity=mean([drop for drop, _ in drops]),
        control=controls_in_words([control for _, control in drops]),
    )
    holds = effect.above(s.margin or 0.0) if s.side == "above" else effect.below(s.margin or 0.0)
    note = ", ".join(f"{target} {rho:+.2f}" for (target, _), rho in zip(units, rhos, strict=True))
    if not table.scale.equal_steps:
        return Finding(
            words(s, claim), side, None, effect, (), math.nan, f"sources trained for equally many steps ({note})"
        )
    parts = tuple(
        replace(printed_effect(target, rho), unit="rho") for (target, _), rho in zip(units, rhos, strict=True)
    )
    return Finding(words(s, claim), side, holds, effect, parts, effect.p_side(s.margin or 0.0, s.side), note)


def _ordered(s: Statement, claim: Claim, tables: Sequence[RunTable], side: str) -> Finding:
    """Differences of neighbours in the claim's order, on every target that has them."""
    table = tables[0]
    orders = claim.printed.get("orders", ()) if table.printed else (claim.order,)
    units: list[Effect] = []
    count = table.scale.layers
    for target in table.targets(s.of):
        drop, control = control_drop(table, target, claim.controls, layers=count)
        for order in orders:
            known = [x for x in order if table.at(s.of, target, count, x)]
            for before, after in pairwise(known):
                a, b = (table.at(s.of, target, count, x)[0] for x in (after, before))
                label = f"{after} less {before}, on {target}"
                effect = difference(label, a, b, paired=True, printed=table.printed)
                units.append(replace(effect, sensitivity=drop, control=control))
    if not units or (not s.falls and len(units) < 3):
        return _open(s, claim, side, f"{s.of} from four or more ordered sources")
    worst = min(units, key=lambda e: e.difference)
    if s.falls:
        shown, p = _some("below", _eligible(units, claim), 0.0)
        return Finding(words(s, claim), side, bool(shown), worst, tuple(units), p, ", ".join(e.label for e in shown))
    holds = all(e.above(0.0) for e in units)
    return Finding(words(s, claim), side, holds, worst, tuple(units), worst.p_side(0.0, "above"))
