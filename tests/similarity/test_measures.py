"""Every measure against an independent implementation: POT, SciPy, scikit-learn, or the definition written out."""

from __future__ import annotations

import itertools

import numpy as np
import ot
import pytest
import scipy.linalg
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from sklearn.metrics.pairwise import polynomial_kernel, rbf_kernel

from mkfa.banks.canonical import normalise
from mkfa.similarity.measures import coverage, kernels, moments, pca_kl, transport


def cloud(n: int, k: int = 9, seed: int = 0, protos: int = 0) -> np.ndarray:
    """Canonical filters; around `protos` prototypes of random sign where asked."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((n, k))
    if protos:
        centre = np.random.default_rng(99).standard_normal((protos, k))
        rows = centre[rng.integers(0, protos, n)] * rng.choice([-1, 1], (n, 1)) + 0.2 * rows
    return normalise(rows.astype(np.float32))[0]


def projectors(x: np.ndarray) -> np.ndarray:
    return np.einsum("ni,nj->nij", x, x).reshape(len(x), -1)


A, B = cloud(40, seed=1, protos=3), cloud(55, seed=2, protos=4)


def test_nearest_in_blocks_is_the_brute_force_maximum():
    cos = np.array([[abs(float(f @ g)) for g in B] for f in A])
    best_a, best_b = coverage.nearest(A, B, block=7)
    np.testing.assert_allclose(best_a, cos.max(1), atol=1e-6)
    np.testing.assert_allclose(best_b, cos.max(0), atol=1e-6)


def test_area_under_the_coverage_curve_is_the_mean():
    best, _ = coverage.nearest(A, B)
    t = np.linspace(0, 1, 20001)
    curve = coverage.coverage_curve(best, t)
    assert curve[0] == 1 and (np.diff(curve) <= 0).all()
    assert np.trapezoid(curve, t) == pytest.approx(best.mean(), abs=1e-4)
    assert coverage.coverage_curve(best, [0.8])[0] == (best >= np.float32(0.8)).mean()


def test_matching_is_the_best_of_all_permutations():
    x, y = A[:6], B[:6]
    cost = 1 - np.abs(x @ y.T)
    brute = min(cost[range(6), p].mean() for p in itertools.permutations(range(6)))
    assert transport.matching(x, y) == pytest.approx(brute, abs=1e-6)


@pytest.mark.parametrize("sizes", [(40, 40), (40, 55), (13, 31)])
def test_exact_transport_is_pots(sizes: tuple[int, int]):
    x, y = A[: sizes[0]], cloud(sizes[1], seed=5)
    cost = (1 - np.abs(x @ y.T)).astype(float)
    assert transport.transport_exact(x, y) == pytest.approx(ot.emd2([], [], cost), abs=1e-6)


def test_exact_transport_refuses_what_would_not_end():
    with pytest.raises(ValueError, match="sliced"):
        transport.transport_exact(cloud(300), cloud(301))


@pytest.mark.parametrize("m", [40, 55, 64])
def test_sliced_transport_is_pots_on_the_symmetrised_clouds(m: int):
    theta = transport.directions(9, 32, np.random.default_rng(3))
    assert np.allclose(theta.sum(0), 0, atol=1e-6) and np.allclose(np.linalg.norm(theta, axis=0), 1, atol=1e-6)
    y = cloud(m, seed=7, protos=2)
    both = ot.sliced_wasserstein_distance(np.concatenate([A, -A]), np.concatenate([y, -y]), projections=theta)
    assert transport.transport_sliced(A, y, theta) == pytest.approx(float(both), rel=1e-4)


def test_mmd_is_scikit_learns_kernel_on_projectors():
    h = 0.3
    x, y = projectors(A), projectors(B)
    kxx, kyy, kxy = (rbf_kernel(*pair, gamma=1 / (2 * h)) for pair in ((x, x), (y, y), (x, y)))
    n, m = len(A), len(B)
    unbiased = (kxx.sum() - n) / (n * (n - 1)) + (kyy.sum() - m) / (m * (m - 1)) - 2 * kxy.mean()
    assert kernels.mmd(A, B, h) == pytest.approx(unbiased, abs=1e-6)


def test_frobenius_is_the_biased_mmd_of_the_polynomial_kernel():
    def kernel(x: np.ndarray, y: np.ndarray) -> float:
        return float(polynomial_kernel(x, y, degree=2, gamma=1, coef0=0).mean())

    squared = kernel(A, A) + kernel(B, B) - 2 * kernel(A, B)
    found = moments.frobenius(moments.second_moment(A), moments.second_moment(B))
    assert found**2 == pytest.approx(squared, abs=1e-6)


def test_energy_is_its_definition_pair_by_pair():
    def mean(pairs: list[tuple[np.ndarray, np.ndarray]]) -> float:
        return float(np.mean([np.linalg.norm(np.outer(f, f) - np.outer(g, g)) / np.sqrt(2) for f, g in pairs]))

    direct = 2 * mean(list(itertools.product(A, B))) - sum(mean(list(itertools.combinations(x, 2))) for x in (A, B))
    assert kernels.energy(A, B) == pytest.approx(direct, abs=1e-5)


def test_median_bandwidth_is_the_median_over_pairs():
    pooled = np.concatenate([A, B])
    direct = np.median([1 - float(f @ g) ** 2 for f, g in itertools.combinations(pooled, 2)])
    assert kernels.median_bandwidth(A, B) == pytest.approx(direct, abs=1e-5)


def test_bures_is_scipys_matrix_root():
    x, y = moments.second_moment(A), moments.second_moment(B)
    r = scipy.linalg.sqrtm(x).real
    direct = np.trace(x + y - 2 * scipy.linalg.sqrtm(r @ y @ r).real)
    assert moments.bures(moments.root(x), y) ** 2 == pytest.approx(direct, abs=1e-4)
    assert moments.bures(moments.root(x), x) == pytest.approx(0, abs=1e-3)


def test_angles_are_scipys():
    x, y = (moments.leading(moments.second_moment(c), 3) for c in (A, B))
    direct = np.degrees(scipy.linalg.subspace_angles(x, y)).mean()
    assert moments.mean_angle(x, y) == pytest.approx(direct, abs=1e-6)


def test_pca_kl_is_cnn_filter_dbs_recipe_written_with_scikit_learn():
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((n, 3, 3)).astype(np.float32) + shift for n, shift in ((300, 0), (500, 0.4)))
    x, y = pca_kl.peak_scaled(a), pca_kl.peak_scaled(b)
    assert np.abs(x).max(axis=1) == pytest.approx(1)
    pca = PCA(9, svd_solver="full").fit(np.concatenate([x, y]))
    p, q = pca.transform(x), pca.transform(y)
    flip = np.sign(pca.components_[range(9), np.abs(pca.components_).argmax(1)])
    p, q = p * flip, q * flip
    span = (min(p.min(), q.min()), max(p.max(), q.max()))
    shift = 0.0
    for i, weight in enumerate(pca.explained_variance_ratio_):
        h, g = (np.histogram(part[:, i], bins=70, range=span)[0] / len(part) for part in (p, q))
        h, g = (np.where(v == 0, np.finfo(np.float32).eps, v) for v in (h, g))
        shift += weight * (scipy.stats.entropy(h, g) + scipy.stats.entropy(g, h))
    assert pca_kl.pca_kl(x, y) == pytest.approx(shift, rel=0.02)  # a value on a bin's edge may fall either way
    assert pca_kl.pca_kl(x, x) == 0


THETA = transport.directions(9, 8, np.random.default_rng(0))
INVARIANT = {
    "matching": transport.matching,
    "transport": transport.transport_exact,
    "sliced": lambda x, y: transport.transport_sliced(x, y, THETA),
    "mmd": kernels.mmd,
    "energy": kernels.energy,
    "nearest": lambda x, y: float(coverage.nearest(x, y)[0].mean()),
    "bures": lambda x, y: moments.bures(moments.root(moments.second_moment(x)), moments.second_moment(y)),
}


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from(sorted(INVARIANT)))
def test_order_sign_gain_and_offset_do_not_matter(seed: int, name: str):
    rng = np.random.default_rng(seed)
    x, y = cloud(12, seed=seed % 1000), cloud(12, seed=seed % 1000 + 1)
    gain, offset = rng.choice([-1, 1], 12) * 10.0 ** rng.uniform(-3, 3, 12), rng.uniform(-1, 1, 12)
    moved = gain[:, None] * (x.astype(float) + offset[:, None])
    again = normalise(moved[rng.permutation(12)].astype(np.float32))[0]
    assert INVARIANT[name](again, y) == pytest.approx(INVARIANT[name](x, y), abs=2e-4)
    assert INVARIANT[name](y, again) == pytest.approx(INVARIANT[name](y, x), abs=2e-4)
