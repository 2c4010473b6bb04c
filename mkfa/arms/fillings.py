"""Compute the kernels that each arm puts into the layers of a network, in numpy.

A layer's weights are treated as kernels: one (kh, kw) kernel per pair of output and input channel, (out, in, kh, kw),
in row-major order (output channel first, then input channel). A depthwise layer has in = 1, so its kernels are its
filters; the kernels of a pointwise or linear layer are 1x1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mkfa.array_types import F32, F64, U8
from mkfa.errors import MkfaError
from mkfa.frozen import ByContent
from mkfa.nulls.covariance import sample_covariance
from mkfa.patterns.families import FAMILIES, kernels
from mkfa.patterns.named_sets import named_set
from mkfa.storage.file_rows import Rows
from mkfa.words import counted


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Weights(ByContent):
    """The weights of one layer, either of the source or of the target as initialised.

    Attributes
    ----------
    name : str
    kernel : (out, in, kh, kw) float32
    bias : (out,) float32 or None
    dilation : tuple of two ints; -1 if unknown.
    """

    name: str
    kernel: F32
    bias: F32 | None = None
    dilation: tuple[int, int] = (-1, -1)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the kernels."""
        return int(self.kernel.shape[2]), int(self.kernel.shape[3])


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """The inputs from which an arm computes kernels.

    Attributes
    ----------
    source : the source's layers in order of execution; empty without a source.
    target : the layers to set, as initialised.
    rng : for permutations and random draws; seeded by the run's seed and the arm's name.
    fit : "pad" or "crop": how kernels of a different size are fitted; "" refuses them.
    number : the number of a numbered arm; see `Arm.number`.
    images : (N, H, W, C) uint8 or None
        The training images; needed by arms that look at them.
    """

    source: Sequence[Weights]
    target: Sequence[Weights]
    rng: np.random.Generator
    fit: str = ""
    number: int = 0
    images: U8 | Rows | None = None


Filling = list[tuple[F32, F32 | None]]
"""Per target layer: its kernels, and its biases or None if they stay as initialised."""


def fit_kernels(kernel: F32, size: tuple[int, int], fit: str) -> F32 | None:
    """Return (..., kh, kw) kernels at another size, zero-padded or centre-cropped; None if `fit` does not allow it.

    "pad" only enlarges, "crop" only shrinks, "" does neither. Between odd and even sizes, the centre moves up and left
    by half a pixel.
    """
    (kh, kw), (th, tw) = kernel.shape[-2:], size
    if (kh, kw) == (th, tw):
        return kernel
    if fit == "pad" and kh <= th and kw <= tw:
        top, left = (th - kh) // 2, (tw - kw) // 2
        margins = [(0, 0)] * (kernel.ndim - 2) + [(top, th - kh - top), (left, tw - kw - left)]
        return np.pad(kernel, margins)
    if fit == "crop" and kh >= th and kw >= tw:
        top, left = (kh - th) // 2, (kw - tw) // 2
        return np.ascontiguousarray(kernel[..., top : top + th, left : left + tw])
    return None


def fitted(request: Request) -> list[Weights]:
    """Return the source layer for each target layer, in order, fitted to its kernel size; raises MkfaError."""
    if len(request.source) < len(request.target):
        problem = f"has {counted(len(request.source), 'layer')}, but {len(request.target)} are to be set"
        raise MkfaError("source", problem, "lower --layers, or use --arms stack")
    layers = []
    for target, source in zip(request.target, request.source, strict=False):
        kernel = fit_kernels(source.kernel, target.size, request.fit)
        if kernel is None:
            raise _size_error(source, target)
        if kernel.shape != target.kernel.shape:
            problem = f"has {_shape(source)} where {target.name} has {_shape(target)}"
            raise MkfaError(f"source layer {source.name}", problem, "use --arms stack: it takes any number of filters")
        layers.append(Weights(source.name, kernel, source.bias, source.dilation))
    return layers


def layers_that_fit(request: Request, size: tuple[int, int], like: Weights) -> list[Weights]:
    """Return the source layers with a kernel size, or else those that can be fitted to it; raises MkfaError."""
    layers = [layer for layer in request.source if layer.size == size] or [
        Weights(layer.name, kernel, layer.bias, layer.dilation)
        for layer in request.source
        if (kernel := fit_kernels(layer.kernel, size, request.fit)) is not None
    ]
    if not layers:
        raise _size_error(request.source[0], like)
    return layers


