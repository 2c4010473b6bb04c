"""Layers as the unit: exchange against loops and uniformity, intervals against closed forms and fresh layers."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

import mkfa
from mkfa.banks.bank import Kind, Layer, Provenance, make_bank
from mkfa.banks.canonical import normalise
from mkfa.nulls.draws import draw_null
from mkfa.similarity.layer_tests import exchange_layers, jackknife_interval, layer_blocks
from mkfa.similarity.measures.table import MEASURES, SAMPLED_MEASURES
from mkfa.similarity.samples import Cloud, make_cloud, split
from mkfa.similarity.score import make_plan, score, take


def layered_cloud(layers: int, each: int, seed: int, shift: float = 0.0, k: int = 3) -> Cloud:
    """Layers around centres of their own (so that filters within a layer are alike); `shift` moves the centres."""
    rng = np.random.default_rng(seed)
    table = []
    for i in range(layers):
        centre = rng.standard_normal((1, k, k)) + shift * np.random.default_rng(0).standard_normal((1, k, k))
        table.append((Layer(0, f"l{i}", 0, 0, 0, k, k), (centre + 0.5 * rng.standard_normal((each, k, k))), None))
    return make_cloud(make_bank("b", [(a, w.astype(np.float32), n) for a, w, n in table], Provenance()), Kind(k, k))


PLAN = make_plan((3, 3), ("coverage", "mmd", "energy"), threshold=0.9, bandwidth=0.25, rng=np.random.default_rng(0))


def test_layer_blocks_are_means_over_pairs():
    rng = np.random.default_rng(0)
    vector = normalise(rng.standard_normal((14, 9)).astype(np.float32))[0]
    label = np.repeat([0, 1, 2], [6, 5, 3])
    kernel, distance, best = layer_blocks(vector, label, layers=3, bandwidth=0.25)
    for i in range(3):
        for j in range(3):
            pairs = [(f, g) for f in np.flatnonzero(label == i) for g in np.flatnonzero(label == j) if f != g]
            square = np.array([float(vector[f] @ vector[g]) ** 2 for f, g in pairs])
            assert kernel[i, j] == pytest.approx(np.exp((square - 1) / 0.25).mean(), abs=1e-5)
            assert distance[i, j] == pytest.approx(np.sqrt(1 - square).mean(), abs=1e-5)
    cos = np.abs(vector @ vector.T) - np.eye(14)
    np.testing.assert_allclose(best[:, 1], cos[:, label == 1].max(1), atol=1e-5)


@pytest.mark.slow
def test_layers_of_one_population_give_uniform_p_although_filters_in_them_are_alike():
    m = 99
    p = []
    for seed in range(200):
        a, b = (layered_cloud(6, 12, 2 * seed + i) for i in range(2))
        p.append(list(exchange_layers(a, b, (None, None), plan=PLAN, m=m, rng=np.random.default_rng(seed)).p.values()))
    jitter = np.random.default_rng(0).uniform(0, 1 / (m + 1), (200, 3))
    for column in (np.array(p) - jitter).T:
        assert scipy.stats.kstest(column, "uniform").pvalue > 1e-3


def noise_cloud(sizes: list[int], seed: int) -> Cloud:
    rng = np.random.default_rng(seed)
    layers = [(Layer(0, f"l{i}", 0, 0, 0, 3, 3), rng.standard_normal((n, 3, 3)), None) for i, n in enumerate(sizes)]
    return make_cloud(make_bank("b", [(a, w.astype(np.float32), n) for a, w, n in layers], Provenance()), Kind(3, 3))


@pytest.mark.parametrize(
    ("a", "b"), [([8] * 4, [64] * 12), ([64] * 8, [8] * 8), ([64] * 4, [8] * 12), ([4] * 6, [200] * 6)]
)
def test_layers_of_other_sizes_are_not_layers_of_other_filters(a: list[int], b: list[int]):
    """The more filters a layer gives, the nearer is the best of them: every layer must give equally many."""
    p = []
    for seed in range(40):
        clouds = noise_cloud(a, 2 * seed), noise_cloud(b, 2 * seed + 1)
        found = exchange_layers(*clouds, (None, None), plan=PLAN, m=39, rng=np.random.default_rng(seed))
        p.append(list(found.p.values()))
    assert found.per_layer == min(min(a), min(b)) and found.left_out == ((), ())
    for tail in (np.array(p) <= 0.05, np.array(p) > 0.95):
        assert (scipy.stats.binom.sf(tail.sum(axis=0) - 1, 40, 0.05) > 1e-3).all(), tail.sum(axis=0)


def test_thin_layers_take_no_part_and_are_named():
    a, b = noise_cloud([5, 40, 60, 80], 0), noise_cloud([16, 16, 300], 1)
    found = exchange_layers(a, b, (None, None), plan=PLAN, m=19, rng=np.random.default_rng(0))
    assert found.per_layer == 16 and found.left_out == (("l0",), ())
    assert found.arrangements == 20  # three layers each
    most_thin = noise_cloud([5, 6, 40], 0)
    kept = exchange_layers(most_thin, b, (None, None), plan=PLAN, m=19, rng=np.random.default_rng(0))
    assert kept.per_layer == 5 and kept.left_out == ((), ())


def test_layers_of_two_populations_are_told_apart():
    a, b = layered_cloud(9, 12, 1, shift=2), layered_cloud(9, 12, 2, shift=-0.5)
    found = exchange_layers(a, b, (None, None), plan=PLAN, m=199, rng=np.random.default_rng(0))
    assert found.p["energy"] <= 0.02 and found.p["mmd"] <= 0.02
    assert found.arrangements == 48620 and found.m == 199


def test_one_layer_each_cannot_be_told_apart():
    a, b = layered_cloud(1, 12, 1, shift=5), layered_cloud(1, 12, 2)
    found = exchange_layers(a, b, (None, None), plan=PLAN, m=99, rng=np.random.default_rng(0))
    assert found.arrangements == 2 and found.p["energy"] == 1


def tap_difference(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.square(a[:, 0]).mean() - np.square(b[:, 0]).mean())


def test_the_interval_of_a_difference_of_means_is_that_of_layer_means():
    """In closed form: the squared error is var / L of the layers' means, summed over both banks."""
    mkfa.register(mkfa.Measure("tap", "", tap_difference))
    try:
        plan = make_plan((3, 3), ("tap",), threshold=0.9, bandwidth=0.25, rng=np.random.default_rng(0))
        a, b = (take(c, np.arange(len(c)), plan) for c in (layered_cloud(7, 12, 1), layered_cloud(11, 20, 2)))
        low, high = jackknife_interval(a, b, np.array([0.25]))
    finally:
        MEASURES.unregister("tap")
    error = 0.0
    for sample in (a, b):
        means = np.array([np.square(sample.vector[0, sample.layer == i, 0]).mean() for i in range(sample.layers)])
        error += means.var(ddof=1) / len(means)
    half = scipy.stats.norm.ppf(0.975) * np.sqrt(error)
    assert (low[0], high[0]) == pytest.approx((0.25 - half, 0.25 + half), rel=1e-5)


