"""The number of clusters: planted ones are counted, clouds without patterns have none, a continuum is called one."""

from __future__ import annotations

import numpy as np
import pytest

from mkfa.banks.canonical import normalise
from mkfa.clusters.count import ALPHA, Criteria, choose_clusters, decide, half_stability, null_clouds, pair_rand
from mkfa.errors import MkfaError, UnknownNameError

COUNTS = (1, 2, 3, 4, 6, 7, 8)


def planted(k, n, *, noise, seed=0):
    rng = np.random.default_rng(seed)
    pattern = normalise(rng.standard_normal((k, 25)).astype(np.float32))[0]
    raw = pattern[rng.integers(k, size=n)] * rng.choice([-1, 1], (n, 1)) + noise / 5 * rng.standard_normal((n, 25))
    return normalise(raw.astype(np.float32))[0]


def criteria(counts, gap, stability, *, error=0.01):
    s = len(counts)
    blank = np.zeros(s)
    return Criteria(
        np.array(counts),
        blank,
        blank,
        np.array(gap),
        np.full(s, error),
        np.array(stability),
        blank,
        blank,
        blank,
        blank,
        blank,
    )


@pytest.mark.parametrize("k", [pytest.param(3, marks=pytest.mark.slow), 6])
def test_planted_clusters_are_counted(k):
    choice = choose_clusters(planted(k, 400, noise=0.7), seed=0, counts=COUNTS, nulls=19)
    assert (choice.clusters, choice.verdict) == (k, "clusters")
    at = COUNTS.index(k)
    assert choice.criteria.stability[at] > 0.95 > choice.criteria.null_stability[at] + 0.3
    assert np.nanargmax(choice.criteria.silhouette) == at


@pytest.mark.slow
def test_clouds_of_second_moments_only_rarely_have_clusters():
    none = 0
    for seed in range(20):
        cloud = null_clouds(planted(6, 300, noise=0.7, seed=seed))(np.random.default_rng(seed))
        choice = choose_clusters(cloud, seed=seed, counts=(1, 2, 4), nulls=19)
        none += choice.verdict == "none"
        assert (choice.clusters == 1) == (choice.verdict == "none")
    assert none >= 16  # of 20 at alpha .05, fewer has probability .003


def test_a_null_cloud_has_none_and_says_so():
    cloud = null_clouds(planted(6, 400, noise=0.7))(np.random.default_rng(1))
    choice = choose_clusters(cloud, seed=0, counts=(1, 2, 4, 6), nulls=19)
    assert (choice.clusters, choice.verdict) == (1, "none")
    assert choice.p > ALPHA
    assert "No clusters beyond" in choice.reason
    assert np.abs(choice.criteria.gap).max() < 0.05


def test_null_cloud_keeps_the_second_moment():
    vector = planted(3, 4000, noise=0.3)
    cloud = null_clouds(vector)(np.random.default_rng(0))
    assert np.allclose(np.linalg.norm(cloud, axis=1), 1, atol=1e-5)
    assert np.allclose(cloud.T @ cloud / 4000, vector.T @ vector / 4000, atol=0.02)
    assert np.linalg.eigvalsh(vector.T @ vector / 4000)[-1] == pytest.approx(
        np.linalg.eigvalsh(cloud.T @ cloud / 4000)[-1], rel=0.05
    )


def test_rule_takes_the_smallest_number_that_no_larger_one_beats():
    measured = criteria((1, 2, 3, 4, 5), (0, 0.2, 0.5, 0.49, 0.505), (1, 1, 0.95, 0.9, 0.9))
    assert decide(measured, 0.05, nulls=19)[:2] == (3, "clusters")


def test_rule_calls_a_growing_gap_a_continuum_and_takes_the_finest_division_that_recurs():
    # the dip at 3 would pass the rule that looks at the next number only
    measured = criteria((1, 2, 3, 4, 5), (0, 0.2, 0.31, 0.305, 0.6), (1, 0.9, 0.95, 0.85, 0.5))
    count, verdict, reason = decide(measured, 0.05, nulls=19)
    assert (count, verdict) == (4, "continuum")
    assert "continuum" in reason
    shaky = criteria((1, 2, 3), (0, 0.2, 0.4), (1, 0.5, 0.6))
    count, verdict, reason = decide(shaky, 0.05, nulls=19)
    assert (count, verdict) == (3, "continuum")
    assert "no division recurs" in reason


def test_rule_obeys_the_user_and_the_null():
    measured = criteria((1, 2, 3), (0, 0.5, 0.3), (1, 0.9, 0.9))
    assert decide(measured, 0.05, nulls=19, asked=3)[:2] == (3, "given")
    assert decide(measured, 0.5, nulls=19)[:2] == (1, "none")


