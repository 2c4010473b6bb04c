"""Intervals cover, and the number of filters is read off the curve."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binomtest

from mkfa.grafts.estimates import NOTHING, estimate, reach


def test_one_draw_is_wilsons_interval_but_for_students_t():
    found = estimate(np.r_[np.ones(80), np.zeros(20)][None], share=True)
    low, high = binomtest(80, 100).proportion_ci(method="wilson")
    assert found.mean == 0.8
    assert abs(found.low - low) < 0.004 and abs(found.high - high) < 0.004


def test_all_answers_kept_is_no_certainty():
    found = estimate(np.ones((3, 50)), share=True)
    assert found.high == 1 and 0.9 < found.low < 0.95


@pytest.mark.parametrize(("share", "level"), [(True, 0.6), (False, 0.0)])
def test_intervals_hold_over_images_and_draws(share, level):
    """Draws differ in their mean, images in their difficulty; 95 % of intervals must hold the mean of both."""
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(400):
        draws, images = rng.normal(0, 0.6, (3, 1)), rng.normal(0, 1, (1, 60))
        values = level + draws + images + rng.normal(0, 1, (3, 60))
        found = estimate((values > 0) if share else values, share=share)
        truth = 0.5 * (1 + math.erf(level / math.sqrt(2 * (0.36 + 1 + 1)))) if share else 0.0
        inside += found.low <= truth <= found.high
    assert inside / 400 >= 0.935


def test_images_without_a_value_do_not_count():
    values = np.array([[1.0, 0.0, np.nan, 1.0]])
    assert estimate(values).mean == pytest.approx(2 / 3)
    assert estimate(np.full((1, 4), np.nan)) == NOTHING


def test_the_size_is_interpolated_in_the_logarithm():
    assert reach([8, 32, 128], [0.2, 0.8, 1.0], 0.9) == pytest.approx(64)
    assert reach([8, 32], [0.95, 1.0], 0.9) == 8
    assert reach([8, 32, 128], [0.2, 0.95, 0.85], 0.9) < 32
    assert reach([8, 32], [0.2, 0.8999], 0.9) == math.inf
