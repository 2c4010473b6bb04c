"""Differences between arms with their errors, by which statements are judged (accuracies are shares, 0-1).

A difference is Welch's, over seeds and test images, as in `mkfa.results.contrasts`. The mean over targets adds their
variances: targets have test images and seeds of their own, and are taken as given (the verdict names them), so that the
interval is about other seeds and other images, not about other domains.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mkfa.evidence.run_table import RunTable
from mkfa.results.image_error import NONE, Answers, error_of_difference
from mkfa.several import least
from mkfa.stats.equivalence import SIDE, p_above, p_below
from mkfa.stats.intervals import POWER, ROUNDING, Welch, mean, of_shares, one_sample, welch
from mkfa.training.spec import BASE
from mkfa.words import listed

MOST_SEEDS = 1000
"""Beyond this many seeds a difference is too near its margin to be decided."""


@dataclass(frozen=True, slots=True)
class Effect:
    """A difference with its interval.

    Attributes
    ----------
    label : what it is of: a target, a pair "source -> target", or "mean of N targets".
    difference, low, high : shares; the interval is NaN with fewer than two seeds, with equal ones, and where half of it
        is above 1 (`mkfa.stats.intervals.of_shares`); for printed numbers, which have no error, it is the difference.
    error, freedom : standard error and degrees of freedom; NaN without an interval.
    p : two-sided p-value of no difference.
    seeds : number of seeds of each side, the smaller numbers where units are averaged.
    detectable : smallest true difference that shows (p < .05) in four of five such experiments.
    sensitivity : how large an effect of what is planted would be; NaN if that is unknown. Of runs the base runs less
        the worst control, a share also where ranks are judged; of banks and grafts in the effect's unit.
    control : what that is of: an arm and its target, a vocabulary, filters.
    test_error : standard error that the test images cause.
    printed : True for printed numbers.
    unit : "points" (differences of shares, times 100), "%" (a share), "rho" or "cosine".
    sample : what an effect of banks or grafts rests on: filters, layers or images, draws and seed; "" for runs.
    """

    label: str
    difference: float
    low: float = math.nan
    high: float = math.nan
    error: float = math.nan
    freedom: float = math.nan
    p: float = math.nan
    seeds: tuple[int, int] = (1, 1)
    detectable: float = math.nan
    sensitivity: float = math.nan
    control: str = ""
    test_error: float = 0.0
    printed: bool = False
    unit: str = "points"
    sample: str = ""

    @property
    def known(self) -> bool:
        """True if it has an interval, or is printed."""
        return self.printed or not math.isnan(self.low)

    def above(self, margin: float) -> bool:
        """True if the whole interval is above a margin (a share)."""
        return self.low > margin + ROUNDING

    def below(self, margin: float) -> bool:
        """True if the whole interval is below a margin."""
        return self.high < margin - ROUNDING

    def p_side(self, margin: float, side: str) -> float:
        """Return the one-sided p-value of a difference "above" or "below" a margin; NaN without an error."""
        test = p_above if side == "above" else p_below
        return test(self.difference, self.error, self.freedom, margin=margin)


def printed_effect(label: str, difference: float, **more: float) -> Effect:
    """Return a printed difference, which stands for its interval."""
    value = round(difference, 9)
    return Effect(label, value, value, value, printed=True, **more)  # type: ignore[arg-type]


def combined(points: Sequence[Answers], weights: Sequence[float], seeds: Sequence[int]) -> Answers:
    """Return a weighted sum of points, seed by seed and image by image."""
    top1 = {seed: sum(w * p.top1[seed] for p, w in zip(points, weights, strict=True)) for seed in seeds}
    images = {p.images for p in points}
    right = None
    if len(images) == 1 and all(p.right is not None for p in points):
        right = {
            seed: np.sum([w * (p.right or {})[seed] for p, w in zip(points, weights, strict=True)], axis=0)
            for seed in seeds
        }
    return Answers(top1, images.pop() if len(images) == 1 else 0, right)


def common_seeds(points: Sequence[Answers]) -> list[int]:
    """Return the seeds that all points have."""
    return sorted(set(points[0].top1).intersection(*(p.top1 for p in points))) if points else []


def average(points: Sequence[Answers]) -> Answers | None:
    """Return the mean of points over their common seeds; None without points or common seeds."""
    seeds = common_seeds(points)
    return combined(points, [1 / len(points)] * len(points), seeds) if seeds else None


def difference(
    label: str, a: Answers, b: Answers, *, paired: bool, printed: bool = False, factor: float = 1.0
) -> Effect:
    """Return mean(a) - factor * mean(b).

    Parameters
    ----------
    paired : the sides share seeds (both have planted filters), so that only common seeds count.
    """
    if paired and (both := sorted(set(a.top1) & set(b.top1))):
        a, b = (combined([side], [1.0], both) for side in (a, b))
    if factor != 1.0:
        b = combined([b], [factor], sorted(b.top1))
    if printed:
        return printed_effect(label, mean(list(a.top1.values())) - mean(list(b.top1.values())))
    images = error_of_difference(a, b) if factor == 1.0 or (a.right and b.right) else NONE
    test = welch(list(a.top1.values()), list(b.top1.values()), further=images.variance)
    return of_test(label, test, seeds=(len(a.top1), len(b.top1)), test_error=images.sd)


def of_test(label: str, test: Welch, *, seeds: tuple[int, int], test_error: float = 0.0) -> Effect:
    """Return a test's difference of shares as an effect; without an interval if seeds do not differ, or too much."""
    test = test.of_shares()
    width = test.half_width if test.error > 0 else math.nan
    return Effect(
        label,
        test.difference,
        test.difference - width,
        test.difference + width,
        test.error,
        test.freedom,
        test.p,
        seeds,
        test.detectable,
        test_error=test_error,
    )