def test_given_number_is_measured_beside_one_cluster():
    choice = choose_clusters(planted(3, 200, noise=0.5), seed=0, asked=3)
    assert choice.criteria.counts.tolist() == [1, 3]
    assert choice.verdict == "given"


def test_same_seed_same_choice():
    vector = planted(3, 200, noise=0.7)
    one, two = (choose_clusters(vector, seed=5, counts=(1, 3)) for _ in range(2))
    assert one.reason == two.reason
    assert np.array_equal(one.criteria.gap, two.criteria.gap)


def test_half_stability_is_one_for_clear_clusters():
    assert half_stability(planted(4, 400, noise=0.2), 4, seed=0).min() > 0.99
    labels = [np.array([0, 0, 1, 1]), np.array([1, 1, 0, 0]), np.array([0, 1, 0, 1])]
    assert pair_rand(labels).tolist() == [1, -0.5, -0.5]


def test_null_clouds_by_name_keep_what_the_null_keeps():
    vector = planted(6, 300, noise=0.7)
    layer = np.repeat([0, 1], 150)
    vector[:150] = np.roll(vector[:150], 1, axis=1)
    rng = np.random.default_rng(0)

    def moments(cloud: np.ndarray) -> list[np.ndarray]:
        return [cloud[layer == i].T @ cloud[layer == i] / 150 for i in (0, 1)]

    own = moments(vector)
    apart = np.linalg.norm(own[0] - own[1])
    by_layer = moments(null_clouds(vector, null="covariance-layer", layer=layer)(rng))
    pooled = moments(null_clouds(vector, null="covariance", layer=layer)(rng))
    assert max(np.linalg.norm(a - b) for a, b in zip(by_layer, own, strict=True)) < 0.7 * apart
    assert np.linalg.norm(pooled[0] - pooled[1]) < 0.7 * apart
    shuffled = null_clouds(vector, null="shuffled")(rng)
    np.testing.assert_allclose(np.sort(shuffled, axis=1), np.sort(vector, axis=1), atol=1e-5)


def test_noise_whose_layers_differ_is_no_structure_unless_layers_are_taken_together():
    """Filters of each layer lie about a plane of its own: second moments, and nothing else."""
    rng, layer = np.random.default_rng(4), np.repeat(np.arange(25), 16)
    scale = np.where(np.arange(24) < 2, 1, 0.2)
    turned = [np.linalg.qr(rng.standard_normal((24, 24)))[0] * scale for _ in range(25)]
    vector = normalise(np.concatenate([rng.standard_normal((16, 24)) @ x.T for x in turned]).astype(np.float32))[0]
    options = {"seed": 0, "counts": (2, 4, 8), "layer": layer}
    strict, pooled = choose_clusters(vector, **options), choose_clusters(vector, null="covariance", **options)
    assert strict.verdict == "none" and "the second moments of each layer" in strict.reason and strict.p > ALPHA
    assert pooled.p <= ALPHA and pooled.reason.endswith("passes this null too, covariance-layer not.")


def test_layers_that_are_not_known_or_too_thin_are_said():
    vector = planted(3, 200, noise=0.7)
    thin = np.r_[np.zeros(190, int), np.arange(1, 11)]
    for layer, said in (
        (None, "Layers are not known, so that covariance-layer is covariance."),
        (np.zeros(200, int), "All filters are of one layer, so that covariance-layer is covariance."),
        (np.arange(200), "No layer has 4 filters, so that covariance-layer is covariance."),
        (thin, "10 of 11 layers have fewer than 4 filters, and covariance-layer takes these together."),
        (np.arange(200) // 50, "at least 0.8)."),
    ):
        choice = choose_clusters(vector, seed=0, asked=3, layer=layer)
        assert choice.reason.endswith(said) or (said == "at least 0.8)." and "covariance-layer is" not in choice.reason)
    one = choose_clusters(vector, seed=0, asked=3, layer=np.arange(200)).criteria.null_energy
    other = choose_clusters(vector, seed=0, asked=3, layer=None, null="covariance").criteria.null_energy
    np.testing.assert_allclose(one, other)


def test_a_null_of_whole_networks_is_refused():
    with pytest.raises(MkfaError, match="null init: is a whole network"):
        choose_clusters(planted(3, 60, noise=0.7), seed=0, null="init")
    with pytest.raises(UnknownNameError, match="did you mean covariance"):
        choose_clusters(planted(3, 60, noise=0.7), seed=0, null="covarianc")
