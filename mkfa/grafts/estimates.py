"""Means with intervals over images and draws, and the number of filters at which a share is reached."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mkfa.array_types import AnyArray
from mkfa.stats.intervals import LEVEL


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean and its interval; both ends are NaN where there is none."""

    mean: float
    low: float
    high: float


NOTHING = Estimate(math.nan, math.nan, math.nan)


def estimate(values: AnyArray, *, share: bool = False) -> Estimate:
    """Return the mean of values over draws and images, with its interval.

    Draws and images vary independently: the squared half width is that of the draws' means plus that of the images'
    means, each with Student's t of its own degrees of freedom. The interval is conservative, since the spread of the
    draws' means contains part of the images' spread, and it is wide with few draws. With one draw, it holds for that
    draw only.

    Parameters
    ----------
    values : (draws, images); NaN for images that do not count.
    share : True for values of 0 and 1: Wilson's interval (1927), with the number of images that gives that half width.

    Examples
    --------
    >>> found = estimate(np.array([[1, 1, 1, 0], [1, 0, 1, 1]]), share=True)
    >>> round(found.mean, 2), round(found.low, 2), round(found.high, 2)
    (0.75, 0.16, 0.98)
    """
    from scipy.stats import t

    each = np.asarray(values, np.float64)
    each = each[:, np.isfinite(each).all(axis=0)]
    draws, images = each.shape
    if not images:
        return NOTHING
    mean = float(each.mean())
    squared = 0.0
    for axis, count in ((0, images), (1, draws)):
        if count > 1:
            variance = float(np.var(each.mean(axis=axis), ddof=1)) / count
            squared += variance * float(t.ppf((1 + LEVEL) / 2, count - 1)) ** 2
    if share:
        spread = mean * (1 - mean)
        alone = float(t.ppf((1 + LEVEL) / 2, max(images - 1, 1))) ** 2 / images
        return Estimate(mean, *_wilson(mean, max(squared / spread, alone) if spread > 0 else alone))
    if images < 2:
        return Estimate(mean, math.nan, math.nan)
    half = math.sqrt(squared)
    return Estimate(mean, mean - half, mean + half)


def _wilson(share: float, z: float) -> tuple[float, float]:
    """Return Wilson's interval; z is the squared quantile over the number of trials."""
    centre = (share + z / 2) / (1 + z)
    half = math.sqrt(max(z * share * (1 - share) + z * z / 4, 0.0)) / (1 + z)
    return max(0.0, centre - half), min(1.0, centre + half)


def reach(sizes: Sequence[int], values: Sequence[float], target: float) -> float:
    """Return the number of filters at which a curve first reaches a value; infinity if it does not.

    Between two sizes, the curve is interpolated linearly in the logarithm of the size. If it starts at or above the
    value, its first size is returned.

    Examples
    --------
    >>> reach([8, 32, 128], [0.2, 0.8, 1.0], 0.9), reach([8, 32], [0.2, 0.8], 0.9)
    (64.0, inf)
    """
    before: tuple[int, float] | None = None
    for size, value in zip(sizes, values, strict=True):
        if value >= target:
            if before is None or before[1] >= target:
                return float(size)
            part = (target - before[1]) / (value - before[1])
            return float(2 ** (math.log2(before[0]) + part * (math.log2(size) - math.log2(before[0]))))
        before = size, value
    return math.inf
