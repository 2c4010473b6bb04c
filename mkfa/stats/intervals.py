"""Confidence intervals of means, of shares and of their differences, computed by SciPy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from mkfa.array_types import F64

LEVEL = 0.95
"""Confidence level of all intervals."""

ROUNDING = 1e-12
"""Values that differ by less are equal accuracies with rounding errors."""


@dataclass(frozen=True, slots=True)
class Welch:
    """mean(a) - mean(b), half the width of its interval and its two-sided p-value (Welch 1947).

    `detectable` is the smallest true difference that such a comparison shows (p < .05) with a probability of 80 %.
    `error` is the standard error of the difference, `freedom` its degrees of freedom (Welch-Satterthwaite).
    """

    difference: float
    half_width: float
    p: float
    detectable: float = math.nan
    error: float = math.nan
    freedom: float = math.nan

    def of_shares(self) -> Welch:
        """Return the test as that of a difference of shares, which lies between -1 and 1.

        Two seeds of which one side's do not differ have one degree of freedom, and Student's t can then give a half
        width or a detectable difference above 1. Such an interval excludes nothing that is possible, so that both are
        unknown (NaN).

        Examples
        --------
        >>> welch([0.2, 0.5], [0.4, 0.4]).half_width > 1, welch([0.2, 0.5], [0.4, 0.4]).of_shares().half_width
        (True, nan)
        """
        return replace(self, half_width=of_shares(self.half_width), detectable=of_shares(self.detectable))


def of_shares(difference: float) -> float:
    """Return a half width or a detectable difference of shares; NaN if it is above 1, which excludes nothing."""
    return difference if difference <= 1 else math.nan


UNKNOWN = ", because it is the same in every seed, or varies too much for so few"
"""Why a half width is unknown, in words."""

POWER = 0.8
"""Probability with which `detectable` differences are found."""


def smallest_visible(error: float, *, sides: int = 2) -> float:
    """Return the smallest true difference that a normal estimate shows (p < .05) with probability `POWER`.

    Parameters
    ----------
    error : its standard error, in its unit.
    sides : of the test, 1 or 2.

    Examples
    --------
    >>> round(smallest_visible(1.0), 3), round(smallest_visible(1.0, sides=1), 3)
    (2.802, 2.486)
    """
    normal = NormalDist()
    return (normal.inv_cdf(1 - (1 - LEVEL) / sides) + normal.inv_cdf(POWER)) * error


def error_of(width: float) -> float:
    """Return the standard error that belongs to a normal 95 % interval of a width, both in one unit.

    Examples
    --------
    >>> round(error_of(3.92), 3)
    1.0
    """
    return width / (2 * NormalDist().inv_cdf((1 + LEVEL) / 2))


def welch(a: Sequence[float], b: Sequence[float], *, further: float = 0.0) -> Welch:
    """Compare the means of two samples of unequal variances; width and p are NaN if either has one value.

    `further` is a known variance of the difference beyond that within the samples, such as that of test images; its
    degrees of freedom count as infinite (Satterthwaite 1946). If all values of each sample are equal, as can happen
    with few seeds, the formula would give width 0, which is not certainty: width and p are NaN, `error` is 0.

    Examples
    --------
    >>> test = welch([0.70, 0.72, 0.74], [0.60, 0.61, 0.65])
    >>> round(test.difference, 3), round(test.half_width, 3), round(test.p, 3), round(test.detectable, 3)
    (0.1, 0.055, 0.008, 0.073)
    >>> round(welch([0.70, 0.72, 0.74], [0.60, 0.61, 0.65], further=0.0004).half_width, 3)
    0.059
    """
    difference = mean(a) - mean(b)
    if len(a) < 2 or len(b) < 2:
        return Welch(difference, math.nan, math.nan)
    if _equal(a) and _equal(b):
        return Welch(difference, math.nan, math.nan, error=0.0)
    from scipy.stats import t

    parts = [float(np.var(x, ddof=1)) / len(x) for x in (a, b)]
    variance = sum(parts) + further
    freedom = variance**2 / sum(part**2 / (len(x) - 1) for part, x in zip(parts, (a, b), strict=True))
    error, critical = math.sqrt(variance), float(t.ppf((1 + LEVEL) / 2, freedom))
    detectable = (critical + float(t.ppf(POWER, freedom))) * error
    p = float(2 * t.sf(abs(difference) / error, freedom))
    return Welch(difference, critical * error, p, detectable, error, freedom)


def paired_half_width(differences: Sequence[float], *, further: float = 0.0) -> float:
    """Return half the width of the interval of a mean difference (Student's t); NaN for one difference, or equal ones.

    `further` as in `welch`.

    Examples
    --------
    >>> round(paired_half_width([0.01, 0.02, 0.03]), 4)
    0.0248
    """
    if len(differences) < 2:
        return math.nan
    if _equal(differences):
        return math.nan
    from scipy.stats import t

    part = float(np.var(differences, ddof=1)) / len(differences)
    variance = part + further
    freedom = (len(differences) - 1) * (variance / part) ** 2
    return float(t.ppf((1 + LEVEL) / 2, freedom)) * math.sqrt(variance)


def one_sample(values: Sequence[float], *, further: float = 0.0) -> Welch:
    """Compare the mean of a sample with 0 (Student's t); parameters and NaN as in `welch`.

    Examples
    --------
    >>> test = one_sample([0.01, 0.02, 0.03])
    >>> round(test.difference, 3), round(test.half_width, 4), round(test.freedom, 1)
    (0.02, 0.0248, 2.0)
    """
    if len(values) < 2:
        return Welch(mean(values), math.nan, math.nan)
    if _equal(values):
        return Welch(mean(values), math.nan, math.nan, error=0.0)
    from scipy.stats import t

    part = float(np.var(values, ddof=1)) / len(values)
    error = math.sqrt(part + further)
    freedom = (len(values) - 1) * ((part + further) / part) ** 2
    critical = float(t.ppf((1 + LEVEL) / 2, freedom))
    p = float(2 * t.sf(abs(mean(values)) / error, freedom))
    detectable = (critical + float(t.ppf(POWER, freedom))) * error
    return Welch(mean(values), critical * error, p, detectable, error, freedom)


FEWEST_GROUPS, FEWEST_EFFECTIVE, FEWEST_MEMBERS = 8, 5, 40
SKEWED = 0.55
"""Shares of layers are skewed and their variances have heavy tails: with all degrees of freedom 90 % would hold. Where
mere sampling of members explains the variance there are no such tails, and with these degrees of freedom 98 % would."""
SHARE_RULE = (
    f"95 % intervals of shares are over layers, from {FEWEST_GROUPS} layers on (if none has most of the filters) and "
    f"where {FEWEST_MEMBERS} filters or more count and as many do not: elsewhere simulated intervals do not hold"
)
"""When `share_over_groups` gives an interval, in a sentence."""


def share_over_groups(counts: ArrayLike, sizes: ArrayLike) -> tuple[F64, F64]:
    """Return the interval of shares of all members of groups of unequal sizes, such as the layers of a network.

    Groups are the sampling units. Delete-one-group jackknife for unequal groups (Busing, Meijer, van der Leeden 1999,
    Statistics and Computing 9, 3-8) of the log odds, half a member added to either side, with Student's t. Its degrees
    of freedom are those of the effective number of groups, n = (sum of sizes)^2 / sum of sizes^2, less 1, times
    `SKEWED` + (1 - `SKEWED`) r^2; r, at most 1, is the part of the variance that independent members would give. The
    interval is shifted towards the longer tail of the groups by m3 / (2 m2 n), as that of Johnson's
    modified t (1978, Journal of the American Statistical Association 73, 536-544) is at |t| = 1, at most by one
    standard error; m2 and m3 are central moments of the pseudo-values. With few groups or few members the intervals do
    not hold, and there is none: see `SHARE_RULE`. Simulations: tests/benchmarks/CALIBRATION.md.

    Parameters
    ----------
    counts : (L, C) members of each group that have each property.
    sizes : (L,) members of each group; empty groups do not count.

    Returns
    -------
    low, high : (C,) float64, NaN for fewer than `FEWEST_GROUPS` groups or an effective number below `FEWEST_EFFECTIVE`,
        and where fewer than `FEWEST_MEMBERS` members have a property or lack it.

    Examples
    --------
    >>> low, high = share_over_groups([[30], [50], [20], [40]] * 2, [100] * 8)
    >>> low.round(2).tolist(), high.round(2).tolist()
    ([0.24], [0.48])
    """
    from scipy.stats import t

    counts, sizes = np.asarray(counts, np.float64), np.asarray(sizes, np.float64)
    counts, sizes = counts[sizes > 0], sizes[sizes > 0]
    effective = sizes.sum() ** 2 / (sizes**2).sum() if len(sizes) else 0.0
    if len(sizes) < FEWEST_GROUPS or effective < FEWEST_EFFECTIVE:
        return np.full(counts.shape[1], np.nan), np.full(counts.shape[1], np.nan)
    whole, total = counts.sum(axis=0), sizes.sum()
    value = _log_odds(whole, total)
    without = _log_odds(whole - counts, (total - sizes)[:, None])  # (L, C)
    weight = (sizes / total)[:, None]
    pseudo = (value - (1 - weight) * without) / weight
    estimate = len(sizes) * value - ((1 - weight) * without).sum(axis=0)
    variance = ((pseudo - estimate) ** 2 * weight / (1 - weight)).mean(axis=0)
    error = np.sqrt(variance)
    away = pseudo - (weight * pseudo).sum(axis=0)
    second, third = ((weight * away**power).sum(axis=0) for power in (2, 3))
    shift = np.clip(third / np.maximum(2 * second * effective, np.finfo(np.float64).tiny), -error, error)
    share = (whole + 0.5) / (total + 1)
    sampling = 1 / (total * share * (1 - share))  # variance of the log odds of independent members
    chance = np.minimum(sampling / np.maximum(variance, np.finfo(np.float64).tiny), 1)
    reach = t.ppf((1 + LEVEL) / 2, (SKEWED + (1 - SKEWED) * chance**2) * (effective - 1)) * error
    reach[np.minimum(whole, total - whole) < FEWEST_MEMBERS] = np.nan
    with np.errstate(over="ignore"):
        low, high = (1 / (1 + np.exp(-(value + shift + sign * reach))) for sign in (-1, 1))
    return np.minimum(low, whole / total), np.maximum(high, whole / total)


def _log_odds(count: F64, total: Any) -> F64:
    return np.asarray(np.log((count + 0.5) / (total - count + 0.5)), np.float64)


def paired_shares(only_first: int, only_second: int, trials: int) -> tuple[float, float]:
    """Return the interval of the difference of two shares of the same trials: (low, high).

    Agresti & Min 2005 (Statistics in Medicine 24, 729-740): Wald's interval for matched pairs with 1/2 added to each of
    the four counts.

    Parameters
    ----------
    only_first, only_second : trials in which only the first, or only the second, succeeded.

    Examples
    --------
    >>> low, high = paired_shares(12, 4, 100)
    >>> round(low, 3), round(high, 3)
    (0.001, 0.156)
    """
    from scipy.stats import norm

    total, apart, gap = trials + 2, only_first + only_second + 1, only_first - only_second
    width = float(norm.ppf((1 + LEVEL) / 2)) * math.sqrt(apart - gap**2 / total) / total
    return gap / total - width, gap / total + width


def mean(values: Sequence[float]) -> float:
    """Return the mean, NaN for no values."""
    return float(np.mean(values)) if len(values) else math.nan


def _equal(values: Sequence[float]) -> bool:
    return bool(np.ptp(values) < ROUNDING)
