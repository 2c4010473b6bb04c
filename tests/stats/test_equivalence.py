"""Two one-sided tests against SciPy's own one-sided tests, and against intervals."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from mkfa.stats.equivalence import SIDE, p_above, p_below, tost
from mkfa.stats.intervals import welch

A, B = [0.912, 0.921, 0.917, 0.909, 0.915], [0.914, 0.919, 0.910, 0.922, 0.911]


@pytest.mark.parametrize("margin", [0.002, 0.005, 0.01, 0.02])
@pytest.mark.parametrize("shift", [0.0, 0.006, -0.03])
def test_tost_is_the_larger_of_scipys_two_one_sided_tests(margin, shift):
    """Schuirmann's TOST as statsmodels' `ttost_ind` has it: one sample shifted by the margin, tested both ways."""
    a = [x + shift for x in A]
    above = stats.ttest_ind(np.add(a, margin), B, equal_var=False, alternative="greater").pvalue
    below = stats.ttest_ind(np.subtract(a, margin), B, equal_var=False, alternative="less").pvalue
    test = welch(a, B)
    assert tost(test.difference, test.error, test.freedom, margin=margin) == pytest.approx(max(above, below), rel=1e-9)
    assert p_above(test.difference, test.error, test.freedom, margin=-margin) == pytest.approx(above, rel=1e-9)
    assert p_below(test.difference, test.error, test.freedom, margin=margin) == pytest.approx(below, rel=1e-9)


@pytest.mark.parametrize("margin", np.linspace(0.001, 0.03, 30))
def test_tost_at_its_level_is_an_interval_inside_the_margins(margin):
    test = welch(A, [x + 0.004 for x in B])
    inside = abs(test.difference) + test.half_width < margin
    assert (tost(test.difference, test.error, test.freedom, margin=margin) < SIDE) == inside


def test_a_closed_form_for_one_degree_of_freedom():
    """Student's t with one degree of freedom is Cauchy's distribution: its tail is 1/2 - arctan(x) / pi."""
    assert p_above(3.0, 1.0, 1.0, margin=1.0) == pytest.approx(0.5 - math.atan(2) / math.pi)
    assert tost(0.0, 1.0, 1.0, margin=2.0) == pytest.approx(0.5 - math.atan(2) / math.pi)


def test_without_an_error_there_is_no_test():
    assert math.isnan(tost(0.0, math.nan, 4, margin=0.01))
    assert math.isnan(p_above(0.5, 0.0, 4, margin=0.01))


def test_welch_gives_its_error_and_freedom():
    test, known = welch(A, B), stats.ttest_ind(A, B, equal_var=False)
    assert test.freedom == pytest.approx(known.df)
    assert test.difference / test.error == pytest.approx(known.statistic)
