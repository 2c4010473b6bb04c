"""Second moments of image patches."""

from __future__ import annotations

import numpy as np
import pytest

from mkfa.images.domain_file import make_domain, write_domain
from mkfa.images.patches import IMAGES, patch_components, patch_covariance
from mkfa.storage.file_rows import Rows
from mkfa.storage.result_files import open_arrays

rng = np.random.default_rng(0)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("centred", [False, True])
def test_it_is_the_covariance_of_all_patches_in_gray(channels, centred):
    images = rng.integers(0, 256, (7, 9, 8, channels)).astype(np.uint8)
    gray = images.astype(float).mean(axis=3)
    patches = np.array([x[i : i + 3, j : j + 2].ravel() for x in gray for i in range(7) for j in range(7)])
    if centred:
        patches -= patches.mean(axis=1, keepdims=True)
    wanted = np.cov(patches.T, bias=True)
    np.testing.assert_allclose(patch_covariance(images, 3, 2, centred=centred), wanted, atol=1e-8 * wanted.max())
    components = patch_components(images, 3, 2, centred=centred).reshape(-1, 6)
    assert len(components) == (5 if centred else 6)
    variance = np.einsum("ij,jk,ik->i", components, wanted, components)
    assert (np.diff(variance) < 0).all()
    np.testing.assert_allclose(components @ components.T, np.eye(len(components)), atol=1e-5)


def test_images_in_a_file_are_read_by_row(tmp_path, monkeypatch):
    images = rng.integers(0, 256, (60, 8, 8, 1)).astype(np.uint8)
    y = np.arange(60) % 2
    path = write_domain(
        make_domain("d", ("a", "b"), train=(images, y), test=(images[:4], y[:4])), tmp_path / "d.h5", facts={}
    )
    arrays, _ = open_arrays(path, kind="domain")
    rows = arrays["x_train"]
    assert isinstance(rows, Rows)
    monkeypatch.setattr(Rows, "__array__", lambda *_: pytest.fail("read whole"))
    np.testing.assert_array_equal(patch_covariance(rows, 3, 3), patch_covariance(images, 3, 3))


def test_of_many_images_evenly_spaced_ones_are_taken():
    images = rng.integers(0, 256, (2 * IMAGES - 1, 4, 4, 1)).astype(np.uint8)
    others = images.copy()
    others[1::2] = 0
    np.testing.assert_array_equal(patch_covariance(images, 2, 2), patch_covariance(others, 2, 2))
    np.testing.assert_allclose(patch_covariance(images, 2, 2), patch_covariance(images[::2], 2, 2))
