"""How accuracies, and differences between arms, change along an axis: layers, D / f^2, steps (numpy and scipy only).

The slope is that of the least-squares line through the settings, all with equal weight. It is a weighted sum of the
settings' means, so its variance is the same weighted sum of theirs: between seeds, each side of each setting on its own
(Satterthwaite 1946 for the degrees of freedom, as in Welch's test), and between test images, which all settings share
(`mkfa.results.image_error`), so that their covariances count. Runs of a seed at several settings are positively
correlated where anything is: that makes the interval too wide, not too narrow. `paired` is the interval of the slopes
seed by seed, which uses that correlation but has the degrees of freedom of the seeds alone.

Accuracies and differences are shares (0-1).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mkfa.array_types import F64
from mkfa.frozen import ByContent
from mkfa.results.contrasts import REFERENCE, points_of
from mkfa.results.image_error import Answers, error_of_difference, image_variance
from mkfa.results.record import RunRecord
from mkfa.stats.intervals import LEVEL, ROUNDING, UNKNOWN, mean, of_shares, paired_half_width
from mkfa.training.spec import BASE
from mkfa.words import counted

MARGIN = 0.01
"""A difference of a point of top-1: where a fitted line crosses it, the difference ceases to matter."""
PERMUTATIONS = 9999
REACH = 2
"""How far beyond the settings, in their spans, a place on their line is given in numbers."""
LEAST = 5
"""Fewest settings for a rank correlation: with fewer, p cannot reach .05."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Trend(ByContent):
    """The line through a series, or through the difference of two, along an axis.

    Attributes
    ----------
    axis : "layers", "D / f^2" or "steps".
    series, against : names of arms; `against` is "" for a series alone.
    x : the settings' places on the axis; `doubling` says whether the line is one in their logarithm.
    values, half_widths : accuracies, or differences, at these settings, and half the width of their 95 % intervals.
    doubling : True: `slope` is the change for each doubling of x; False: for each unit.
    slope, half_width, p : float
        The slope, half the width of its interval, and the p-value of its test against 0; NaN with one seed. Half widths
        above 1 are NaN too (`mkfa.stats.intervals.of_shares`).
    paired : half the width of the interval of the slopes seed by seed; NaN for one common seed.
    rho, p_rho : spearman's rank correlation of the values with x, and its two-sided permutation p over settings; NaN
        for fewer than `LEAST` settings.
    margin : `crossing` is where the line reaches it; NaN where the slope's interval contains 0.
    crossing : tuple of three floats
        The place, and its 95 % interval (Fieller 1954); NaN as above, and for a series alone.
    seeds : fewest seeds of a side.
    """

    axis: str
    series: str
    against: str
    x: tuple[float, ...]
    values: tuple[float, ...]
    half_widths: tuple[float, ...]
    doubling: bool
    slope: float
    half_width: float
    p: float
    paired: float
    rho: float
    p_rho: float
    margin: float
    crossing: tuple[float, float, float]
    seeds: int

    @property
    def shown(self) -> bool:
        """True if the slope's interval excludes 0."""
        return abs(self.slope) > self.half_width


Side = tuple[Answers, Answers | None]
"""The runs of one setting: of a series, and of what it is compared with, if anything."""


