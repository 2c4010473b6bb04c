"""Confidence intervals of means and of differences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LEVEL = 0.95
"""Of all intervals."""


ROUNDING = 1e-12
"""Widths below are those of equal accuracies: their mean rounds, so that their computed variance need not be 0."""


@dataclass(frozen=True, slots=True)
class Welch:
    """mean(a) - mean(b) with its interval and two-sided p-value (Welch 1947); NaN where either has one value."""

    difference: float
    half_width: float
    p: float


def welch(a: Sequence[float], b: Sequence[float], level: float = LEVEL) -> Welch:
    """Compare the means of two samples of unequal variances.

    Seeds are few: two equal accuracies on either side give a width of 0, which is what the formula says, not
    certainty; p is then NaN.
    """
    difference = _mean(a) - _mean(b)
    if len(a) < 2 or len(b) < 2:
        return Welch(difference, math.nan, math.nan)
    from scipy.stats import t

    parts = [float(np.var(x, ddof=1)) / len(x) for x in (a, b)]
    error = math.sqrt(sum(parts))
    if error < ROUNDING:
        return Welch(difference, 0.0, math.nan)
    freedom = sum(parts) ** 2 / sum(p**2 / (len(x) - 1) for p, x in zip(parts, (a, b), strict=True))
    p = 2 * float(t.sf(abs(difference) / error, freedom))
    return Welch(difference, float(t.ppf(0.5 + level / 2, freedom)) * error, p)


def paired_half_width(differences: Sequence[float], level: float = LEVEL) -> float:
    """Return half the width of the interval of a mean difference (Student's t); NaN for one difference."""
    n = len(differences)
    if n < 2:
        return math.nan
    from scipy.stats import t

    return float(t.ppf(0.5 + level / 2, n - 1) * np.std(differences, ddof=1) / math.sqrt(n))


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else math.nan
