"""Kernels without learning, each against its closed form."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import ive
from scipy.stats import chisquare

from mkfa.arms.arms import find_arm
from mkfa.arms.fillings import Request, Weights
from mkfa.errors import MkfaError


def layer(channels=4000, size=(5, 5), seed=1):
    rng = np.random.default_rng(seed)
    return Weights("conv", rng.standard_normal((channels, 1, *size)).astype(np.float32))


def kernels(arm, target, *, images=None, seed=0):
    request = Request((), (target,), np.random.default_rng(seed), images=images)
    [(kernel, bias)] = find_arm(arm).kernels(request)
    assert bias is None
    return kernel[:, 0].astype(np.float64)


@pytest.mark.parametrize("arm", ["impulse", "box1", "box7", "gauss"])
@pytest.mark.parametrize("size", [(5, 5), (3, 7)])
def test_norms_are_those_of_the_initial_kernels(arm, size):
    target = layer(50, size)
    norms = np.linalg.norm(kernels(arm, target), axis=(1, 2))
    np.testing.assert_allclose(norms, np.linalg.norm(target.kernel[:, 0], axis=(1, 2)), rtol=1e-5)


@pytest.mark.parametrize("arm", ["impulse", "box1", "box3", "box24"])
def test_taps_are_equal_positive_and_at_places_that_are_equally_likely(arm):
    number = find_arm(arm).number or 1
    made = kernels(arm, layer()).reshape(4000, 25)
    assert ((made > 0).sum(axis=1) == number).all() and (made >= 0).all()
    assert (np.ptp(np.where(made > 0, made, made.max(axis=1, keepdims=True)), axis=1) == 0).all()
    often = (made > 0).sum(axis=0)
    freed = often if number == 1 else 4000 - often if number == 24 else None
    if freed is not None:  # one place per channel: a multinomial
        assert chisquare(freed).pvalue > 0.001
    np.testing.assert_allclose(often / 4000, number / 25, atol=4 * np.sqrt(number / 25 * (1 - number / 25) / 4000))


def test_a_box_of_all_taps_is_box_and_one_with_more_is_refused():
    target = layer(20, (3, 3))
    np.testing.assert_allclose(kernels("box9", target), kernels("box", target), rtol=1e-6)
    with pytest.raises(MkfaError, match=r"arm box10: sets 10 taps, but kernels of conv have 9; choose box1 to box9"):
        kernels("box10", target)
    with pytest.raises(MkfaError, match="unknown arm"):
        find_arm("box0")


def test_a_gaussian_is_the_discrete_one_around_a_random_tap():
    made = kernels("gauss", layer())
    place = made.reshape(4000, -1).argmax(axis=1)
    assert chisquare(np.bincount(place, minlength=25)).pvalue > 0.001
    rows, columns = np.divmod(place, 5)
    at = np.arange(5)
    wanted = ive(abs(at - rows[:, None]), 1.0)[:, :, None] * ive(abs(at - columns[:, None]), 1.0)[:, None, :]
    scale = (made * wanted).sum(axis=(1, 2)) / (wanted**2).sum(axis=(1, 2))
    np.testing.assert_allclose(made, scale[:, None, None] * wanted, atol=1e-6)


def test_pca_is_the_images_components_largest_first_with_the_initial_norm_and_sign():
    rng = np.random.default_rng(5)
    x = rng.normal(0, 1, (40, 16, 16)).cumsum(axis=1).cumsum(axis=2)
    images = np.clip(128 + 8 * x, 0, 255).astype(np.uint8)[..., None]
    target = layer(12, (3, 3))
    patches = np.array([p[i : i + 3, j : j + 3].ravel() for p in images[..., 0] for i in range(14) for j in range(14)])
    value, vector = np.linalg.eig(np.cov(patches.astype(np.float64).T))
    wanted = vector.T[np.argsort(-value)]
    made = kernels("pca", target, images=images).reshape(12, 9)
    unit = made / np.linalg.norm(made, axis=1, keepdims=True)
    np.testing.assert_allclose(abs((unit * wanted[np.arange(12) % 9]).sum(axis=1)), 1, atol=1e-5)
    assert ((made * target.kernel.reshape(12, 9)).sum(axis=1) > 0).all()
    np.testing.assert_allclose(
        np.linalg.norm(made, axis=1), np.linalg.norm(target.kernel[:, 0], axis=(1, 2)), rtol=1e-5
    )


def test_pca_needs_images_that_vary():
    with pytest.raises(MkfaError, match="arm pca: needs the target's training images"):
        kernels("pca", layer(4))
    with pytest.raises(MkfaError, match="the images: are constant"):
        kernels("pca", layer(4), images=np.full((3, 8, 8, 1), 7, np.uint8))
    with pytest.raises(MkfaError, match="are 4x4 pixels, smaller than a patch of 5x5"):
        kernels("pca", layer(4), images=np.zeros((3, 4, 4, 1), np.uint8))
