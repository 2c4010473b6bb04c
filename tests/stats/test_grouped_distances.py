"""Tests of groups by distances: values of scikit-bio and of classical statistics, exact permutation, planted truth."""

from __future__ import annotations

import math
from itertools import permutations

import numpy as np
import pytest
from scipy import stats

from mkfa.stats.grouped_distances import arrangements, dispersion, permanova, principal_coordinates, variance_components


def squared(x: np.ndarray) -> np.ndarray:
    return ((x[:, None] - x[None]) ** 2).sum(axis=2)


@pytest.mark.parametrize(
    ("distances", "groups", "statistic"),
    [  # the values of scikit-bio's tests, skbio/stats/distance/tests/test_permanova.py
        ([[0, 1, 1, 4], [1, 0, 3, 2], [1, 3, 0, 3], [4, 2, 3, 0]], "aabb", 2.0),
        ([[0, 1, 5, 4], [1, 0, 3, 2], [5, 3, 0, 3], [4, 2, 3, 0]], "aabb", 4.4),
        (
            [
                [0, 1, 0.1, 0.5678, 1, 1],
                [1, 0, 0.002, 0.42, 0.998, 0],
                [0.1, 0.002, 0, 1, 0.123, 1],
                [0.5678, 0.42, 1, 0, 0.123, 0.43],
                [1, 0.998, 0.123, 0.123, 0, 0.5],
                [1, 0, 1, 0.43, 0.5, 0],
            ],
            "abcbaa",
            0.578848,
        ),
    ],
)
def test_pseudo_f_is_that_of_scikit_bio(distances, groups, statistic):
    found = permanova(np.array(distances, float) ** 2, [ord(g) for g in groups])
    assert found.statistic == pytest.approx(statistic, abs=1e-6)


@pytest.mark.parametrize("own", [0.0, -0.1])
def test_groups_whose_members_do_not_differ_have_the_least_p(own: float):
    """Unbiased squared distances within a group may be zero or negative: nothing can lie farther apart."""
    squared = np.array([[0, own, 4, 4], [own, 0, 4, 4], [4, 4, 0, own], [4, 4, own, 0]])
    test = permanova(squared, [0, 0, 1, 1])
    assert (test.statistic, test.p, test.least) == (np.inf, pytest.approx(1 / 3), pytest.approx(1 / 3))
    larger = np.kron(squared + 0.0, np.ones((3, 3)))
    np.fill_diagonal(larger, 0)
    drawn = permanova(larger, np.repeat([0, 0, 1, 1], 3), permutations=99)
    assert not drawn.exact and drawn.p <= 0.03


def test_things_that_all_coincide_are_not_tested():
    assert np.isnan(permanova(np.zeros((4, 4)), [0, 0, 1, 1]).p)


def test_in_one_dimension_it_is_the_f_of_the_analysis_of_variance():
    rng = np.random.default_rng(0)
    x, group = rng.normal(size=(17, 1)), np.repeat([0, 1, 2], [4, 6, 7])
    f = stats.f_oneway(*(x[group == g, 0] for g in range(3))).statistic
    assert permanova(squared(x), group).statistic == pytest.approx(f)


def test_all_arrangements_are_looked_at_where_they_are_few():
    rng = np.random.default_rng(1)
    d = squared(rng.normal(size=(6, 2)))
    labels = np.array([0, 0, 1, 1, 1, 1])
    found = permanova(d, labels)
    every = {tuple(p) for p in permutations(labels)}
    values = [permanova(d, p, permutations=1).statistic for p in every]
    expected = np.mean([v >= found.statistic - 1e-9 for v in values])
    assert found.exact and found.m == len(every) == arrangements([2, 4])
    assert found.p == pytest.approx(expected)
    for sizes in ([2, 2], [3, 3], [2, 2, 2], [1, 1, 2], [2, 3]):
        group = np.repeat(range(len(sizes)), sizes)
        exact = permanova(squared(rng.normal(size=(len(group), 2))), group, permutations=10**6)
        assert exact.m == arrangements(sizes) and exact.p >= exact.least == pytest.approx(1 / exact.m)


def test_false_alarms_are_rare_and_groups_are_found():
    rng = np.random.default_rng(2)
    group = np.repeat([0, 1], 6)
    null = [permanova(squared(rng.normal(size=(12, 4))), group, permutations=99).p for _ in range(300)]
    assert np.mean(np.array(null) <= 0.05) < 0.09
    moved = [permanova(squared(rng.normal(size=(12, 4)) + 2 * group[:, None]), group, permutations=99).p for _ in "ab"]
    assert max(moved) <= 0.02