def test_an_interval_ends_where_the_measure_does():
    plan = make_plan(
        (3, 3), ("coverage", "energy", "angles"), threshold=0.9, bandwidth=0.25, rng=np.random.default_rng(0)
    )
    a, b = (take(c, np.arange(len(c)), plan) for c in (layered_cloud(4, 12, 1), layered_cloud(4, 12, 2)))
    low, high = jackknife_interval(a, b, np.array([1.0, 0.0, 0.0]))
    assert high[0] == 1 > low[0] and low[2] == 0 < high[2]
    assert low[1] < 0 < high[1]  # the estimate of the energy distance has no bias, and may be negative


def patterned_cloud(layers: int, each: int, rng: np.random.Generator) -> Cloud:
    """Noisy copies of twelve smooth patterns, in proportions that differ from layer to layer."""
    patterns = normalise(
        draw_null("blurred", np.empty((12, 5, 5), np.float32), np.random.default_rng(99)).reshape(12, -1)
    )[0]
    table = []
    for i in range(layers):
        chosen = rng.choice(12, each, p=rng.dirichlet(np.full(12, 0.5)))
        weight = patterns[chosen] * rng.choice([-1, 1], (each, 1)) + 0.12 * rng.standard_normal((each, 25))
        table.append((Layer(0, f"l{i}", 0, 0, 0, 5, 5), weight.reshape(-1, 5, 5).astype(np.float32), None))
    return make_cloud(make_bank("b", table, Provenance()), Kind(5, 5))


def test_intervals_hold_the_mean_over_other_pairs_of_banks():
    """The neighbours of the other bank, the assignment and the sample are part of what varies."""
    measures = ("coverage", "coverage_at", "matching", "mmd", "energy", "frobenius")
    plan = make_plan((5, 5), measures, threshold=0.9, bandwidth=0.25, rng=np.random.default_rng(0))
    values, intervals = [], []
    for seed in range(40):
        rng = np.random.default_rng([3, seed])
        clouds = [patterned_cloud(8, 32, rng) for _ in "ab"]
        a, b = (take(c, split(c, 96, rng)[0], plan) for c in clouds)
        values.append(score(a, b).values[0])
        intervals.append(jackknife_interval(a, b, values[-1]))
    mean = np.mean(values, axis=0)
    low, high = np.array(intervals).swapaxes(0, 1)
    held = ((low <= mean) & (mean <= high)).mean(axis=0)
    assert (held >= 0.85).all(), dict(zip(measures, held, strict=True))
    assert ((high - low).mean(axis=0) < 2 * 3.92 * np.std(values, axis=0)).all()


def test_one_layer_has_no_interval():
    plan = make_plan((3, 3), SAMPLED_MEASURES, threshold=0.9, bandwidth=0.25, rng=np.random.default_rng(0))
    one, more = (take(c, np.arange(30), plan) for c in (layered_cloud(1, 30, 1), layered_cloud(5, 6, 2)))
    value = np.zeros(len(plan.measures))
    assert np.isnan(jackknife_interval(one, more, value)).all() and np.isnan(jackknife_interval(more, one, value)).all()
    assert np.isfinite(jackknife_interval(more, more, value)).all()
