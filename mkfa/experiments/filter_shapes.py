"""Numbers of channels and kernel sizes of a network's depthwise layers, and D / f^2, which says what they can imitate.

With D channels, kernels of f x f and inputs of rank k, D >= k f^2 channels suffice for channel mixing alone to imitate
any spatial filters, if the filters span the kernel space (Zheng, Li and Lucey, arXiv 2404.01139, Proposition 1). So
learned filters should matter where D / f^2 is small. k is at least 1: below D / f^2 = 1 no network has enough channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mkfa.experiments.needed_runs import Setting, base_run
from mkfa.images.domain import Domain
from mkfa.training.known_layers import known_layers

Shape = tuple[int, int, int]
"""Channels, and height and width of the kernels."""


def filter_shapes(setting: Setting, domain: Domain) -> tuple[Shape, ...]:
    """Return the shape of each depthwise layer, in order of execution: from the network's name, or by building it."""
    if (known := known_layers(setting.arch, setting.options)) is not None:
        return tuple((layer.shape[0], *layer.shape[2:]) for layer in known)
    from mkfa.errors import MkfaError
    from mkfa.networks.layers import spatial_layers
    from mkfa.training.run import build

    model, _ = build(base_run(setting, domain, 0), domain, None)
    try:
        layers_of = spatial_layers(model, "depthwise")
    except MkfaError:
        return ()
    convs: list[Any] = [module for _, module in layers_of]
    return tuple((len(conv.weight), int(conv.weight.shape[2]), int(conv.weight.shape[3])) for conv in convs)


def width_ratios(shapes: Sequence[Shape]) -> tuple[float, float]:
    """Return the smallest and the largest D / f^2; f^2 is the number of taps.

    Examples
    --------
    >>> width_ratios([(48, 7, 7), (96, 7, 7), (96, 3, 3)])
    (0.9795918367346939, 10.666666666666666)
    """
    ratios = [channels / (height * width) for channels, height, width in shapes]
    return min(ratios), max(ratios)


def tell_ratios(shapes: Sequence[Shape]) -> str:
    """Return a sentence with D / f^2; "" without depthwise layers.

    Examples
    --------
    >>> tell_ratios([(32, 7, 7)] * 6)
    'D / f^2 = 0.65 (32 channels, 7x7 kernels): too few channels to imitate any filters by mixing channels.'
    >>> tell_ratios([(48, 3, 3)])
    'D / f^2 = 5.33 (48 channels, 3x3 kernels): mixing channels can imitate any filters up to input rank 5.'
    """
    if not shapes:
        return ""
    low, high = width_ratios(shapes)
    sizes = " and ".join(dict.fromkeys(f"{height}x{width}" for _, height, width in shapes))
    channels = sorted({shape[0] for shape in shapes})
    many = f"{channels[0]} to {channels[-1]}" if len(channels) > 1 else f"{channels[0]}"
    ratio = f"{low:.2f}" + (f" to {high:.2f}" if high > low else "")
    verdict = (
        "too few channels to imitate any filters by mixing channels"
        if low < 1
        else f"mixing channels can imitate any filters up to input rank {int(low)}"
    )
    return f"D / f^2 = {ratio} ({many} channels, {sizes} kernels): {verdict}."
