"""Confidence intervals of means, of shares and of their differences, computed by SciPy."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LEVEL = 0.95
"""Confidence level of all intervals."""

ROUNDING = 1e-12
"""Values that differ by less are equal accuracies with rounding errors."""


@dataclass(frozen=True, slots=True)
class Welch:
    """mean(a) - mean(b), half the width of its interval and its two-sided p-value (Welch 1947)."""

    difference: float
    half_width: float
    p: float


def welch(a: Sequence[float], b: Sequence[float]) -> Welch:
    """Compare the means of two samples of unequal variances; width and p are NaN if either has one value.

    If all values of each sample are equal, as can happen with few seeds, the formula gives width 0, which is not
    certainty; p is NaN.

    Examples
    --------
    >>> test = welch([0.70, 0.72, 0.74], [0.60, 0.61, 0.65])
    >>> round(test.difference, 3), round(test.half_width, 3), round(test.p, 3)
    (0.1, 0.055, 0.008)
    """
    difference = mean(a) - mean(b)
    if len(a) < 2 or len(b) < 2:
        return Welch(difference, math.nan, math.nan)
    if _equal(a) and _equal(b):
        return Welch(difference, 0.0, math.nan)
    from scipy.stats import ttest_ind

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # loss of precision, if the values of one sample are equal
        test = ttest_ind(a, b, equal_var=False)
    low, high = test.confidence_interval(LEVEL)
    return Welch(difference, float(high - low) / 2, float(test.pvalue))


def paired_half_width(differences: Sequence[float]) -> float:
    """Return half the width of the interval of a mean difference (Student's t); NaN for one difference.

    Examples
    --------
    >>> round(paired_half_width([0.01, 0.02, 0.03]), 4)
    0.0248
    """
    if len(differences) < 2:
        return math.nan
    if _equal(differences):
        return 0.0
    from scipy.stats import ttest_1samp

    low, high = ttest_1samp(differences, 0).confidence_interval(LEVEL)
    return float(high - low) / 2


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """Return Wilson's score interval (1927) of a share: (low, high).

    Examples
    --------
    >>> low, high = wilson(80, 100)
    >>> round(low, 3), round(high, 3)
    (0.711, 0.867)
    """
    from scipy.stats import binomtest

    low, high = binomtest(successes, trials).proportion_ci(LEVEL, method="wilson")
    return float(low), float(high)


def newcombe(first: tuple[int, int], second: tuple[int, int]) -> tuple[float, float]:
    """Return the interval of the difference of two independent shares: (low, high).

    Newcombe 1998 (Statistics in Medicine 17, 873-890), method 10: from Wilson's intervals of both shares, (successes,
    trials). Two runs are tested on the same images, but their predictions are not kept, so the interval is wider than a
    paired one.

    Examples
    --------
    >>> low, high = newcombe((56, 70), (48, 80))  # Newcombe's Table II
    >>> round(low, 4), round(high, 4)
    (0.0524, 0.3339)
    """
    (p, (low1, high1)), (q, (low2, high2)) = ((k / n, wilson(k, n)) for k, n in (first, second))
    return p - q - math.hypot(p - low1, high2 - q), p - q + math.hypot(high1 - p, q - low2)


def mean(values: Sequence[float]) -> float:
    """Return the mean, NaN for no values."""
    return float(np.mean(values)) if len(values) else math.nan


def _equal(values: Sequence[float]) -> bool:
    return bool(np.ptp(values) < ROUNDING)
