"""K distinct filters that all channels of a network share, as the follow-up paper trains with eight (arXiv 2509.11711).

Filter j mod K stands in channel j of every layer of its kernel size. The filters have zero mean and unit norm, times
one gain for each layer: the root mean square norm of the layer's initial kernels. What is trained is one constant per
channel that is added to all taps (`mkfa.networks.offset`), zero at first: a kernel is a k + b, with a k frozen and b
trained. So arms of this kind differ in the shapes of their K filters alone; gains per channel are left to the layers
that mix channels. The authors' code has the same offset (github.com/tonylindeberg/masterfiltmodel,
`biased_convnextv2.py`: `torch.add(self.dwconv.weight, self.convdw_bias)`).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mkfa.arms.fillings import Filling, Request, layers_that_fit, normalised
from mkfa.arms.shapes import components_of, gaussians
from mkfa.array_types import F32, F64, I64
from mkfa.errors import MkfaError
from mkfa.nulls.draws import NULLS
from mkfa.patterns.named_sets import named_set
from mkfa.words import counted

Draw = Callable[[tuple[int, int]], F32]
"""Returns the filters of a kernel size, (K, kh, kw), of any gain and offset."""


def shared_random(request: Request) -> Filling:
    """Share K filters with independent normal taps."""
    return _shared(request, _drawn(request, "gaussian"))


def shared_blurred(request: Request) -> Filling:
    """Share K draws of the null `blurred`: smooth noise."""
    return _shared(request, _drawn(request, "blurred"))


def shared_impulses(request: Request) -> Filling:
    """Share K kernels with one tap each, at different places as far as there are enough."""

    def draw(size: tuple[int, int]) -> F32:
        taps = size[0] * size[1]
        return np.eye(taps, dtype=np.float32)[_places(taps, request)].reshape(-1, *size)

    return _shared(request, draw)


def shared_gaussians(request: Request) -> Filling:
    """Share K Gaussians as those of the arm `gauss`, centred on different taps as far as there are enough."""

    def draw(size: tuple[int, int]) -> F32:
        place = _places(size[0] * size[1], request)
        rows, columns = gaussians(size[0])[place // size[1]], gaussians(size[1])[place % size[1]]
        return np.asarray(rows[:, :, None] * columns[:, None, :], np.float32)

    return _shared(request, draw)


def shared_components(request: Request) -> Filling:
    """Share the K leading principal components of the target's image patches, each patch less its mean.

    Raises MkfaError: there are fewer components.
    """

    def draw(size: tuple[int, int]) -> F32:
        found = components_of(request, size, centred=True)
        if len(found) < request.number:
            asked = counted(request.number, "component")
            problem = f"asks for {asked} of {size[0]}x{size[1]} patches, and there are {len(found)}"
            raise MkfaError(f"arm pca-{request.number}", problem, f"choose pca-1 to pca-{len(found)}")
        return found[: request.number]

    return _shared(request, draw)


def shared_covariant(request: Request) -> Filling:
    """Share K draws of the null `covariance` of the source: its second moments, but not its patterns."""

    def draw(size: tuple[int, int]) -> F32:
        like = next(layer for layer in request.target if layer.size == size)
        kernels = [layer.kernel.reshape(-1, *size) for layer in layers_that_fit(request, size, like)]
        where = np.repeat(np.arange(len(kernels)), [len(kernel) for kernel in kernels])
        pool = np.concatenate(kernels)
        shaped = np.flatnonzero(pool.std(axis=(1, 2)) > 1e-6 * np.abs(pool).max(axis=(1, 2)))
        if not len(shaped):
            raise MkfaError("source", "has constant kernels only", "choose another source")
        rows = np.linspace(0, len(shaped) - 1, request.number).round().astype(np.int64)
        return NULLS["covariance"].prepare(pool[shaped], where[shaped], rows)(request.rng)

    return _shared(request, draw)


def shared_keys(request: Request) -> Filling:
    """Share the first K of the eight key patterns (`named_set("eight")`)."""
    return _shared(request, lambda size: named_set("eight", *size).patterns[: request.number])


def shared_from_source(request: Request) -> Filling:
    """Share the source's first K filters of each kernel size.

    Raises MkfaError: the source has fewer of that size.
    """

    def draw(size: tuple[int, int]) -> F32:
        like = next(layer for layer in request.target if layer.size == size)
        pool = np.concatenate([x.kernel.reshape(-1, *size) for x in layers_that_fit(request, size, like)])
        if len(pool) < request.number:
            problem = f"has {counted(len(pool), 'filter')} of {size[0]}x{size[1]}, and {request.number} are asked for"
            raise MkfaError("source", problem, "name a smaller number")
        return pool[: request.number]

    return _shared(request, draw)


def _drawn(request: Request, null: str) -> Draw:
    return lambda size: NULLS[null].sample(np.empty((request.number, *size), np.float32), request.rng)


def _places(taps: int, request: Request) -> I64:
    """Return K taps in random order, without repeats until all taps were taken."""
    rounds = [request.rng.permutation(taps) for _ in range(-(-request.number // taps))]
    return np.asarray(np.concatenate(rounds)[: request.number], np.int64)


def _shared(request: Request, draw: Draw) -> Filling:
    """Put filter j mod K, centred and at the layer's gain, into channel j; the filters of a size are drawn once.

    Sizes are drawn in ascending order.

    Raises MkfaError: a filter is constant, so that nothing is left of it without its mean.
    """
    filters: dict[tuple[int, int], F64] = {}
    for size in sorted({layer.size for layer in request.target}):
        drawn = np.asarray(draw(size), np.float64)
        centred = drawn - drawn.mean(axis=(1, 2), keepdims=True)
        filters[size] = normalised(centred, of=drawn)
    filling: Filling = []
    for layer in request.target:
        kernel = layer.kernel[:, 0].astype(np.float64)
        gain = np.sqrt((kernel**2).sum(axis=(1, 2)).mean())
        kinds = filters[layer.size]
        chosen = kinds[np.arange(len(kernel)) % len(kinds)]
        filling.append((np.asarray(gain * chosen, np.float32)[:, None], None))
    return filling