def check_filling(filling: Filling, target: Sequence[Weights], *, arm: str) -> None:
    """Refuse kernels of the wrong shape and non-finite kernels; raises MkfaError."""
    if len(filling) != len(target):
        raise MkfaError(
            f"arm {arm}",
            f"returned {counted(len(filling), 'layer')} instead of {len(target)}",
            "return one entry per layer",
        )
    for (kernel, _), layer in zip(filling, target, strict=True):
        if np.shape(kernel) != layer.kernel.shape:
            problem = f"returned kernels of shape {np.shape(kernel)} for {layer.name}, which has {layer.kernel.shape}"
            raise MkfaError(f"arm {arm}", problem, "return (out, in, kh, kw) kernels")
        if not np.isfinite(kernel).all():
            problem = f"returned non-finite kernels for {layer.name}"
            raise MkfaError(f"arm {arm}", problem, "check the arm's function")


def _shape(layer: Weights) -> str:
    out, into = layer.kernel.shape[:2]
    return counted(out, "filter") if into == 1 else f"{out} x {counted(into, 'kernel')}"


def _size_error(source: Weights, target: Weights) -> MkfaError:
    (kh, kw), (th, tw) = source.size, target.size
    option = "pad" if kh <= th and kw <= tw else "crop" if kh >= th and kw >= tw else ""
    remedy = f"use a source with {th}x{tw} kernels" + (f", or pass --fit-kernel {option}" if option else "")
    problem = f"has {kh}x{kw} kernels where {target.name} has {th}x{tw}"
    return MkfaError(f"source layer {source.name}", problem, remedy)


def copied(request: Request) -> Filling:
    """Copy layer i of the source into layer i of the target."""
    return [(layer.kernel, layer.bias) for layer in fitted(request)]


def shuffled(request: Request, *, across: bool = False) -> Filling:
    """Copy, then permute the kernels within each layer or, with `across`, over all set layers with one kernel size.

    One permutation is drawn per layer, first layer first (or per kernel size, smallest first), and position i gets the
    kernel from position p(i). A depthwise filter keeps its bias.
    """
    layers = fitted(request)
    if not across:
        groups = [[i] for i in range(len(layers))]
    else:
        sizes = sorted({layer.size for layer in layers})
        groups = [[i for i, layer in enumerate(layers) if layer.size == size] for size in sizes]
    filling: dict[int, tuple[F32, F32 | None]] = {}
    for group in groups:
        order = request.rng.permutation(sum(_count(layers[i]) for i in group))
        filling |= _dealt(request.target, group, [layers[i] for i in group], order)
    return [filling[i] for i in range(len(layers))]


def shuffled_across(request: Request) -> Filling:
    """Copy, then permute the kernels over all set layers with one kernel size."""
    return shuffled(request, across=True)


def stacked(request: Request) -> Filling:
    """Fill the target, first layer first, with the source's kernels in order, starting over when they run out.

    The source's kernels with the target layer's kernel size, layer by layer in order of execution and row-major within
    a layer, form one repeating sequence; each target layer takes the next ones. Each kernel size has its own sequence.
    The request's number, if any, limits the source to its first layers with that size. If no source layer has the
    size, layers that `fit` allows are fitted. A depthwise filter keeps its bias.
    """
    filling: dict[int, tuple[F32, F32 | None]] = {}
    for size in sorted({layer.size for layer in request.target}):
        group = [i for i, layer in enumerate(request.target) if layer.size == size]
        layers = layers_that_fit(request, size, request.target[group[0]])[: request.number or None]
        order = np.arange(sum(_count(request.target[i]) for i in group)) % sum(map(_count, layers))
        filling |= _dealt(request.target, group, layers, order)
    return [filling[i] for i in range(len(request.target))]


def stacked_at_initial_gain(request: Request) -> Filling:
    """Fill as `stacked`, then scale each layer to the root mean square norm of its initial kernels.

    Filters within a layer keep their proportions, so that dead ones stay dead. Raises MkfaError: a layer would get zero
    filters alone.
    """
    filling: Filling = []
    for layer, (kernel, _) in zip(request.target, stacked(request), strict=True):
        found = np.sqrt((kernel.astype(np.float64) ** 2).mean())
        if not found:
            raise MkfaError("source", f"has zero filters alone for {layer.name}", "use --arms stack, or another source")
        gain = np.sqrt((layer.kernel.astype(np.float64) ** 2).mean()) / found
        filling.append((np.asarray(gain * kernel, np.float32), None))
    return filling


def _count(layer: Weights) -> int:
    return int(np.prod(layer.kernel.shape[:2]))


