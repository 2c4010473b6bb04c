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
FEWEST_DRAWS = 3
"""Two draws do not tell how much draws differ: in simulation intervals over two held .88 to .98."""


def estimate(values: AnyArray, *, share: bool = False) -> Estimate:
    """Return the mean of values over draws and images, with its interval.

    Draws and images vary independently. The spread of the images' means holds what is left besides both already; from
    that of the draws' means it is taken off, so that it counts once. The squared half width is the sum of the two
    variances of the mean, each with Student's t of its own degrees of freedom (squared half widths are added as by Zou
    & Donner 2008, Statistics in Medicine 27, 1693-1702). With fewer than `FEWEST_DRAWS` the interval is over images and
    holds for these draws only. Simulations: tests/benchmarks/CALIBRATION.md.

    Parameters
    ----------
    values : (draws, images); NaN for images that do not count.
    share : True for values of 0 and 1: Wilson's interval (1927), with the number of images that gives that half width;
        at most the answers of all draws, and the images alone where all answers are the same.

    Examples
    --------
    >>> found = estimate(np.array([[1, 1, 1, 0], [1, 0, 1, 1]]), share=True)
    >>> round(found.mean, 2), round(found.low, 2), round(found.high, 2)
    (0.75, 0.26, 0.96)
    """
    each = np.asarray(values, np.float64)
    each = each[:, np.isfinite(each).all(axis=0)]
    draws, images = each.shape
    if not images:
        return NOTHING
    mean = float(each.mean())
    over_draws, over_images = each.mean(axis=1), each.mean(axis=0)
    squared = 0.0
    if images > 1:
        squared += float(np.var(over_images, ddof=1)) / images * _square_of_t(images - 1)
    if draws >= FEWEST_DRAWS and images > 1:
        rest = each - over_draws[:, None] - over_images + mean
        left = float(np.square(rest).sum()) / ((draws - 1) * (images - 1) * images)
        squared += max(float(np.var(over_draws, ddof=1)) - left, 0.0) / draws * _square_of_t(draws - 1)
    if share:
        spread = mean * (1 - mean)
        alone = _square_of_t(max(images - 1, 1)) / images
        return Estimate(mean, *_wilson(mean, max(squared / spread, alone / draws) if spread > 0 else alone))
    if images < 2:
        return Estimate(mean, math.nan, math.nan)
    half = math.sqrt(squared)
    return Estimate(mean, mean - half, mean + half)


def _square_of_t(freedom: int) -> float:
    from scipy.stats import t

    return float(t.ppf((1 + LEVEL) / 2, freedom)) ** 2


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
