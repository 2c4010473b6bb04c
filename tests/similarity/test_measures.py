"""Every measure against an independent implementation: POT, SciPy, scikit-learn, or the definition written out."""

from __future__ import annotations

import inspect
import itertools
import math
import re

import numpy as np
import ot
import pytest
import scipy.linalg
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment
from sklearn.decomposition import PCA
from sklearn.metrics.pairwise import polynomial_kernel, rbf_kernel

import mkfa
from mkfa.banks.canonical import normalise
from mkfa.similarity.comparing import median_bandwidth
from mkfa.similarity.measures import pca_kl, transport
from mkfa.similarity.measures.table import MEASURES, SAMPLED_MEASURES
from mkfa.similarity.pairs import Pair, Sample
from mkfa.similarity.score import THRESHOLDS, coverage_curve, make_plan, measured


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


PLAN = make_plan((3, 3), SAMPLED_MEASURES, threshold=0.8, bandwidth=0.3, rng=np.random.default_rng(3))


def pair(x: np.ndarray, y: np.ndarray) -> Pair:
    one, other = (Sample(v[None], np.zeros(len(v), int), 1, PLAN) for v in (x, y))
    return Pair(one, other)


def test_nearest_is_the_brute_force_maximum():
    cos = np.array([[abs(float(f @ g)) for g in B] for f in A])
    best_a, best_b, _ = pair(A, B).nearest
    np.testing.assert_allclose(best_a[0], cos.max(1), atol=1e-6)
    np.testing.assert_allclose(best_b[0], cos.max(0), atol=1e-6)
    assert measured(pair(A, B), "coverage")[0] == pytest.approx((cos.max(1).mean() + cos.max(0).mean()) / 2, abs=1e-6)
    at = ((cos.max(1) >= 0.8).mean() + (cos.max(0) >= 0.8).mean()) / 2
    assert measured(pair(A, B), "coverage_at")[0] == pytest.approx(at)


def test_area_under_the_coverage_curve_is_the_mean():
    best = pair(A, B).nearest[0][0]
    curve = coverage_curve(best)
    assert curve[0] == 1 and (np.diff(curve) <= 0).all()
    assert np.trapezoid(curve, THRESHOLDS) == pytest.approx(best.mean(), abs=0.01)
    assert curve[32] == (best >= np.float32(0.8)).mean()


def test_matching_is_the_best_of_all_permutations():
    x, y = A[:6], B[:6]
    cost = 1 - np.abs(x @ y.T)
    brute = min(cost[range(6), p].mean() for p in itertools.permutations(range(6)))
    assert measured(pair(x, y), "matching")[0] == pytest.approx(brute, abs=1e-6)


@pytest.mark.parametrize("sizes", [(40, 40), (40, 55), (13, 31)])
def test_exact_transport_is_pots(sizes: tuple[int, int]):
    x, y = A[: sizes[0]], cloud(sizes[1], seed=5)
    cost = (1 - np.abs(x @ y.T)).astype(float)
    assert transport.transport_exact(x, y) == pytest.approx(ot.emd2([], [], cost), abs=1e-6)


@pytest.mark.parametrize("m", [80, 95])
def test_sliced_transport_is_pots_on_the_symmetrised_sets(m: int):
    theta = PLAN.theta
    assert np.allclose(theta.sum(0), 0, atol=1e-6) and np.allclose(np.linalg.norm(theta, axis=0), 1, atol=1e-6)
    x, y = cloud(80, seed=1, protos=3), cloud(m, seed=7, protos=2)
    both = ot.sliced_wasserstein_distance(np.concatenate([x, -x]), np.concatenate([y, -y]), projections=theta)
    assert measured(pair(x, y), "transport")[0] == pytest.approx(float(both), rel=1e-4)


def test_mmd_is_scikit_learns_kernel_on_projectors():
    h = 0.3
    x, y = projectors(A), projectors(B)
    kxx, kyy, kxy = (rbf_kernel(*pair, gamma=1 / (2 * h)) for pair in ((x, x), (y, y), (x, y)))
    n, m = len(A), len(B)
    unbiased = (kxx.sum() - n) / (n * (n - 1)) + (kyy.sum() - m) / (m * (m - 1)) - 2 * kxy.mean()
    assert measured(pair(A, B), "mmd")[0] == pytest.approx(unbiased, abs=1e-6)


def test_frobenius_is_the_biased_mmd_of_the_polynomial_kernel():
    def kernel(x: np.ndarray, y: np.ndarray) -> float:
        return float(polynomial_kernel(x, y, degree=2, gamma=1, coef0=0).mean())

    squared = kernel(A, A) + kernel(B, B) - 2 * kernel(A, B)
    assert measured(pair(A, B), "frobenius")[0] ** 2 == pytest.approx(squared, abs=1e-6)