def seeds_to_decide(effect: Effect, margins: Sequence[float], *, tests: int = 1) -> int:
    """Return the smallest number of seeds per side with which the interval of the same difference contains no margin.

    The variance between seeds falls with their number, that of the test images stays. 0: it is decided already, or is
    not up to `MOST_SEEDS` seeds.

    Parameters
    ----------
    margins : shares.
    tests : number of units that are tested together (Bonferroni).

    Examples
    --------
    >>> seeds_to_decide(Effect("digits", 0.0, -0.02, 0.02, error=0.01, freedom=8, seeds=(5, 5)), (-0.01, 0.01))
    21
    """
    from scipy.stats import t

    now = min(effect.seeds)
    between = effect.error**2 - effect.test_error**2
    if now < 2 or not (between > 0 and effect.freedom > 0):
        return 0
    count = np.arange(now + 1, MOST_SEEDS + 1)
    parts = between * now / count
    variance = parts + effect.test_error**2
    # Satterthwaite's sum of squared parts over their degrees of freedom, each of which is the number of seeds less one
    squares = effect.error**4 / effect.freedom * (now / count) ** 2 * (now - 1) / (count - 1)
    width = t.ppf(1 - SIDE / tests, variance**2 / squares) * np.sqrt(variance)
    nearest = min(abs(effect.difference - margin) for margin in margins)
    enough = np.flatnonzero(width < nearest)
    decided = effect.high - effect.difference < nearest
    return int(count[enough[0]]) if len(enough) and not decided else 0


def mean_effect(effects: Sequence[Effect], label: str) -> Effect:
    """Return the mean of independent effects, by Welch and Satterthwaite; of printed ones, their mean."""
    if len(effects) == 1:
        return effects[0]
    value = mean([e.difference for e in effects])
    drop = mean([e.sensitivity for e in effects])
    control = controls_in_words([e.control for e in effects])
    if effects[0].printed:
        return replace(printed_effect(label, value), sensitivity=drop)
    from scipy.stats import t

    parts = [(e.error / len(effects)) ** 2 for e in effects]
    error = math.sqrt(sum(parts))
    freedom = (
        sum(parts) ** 2 / sum(p**2 / e.freedom for p, e in zip(parts, effects, strict=True)) if error else math.nan
    )
    known = error > 0 and freedom > 0
    critical = float(t.ppf(1 - SIDE, freedom)) if known else math.nan
    width = of_shares(critical * error)
    return Effect(
        label,
        value,
        value - width,
        value + width,
        error,
        freedom,
        float(2 * t.sf(abs(value) / error, freedom)) if known else math.nan,
        (min(e.seeds[0] for e in effects), min(e.seeds[1] for e in effects)),
        of_shares((critical + float(t.ppf(POWER, freedom))) * error) if known else math.nan,
        drop,
        control,
        math.sqrt(sum(e.test_error**2 for e in effects)) / len(effects),
    )


def effects_of(
    table: RunTable,
    of: str,
    than: str,
    *,
    by: str = "target",
    controls: Sequence[str] = (),
    factor: float = 1.0,
    layers: int | None = None,
) -> tuple[Effect, ...]:
    """Return the difference of two arms on every target, or for every pair of source and target.

    Sources of an arm on one target are averaged seed by seed, since they share the target's images and seeds. Where
    both arms have sources of some domains in common, only these count.

    Parameters
    ----------
    of, than : arms.
    controls : arms whose worst, on the same target, says what the experiment could have seen.
    factor : `than` is multiplied by it.
    layers : number of layers; default: the table's largest.
    """
    count = table.scale.layers if layers is None else layers
    made = []
    for target in table.targets(of if of != BASE else than):
        drop, control = control_drop(table, target, controls, layers=count)
        for label, a, b in _sides(table, (of, than), target, by=by, layers=count):
            effect = difference(label, a, b, paired=BASE not in (of, than), printed=table.printed, factor=factor)
            made.append(replace(effect, sensitivity=drop, control=control))
    return tuple(made)