class Settings:
    """The values at some settings, and the variance of any weighted sum of them."""

    def __init__(self, sides: Sequence[Side]) -> None:
        self.sides = sides
        self.values = np.array([_mean(a) - (_mean(b) if b else 0.0) for a, b in sides])
        self.parts = [
            (i, float(np.var(list(side.top1.values()), ddof=1)) / len(side.top1), len(side.top1) - 1)
            for i, pair in enumerate(sides)
            for side in pair
            if side is not None and len(side.top1) > 1
        ]
        self.known = all(len(side.top1) > 1 for pair in sides for side in pair if side is not None)
        self.images = _image_covariance(sides)

    def combine(self, weights: F64) -> tuple[float, float, float]:
        """Return the weighted sum of the values, its standard error, and the degrees of freedom of that."""
        value = float(weights @ self.values)
        parts = [(weights[i] ** 2 * variance, freedom) for i, variance, freedom in self.parts]
        between = sum(variance for variance, _ in parts)
        total = between + self.image_variance(weights)
        used = [i for i in range(len(weights)) if weights[i]]
        if not self.known or not used or between <= ROUNDING**2:
            return value, math.nan, math.nan
        freedom = total**2 / sum(variance**2 / count for variance, count in parts if variance)
        return value, math.sqrt(total), freedom

    def image_variance(self, weights: F64) -> float:
        """Return what the test images add to the variance of a weighted sum."""
        return max(0.0, float(weights @ self.images @ weights))

    def by_seed(self, weights: F64) -> list[float]:
        """Return the weighted sum for each seed that all settings have."""
        every = [side for pair in self.sides for side in pair if side is not None]
        seeds = sorted(set(every[0].top1).intersection(*(side.top1 for side in every)))
        return [float(weights @ [a.top1[seed] - (b.top1[seed] if b else 0.0) for a, b in self.sides]) for seed in seeds]


def make_trend(
    axis: str,
    names: tuple[str, str],
    *,
    x: Sequence[float],
    sides: Sequence[Side],
    doubling: bool,
    beside: Sequence[Sequence[float]] = (),
    margin: float = MARGIN,
) -> Trend | None:
    """Fit the line of a series, or of the difference of two, along an axis; None if x has fewer than two values.

    Parameters
    ----------
    names : the series and what it is compared with, "" for nothing.
    x : (n,) the settings' places.
    sides : (n,) their runs.
    doubling : take the logarithm of x.
    beside : other axes along which settings differ, already on the scale of their lines; the slope is then the one at
        fixed places on these.
    """
    place = np.log2(np.asarray(x, np.float64)) if doubling else np.asarray(x, np.float64)
    design = np.column_stack([np.ones(len(place)), place - place.mean(), *(_centred(other) for other in beside)])
    if len(sides) < 2 or np.linalg.matrix_rank(design) < design.shape[1]:
        return None
    settings = Settings(sides)
    fit = np.linalg.pinv(design)  # rows: weights of the mean and of each slope
    slope, error, freedom = settings.combine(fit[1])
    reach = of_shares(_critical(freedom) * error)
    each = [settings.combine(np.eye(len(sides))[i]) for i in range(len(sides))]
    rho, p_rho = rank_correlation(place, settings.values)
    seeds = settings.by_seed(fit[1]) if names[1] != BASE else []  # base runs start from weights of their own
    return Trend(
        axis,
        *names,
        tuple(map(float, x)),
        tuple(map(float, settings.values)),
        tuple(of_shares(_critical(f) * e) for _, e, f in each),
        doubling,
        slope,
        reach,
        _p(slope, error, freedom),
        of_shares(paired_half_width(seeds, further=settings.image_variance(fit[1]))),
        rho,
        p_rho,
        margin,
        _crossing(settings, fit, place.mean(), doubling, margin) if names[1] else (math.nan,) * 3,
        min(len(side.top1) for pair in sides for side in pair if side is not None),
    )


