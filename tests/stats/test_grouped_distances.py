"""Tests of groups by distances: values of scikit-bio and of classical statistics, exact permutation, planted truth."""

from __future__ import annotations

import math
from itertools import permutations

import numpy as np
import pytest
from scipy import stats

from mkfa.stats.grouped_distances import (
    arrangements,
    centroid_distances,
    dispersion,
    permanova,
    principal_coordinates,
    variance_components,
)


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


def test_distances_to_a_centroid_are_those_of_points():
    rng = np.random.default_rng(3)
    x, group = rng.normal(size=(9, 4)), np.repeat([0, 1], [4, 5])
    centres = np.stack([x[group == g].mean(axis=0) for g in (0, 1)])[group]
    n = np.array([4, 5])[group]
    np.testing.assert_allclose(
        centroid_distances(squared(x), group), np.linalg.norm(x - centres, axis=1) * np.sqrt(n / (n - 1))
    )


def test_dispersion_is_that_of_scikit_bio_but_for_the_correction_for_few_members():
    """The UniFrac distances and the F of skbio/stats/distance/tests/test_permdisp.py, test_centroid_normal."""
    upper = """0.595483768391 0.618074717633 0.582763100909 0.566949022108 0.714717232268 0.772001731764 0.690237118413
    0.740681707488 0.581427669668 0.613726772383 0.65945132763 0.745176523638 0.733836123821 0.720305073505
    0.680785600439 0.672149021573 0.699416863323 0.71405573754 0.759178215168 0.689701276341 0.725100672826
    0.64756120797 0.666018240373 0.66532968784 0.650464714994 0.632524644216 0.703720200713 0.748240937349
    0.73416971958 0.727154987937 0.707316869557 0.636288883818 0.699880573956 0.565875193399 0.560605525642
    0.575788039321"""
    distances = np.zeros((9, 9))
    distances[np.triu_indices(9, 1)] = [float(x) for x in upper.split()]
    group = np.repeat([0, 1], [5, 4])
    n = np.array([5, 4])[group]
    away = centroid_distances((distances + distances.T) ** 2, group) / np.sqrt(n / (n - 1))
    assert stats.f_oneway(away[:5], away[5:]).statistic == pytest.approx(0.244501519876)


def test_dispersion_is_the_f_of_these_distances_and_sees_scatter_only():
    rng = np.random.default_rng(4)
    x, group = rng.normal(size=(20, 3)), np.repeat([0, 1], 10)
    away = centroid_distances(squared(x), group)
    f = stats.f_oneway(away[:10], away[10:]).statistic
    assert dispersion(squared(x), group).statistic == pytest.approx(f)
    moved = [
        dispersion(squared(rng.normal(size=(20, 3)) + 9 * group[:, None]), group, permutations=99).p for _ in range(100)
    ]
    assert np.mean(np.array(moved) <= 0.05) <= 0.12
    assert dispersion(squared(rng.normal(size=(20, 3)) * (1 + 4 * group[:, None])), group).p < 0.01


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
    assert math.isnan(dispersion(four, [0, 0, 1, 1]).p)  # both members are equally far from their centroid


def test_coordinates_keep_the_distances_of_points_in_a_plane():
    x = np.random.default_rng(7).normal(size=(11, 2))
    place, share = principal_coordinates(squared(x))
    np.testing.assert_allclose(squared(place), squared(x), atol=1e-9)
    assert share.sum() == pytest.approx(1)
    assert principal_coordinates(np.zeros((1, 1)))[0].shape == (1, 2)
