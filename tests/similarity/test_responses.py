"""Responses to fixed stimuli: debiased CKA against its definition, and what it can and cannot see."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from sklearn.datasets import load_sample_images

from mkfa.banks.canonical import normalise
from mkfa.similarity.measures import responses


def cloud(n: int, k: int, seed: int) -> np.ndarray:
    return normalise(np.random.default_rng(seed).standard_normal((n, k)).astype(np.float32))[0]


def test_stimuli_are_fixed_normalised_and_all_different():
    bank = responses.stimuli(5, 5)
    assert bank.shape == (128, 25)
    np.testing.assert_allclose(np.linalg.norm(bank, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(bank.mean(axis=1), 0, atol=1e-6)
    responses.stimuli.cache_clear()
    np.testing.assert_array_equal(bank, responses.stimuli(5, 5))
    cosine = np.abs(bank @ bank.T) - np.eye(len(bank))
    assert cosine.max() < 0.99999


def test_photographs_are_those_that_scikit_learn_bundles():
    found = responses._photographs()
    for mine, theirs in zip(found, load_sample_images().images, strict=True):
        assert mine.shape == theirs.shape[:2]
        grey = theirs.astype(float) @ [0.299, 0.587, 0.114]
        assert np.abs(mine - grey).max() < 2


def song_hsic(k: np.ndarray, l: np.ndarray) -> float:  # noqa: E741
    """HSIC_1 of Song et al. 2012, equation 4, written out."""
    n = len(k)
    k, l = k - np.diag(np.diag(k)), l - np.diag(np.diag(l))  # noqa: E741
    one = np.ones(n)
    middle = (one @ k @ one) * (one @ l @ one) / ((n - 1) * (n - 2))
    return float((np.trace(k @ l) + middle - 2 / (n - 2) * (one @ k @ l @ one)) / (n * (n - 3)))


@pytest.mark.parametrize("rectify", [True, False])
def test_debiased_cka_is_the_ratio_of_unbiased_hsic(rectify: bool):
    patches = responses.stimuli(3, 3)
    grams = []
    for n, seed in ((20, 0), (33, 1)):
        answer = patches.astype(float) @ cloud(n, 9, seed).T.astype(float)
        answer = np.abs(answer) if rectify else answer
        grams.append(answer @ answer.T / n)
    direct = song_hsic(*grams) / np.sqrt(song_hsic(grams[0], grams[0]) * song_hsic(grams[1], grams[1]))
    clouds = (cloud(20, 9, 0), cloud(33, 9, 1))
    mine = [responses.u_centred(responses.gram(c, patches, rectify=rectify)) for c in clouds]
    assert float(responses.debiased_cka(*mine)) == pytest.approx(direct, abs=1e-4)


def test_debiased_cka_of_unrelated_features_is_about_zero_where_plain_cka_is_not():
    rng = np.random.default_rng(0)
    debiased, plain = [], []
    for _ in range(20):
        x, y = (rng.standard_normal((40, 400)) for _ in range(2))
        k, l = x @ x.T / 400, y @ y.T / 400  # noqa: E741
        debiased.append(float(responses.debiased_cka(*(responses.u_centred(g.astype(np.float32)) for g in (k, l)))))
        h = np.eye(40) - 1 / 40
        plain.append(np.sum((h @ k @ h) * (h @ l @ h)) / np.linalg.norm(h @ k @ h) / np.linalg.norm(h @ l @ h))
    assert abs(np.mean(debiased)) < 0.05
    assert np.mean(plain) > 0.8


def test_sign_order_and_repetition_do_not_matter_and_identity_gives_one():
    patches, x = responses.stimuli(3, 3), cloud(30, 9, 0)
    rng = np.random.default_rng(1)
    other = np.repeat(x[rng.permutation(30)] * rng.choice([-1, 1], (30, 1)), 2, axis=0).astype(np.float32)
    a, b = (responses.u_centred(responses.gram(v, patches)) for v in (x, other))
    assert float(responses.debiased_cka(a, b)) == pytest.approx(1, abs=1e-4)


def test_linear_responses_know_only_second_moments_and_rectified_ones_more():
    # +-e_i +- e_j against the axes themselves: the same second moment, other filters
    basis = np.linalg.qr(cloud(9, 9, 3).T.astype(float))[0]
    basis = basis[:, :8]
    basis -= basis.mean(0)
    axes = np.linalg.svd(basis, full_matrices=False)[0].T[:8]
    turned = np.concatenate([(axes[::2] + axes[1::2]), (axes[::2] - axes[1::2])]) / np.sqrt(2)
    x, y = axes.astype(np.float32), turned.astype(np.float32)
    assert np.allclose(x.T @ x / 8, y.T @ y / 8, atol=1e-6)
    patches = responses.stimuli(3, 3)
    linear, rectified = (
        float(responses.debiased_cka(*(responses.u_centred(responses.gram(v, patches, rectify=r)) for v in (x, y))))
        for r in (False, True)
    )
    assert linear == pytest.approx(1, abs=1e-4)
    assert rectified < 0.99


def test_scikit_learn_is_not_imported_for_its_pictures():
    import subprocess

    code = (
        "import sys; from mkfa.similarity.measures.responses import stimuli; "
        "stimuli(3, 3); sys.exit('sklearn' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
