"""Simple kernels without learning: taps at random places, Gaussians at random places, principal components of patches.

Each takes the norm of the initial kernel in its place, as `delta` and `box` do, so that arms of one run differ in shape
alone, not in gain. `impulse`, `boxN` and `gauss` follow Zheng, Li and Lucey (arXiv 2401.12511 and 2404.01139; code
github.com/osiriszjq/structured_init, `SpatialConv2d_init`): there the taps are positive and places are drawn for each
channel of each layer. With D channels, f x f kernels and inputs of rank k, D >= k f^2 channels with such kernels let
the channel mixing that follows imitate any spatial filters (2404.01139, Proposition 1).
"""

from __future__ import annotations

import numpy as np

from mkfa.arms.fillings import Filling, Request, Weights, kernel_norms
from mkfa.array_types import F32, F64, I64
from mkfa.errors import MkfaError
from mkfa.images.patches import patch_components
from mkfa.patterns.scale_space import profile
from mkfa.words import counted

GAUSS_VARIANCE = 1.0
"""Variance of the arm `gauss`, in pixels squared; the null `blurred` is smoothed by the same."""


def impulse_kernels(layer: Weights, rng: np.random.Generator) -> F32:
    """Return kernels with one positive tap at a random place, uniform over the taps; (out, 1, kh, kw)."""
    return _at_norm(_taps(len(layer.kernel), layer.size, 1, rng), layer)


def box_kernels(request: Request) -> Filling:
    """Return kernels of `request.number` equal positive taps at different random places; (out, 1, kh, kw) each.

    Raises MkfaError: the kernels have fewer taps.
    """
    filling: Filling = []
    for layer in request.target:
        taps = layer.size[0] * layer.size[1]
        if request.number > taps:
            problem = f"sets {counted(request.number, 'tap')}, but kernels of {layer.name} have {taps}"
            raise MkfaError(f"arm box{request.number}", problem, f"choose box1 to box{taps}")
        filling.append((_at_norm(_taps(len(layer.kernel), layer.size, request.number, request.rng), layer), None))
    return filling


def gauss_kernels(layer: Weights, rng: np.random.Generator) -> F32:
    """Return discrete Gaussians of variance `GAUSS_VARIANCE`, each centred on a random tap; (out, 1, kh, kw).

    A Gaussian is cropped at the kernel's border. The centre is uniform over the taps.
    """
    kh, kw = layer.size
    place = rng.integers(kh * kw, size=len(layer.kernel))
    rows, columns = gaussians(kh)[place // kw], gaussians(kw)[place % kw]
    return _at_norm(np.asarray(rows[:, :, None] * columns[:, None, :], np.float32), layer)


def gaussians(taps: int) -> F64:
    """Return the discrete Gaussian of variance `GAUSS_VARIANCE` centred on each tap; (taps, taps) float64, row i at i.

    T(n; t) = exp(-t) I_n(t), as `mkfa.patterns.scale_space` has it.

    Examples
    --------
    >>> gaussians(3).round(3).tolist()
    [[0.466, 0.208, 0.05], [0.208, 0.466, 0.208], [0.05, 0.208, 0.466]]
    """
    wide = np.asarray(profile("smooth", 2 * taps - 1, GAUSS_VARIANCE), np.float64)
    offset: I64 = np.arange(taps)[None, :] - np.arange(taps)[:, None]
    return np.asarray(wide[offset + taps - 1])


def pca_kernels(request: Request) -> Filling:
    """Return the principal components of the target's image patches in turn: component j mod (kh kw) in channel j.

    They are those of `mkfa.images.patches.patch_components` on the training images, largest variance first. A kernel
    has the norm of the initial one and the sign of its inner product with it; the sign of a component has no meaning.
    The frozen first layer of Jordan's airbench (github.com/KellerJordan/cifar10-airbench) consists of such filters.

    Raises MkfaError: there are no images, or all their patches are constant.
    """
    filling: Filling = []
    for layer in request.target:
        components = components_of(request, layer.size, centred=False)
        filling.append((_at_norm(components[np.arange(len(layer.kernel)) % len(components)], layer, sign=True), None))
    return filling


def components_of(request: Request, size: tuple[int, int], *, centred: bool) -> F32:
    """Return the principal components of the request's images, (components, kh, kw) float32; raises MkfaError."""
    if request.images is None:
        raise MkfaError("arm pca", "needs the target's training images", "pass them as images=")
    return patch_components(request.images, *size, centred=centred)


def _taps(count: int, size: tuple[int, int], number: int, rng: np.random.Generator) -> F32:
    """Return kernels with `number` taps of 1 at different random places each, (count, kh, kw)."""
    order = rng.random((count, size[0] * size[1])).argsort(axis=1)
    return np.asarray(order < number, np.float32).reshape(count, *size)


def _at_norm(patterns: F32, layer: Weights, *, sign: bool = False) -> F32:
    """Return patterns, (out, kh, kw), at the norms and, with `sign`, the signs of kernels; (out, 1, kh, kw)."""
    unit = patterns / np.linalg.norm(patterns, axis=(1, 2), keepdims=True)
    made = unit[:, None] * kernel_norms(layer.kernel)
    if sign:
        made = made * np.where((made * layer.kernel).sum(axis=(1, 2, 3), keepdims=True) < 0, -1, 1)
    return np.asarray(made, np.float32)
