"""Second moments of image patches, and their principal components: what a network's input alone suggests as filters."""

from __future__ import annotations

import numpy as np

from mkfa.array_types import F32, F64, U8
from mkfa.errors import MkfaError
from mkfa.storage.file_rows import Rows

IMAGES = 1000
"""Largest number of images from which patches are taken, evenly spaced."""
PLACES = 32
"""Largest number of rows, and of columns, of patches in an image, evenly spaced."""
_AT_ONCE = 50


def patch_covariance(images: U8 | Rows, kh: int, kw: int, *, centred: bool = False) -> F64:
    """Return the covariance of an image set's patches, (kh kw, kh kw) float64, in units of pixel values squared.

    Parameters
    ----------
    images : (N, H, W, C) uint8
        Colours are averaged. Patches come from at most `IMAGES` images and `PLACES` x `PLACES` places in each.
    kh, kw : height and width of a patch.
    centred : True: each patch less its own mean; False: less the mean patch.

    Raises MkfaError: the images are smaller than a patch.

    Examples
    --------
    >>> import numpy as np
    >>> stripes = np.zeros((1, 4, 4, 1), np.uint8)
    >>> stripes[:, :, ::2] = 2  # a patch of 1 x 2 is (2, 0) at four rows and two columns, and (0, 2) at one column
    >>> patch_covariance(stripes, 1, 2).round(3).tolist()
    [[0.889, -0.889], [-0.889, 0.889]]
    """
    count, height, width = images.shape[:3]
    if height < kh or width < kw:
        problem = f"are {height}x{width} pixels, smaller than a patch of {kh}x{kw}"
        raise MkfaError("the images", problem, "choose smaller kernels or larger images")
    chosen = np.unique(np.linspace(0, count - 1, min(count, IMAGES)).round().astype(np.int64))
    rows, columns = (np.arange(0, n, -(-n // PLACES)) for n in (height - kh + 1, width - kw + 1))
    total, moment, patches = np.zeros(kh * kw), np.zeros((kh * kw, kh * kw)), 0
    for start in range(0, len(chosen), _AT_ONCE):
        batch = chosen[start : start + _AT_ONCE]
        part = np.asarray(images.read(batch) if isinstance(images, Rows) else images[batch], np.float64).mean(axis=3)
        windows = np.lib.stride_tricks.sliding_window_view(part, (kh, kw), axis=(1, 2))
        flat = windows[:, rows][:, :, columns].reshape(-1, kh * kw)
        if centred:
            flat = flat - flat.mean(axis=1, keepdims=True)
        total, moment, patches = total + flat.sum(axis=0), moment + flat.T @ flat, patches + len(flat)
    mean = total / patches
    return np.asarray(moment / patches - np.outer(mean, mean))


def patch_components(images: U8 | Rows, kh: int, kw: int, *, centred: bool = False) -> F32:
    """Return the principal components of an image set's patches, (n, kh, kw) float32, largest variance first.

    Each has unit norm, and its largest tap is positive. Components without variance are left out, so that n is at most
    kh kw, with `centred` kh kw - 1. Parameters and errors as `patch_covariance`.

    Raises MkfaError: no patch differs from the mean.
    """
    value, vector = np.linalg.eigh(patch_covariance(images, kh, kw, centred=centred))
    kept = np.flatnonzero(value > 1e-9 * max(value[-1], 1e-9))[::-1]
    if not len(kept):
        raise MkfaError("the images", "are constant: their patches have no components", "choose an arm other than pca")
    found = vector.T[kept]
    largest = found[np.arange(len(found)), np.abs(found).argmax(axis=1)]
    return np.asarray(found * np.sign(largest)[:, None], np.float32).reshape(-1, kh, kw)
