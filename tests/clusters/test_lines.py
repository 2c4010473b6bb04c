"""Clusters of filters modulo sign find planted prototypes and do not see sign, gain, offset or order."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, silhouette_score

from mkfa.banks.canonical import normalise
from mkfa.clusters.lines import assign_lines, cluster_lines, distances, polish_lines, projectors, silhouette, subsample


def planted(k, n, *, noise=0.4, taps=25, seed=0):
    """Return noisy filters of k random patterns with random sign, gain and offset, the patterns, and who is whose."""
    rng = np.random.default_rng(seed)
    pattern = normalise(rng.standard_normal((k, taps)).astype(np.float32))[0]
    owner = rng.integers(k, size=n)
    raw = pattern[owner] + noise / np.sqrt(taps) * rng.standard_normal((n, taps))
    raw = raw * rng.choice([-1, 1], (n, 1)) * rng.lognormal(0, 1, (n, 1)) + rng.standard_normal((n, 1))
    return raw.astype(np.float32), pattern, owner


def unit(raw):
    return normalise(raw)[0]


def test_finds_planted_prototypes_whatever_sign_and_gain():
    raw, pattern, owner = planted(6, 900)
    found = cluster_lines(unit(raw), 6, seed=0)
    assert adjusted_rand_score(owner, found.label) > 0.98
    assert np.abs(found.prototype @ pattern.T).max(axis=0).min() > 0.99
    assert np.all(np.diff(found.size) <= 0)
    assert found.energy == pytest.approx(float(np.square(found.cosine).mean()), rel=1e-5)


def test_prototypes_are_the_leading_eigenvectors_and_labels_the_nearest_lines():
    vector = unit(planted(5, 400, noise=1.0)[0])
    found = cluster_lines(vector, 5, seed=1, tolerance=0)
    assert np.array_equal(found.label, np.abs(vector @ found.prototype.T).argmax(axis=1))
    for j, prototype in enumerate(found.prototype):
        members = vector[found.label == j].astype(np.float64)
        assert abs(np.linalg.svd(members)[2][0] @ prototype) > 0.9999
        assert prototype[np.abs(prototype).argmax()] > 0


def test_agrees_with_k_means_on_explicit_projectors_and_explains_no_less():
    vector = unit(planted(4, 500, noise=0.8, taps=9)[0])
    reference = KMeans(4, n_init=20, random_state=0).fit(projectors(vector)).labels_
    found = cluster_lines(vector, 4, seed=0, restarts=20)
    assert adjusted_rand_score(reference, found.label) > 0.95
    theirs = sum(np.linalg.eigvalsh(vector[reference == j].T @ vector[reference == j])[-1] for j in range(4))
    assert found.energy >= theirs / len(vector) - 1e-3


def test_projectors_and_distances_are_the_same_geometry():
    vector = unit(np.random.default_rng(0).standard_normal((30, 9)).astype(np.float32))
    feature = projectors(vector).astype(np.float64)
    squared = ((feature[:, None] - feature[None]) ** 2).sum(axis=2)
    assert np.allclose(squared, 2 * distances(vector), atol=1e-5)
    assert np.allclose(projectors(vector), projectors(-vector))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), k=st.integers(1, 6))
def test_sign_gain_offset_change_nothing_and_order_only_the_rows(seed, k):
    rng = np.random.default_rng(seed)
    raw = planted(3, 60, noise=1.0, taps=9, seed=seed)[0]
    start = unit(raw)[:k]
    plain = polish_lines(unit(raw), start)
    changed = raw * rng.choice([-1, 1], (60, 1)) * rng.uniform(0.01, 100, (60, 1)) + rng.uniform(-2, 2, (60, 1))
    order = rng.permutation(60)
    again = polish_lines(unit(changed.astype(np.float32))[order], start)
    assert again.energy == pytest.approx(plain.energy, rel=1e-3)
    assert adjusted_rand_score(plain.label[order], again.label) > 0.95


def test_same_seed_same_clusters_and_more_restarts_explain_no_less():
    vector = unit(planted(8, 300, noise=1.5)[0])
    one, two = (cluster_lines(vector, 8, seed=3, restarts=1) for _ in range(2))
    assert np.array_equal(one.prototype, two.prototype)
    assert cluster_lines(vector, 8, seed=3, restarts=10).energy >= one.energy - 1e-6


def test_fewer_distinct_lines_than_clusters():
    sign = np.resize([1, -1], 20)[:, None].astype(np.float32)
    vector = np.repeat(unit(np.eye(9, dtype=np.float32)[:2]), 10, axis=0) * sign
    found = cluster_lines(vector, 5, seed=0)
    assert np.isfinite(found.prototype).all()
    assert found.energy == pytest.approx(1, abs=1e-5)
    assert (found.size > 0).sum() == 2


def test_assignment_in_blocks_is_assignment(monkeypatch):
    vector = unit(planted(3, 100)[0])
    whole = assign_lines(vector, vector[:7])
    monkeypatch.setattr("mkfa.clusters.lines._BLOCK", 33)
    for a, b in zip(whole, assign_lines(vector, vector[:7]), strict=True):
        assert np.allclose(a, b, atol=1e-6)


def test_silhouette_is_that_of_the_precomputed_distance():
    vector = unit(planted(3, 200)[0])
    label = cluster_lines(vector, 3, seed=0).label
    dense = 1 - np.square(vector.astype(np.float64) @ vector.T)
    np.fill_diagonal(dense, 0)
    expected = silhouette_score(np.clip(dense, 0, None), label, metric="precomputed")
    assert silhouette(vector, label, seed=0) == pytest.approx(expected, abs=1e-4)
    assert np.isnan(silhouette(vector, np.zeros(200, int), seed=0))


def test_subsample_draws_without_replacement():
    rows = subsample(1000, 100, np.random.default_rng(0))
    assert len(np.unique(rows)) == 100
    assert np.array_equal(subsample(5, 100, np.random.default_rng(0)), np.arange(5))