def _sides(
    table: RunTable, arms: tuple[str, str], target: str, *, by: str, layers: int
) -> list[tuple[str, Answers, Answers]]:
    if by == "target":
        given = [{_domain(source) for source in table.sources(arm, target)} - {""} for arm in arms]
        common = given[0] & given[1]
        a, b = (average(_of_domains(table, arm, target, layers, common)) for arm in arms)
        return [(target, a, b)] if a is not None and b is not None else []
    pairs = []
    for source in table.sources(arms[0], target):
        same = _of_domains(table, arms[1], target, layers, {_domain(source)})
        a, b = average(table.at(arms[0], target, layers, source)), average(same or table.at(arms[1], target, layers))
        if a is not None and b is not None:
            pairs.append((f"{source or arms[0]} -> {target}", a, b))
    return pairs


def _domain(source: str) -> str:
    """Return the domain of a source; one of another network is called "domain+network"."""
    return source.partition("+")[0]


def _of_domains(table: RunTable, arm: str, target: str, layers: int, domains: Collection[str]) -> list[Answers]:
    """Return an arm's points whose sources are of these domains; all of them for no domains."""
    if not domains:
        return table.at(arm, target, layers)
    sources = [source for source in table.sources(arm, target) if _domain(source) in domains]
    return [answers for source in sources for answers in table.at(arm, target, layers, source)]


def control_drop(table: RunTable, target: str, controls: Sequence[str], *, layers: int) -> tuple[float, str]:
    """Return how far the worst controls on a target lie below its base runs, and which they are; NaN without one."""
    base = average(table.at(BASE, target, 0))
    worst = [
        (mean(list(found.top1.values())), arm)
        for arm in controls
        if (found := average(table.at(arm, target, layers))) is not None
    ]
    if base is None or not worst:
        return math.nan, ""
    lowest = least(worst, lambda pair: pair[0])
    return mean(list(base.top1.values())) - lowest[0][0], f"{listed(arm for _, arm in lowest)} on {target}"


def controls_in_words(controls: Sequence[str]) -> str:
    """Return the worst controls of several targets, each arm once.

    Examples
    --------
    >>> controls_in_words(["delta on letters", "box on digits", "delta on emoji", ""])
    'delta on letters, emoji; box on digits'
    """
    targets: dict[str, list[str]] = {}
    for arm, _, target in (text.partition(" on ") for text in dict.fromkeys(controls) if text):
        targets.setdefault(arm, []).append(target)
    return "; ".join(f"{arm} on {', '.join(found)}" for arm, found in targets.items())


def curve_of(table: RunTable, arm: str, target: str) -> Mapping[int, Answers]:
    """Return an arm's points on a target by number of layers, averaged over sources, with the base runs at 0.

    If there are sources with a point at every number of layers, only these count: otherwise a step in the curve could
    come from a change of sources.
    """
    numbers = sorted({p.layers for p in table.points if (p.arm, p.target) == (arm, target)})
    common = {s for s in table.sources(arm, target) if all(table.at(arm, target, n, s) for n in numbers)}
    found = {n: average(_of_domains(table, arm, target, n, common)) for n in numbers}
    base = average(table.at(BASE, target, 0))
    points = {n: answers for n, answers in found.items() if answers is not None}
    return ({0: base} if base is not None else {}) | points


def slope_effect(table: RunTable, arm: str, target: str) -> Effect | None:
    """Return the change of an arm's accuracy from the first to the last number of layers, by least squares.

    None with fewer than three numbers of layers. The base runs are not part of the line.
    """
    curve = {n: answers for n, answers in curve_of(table, arm, target).items() if n}
    seeds = common_seeds(list(curve.values()))
    if len(curve) < 3 or not seeds:
        return None
    numbers = np.array(list(curve), float)
    centred = numbers - numbers.mean()
    weights = centred / (centred**2).sum() * (numbers.max() - numbers.min())
    line = combined(list(curve.values()), [float(w) for w in weights], seeds)
    images = _variance(line)
    test = one_sample([line.top1[seed] for seed in seeds], further=images)
    return of_test(target, test, seeds=(len(seeds), len(seeds)), test_error=math.sqrt(images))


def _variance(answers: Answers) -> float:
    """Return the variance that other test images would add to a mean over seeds; 0 if they are unknown."""
    from mkfa.results.image_error import image_variance

    return image_variance(np.stack(list(answers.right.values()))) if answers.right and answers.images > 1 else 0.0
