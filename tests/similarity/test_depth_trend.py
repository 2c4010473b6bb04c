"""Trends over depth: planted ones are found, and networks that change with depth but share nothing show none."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations

import numpy as np
import pytest

from mkfa.banks.bank import FilterBank, Layer, Provenance, make_bank
from mkfa.similarity.comparing import compare
from mkfa.similarity.depth_trend import DepthTrend, depth_trend, depth_trend_within, turned_coverage
from mkfa.similarity.pairs import Sample
from mkfa.similarity.score import make_plan
from mkfa.similarity.wording import in_words

K = 12
EACH = 12
"""Filters of a layer."""


def unit(x: np.ndarray) -> np.ndarray:
    x = x - x.mean(axis=-1, keepdims=True)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def sample_of(layers: Sequence[np.ndarray]) -> Sample:
    plan = make_plan((3, 4), ("coverage",), threshold=0.9, bandwidth=0.25, rng=np.random.default_rng(0))
    layer = np.repeat(np.arange(len(layers)), [len(x) for x in layers])
    return Sample(np.concatenate(layers)[None].astype(np.float32), layer, len(layers), plan)


def copies(patterns: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Noisy copies of a layer's patterns, (P, K)."""
    return unit(patterns[rng.integers(len(patterns), size=EACH)] + 0.1 * rng.standard_normal((EACH, K)))


def walk(layers: int, rng: np.random.Generator) -> np.ndarray:
    """Patterns that move at random from layer to layer, (L, P, K)."""
    return unit(np.cumsum(rng.standard_normal((layers, 3, K)), axis=0))


def line(layers: int, rng: np.random.Generator) -> np.ndarray:
    """Patterns that turn steadily into others."""
    first, last = unit(rng.standard_normal((2, 3, K)))
    u = np.linspace(0, 1, layers)[:, None, None]
    return unit((1 - u) * first + u * last)


