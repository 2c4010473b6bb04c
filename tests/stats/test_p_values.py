"""p-values and their correction, against SciPy and against uniformity."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from mkfa.stats.p_values import holm, p_value


def test_p_value_counts_itself_and_ties():
    assert p_value(2.0, np.array([1.0, 2.0, 3.0]), larger=True) == 3 / 4
    assert p_value(2.0, np.array([1.0, 2.0, 3.0]), larger=False) == 3 / 4
    assert p_value(9.0, np.arange(9.0), larger=True) == 1 / 10


def test_p_value_agrees_with_scipys_monte_carlo_test():
    draws = np.random.default_rng(0).standard_normal(999)
    ours = p_value(1.3, draws, larger=True)
    theirs = stats.monte_carlo_test(
        [1.3],
        lambda size: draws.reshape(size),
        lambda x, axis: x.mean(axis=axis),
        n_resamples=999,
        vectorized=True,
        alternative="greater",
    ).pvalue
    assert ours == pytest.approx(theirs)


def test_p_value_is_uniform_under_the_null():
    rng = np.random.default_rng(3)
    p = p_value(rng.standard_normal(2000), rng.standard_normal((99, 2000)), larger=True)
    assert stats.kstest(p + rng.uniform(-0.01, 0, 2000), "uniform").pvalue > 0.01


def test_holm_on_the_example_of_the_paper():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_holm_keeps_shape_and_leaves_missing_tests_out():
    p = np.array([[0.01, np.nan], [0.5, 0.02]])
    assert np.array_equal(holm(p), np.array([[0.03, np.nan], [0.5, 0.04]]), equal_nan=True)
    assert holm(np.zeros((0,))).shape == (0,)