def test_energy_is_its_definition_pair_by_pair():
    def mean(pairs: list[tuple[np.ndarray, np.ndarray]]) -> float:
        return float(np.mean([np.linalg.norm(np.outer(f, f) - np.outer(g, g)) / np.sqrt(2) for f, g in pairs]))

    direct = 2 * mean(list(itertools.product(A, B))) - sum(mean(list(itertools.combinations(x, 2))) for x in (A, B))
    assert measured(pair(A, B), "energy")[0] == pytest.approx(direct, abs=1e-5)


def test_median_bandwidth_is_the_median_over_pairs():
    pooled = np.concatenate([A, B])
    direct = np.median([1 - float(f @ g) ** 2 for f, g in itertools.combinations(pooled, 2)])
    assert median_bandwidth(pooled) == pytest.approx(direct, abs=1e-5)


def test_bures_is_scipys_matrix_root():
    x, y = (v.T @ v / len(v) for v in (A, B))
    r = scipy.linalg.sqrtm(x).real
    direct = np.trace(x + y - 2 * scipy.linalg.sqrtm(r @ y @ r).real)
    assert measured(pair(A, B), "bures")[0] ** 2 == pytest.approx(direct, abs=1e-4)
    assert measured(pair(A, A), "bures")[0] == pytest.approx(0, abs=1e-3)


def test_angles_are_scipys():
    x, y = (np.linalg.eigh((v.T @ v).astype(float))[1][:, -2:] for v in (A, B))
    assert measured(pair(A, B), "angles")[0] == pytest.approx(
        np.degrees(scipy.linalg.subspace_angles(x, y)).mean(), abs=1e-3
    )


def test_matching_assigns_every_filter():
    rng = np.random.default_rng(0)
    x, y = (rng.standard_normal((100, 25)).astype(np.float32) for _ in range(2))
    x, y = normalise(x)[0], normalise(y)[0]
    cost = 1 - np.abs(x.astype(float) @ y.T)
    assert measured(pair(x, y), "matching")[0] == pytest.approx(cost[linear_sum_assignment(cost)].mean(), abs=1e-6)


def test_pca_kl_is_cnn_filter_dbs_recipe_written_with_scikit_learn():
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((n, 3, 3)).astype(np.float32) + shift for n, shift in ((300, 0), (500, 0.4)))
    x, y = (pca_kl.peak_scaled(v.reshape(len(v), -1)) for v in (a, b))
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


INVARIANT = ("coverage", "matching", "transport", "mmd", "energy", "bures", "responses")


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from(INVARIANT))
def test_order_sign_gain_and_offset_do_not_matter(seed: int, name: str):
    rng = np.random.default_rng(seed)
    x, y = cloud(12, seed=seed % 1000), cloud(12, seed=seed % 1000 + 1)
    gain, offset = rng.choice([-1, 1], 12) * 10.0 ** rng.uniform(-3, 3, 12), rng.uniform(-1, 1, 12)
    moved = gain[:, None] * (x.astype(float) + offset[:, None])
    again = normalise(moved[rng.permutation(12)].astype(np.float32))[0]
    assert measured(pair(again, y), name)[0] == pytest.approx(measured(pair(x, y), name)[0], abs=2e-4)
    assert measured(pair(y, again), name)[0] == pytest.approx(measured(pair(y, x), name)[0], abs=2e-4)


def test_nothing_but_the_table_names_a_built_in_measure():
    """Those who compute, draw and print look a measure's facts up in the table, so that one file adds one."""
    from mkfa.similarity import chance, comparing, replacement, score
    from mkfa.similarity.measures.table import DEFAULT_MEASURES

    for module in (chance, comparing, replacement, score):
        code = re.sub(r'""".*?"""', "", inspect.getsource(module), flags=re.DOTALL)
        assert not {name for name in DEFAULT_MEASURES if f'"{name}"' in code}, module.__name__


def test_a_measure_of_pairs_is_computed_for_all_draws_at_once_and_for_layers_by_its_own_function():
    """As the built-in ones are: from what a pair shares, with values by layer, slow, in one registration."""
    calls = []

    def gap(pair: Pair) -> np.ndarray:
        calls.append(pair.depth)
        return np.linalg.norm(pair.a.moment - pair.b.moment, axis=(1, 2))

    def layers(pair: Pair) -> dict[str, np.ndarray]:
        return {"gap": np.ones((pair.depth, len(pair.a.size), len(pair.b.size)), np.float32)}

    mkfa.register(mkfa.Measure("gap", "gap of moments", pairs=gap, layers=layers, slow=True, bounds=(0.0, math.inf)))
    try:
        chosen = {"kernel_size": "5x5", "draws": 60, "nulls": "gaussian"}
        kind = mkfa.compare("efficientnet_lite0", "ppocrv4_rec", measures="gap,frobenius", **chosen).kinds[0]
    finally:
        MEASURES.unregister("gap")
    own, built_in = kind.row("gap"), kind.row("frobenius")
    assert kind.value[own] == pytest.approx(kind.value[built_in])
    assert kind.nulls[0].draws[[own, built_in]].tolist() == [39, 60]
    assert [name for _, name in kind.by_layer] == ["gap"] and np.all(kind.layer_value[-1] == 1)
    assert max(calls) > 1