def depth_trends(runs: Sequence[RunRecord]) -> tuple[Trend, ...]:
    """Return how each arm of a curve changes with every further layer, and each arm less `random`.

    Only numbers of layers above 0 count, for a difference those that both arms have; three are the least.

    Parameters
    ----------
    runs : of one target, base runs or not; those without a result are left out.
    """
    points = {key: answers for key, answers in points_of(runs).items() if key[2] and answers.top1}
    series: dict[tuple[str, str], dict[int, Answers]] = {}
    for (source, arm, layers), answers in points.items():
        series.setdefault((source, arm), {})[layers] = answers
    sources = [arm for _, arm in series]
    names = {key: key[1] if sources.count(key[1]) == 1 else f"{key[1]} {key[0]}" for key in series}
    reference = next((there for (_, arm), there in series.items() if arm == REFERENCE), {})
    made: list[Trend | None] = []
    for key, there in series.items():
        numbers = sorted(there)
        if len(numbers) > 2:
            alone: list[Side] = [(there[n], None) for n in numbers]
            made.append(make_trend("layers", (names[key], ""), x=numbers, sides=alone, doubling=False))
    for key, there in series.items():
        common = sorted(set(there) & set(reference))
        if key[1] != REFERENCE and len(common) > 2:
            pairs: list[Side] = [(there[n], reference[n]) for n in common]
            made.append(make_trend("layers", (names[key], REFERENCE), x=common, sides=pairs, doubling=False))
    return tuple(trend for trend in made if trend is not None)


def rank_correlation(x: F64, y: F64) -> tuple[float, float]:
    """Return Spearman's rho and its two-sided permutation p; NaN for fewer than `LEAST` values or constant ones.

    Examples
    --------
    >>> rho, p = rank_correlation(np.arange(9.0), np.arange(9.0) ** 3)
    >>> rho, p < 0.001
    (1.0, True)
    """
    from scipy.stats import rankdata

    from mkfa.stats.p_values import p_value

    if len(x) < LEAST or np.ptp(x) == 0 or np.ptp(y) == 0:
        return math.nan, math.nan
    a, b = (rank - rank.mean() for rank in (rankdata(x), rankdata(y)))
    scale = math.sqrt(float(a @ a) * float(b @ b))
    drawn = np.random.default_rng(0).permuted(np.tile(b, (PERMUTATIONS, 1)), axis=1) @ a / scale
    rho = float(a @ b) / scale
    return rho, float(p_value(abs(rho) - ROUNDING, np.abs(drawn), larger=True))


def tell_trend(trend: Trend) -> str:
    """Return the answer in a sentence: the slope, its interval, the rank correlation, and where a point is reached."""
    from mkfa.stats.p_values import p_text

    unit = "each doubling of " + trend.axis if trend.doubling else "each further layer"
    subject = f"{trend.series} minus {trend.against}" if trend.against else trend.series
    text = f"{subject} changes by {_points(trend.slope)} points with {unit}"
    if math.isnan(trend.half_width):
        return f"{text}; no interval{UNKNOWN if trend.seeds > 1 else ' (needs two seeds at every setting)'}."
    low, high = trend.slope - trend.half_width, trend.slope + trend.half_width
    text += f" (95 % interval {_points(low)} to {_points(high)}, {counted(trend.seeds, 'seed')}"
    text += f", {counted(len(trend.x), 'setting')}"
    if not math.isnan(trend.paired):
        text += f"; seed by seed {_points(trend.slope - trend.paired)} to {_points(trend.slope + trend.paired)}"
    text += f"; rank correlation {trend.rho:+.2f}, p = {p_text(trend.p_rho)})" if not math.isnan(trend.rho) else ")"
    if not trend.shown:
        return f"{text}: no trend is shown."
    if not trend.against:
        return f"{text}."
    return f"{text}{_tell_crossing(trend)}"


def _tell_crossing(trend: Trend) -> str:
    at, low, high = trend.crossing
    if math.isnan(at):
        return "."
    points = f"{100 * trend.margin:g} point{'' if trend.margin == 0.01 else 's'}"
    if not _is_near(trend, at):
        return f"; nowhere near the settings that were trained does the line reach {points}."
    ends = (
        _place(low, trend.axis) if _is_near(trend, low) else "no lower end",
        _place(high, trend.axis) if _is_near(trend, high) else "no upper end",
    )
    where = f"{trend.axis} = {_place(at, trend.axis)} (95 % interval {ends[0]} to {ends[1]})"
    beyond = "" if min(trend.x) <= at <= max(trend.x) else ", beyond the settings that were trained"
    return f"; the line reaches {points} at {where}{beyond}."


