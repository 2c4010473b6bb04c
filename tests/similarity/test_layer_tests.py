"""Layers as the unit: their exchange against loops and uniformity."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from mkfa.banks.bank import Kind, Layer, Provenance, make_bank
from mkfa.banks.canonical import normalise
from mkfa.similarity.layer_tests import exchange_layers, layer_blocks
from mkfa.similarity.samples import Cloud, make_cloud
from mkfa.similarity.score import make_plan


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
