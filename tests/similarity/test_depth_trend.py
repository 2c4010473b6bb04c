"""Trends over depth: planted ones are found, the marginal ones are told from the difference, chance is not."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from mkfa.banks.bank import FilterBank, Layer, Provenance, make_bank
from mkfa.similarity.comparing import compare
from mkfa.similarity.depth_trend import DepthTrend, depth_trend
from mkfa.similarity.wording import in_words


def trend(value: np.ndarray, *, same: bool = False, m: int = 199, seed: int = 0) -> DepthTrend:
    depth = tuple(np.linspace(0, 1, n) for n in value.shape)
    rng = np.random.default_rng(seed)
    return depth_trend(value.astype(np.float32), depth, null="covariance", same=same, m=m, rng=rng, seed=seed)  # type: ignore[arg-type]


def test_each_planted_trend_is_found_and_no_other():
    rng = np.random.default_rng(0)
    a, b = np.linspace(0, 1, 9)[:, None], np.linspace(0, 1, 12)[None]
    noise = 0.1 * rng.standard_normal((9, 12))
    for planted, which in ((-abs(a - b), 0), (-a + 0 * b, 1), (0 * a + b, 2)):
        found = trend(planted + noise)
        assert found.p[which] <= 0.01 and found.r[which] * (1 if which == 2 else -1) > 0.5
    assert trend(-a + 0 * b + noise).p[0] > 0.05 and trend(0 * a + b + noise).p[0] > 0.05


def test_p_is_uniform_where_layers_differ_but_not_by_depth():
    """Some layers are closer to everything: that is no likeness of layers of similar depth."""
    for same in (False, True):
        p = []
        for seed in range(200):
            rng = np.random.default_rng([seed, same])
            x = rng.standard_normal((7, 7)) + 3 * rng.standard_normal((7, 1)) + 3 * rng.standard_normal((1, 7))
            p.append(trend(x, same=same, m=39, seed=seed).p)
        rejected = (np.array(p) <= 0.05).sum(axis=0)
        assert (rejected <= 20).all() and rejected[0] >= 2, rejected  # 10 expected of 200


def test_the_difference_is_the_exact_permutation_test_of_the_residuals():
    rng = np.random.default_rng(1)
    x = rng.standard_normal((4, 3))
    a, b = np.linspace(0, 1, 4), np.linspace(0, 1, 3)

    def centred(v):
        return v - v.mean(0) - v.mean(1, keepdims=True) + v.mean()

    gap = centred(np.abs(a[:, None] - b))
    every = [
        np.corrcoef(centred(x)[np.ix_(p, q)].ravel(), gap.ravel())[0, 1]
        for p in map(list, permutations(range(4)))
        for q in map(list, permutations(range(3)))
    ]
    found = trend(x, m=4999)
    assert found.r[0] == pytest.approx(every[0], abs=1e-6)
    assert found.p[0] == pytest.approx(np.mean(np.abs(every) >= abs(every[0]) - 1e-9), abs=0.03)


def test_few_layers_and_missing_ones():
    assert np.isnan(trend(np.random.default_rng(0).random((2, 2))).p).all()
    assert np.isnan(trend(np.zeros((1, 5))).p[:2]).all()
    x = np.random.default_rng(0).random((6, 7))
    gaps = x.copy()
    gaps[2], gaps[:, 5] = np.nan, np.nan
    assert np.isfinite(trend(gaps).p).all()
    assert np.isnan(trend(np.full((6, 7), np.nan)).p).all()


def along(name: str, seed: int, *, layers: int = 8, each: int = 40) -> FilterBank:
    """A bank whose filters change with depth from one pair of prototypes to another."""
    first, last = np.random.default_rng(5).standard_normal((2, 3, 5, 5))
    rng = np.random.default_rng(seed)
    table = []
    for i in range(layers):
        t = i / (layers - 1)
        shape = (1 - t) * first + t * last
        weight = shape[rng.integers(3, size=each)] + 0.3 * rng.standard_normal((each, 5, 5))
        table.append((Layer(0, f"{name}.{i}", i // 4, 0, 0, 5, 5), weight.astype(np.float32), None))
    return make_bank(name, table, Provenance())


def test_a_comparison_says_and_stores_the_trend():
    result = compare(along("a", 1), along("b", 2), draws=19, sample=128, measures="coverage")
    kind = result.kinds[0]
    assert kind.depth_trend.r[0] < -0.5 and kind.depth_trend.p_holm[0] <= 0.01
    assert "In this pair, layers of similar relative depth are more alike than others (r = -0." in " ".join(
        in_words(kind, "a", "b")
    )
    stored = result.to_dict()["comparisons"][0]["kinds"][0]["depth_trend"]
    assert stored["p"][0] == kind.depth_trend.p[0] and (stored["m"], stored["seed"]) == (999, 0)
