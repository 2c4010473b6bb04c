"""How large a run's network is: what a step costs and what a checkpoint takes, before anything is trained."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from mkfa.errors import MkfaError
from mkfa.images.domain import Domain
from mkfa.networks.build import find_small
from mkfa.training.base_runs import base_of
from mkfa.training.known_layers import known_bytes, known_layers
from mkfa.training.run import build, recipe_of
from mkfa.training.spec import RunSpec

_KINDS = ("depthwise", "pointwise", "conv")
TENSOR = 400
"""About the bytes that a file needs for a tensor beside its data."""


@dataclass(frozen=True, slots=True)
class NetworkSize:
    """A network in numbers.

    Attributes
    ----------
    multiply_adds : of the forward pass of one image.
    file_bytes : about the size of the file that its weights and buffers are saved in.
    filter_bytes : bytes of its depthwise filters.
    layers : number of layers of each kind.
    """

    multiply_adds: float
    file_bytes: int
    filter_bytes: int
    layers: dict[str, int]


def network_size(spec: RunSpec, domain: Domain) -> NetworkSize:
    """Return the size of a run's network. Raises MkfaError for a network that cannot be built.

    Examples
    --------
    >>> from mkfa.images.load import load_domain
    >>> from mkfa.training.recipe import load_recipe
    >>> digits = load_domain("digits")
    >>> spec = RunSpec("convnext_8_2", "digits", digits.digest, "fast", load_recipe("fast").identity, 0)
    >>> size = network_size(spec, digits)
    >>> size.multiply_adds, size.filter_bytes, size.layers["depthwise"]
    (123984.0, 3136, 2)
    """
    side = recipe_of(spec).size or domain.size
    key = (spec.arch, tuple(sorted(spec.options.items())), len(domain.classes), domain.channels, side)
    if key not in _KNOWN:
        model, _ = build(base_of(spec), domain, None)
        _KNOWN[key] = _measured(model, (1, domain.channels, side, side))
    return _KNOWN[key]


_KNOWN: dict[tuple[object, ...], NetworkSize] = {}


def _measured(model: Any, shape: tuple[int, ...]) -> NetworkSize:
    from mkfa.networks.layers import spatial_layers

    found: dict[str, Any] = {}
    for kind in _KINDS:
        try:
            found[kind] = spatial_layers(model, kind)
        except MkfaError:  # it has none
            found[kind] = ()
    saved = sum(t.numel() * t.element_size() + TENSOR for t in model.state_dict().values())
    filters = sum(layer.weight.numel() * layer.weight.element_size() for _, layer in found["depthwise"])
    layers = {kind: len(named) for kind, named in found.items()}
    return NetworkSize(_multiply_adds(model, shape), saved, filters, layers)


def bytes_by_name(spec: RunSpec, domain: Domain) -> tuple[int, int]:
    """Return at most the `file_bytes` and `filter_bytes` of a network, from its name alone if that tells its layers.

    For networks of timm at most 1000 classes are counted.

    Examples
    --------
    >>> from mkfa.images.load import load_domain
    >>> digits = load_domain("digits")
    >>> bytes_by_name(RunSpec("resmixer_32_6", "digits", digits.digest, "fast", {}, 0), digits)
    (123688, 37632)
    """
    name, saved = find_small(spec.arch), 0
    layers = known_layers(spec.arch, spec.options)
    if layers is None or (name is None and not (saved := known_bytes(spec.arch))):
        size = network_size(spec, domain)
        return size.file_bytes, size.filter_bytes
    filters = 4 * sum(math.prod(layer.shape) for layer in layers)
    if name is None:
        return saved, filters
    patch = int(spec.options.get("patch", name.defaults.patch))
    mixing = 8 if name.kind == "convnext" else 1  # ConvNeXt's two layers have four times the channels between them
    w = name.width
    block = mixing * w**2 + 16 * w
    around = w * (patch**2 * domain.channels + len(domain.classes) + 8) + len(domain.classes)
    return 4 * (name.layers * block + around) + filters + TENSOR * 16 * (name.layers + 1), filters


def _multiply_adds(model: Any, shape: tuple[int, ...]) -> float:
    """Count on the device "meta", without computing anything."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    shadow = model.to("meta").eval()
    try:
        with FlopCounterMode(display=False) as counter:
            shadow(torch.empty(shape, device="meta"))
    except (NotImplementedError, RuntimeError):  # it cannot run without data: every parameter is used once a position
        return float(sum(p.numel() for p in model.parameters())) * shape[-1] * shape[-2] / 1024
    return float(counter.get_total_flops()) / 2
