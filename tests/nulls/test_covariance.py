"""The covariance nulls have the very second moments of trained filters, whose spectrum is steep."""

from __future__ import annotations

import numpy as np
import pytest

import mkfa
from mkfa.banks.bank import Kind
from mkfa.nulls.covariance import exact_moment, sample_covariance, sphere_covariance, symmetric_root, tap_covariance
from mkfa.nulls.draws import DEFAULT_NULLS, NULLS
from mkfa.similarity.samples import Cloud, make_cloud, split

BUNDLED = [("efficientnet_lite0", 5), ("ppocrv4_rec", 5), ("mobilenet_v2", 3)]


def cloud_of(name: str, size: int) -> Cloud:
    return make_cloud(mkfa.load_bank(name), Kind(size, size))


def filters_of(cloud: Cloud) -> np.ndarray:
    return cloud.vector.reshape(-1, cloud.kind.kh, cloud.kind.kw)


def layers_mean_moment(cloud: Cloud, rows: np.ndarray) -> np.ndarray:
    """Return the mean of the layers' second moments, each weighing as often as the sample has filters of it."""
    counts = np.bincount(cloud.layer[rows])
    own = [v.T.astype(float) @ v / len(v) for v in (cloud.vector[cloud.layer == i] for i in range(len(counts)))]
    return sum(n * m for n, m in zip(counts, own, strict=True)) / counts.sum()


@pytest.mark.parametrize("null", ["covariance", "covariance-layer"])
@pytest.mark.parametrize(("name", "size"), BUNDLED)
def test_samples_have_the_moment_of_the_bank_as_it_is_sampled(null: str, name: str, size: int):
    cloud = cloud_of(name, size)
    rows = split(cloud, 160, np.random.default_rng(0))[0]
    draw = NULLS[null].prepare(filters_of(cloud), cloud.layer, rows)
    rng = np.random.default_rng(1)
    got = np.mean([tap_covariance(draw(rng)) for _ in range(200)], axis=0)
    wanted = layers_mean_moment(cloud, rows)
    np.testing.assert_allclose(np.linalg.eigvalsh(got)[-3:], np.linalg.eigvalsh(wanted)[-3:], rtol=0.03)
    assert np.abs(got - wanted).max() < 0.03 * np.abs(wanted).max()
    assert np.linalg.eigvalsh(wanted)[-1] > 0.3  # normal draws of this covariance, at unit norm, have under .3 at 5x5


@pytest.mark.parametrize("null", ["covariance", "covariance-layer"])
def test_draws_in_the_place_of_all_filters_have_exactly_their_moment(null: str):
    cloud = cloud_of("ppocrv4_det", 3)
    drawn = NULLS[null].sample(filters_of(cloud), np.random.default_rng(0))
    np.testing.assert_allclose(tap_covariance(drawn), tap_covariance(filters_of(cloud)), atol=1e-4)


def test_a_bank_is_replaced_whole_so_that_its_sample_scatters_as_the_real_one_does():
    """Of 2 n filters with a known moment, n scatter about it half as much (in square) as n drawn singly."""
    cloud = cloud_of("ppocrv4_det", 3)
    rows = split(cloud, 160, np.random.default_rng(0))[0]
    whole = NULLS["covariance"].prepare(filters_of(cloud), cloud.layer, rows)
    single = sphere_covariance(layers_mean_moment(cloud, rows))
    rng = np.random.default_rng(0)
    square = []
    for draw in (whole, lambda rng: sample_covariance(single, 160, rng).reshape(-1, 3, 3)):
        moments = np.array([tap_covariance(draw(rng)) for _ in range(150)])
        square.append(np.square(moments - moments.mean(axis=0)).sum(axis=(1, 2)).mean())
    assert 0.3 < square[0] / square[1] < 0.65


def test_layers_keep_their_own_covariance():
    cloud = cloud_of("efficientnet_lite0", 5)
    layer = cloud.layer
    rows = np.arange(len(layer))
    first, last = (np.flatnonzero(layer == i) for i in (0, layer.max()))
    drawn = NULLS["covariance-layer"].prepare(filters_of(cloud), layer, rows)(np.random.default_rng(0))
    pooled = NULLS["covariance"].prepare(filters_of(cloud), layer, rows)(np.random.default_rng(0))
    for here in (first, last):
        own = tap_covariance(filters_of(cloud)[here])
        assert np.abs(tap_covariance(drawn[here]) - own).max() < 0.25 * np.abs(own).max()
    apart = np.abs(tap_covariance(filters_of(cloud)[first]) - tap_covariance(filters_of(cloud)[last])).max()
    assert np.abs(tap_covariance(pooled[first]) - tap_covariance(pooled[last])).max() < 0.3 * apart


@pytest.mark.parametrize("null", [*DEFAULT_NULLS, "covariance-layer"])
def test_draws_do_not_turn_with_rounding_errors(null: str, monkeypatch: pytest.MonkeyPatch):
    """Another machine rounds otherwise, and equal eigenvalues then have other eigenvectors."""
    cloud = cloud_of("ppocrv4_det", 3)
    rows = split(cloud, 160, np.random.default_rng(0))[0]

    def draw() -> np.ndarray:
        return NULLS[null].prepare(filters_of(cloud), cloud.layer, rows)(np.random.default_rng(0))

    usual, eigh = draw(), np.linalg.eigh

    def rounded(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        noise = np.random.default_rng(5).standard_normal(matrix.shape) * 1e-17
        return eigh(matrix + noise + noise.T)  # type: ignore[no-any-return]

    monkeypatch.setattr(np.linalg, "eigh", rounded)
    np.testing.assert_allclose(draw(), usual, atol=2e-5)


def test_the_symmetric_root_does_not_turn_where_eigenvalues_are_equal():
    blur = np.array([[2.0, 1.0, 0.0], [1.0, 2.0, 1.0], [0.0, 1.0, 2.0]])
    covariance = np.kron(blur, blur)  # a_i a_j = a_j a_i: pairs of equal eigenvalues
    noise = 1e-17 * np.random.default_rng(0).standard_normal(covariance.shape)
    root = symmetric_root(covariance)
    np.testing.assert_allclose(root @ root, covariance, atol=1e-12)
    np.testing.assert_allclose(symmetric_root(covariance + noise + noise.T), root, atol=1e-12)


@pytest.mark.parametrize("n", [26, 60, 400])
def test_exact_moments_of_few_and_many_filters(n: int):
    moment = layers_mean_moment(cloud_of("efficientnet_lite0", 5), np.arange(100))
    drawn = sample_covariance(moment, n, np.random.default_rng(0))
    moved = exact_moment(drawn, moment)
    assert moved.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(moved, axis=1), 1, atol=1e-5)
    error = np.linalg.norm(moved.T @ moved / n - moment) / np.linalg.norm(moment)
    assert error < (1e-3 if n == 26 else 1e-4)
