"""Layer quality against the published 3x3 formula, scipy and cases worked by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import entropy, ks_2samp

from mkfa.banks.bank import Layer, Provenance, make_bank
from mkfa.banks.quality import layer_quality, random_entropy, variance_entropy


def published(n: float) -> float:
    """Random threshold of CNN Filter DB, fitted there to 3x3 filters."""
    return 1.2618 / (1 + np.exp(-0.8877 * (np.log2(n) - 2.3044))) - 0.3105


@pytest.mark.parametrize("filters", [64, 128, 256, 1024, 4096])
def test_the_simulated_threshold_agrees_with_the_published_formula_at_3x3(filters):
    assert random_entropy(filters, 9).mean() == pytest.approx(published(filters), abs=0.015)


def test_the_published_formula_lies_below_random_filters_where_there_are_few():
    rng = np.random.default_rng(0)
    direct = np.mean([variance_entropy(rng.standard_normal((16, 3, 3)).astype(np.float32)) for _ in range(400)])
    assert random_entropy(16, 9).mean() == pytest.approx(direct, abs=0.01)
    assert published(16) < direct - 0.08


@pytest.mark.parametrize(("filters", "taps"), [(6, 9), (9, 9), (10, 9), (40, 25), (20, 49)])
def test_the_shortcut_draws_from_the_distribution_of_random_filters(filters, taps):
    rng = np.random.default_rng(0)
    direct = [variance_entropy(rng.standard_normal((filters, 1, taps)).astype(np.float32)) for _ in range(400)]
    assert ks_2samp(direct, random_entropy(filters, taps, draws=400, seed=1)).pvalue > 0.01


def test_variance_entropy_is_that_of_the_singular_values():
    weight = np.random.default_rng(1).standard_normal((50, 5, 5)).astype(np.float32) * 1e-15
    flat = weight.reshape(50, 25).astype(float)
    share = np.linalg.svd(flat - flat.mean(axis=0), compute_uv=False) ** 2
    assert variance_entropy(weight) == pytest.approx(entropy(share, base=10))


def test_entropy_of_clones_and_of_orthogonal_filters():
    one = np.random.default_rng(2).standard_normal((1, 3, 3)).astype(np.float32)
    assert variance_entropy(np.repeat(one, 20, axis=0)) == pytest.approx(0, abs=1e-6)
    assert variance_entropy(one * np.arange(1, 21, dtype=np.float32)[:, None, None]) == pytest.approx(0, abs=1e-4)
    basis = np.concatenate([np.eye(9), -np.eye(9)]).reshape(18, 3, 3).astype(np.float32)
    assert variance_entropy(basis) == pytest.approx(np.log10(9))
    assert variance_entropy(one) == 0 and variance_entropy(np.zeros((5, 3, 3), np.float32)) == 0


def test_layers_are_told_apart():
    rng = np.random.default_rng(3)
    random = rng.standard_normal((64, 7, 7)).astype(np.float32)
    sparse = random.copy()
    sparse[:16] *= 1e-3
    broken = random.copy()
    broken[0, 0, 0] = np.nan
    layers = [
        (Layer(0, name, 0, 0.0, 64, 7, 7), w, None)
        for name, w in (("random", random), ("sparse", sparse), ("broken", broken))
    ]
    layers.append((Layer(0, "one", 0, 0.0, 1, 3, 3), random[:1, :3, :3], None))
    layers.append((Layer(0, "lost", 0, 0.0, 2, 3, 3), np.full((2, 3, 3), np.inf, np.float32), None))
    found = layer_quality(make_bank("made", layers, Provenance()))
    assert [q.layer for q in found] == [1, 2, 3, 4, 5] and [q.filters for q in found] == [64, 64, 63, 1, 0]
    assert found[0].sparsity == 0 and found[1].sparsity == 0.25
    assert found[0].ratio == pytest.approx(1, abs=0.03) and found[1].ratio < found[0].ratio
    assert found[0].random_low < found[0].random < found[0].random_high
    assert np.isnan(found[3].ratio) and np.isnan(found[4].sparsity)


def test_draws_are_repeatable():
    assert (random_entropy(20, 9, draws=5, seed=1) == random_entropy.__wrapped__(20, 9, draws=5, seed=1)).all()
    assert (random_entropy(20, 9, draws=5, seed=1) != random_entropy(20, 9, draws=5, seed=2)).any()
