"""Intervals against their closed forms and published values."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import t

from mkfa.stats.intervals import LEVEL, paired_half_width, share_over_groups, welch

ACCURACIES = st.lists(st.floats(0, 1), min_size=2, max_size=6).filter(lambda x: np.ptp(x) > 1e-4)


def near(value):
    return pytest.approx(value, rel=1e-12, abs=1e-13)


@given(ACCURACIES, ACCURACIES)
def test_welchs_formula(a, b):
    parts = [np.var(x, ddof=1) / len(x) for x in (a, b)]
    freedom = sum(parts) ** 2 / sum(p**2 / (len(x) - 1) for p, x in zip(parts, (a, b), strict=True))
    error, difference = math.sqrt(sum(parts)), np.mean(a) - np.mean(b)
    test = welch(a, b)
    assert test.difference == near(difference)
    assert test.half_width == near(t.ppf(0.5 + LEVEL / 2, freedom) * error)
    assert test.p == near(2 * t.sf(abs(difference) / error, freedom))


@given(ACCURACIES)
def test_students_formula(x):
    assert paired_half_width(x) == near(t.ppf(0.5 + LEVEL / 2, len(x) - 1) * np.std(x, ddof=1) / math.sqrt(len(x)))


def test_one_seed_has_a_difference_and_no_interval():
    test = welch([0.5], [0.4, 0.6])
    assert test.difference == near(0)
    assert math.isnan(test.half_width) and math.isnan(test.p)
    assert math.isnan(paired_half_width([0.1]))


@pytest.mark.parametrize(("a", "b"), [([0.5, 0.5], [0.4, 0.4]), ([0.2] * 3, [0.1] * 3)])
def test_equal_accuracies_have_no_p(a, b):
    """0.1 + 0.1 + 0.1 is not 0.3, so that the second pair has a variance."""
    test = welch(a, b)
    assert math.isnan(test.half_width) and (test.error, test.difference) == (0, near(0.1))
    assert math.isnan(test.p)
    assert math.isnan(paired_half_width(b))


def test_equal_accuracies_on_one_side_warn_of_nothing(recwarn):
    assert welch([0.5, 0.5], [0.4, 0.6]).half_width > 0
    assert not list(recwarn)


def test_of_equal_groups_it_is_the_ordinary_jackknife_of_log_odds_shifted_to_the_longer_tail():
    counts, size = np.array([3.0, 40, 25, 10, 31, 22, 17, 36]), 80
    groups = len(counts)
    whole, rest = counts.sum(), counts.sum() - counts

    def log_odds(count, total):
        return np.log((count + 0.5) / (total - count + 0.5))

    value, without = log_odds(whole, groups * size), log_odds(rest, (groups - 1) * size)
    error = math.sqrt((groups - 1) / groups * ((without - without.mean()) ** 2).sum())
    share = (counts.sum() + 0.5) / (groups * size + 1)
    chance = 1 / (groups * size * share * (1 - share)) / error**2
    reach = t.ppf((1 + LEVEL) / 2, (0.55 + 0.45 * chance**2) * (groups - 1)) * error
    pseudo = groups * value - (groups - 1) * without
    shift = ((pseudo - pseudo.mean()) ** 3).mean() / (2 * pseudo.var() * groups)  # Johnson 1978, at t = 1
    assert -error < shift < -0.005
    low, high = share_over_groups(counts[:, None], np.full(groups, size))
    ends = [1 / (1 + np.exp(-(value + shift) - sign * reach)) for sign in (-1, 1)]
    assert (low[0], high[0]) == pytest.approx(ends, rel=1e-9)


@pytest.mark.parametrize("sizes", [[100] * 8, [150, 300, 200, 60, 150, 40, 130, 120, 30, 90]])
@pytest.mark.parametrize(("share", "spread"), [(0.3, 6), (0.1, 60)])
def test_the_interval_of_a_share_holds_the_truth_where_a_bootstrap_of_groups_does_not(sizes, share, spread):
    """Shares of groups are drawn from a beta distribution; the percentile bootstrap holds .78 to .91 of them."""
    rng = np.random.default_rng(11)
    held = []
    for _ in range(600):
        counts = rng.binomial(sizes, rng.beta(share * spread, (1 - share) * spread, len(sizes)))
        low, high = share_over_groups(counts[:, None], sizes)
        held.append(low[0] <= share <= high[0])
    assert 0.92 <= np.mean(held) <= 0.98


def test_the_interval_of_a_share_is_not_too_wide_where_groups_do_not_differ():
    """Members are independent: 92 to 97 % must hold the share, where .98 to .99 did with fewer degrees of freedom."""
    rng = np.random.default_rng(12)
    sizes, held = [150, 300, 200, 60, 150, 40, 130, 120, 30, 90], []
    for _ in range(1000):
        low, high = share_over_groups(rng.binomial(sizes, 0.08)[:, None], sizes)
        held.append(low[0] <= 0.08 <= high[0])
    assert 0.92 <= np.mean(held) <= 0.97


def test_few_groups_and_rare_or_nearly_universal_members_have_no_interval():
    sizes = [100] * 8
    counts = np.array([[6, 5, 95, 30]] * 7 + [[3, 4, 96, 30]])  # 45, 39 and 761 of 800, and 240
    low, high = share_over_groups(counts, sizes)
    assert np.isnan(low).tolist() == np.isnan(high).tolist() == [False, True, True, False]
    assert 0 < low[0] < 45 / 800 < high[0] < 0.08
    assert np.isnan(share_over_groups(counts[:7], sizes[:7])).all()
    assert np.isnan(share_over_groups(counts, [400, 150, 100, 60, 50, 40, 30, 20])).all()  # one group is nearly half
    assert np.isfinite(share_over_groups(np.r_[counts, [[0] * 4]], [*sizes, 0])[0][0])  # an empty group does not count
    assert np.isnan(share_over_groups(np.r_[counts[:7], [[0] * 4]], [*sizes[:7], 0])).all()