def stages(layers: int, rng: np.random.Generator) -> np.ndarray:
    """Patterns of three stages."""
    return unit(rng.standard_normal((3, 3, K)))[np.arange(layers) * 3 // layers]


def of_pair(a: Sequence[np.ndarray], b: Sequence[np.ndarray], *, m: int = 39, seed: int = 0) -> DepthTrend:
    depth = np.linspace(0, 1, len(a)), np.linspace(0, 1, len(b))
    return depth_trend(sample_of(a), sample_of(b), depth, m=m, rng=np.random.default_rng(seed), seed=seed)


@pytest.mark.parametrize("kind", [walk, line, stages])
def test_networks_that_change_alike_with_depth_are_found(kind):
    for seed in range(3):
        rng = np.random.default_rng(seed)
        patterns = kind(9, rng)
        found = of_pair([copies(x, rng) for x in patterns], [copies(x, rng) for x in patterns], m=199)
        assert found.r[0] < -0.5 and found.p[0] <= 0.05, seed
        back = of_pair([copies(x, rng) for x in patterns], [copies(x, rng) for x in patterns[::-1]], m=19)
        assert back.r[0] > 0.3


@pytest.mark.parametrize("kind", [walk, line, stages])
def test_unrelated_networks_that_change_with_depth_pass_no_more_often_than_the_level(kind):
    """A permutation of layers passes in a third to three quarters of these pairs."""
    p = []
    for seed in range(80):
        rng = np.random.default_rng([seed, 1])
        a, b = ([copies(x, rng) for x in kind(layers, rng)] for layers in (8, 6))
        p.append(of_pair(a, b, seed=seed, m=19).p)
    rejected = (np.array(p) <= 0.05).sum(axis=0)
    assert (rejected <= 12).all(), rejected  # 4 expected of 80 each


def test_layers_that_get_nearer_with_depth_are_told_from_the_difference():
    """The later a layer of A, the more of its filters are copies of B's, of whatever layer."""
    rng = np.random.default_rng(0)
    b = [unit(rng.standard_normal((40, K))) for _ in range(8)]
    pool = np.concatenate(b)
    a = []
    for i in range(9):
        own = unit(rng.standard_normal((40, K)))
        own[: 4 * i] = pool[rng.choice(len(pool), 4 * i)]
        a.append(own)
    for found, which in ((of_pair(a, b, m=199), 1), (of_pair(b, a, m=199), 2)):
        assert found.r[which] > 0.9 and found.p_holm[which] <= 0.05 and found.p[0] > 0.05


def test_turned_banks_are_rotations():
    """In two dimensions every rotation is an angle; the coverage of one filter by one is |cos|, arcsine distributed."""
    from scipy.stats import kstest

    one = unit(np.array([[1.0, 2.0, 4.0]]))
    plan = make_plan((1, 3), ("coverage",), threshold=0.9, bandwidth=0.25, rng=np.random.default_rng(0))
    layer = np.zeros(1, np.int64)
    a, b = (Sample(x[None].astype(np.float32), layer, 1, plan) for x in (one, unit(one[:, ::-1])))
    cosine = turned_coverage(a, b, np.random.default_rng(0), m=999).ravel()
    assert kstest(np.arccos(cosine), "uniform", args=(0, np.pi / 2)).pvalue > 0.01
    two = sample_of([unit(np.random.default_rng(1).standard_normal((2, K)))])
    alone = turned_coverage(two, two, np.random.default_rng(0), m=1)
    assert alone[0, 0, 0] < 0.999 and turned_coverage(two, two, np.random.default_rng(0), m=45).shape == (45, 1, 1)


def test_within_a_network_p_is_that_of_all_orders_of_its_layers():
    """Neighbours are alike; the residuals of an additive model are found here by least squares."""
    rng = np.random.default_rng(1)
    n, place = 6, np.linspace(0, 1, 6)
    x = rng.standard_normal((n, n))
    x += x.T - 1.5 * np.abs(place[:, None] - place)
    off = ~np.eye(n, dtype=bool)
    effects = np.array([[k in (i, j) for k in range(n)] for i in range(n) for j in range(n) if i != j], float)

    def left(v):
        return v[off] - effects @ np.linalg.lstsq(effects, v[off], rcond=None)[0]

    gap = left(np.abs(place[:, None] - place))
    every = [np.corrcoef(left(x[np.ix_(p, p)]), gap)[0, 1] for p in map(list, permutations(range(n)))]
    found = within(x, m=1999)
    assert found.r[0] == pytest.approx(every[0], abs=1e-6)
    assert found.p[0] == pytest.approx(np.mean(np.abs(every) >= abs(every[0]) - 1e-9), abs=0.02)
    assert found.p_holm[0] == found.p[0] and np.isnan(found.p[1:]).all()


def within(value: np.ndarray, *, m: int = 199, seed: int = 0) -> DepthTrend:
    depth, rng = np.linspace(0, 1, len(value)), np.random.default_rng(seed)
    return depth_trend_within(value.astype(np.float32), depth, null="gaussian", m=m, rng=rng, seed=seed)


def test_within_a_network_p_is_uniform_where_layers_differ_but_not_by_depth():
    """Some layers are closer to everything: that is no likeness of layers of similar depth."""
    p = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        x = rng.standard_normal((7, 7)) + 3 * rng.standard_normal((7, 1)) + 3 * rng.standard_normal((1, 7))
        p.append(within(x, m=39, seed=seed).p[0])
    assert 2 <= (np.array(p) <= 0.05).sum() <= 20  # 10 expected of 200


def test_few_layers_missing_ones():
    rng = np.random.default_rng(0)
    layers = [unit(rng.standard_normal((EACH, K))) for _ in range(6)]
    two = of_pair(layers[:2], layers[2:4])
    assert np.isfinite(two.r[0]) and np.isnan(two.p).all() and np.isnan(two.r[1:]).all()
    assert np.isfinite(of_pair(layers[:4], layers[2:]).p[0]) and np.isnan(of_pair(layers[:4], layers[2:]).p[1:]).all()
    assert np.isnan(of_pair(layers[:1], layers).p[:2]).all()
    none = np.zeros((0, K))
    assert np.isfinite(of_pair([*layers, none], [none, *layers]).p).all()
    assert np.isnan(within(np.zeros((3, 3))).p).all() and np.isnan(within(np.full((6, 6), np.nan)).p).all()
    x = rng.random((7, 7))
    x[2], x[:, 2] = np.nan, np.nan
    assert np.isfinite(within(x).p[0])


def along(name: str, seed: int, *, layers: int = 8, each: int = 40) -> FilterBank:
    """A bank whose filters change with depth from one triple of prototypes to another."""
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
    assert kind.depth_trend.r[0] < -0.5 and kind.depth_trend.p_holm[0] <= 0.02
    assert "In this pair, layers of similar relative depth are more alike than others (r = -0." in " ".join(
        in_words(kind, "a", "b")
    )
    stored = result.to_dict()["comparisons"][0]["kinds"][0]["depth_trend"]
    assert stored["p"][0] == kind.depth_trend.p[0] and (stored["m"], stored["seed"]) == (199, 0)
    assert stored["null"] == "turned"
    same = compare(along("a", 1), along("a", 1), draws=19, sample=128, measures="coverage").kinds[0].depth_trend
    assert (same.null, same.m) == ("covariance-layer", 999) and same.p[0] <= 0.01