def _pooled_bias(layers: Sequence[Weights]) -> F32 | None:
    """Return the biases of depthwise filters in the order of the filters; None if any layer has no bias."""
    biases = [layer.bias for layer in layers if layer.bias is not None and layer.kernel.shape[1] == 1]
    return np.concatenate(biases) if len(biases) == len(layers) else None


def _dealt(
    target: Sequence[Weights], places: Sequence[int], source: Sequence[Weights], order: np.ndarray[Any, Any]
) -> dict[int, tuple[F32, F32 | None]]:
    """Distribute the source layers' kernels, in a given order, over the target layers at given positions."""
    pool, biases = np.concatenate([s.kernel.reshape(-1, *s.size) for s in source])[order], _pooled_bias(source)
    dealt, start = {}, 0
    for place in places:
        stop = start + _count(target[place])
        kernel = np.ascontiguousarray(pool[start:stop]).reshape(target[place].kernel.shape)
        dealt[place] = (kernel, None if biases is None else biases[order[start:stop]])
        start = stop
    return dealt


def second_moment(kernel: F32) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return the mean of w w^T over a layer's raw kernels, (K, K) float64, without centring or normalising."""
    flat = kernel.reshape(-1, kernel.shape[-2] * kernel.shape[-1]).astype(np.float64)
    return np.asarray(flat.T @ flat / max(1, len(flat)), np.float64)


def covariant(request: Request) -> Filling:
    """Draw each layer's kernels from a zero-mean normal with the second moments of the source's raw kernels.

    Target layer i uses the moments of source layer i, counting only layers with its kernel size (or fitted to it) and
    starting over when they run out, so each layer keeps its own scale. The numbers of channels may differ.
    """
    filling: Filling = []
    count: dict[tuple[int, int], int] = {}
    for layer in request.target:
        layers = layers_that_fit(request, layer.size, layer)
        i = count[layer.size] = count.get(layer.size, -1) + 1
        drawn = sample_covariance(second_moment(layers[i % len(layers)].kernel), _count(layer), request.rng)
        filling.append((drawn.reshape(layer.kernel.shape), None))
    return filling


def keys(request: Request) -> Filling:
    """Use the best key of each source filter or, without a source, the eight keys in turn."""
    if request.source:
        return [(nearest_keys(layer), None) for layer in fitted(request)]
    return [(key_kernels(layer), None) for layer in request.target]


def filters_in_turn(request: Request) -> Filling:
    """Use the source's filters of the layer's kernel size in turn: filter j mod N in channel j, at the initial norm.

    Each layer begins with the first filter.
    """
    filling: Filling = []
    for layer in request.target:
        pool = _pool(layers_that_fit(request, layer.size, layer))
        unit = normalised(pool, of=pool)
        kernel = unit[np.arange(len(layer.kernel)) % len(unit)][:, None] * kernel_norms(layer.kernel)
        filling.append((np.asarray(kernel, np.float32), None))
    return filling


def keys_in_turn(request: Request) -> Filling:
    """Use the source's filters as `key_kernels` uses the eight keys: in turn, with the initial gain and offset."""
    filling: Filling = []
    for layer in request.target:
        pool = _pool(layers_that_fit(request, layer.size, layer))
        unit = normalised(pool - pool.mean(axis=(1, 2), keepdims=True), of=pool)
        patterns = np.asarray(unit[np.arange(len(layer.kernel)) % len(unit)], np.float32)
        filling.append((_with_mean_and_norm(patterns, layer.kernel[:, 0])[:, None], None))
    return filling


def normalised(filters: F64, *, of: F64) -> F64:
    """Return filters, (N, kh, kw), at unit norm.

    Parameters
    ----------
    of : what the filters were before their mean was taken off, so that rounding errors count as zero.

    Raises MkfaError: nothing is left of a filter.
    """
    norm = np.linalg.norm(filters, axis=(1, 2), keepdims=True)
    scale = np.linalg.norm(of, axis=(1, 2), keepdims=True)
    bad = np.flatnonzero((norm <= 1e-6 * scale) | (norm == 0))
    if len(bad):
        problem = (
            f"has a filter that is constant, number {bad[0]} counted from 0" if scale[bad[0]] else "has a zero filter"
        )
        raise MkfaError("source", problem, "leave it out")
    return np.asarray(filters / norm)


def _pool(layers: Sequence[Weights]) -> F64:
    return np.concatenate([layer.kernel.reshape(-1, *layer.size).astype(np.float64) for layer in layers])


