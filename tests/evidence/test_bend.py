"""Where a curve bends: planted knots are found, with an interval over seeds, and a line has none."""

from __future__ import annotations

import numpy as np
import pytest

from mkfa.evidence.bend import fit_bend


def curve(shape, noise=0.002, layers=range(19), seeds=5):
    rng = np.random.default_rng(0)
    return {n: shape(n) + rng.normal(0, noise, seeds) for n in layers}


@pytest.mark.parametrize("knot", [4, 8, 14])
def test_planted_knots(knot):
    rising = fit_bend(curve(lambda n: 0.01 * min(n, knot)), shape="rising, then flat")
    assert rising.low <= knot <= rising.high and rising.high - rising.low <= 2 and rising.gain > 0
    falling = fit_bend(curve(lambda n: 0.9 - 0.01 * max(n - knot, 0)), shape="flat, then falling")
    assert abs(falling.knot - knot) <= 1 and falling.gain > 0


def test_a_line_has_no_knot():
    assert fit_bend(curve(lambda n: 0.005 * n, noise=0.004), shape="rising, then flat").gain < 0


def test_too_few_points_or_one_seed():
    assert fit_bend(curve(lambda n: 0.01 * n, layers=range(4)), shape="rising, then flat") is None
    alone = fit_bend(curve(lambda n: 0.01 * min(n, 8), seeds=1), shape="rising, then flat")
    assert np.isnan(alone.low)


def test_a_bend_the_other_way_is_none():
    falling = curve(lambda n: 0.9 - 0.01 * min(n, 8))
    assert fit_bend(falling, shape="rising, then flat").gain < 0
    assert fit_bend(curve(lambda n: 0.9 + 0.01 * max(n - 8, 0)), shape="flat, then falling").gain < 0
