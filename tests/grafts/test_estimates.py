"""Intervals cover, and the number of filters is read off the curve."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import binomtest, t

from mkfa.grafts.estimates import NOTHING, estimate, reach


def test_one_draw_is_wilsons_interval_but_for_students_t():
    found = estimate(np.r_[np.ones(80), np.zeros(20)][None], share=True)
    low, high = binomtest(80, 100).proportion_ci(method="wilson")
    assert found.mean == 0.8
    assert abs(found.low - low) < 0.004 and abs(found.high - high) < 0.004


def test_all_answers_kept_is_no_certainty():
    found = estimate(np.ones((3, 50)), share=True)
    assert found.high == 1 and 0.9 < found.low < 0.95


@pytest.mark.parametrize(("draws", "luck"), [(3, 0.0), (3, 0.4), (5, 0.3)])
@pytest.mark.parametrize(("share", "level"), [(True, 0.6), (False, 0.0)])
def test_intervals_hold_over_images_and_draws(draws: int, luck: float, share: bool, level: float):
    """Draws differ in their mean, images in their difficulty; 92 to 97 % of intervals must hold the mean of both."""
    rng = np.random.default_rng([draws, int(10 * luck)])
    rows, images = 600, 100
    values = level + rng.normal(0, luck, (rows, draws, 1)) + rng.normal(0, 1, (rows, 1, images))
    values = values + rng.normal(0, 1, (rows, draws, images))
    truth = 0.5 * (1 + math.erf(level / math.sqrt(2 * (luck**2 + 2)))) if share else 0.0
    found = [estimate((x > 0) if share else x, share=share) for x in values]
    inside = np.mean([x.low <= truth <= x.high for x in found])
    assert 0.92 - 0.018 <= inside <= 0.97 + 0.014, inside  # so much do six hundred rows scatter


def test_what_draws_and_images_share_counts_once():
    """With three draws or more: the variances of a table with two ways, from its mean squares."""
    values = np.random.default_rng(0).normal(0, 1, (4, 30)) + np.arange(4)[:, None]
    within, between, rest = _mean_squares(values)
    square = within / 120 * t.ppf(0.975, 29) ** 2 + (between - rest) / 120 * t.ppf(0.975, 3) ** 2
    found = estimate(values)
    assert (found.high - found.low) / 2 == pytest.approx(math.sqrt(square))


def _mean_squares(values: np.ndarray) -> tuple[float, float, float]:
    """Return those of images, of draws, and of what is left."""
    draws, images = values.shape
    one, other = values.mean(axis=1, keepdims=True), values.mean(axis=0, keepdims=True)
    rest = ((values - one - other + values.mean()) ** 2).sum() / ((draws - 1) * (images - 1))
    return draws * other.var(ddof=1), images * one.var(ddof=1), rest


def test_two_draws_have_an_interval_over_images_for_these_draws():
    values = np.random.default_rng(1).normal(0, 1, (2, 50)) + np.array([[0.0], [5.0]])
    found = estimate(values)
    half = t.ppf(0.975, 49) * values.mean(axis=0).std(ddof=1) / math.sqrt(50)
    assert (found.low, found.high) == pytest.approx((found.mean - half, found.mean + half))


def test_images_without_a_value_do_not_count():
    values = np.array([[1.0, 0.0, np.nan, 1.0]])
    assert estimate(values).mean == pytest.approx(2 / 3)
    assert estimate(np.full((1, 4), np.nan)) == NOTHING


def test_the_size_is_interpolated_in_the_logarithm():
    assert reach([8, 32, 128], [0.2, 0.8, 1.0], 0.9) == pytest.approx(64)
    assert reach([8, 32], [0.95, 1.0], 0.9) == 8
    assert reach([8, 32, 128], [0.2, 0.95, 0.85], 0.9) < 32
    assert reach([8, 32], [0.2, 0.8999], 0.9) == math.inf