def initial_kernels(layer: Weights, _rng: np.random.Generator) -> F32:
    """Return the kernels as initialised."""
    return layer.kernel


def identity_kernels(layer: Weights, _rng: np.random.Generator) -> F32:
    """Return identity kernels, each with the norm of its initial kernel; (out, 1, kh, kw)."""
    pattern = np.zeros(layer.size, np.float32)
    pattern[(layer.size[0] - 1) // 2, (layer.size[1] - 1) // 2] = 1  # the centre under "same" padding
    return pattern * kernel_norms(layer.kernel)


def mean_kernels(layer: Weights, _rng: np.random.Generator) -> F32:
    """Return constant positive kernels, each with the norm of its initial kernel; (out, 1, kh, kw)."""
    pattern = np.full(layer.size, 1 / np.sqrt(np.prod(layer.size)), np.float32)
    return pattern * kernel_norms(layer.kernel)


def key_kernels(layer: Weights) -> F32:
    """Return the eight keys in turn, key j mod 8 in channel j, with the gain and offset of the initial kernels.

    A kernel is a k + b, where k is a unit-norm, zero-mean key, b is the initial kernel's mean, |a| is the norm of the
    centred initial kernel, and a has the sign of its inner product with the key. So mean and norm stay as initialised.
    """
    keys = named_set("eight", *layer.size).patterns
    return _with_mean_and_norm(keys[np.arange(len(layer.kernel)) % len(keys)], layer.kernel[:, 0])[:, None]


def nearest_keys(layer: Weights) -> F32:
    """Return each kernel's best key a k + b: largest |cosine|, least-squares gain and offset; (out, 1, kh, kw)."""
    keys = named_set("eight", *layer.size).patterns
    flat = layer.kernel[:, 0]
    products = np.tensordot(flat, keys, ((1, 2), (1, 2)))  # (out, 8); keys are zero-mean, so offsets cancel
    best = np.abs(products).argmax(axis=1)
    gain = products[np.arange(len(flat)), best]
    fit = gain[:, None, None] * keys[best] + flat.mean(axis=(1, 2), keepdims=True)
    return np.asarray(fit, np.float32)[:, None]


_SEPARABLE = frozenset(family.name for family in FAMILIES if family.operators)


def basis_kernels(layer: Weights, rng: np.random.Generator) -> F32:
    """Draw analytic patterns: uniform family and coordinates, gain and offset as in `key_kernels`; (out, 1, kh, kw).

    Families are those of `mkfa.patterns.families`, with the variants of a class counted as one; separable ones have a
    scale for each axis. Patterns that are constant over the kernel are redrawn.
    """
    # Variants in this order, so that a seed draws the patterns that it always drew.
    drawn_from = sorted(
        (f for f in FAMILIES if f.operators or f.name not in _SEPARABLE),
        key=lambda f: [(0, -0.5, 0.5).index(shift) for shift in f.offset],
    )
    names = sorted({family.name for family in FAMILIES})
    table, patterns = kernels(*layer.size), np.empty((len(layer.kernel), *layer.size), np.float32)
    for pattern in patterns:
        norm = 0.0
        while norm < 1e-3:
            name = names[rng.integers(len(names))]
            variants = [family for family in drawn_from if family.name == name]
            family = variants[rng.integers(len(variants))]
            axes = family.coordinates(*layer.size)
            point = np.array([[rng.uniform(axis.low, axis.high) for axis in axes]]).reshape(1, len(axes))
            drawn = family.make(table, point)[0]
            drawn = drawn - drawn.mean()
            norm = float(np.linalg.norm(drawn))
        pattern[:] = drawn / norm
    return _with_mean_and_norm(patterns, layer.kernel[:, 0])[:, None]


def _with_mean_and_norm(patterns: F32, initial: F32) -> F32:
    """Give unit-norm, zero-mean patterns the mean and norm of initial kernels, all (out, kh, kw)."""
    mean = initial.mean(axis=(1, 2), keepdims=True)
    centred = initial - mean
    gain = np.sqrt((centred**2).sum(axis=(1, 2), keepdims=True))
    sign = np.where((centred * patterns).sum(axis=(1, 2), keepdims=True) < 0, -1, 1)
    return np.asarray(sign * gain * patterns + mean, np.float32)


def kernel_norms(kernel: F32) -> F32:
    """Return the norms of kernels, (out, 1, 1, 1) or (out, in, 1, 1) float32."""
    return np.asarray(np.sqrt((kernel**2).sum(axis=(2, 3), keepdims=True)), np.float32)
