"""The map and the density clusters do not see signs; the map is reproducible."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score
from sklearn.neighbors import NearestNeighbors

from mkfa.banks.canonical import normalise
from mkfa.clusters.count import null_clouds
from mkfa.clusters.map import density_clusters, map_filters


def planted(k, n, noise=0.3, seed=0):
    rng = np.random.default_rng(seed)
    pattern = normalise(rng.standard_normal((k, 25)).astype(np.float32))[0]
    owner = rng.integers(k, size=n)
    raw = pattern[owner] * rng.choice([-1, 1], (n, 1)) + noise / 5 * rng.standard_normal((n, 25))
    return normalise(raw.astype(np.float32))[0], owner


def test_density_finds_planted_clusters_and_none_in_a_null_cloud():
    vector, owner = planted(4, 400)
    found = density_clusters(vector)
    assert found.count == 4
    assert adjusted_rand_score(owner, found.label) > 0.95
    assert np.array_equal(density_clusters(-vector).label, found.label)
    null = density_clusters(null_clouds(vector)(np.random.default_rng(0)))
    assert found.outside < 0.1 < 0.8 < null.outside  # chance clumps of the least size may be found, no more


def test_too_few_filters_have_no_density():
    assert density_clusters(planted(2, 8)[0]).count == 0


@pytest.mark.slow
def test_the_map_is_reproducible_keeps_neighbours_and_ignores_signs():
    vector, owner = planted(3, 150)
    place = map_filters(vector, seed=3)
    assert place.shape == (150, 2)
    assert np.isfinite(place).all()
    assert np.array_equal(place, map_filters(vector, seed=3))
    near = NearestNeighbors(n_neighbors=6).fit(place).kneighbors(place, return_distance=False)[:, 1:]
    assert (owner[near] == owner[:, None]).mean() > 0.95
    flipped = map_filters(vector * np.resize([1, -1], 150)[:, None].astype(np.float32), seed=3)
    assert np.allclose(flipped, place, atol=1e-3)
