"""Where a curve over layers bends: two straight pieces with one knot, and its interval over seeds.

Least squares over all knots at interior numbers of layers (Hinkley 1971, JASA 66, 736-743), with one piece held level.
Seeds are resampled with replacement, whole curves at a time, since points of one seed are not independent.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mkfa.array_types import F64
from mkfa.stats.intervals import LEVEL

Shape = Literal["flat, then falling", "rising, then flat"]
DRAWS = 999
LEAST = 5
"""Smallest number of points of a curve, the base runs being one, for which a bend is sought."""


@dataclass(frozen=True, slots=True)
class Bend:
    """A knot and its interval, in layers.

    `gain` is what two pieces explain beyond a straight line: the difference of the Bayesian information criteria, in
    favour of the knot if positive. `low` and `high` are NaN for one seed.
    """

    knot: float
    low: float
    high: float
    gain: float


def fit_bend(curves: Mapping[int, F64], *, shape: str, seed: int = 0) -> Bend | None:
    """Fit a bend to accuracies by number of layers.

    Parameters
    ----------
    curves : number of layers -> (seeds,) float64, the same seeds in the same order.
    shape : "flat, then falling" or "rising, then flat".

    Returns
    -------
    Bend, or None with fewer than `LEAST` numbers of layers.

    Examples
    --------
    >>> import numpy as np
    >>> curve = {n: np.array([0.5, 0.6]) + 0.02 * min(n, 8) for n in range(13)}
    >>> fit_bend(curve, shape="rising, then flat").knot
    8.0
    """
    numbers = np.array(sorted(curves), float)
    if len(numbers) < LEAST:
        return None
    values = np.stack([curves[int(n)] for n in numbers], axis=1)  # (seeds, points)
    knots = numbers[1:-1]
    knot, left = _best(numbers, values.mean(0), knots, shape)
    gain = _criterion(_line(numbers, values.mean(0)), len(numbers), 2) - _criterion(left, len(numbers), 3)
    if len(values) < 2:
        return Bend(knot, math.nan, math.nan, gain)
    rng = np.random.default_rng(seed)
    drawn = [
        _best(numbers, values[rng.integers(0, len(values), len(values))].mean(0), knots, shape)[0] for _ in range(DRAWS)
    ]
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Bend(knot, float(low), float(high), gain)


def _best(numbers: F64, values: F64, knots: F64, shape: str) -> tuple[float, float]:
    """Return the knot of least squares and the residual sum; a slope of the wrong sign makes no such bend."""
    sums = []
    for knot in knots:
        rising = shape == "rising, then flat"
        piece = np.minimum(numbers, knot) if rising else np.maximum(numbers - knot, 0)
        design = np.stack([np.ones_like(numbers), piece], axis=1)
        slope = float(np.linalg.lstsq(design, values, rcond=None)[0][1])
        level = slope <= 0 if rising else slope >= 0
        sums.append(_left(design[:, :1] if level else design, values))
    at = int(np.argmin(sums))
    return float(knots[at]), float(sums[at])


def _line(numbers: F64, values: F64) -> float:
    return _left(np.stack([np.ones_like(numbers), numbers], axis=1), values)


def _left(design: F64, values: F64) -> float:
    found = np.linalg.lstsq(design, values, rcond=None)[0]
    return float(((values - design @ found) ** 2).sum())


def _criterion(left: float, count: int, parameters: int) -> float:
    return count * math.log(max(left / count, 1e-12)) + parameters * math.log(count)