def test_dispersion_compares_the_variances_of_the_groups():
    rng = np.random.default_rng(4)
    group = np.repeat([0, 1, 2], [10, 8, 6])
    x = rng.normal(size=(24, 3))
    assert dispersion(squared(x * np.where(group == 2, 6, 1)[:, None]), group).p < 0.01
    x[group == 2] += 9
    variance = np.array([x[group == g].var(axis=0, ddof=1).sum() for g in range(3)])
    weight = np.array([9, 7, 5])
    mean = np.average(variance, weights=weight)
    expected = float((weight * (variance - mean) ** 2).sum() / mean**2)
    found = dispersion(squared(x), group, permutations=99)
    assert found.statistic == pytest.approx(expected) and found.p > 0.05


def test_dispersion_of_few_is_exact():
    found = dispersion(squared(np.random.default_rng(9).normal(size=(8, 2))), np.repeat([0, 1], 4))
    assert (found.m, found.exact, found.least) == (35, True, 1 / 35)


def patterned_banks(rng: np.random.Generator, count: int) -> np.ndarray:
    """Two groups of banks of eight layers that mix twelve patterns; those of the second are turned in space.

    They lie elsewhere and scatter exactly alike.
    """
    patterns = np.random.default_rng(1).normal(size=(12, 8))
    turn = np.linalg.qr(np.random.default_rng(2).normal(size=(8, 8)))[0]
    banks = []
    for number in range(2 * count):
        chosen = np.concatenate([rng.choice(12, 12, p=rng.dirichlet(np.full(12, 0.5))) for _ in range(8)])
        x = patterns[chosen] + 0.3 * rng.normal(size=(len(chosen), 8))
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        banks.append(x @ turn if number >= count else x)
    return np.stack(banks)


@pytest.mark.parametrize("apart", [True, False])
def test_dispersion_keeps_its_level_for_distances_that_are_not_euclidean(apart: bool):
    """Those of coverage, 1 less the mean |cos| of filters to the nearest of the other bank."""
    found = []
    for seed in range(60):
        banks = patterned_banks(np.random.default_rng([4, seed]), 8)
        banks = banks[[0, 1, 2, 3, 8, 9, 10, 11]] if apart else banks[:8]
        cosine = np.abs(np.einsum("aik,bjk->abij", banks, banks))
        value = (cosine.max(axis=3).mean(axis=2) + cosine.max(axis=2).mean(axis=2)) / 2
        distance = (1 - value) ** 2
        np.fill_diagonal(distance, 0.0)
        found.append(dispersion(distance, np.repeat([0, 1], 4)).p)
    assert np.mean(np.array(found) <= 0.05) <= 0.1


def test_things_that_do_not_differ_are_not_tested():
    nothing, group = np.zeros((8, 8)), np.repeat([0, 1], 4)
    assert math.isnan(permanova(nothing, group).p) and math.isnan(dispersion(nothing, group).p)


def test_variance_components_are_those_that_were_planted():
    """In k dimensions a variance counts k times: it is that of the squared distance."""
    rng, k = np.random.default_rng(5), 6
    group = np.repeat(range(4), [3, 5, 4, 6])
    found = []
    for _ in range(400):
        centre = rng.normal(0, 2, (4, k))[group] + rng.normal(0, 1, (len(group), k))
        one, two = (centre + rng.normal(0, 0.5, centre.shape) for _ in range(2))
        halves = ((one - two) ** 2).sum(axis=1)
        found.append(variance_components(squared(one), group, halves=halves))
    parts = np.array([(c.group, c.model, c.sample) for c in found])
    se = parts.std(axis=0) / math.sqrt(len(parts))
    assert np.all(np.abs(parts.mean(axis=0) - k * np.array([4, 1, 0.25])) < 4 * se)
    assert all(c.group_low < c.group < c.group_high for c in found)


def test_where_nothing_can_be_tested_nothing_is_said():
    d = squared(np.random.default_rng(6).normal(size=(3, 2)))
    assert math.isnan(permanova(d, [0, 1, 2]).p)
    assert math.isnan(permanova(d, [0, 0, 0]).p)
    assert math.isnan(dispersion(d, [0, 0, 1]).p)
    four = squared(np.random.default_rng(6).normal(size=(4, 2)))
    assert math.isnan(dispersion(four, [0, 0, 1, 1]).p)


def test_coordinates_keep_the_distances_of_points_in_a_plane():
    x = np.random.default_rng(7).normal(size=(11, 2))
    place, share = principal_coordinates(squared(x))
    np.testing.assert_allclose(squared(place), squared(x), atol=1e-9)
    assert share.sum() == pytest.approx(1)
    assert principal_coordinates(np.zeros((1, 1)))[0].shape == (1, 2)