def _is_near(trend: Trend, place: float) -> bool:
    """True for a place no farther from the settings than `REACH` times their span, on the scale of the line."""
    scale = math.log2 if trend.doubling else float
    low, high, at = (scale(value) for value in (min(trend.x), max(trend.x), place))
    return low - REACH * (high - low) <= at <= high + REACH * (high - low)


def _place(value: float, axis: str) -> str:
    return f"{value:,.{0 if axis == 'steps' else 2}f}"


def _points(share: float) -> str:
    value = 100 * share
    return f"{value:+.1f}" if abs(value) >= 0.95 else f"{value:+.2f}"


def _mean(answers: Answers) -> float:
    return mean(list(answers.top1.values()))


def _centred(values: Sequence[float]) -> F64:
    array = np.asarray(values, np.float64)
    return np.asarray(array - array.mean())


def _critical(freedom: float) -> float:
    from scipy.stats import t

    return float(t.ppf((1 + LEVEL) / 2, freedom)) if freedom == freedom else math.nan


def _p(value: float, error: float, freedom: float) -> float:
    from scipy.stats import t

    return float(2 * t.sf(abs(value) / error, freedom)) if error > 0 else math.nan


def _image_covariance(sides: Sequence[Side]) -> F64:
    """Return the covariances that the choice of test images gives to the settings' values, (n, n).

    Off the diagonal they are those of the per-image differences, if all runs recorded their answers on the same images.
    """
    made = np.zeros((len(sides), len(sides)))
    right = [_per_image(a, b) for a, b in sides]
    if len({None if row is None else len(row) for row in right}) == 1 and right[0] is not None:
        made = np.cov(np.stack([row for row in right if row is not None])).reshape(made.shape) / len(right[0])
    for i, (a, b) in enumerate(sides):
        made[i, i] = error_of_difference(a, b).variance if b is not None else _own_variance(a)
    return np.asarray(made, np.float64)


def _own_variance(a: Answers) -> float:
    """Return what the test images add to the variance of an accuracy; binomial where answers are unknown."""
    if a.right is not None and a.images > 1:
        return image_variance(np.stack(list(a.right.values())))
    share = min(max(_mean(a), 0.0), 1.0)
    return share * (1 - share) / a.images if a.images else 0.0


def _per_image(a: Answers, b: Answers | None) -> F64 | None:
    if a.right is None or (b is not None and (b.right is None or b.images != a.images)):
        return None
    own: F64 = np.mean(list(a.right.values()), axis=0)
    return own if b is None or b.right is None else own - np.mean(list(b.right.values()), axis=0)


def _crossing(settings: Settings, fit: F64, centre: float, doubling: bool, margin: float) -> tuple[float, float, float]:
    """Return where the line through the mean reaches the margin, with Fieller's interval; NaN if the slope may be 0."""
    none = (math.nan,) * 3
    slope, error, freedom = settings.combine(fit[1])
    height, mean_error, _ = settings.combine(fit[0])
    if math.isnan(error) or math.isnan(mean_error):
        return none
    critical = _critical(freedom) ** 2
    _, both, _ = settings.combine(fit[0] + fit[1])
    covariance = (both**2 - error**2 - mean_error**2) / 2
    gap = height - margin
    a, b, c = (slope**2 - critical * error**2, slope * gap - critical * covariance, gap**2 - critical * mean_error**2)
    if a <= 0:
        return none
    root = math.sqrt(max(0.0, b * b - a * c))
    ends = (-gap / slope, (-b - root) / a, (-b + root) / a)
    at, low, high = (_back(centre + end, doubling) for end in ends)
    return at, low, high


def _back(place: float, doubling: bool) -> float:
    """Return a place on the axis from one on the scale of the line."""
    return float(2.0 ** min(max(place, -60.0), 60.0)) if doubling else place
