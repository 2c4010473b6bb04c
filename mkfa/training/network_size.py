"""How large a run's network is: what a step costs and what a checkpoint takes, before anything is trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mkfa.errors import MkfaError
from mkfa.images.domain import Domain
from mkfa.training.base_runs import base_of
from mkfa.training.run import build, recipe_of
from mkfa.training.spec import RunSpec

_KINDS = ("depthwise", "pointwise", "conv")


@dataclass(frozen=True, slots=True)
class NetworkSize:
    """A network in numbers.

    Attributes
    ----------
    multiply_adds : float
        Of the forward pass of one image.
    parameter_bytes, state_bytes : int
        Bytes of the parameters, and of all that is saved of a network: parameters and buffers.
    layers : mapping
        Number of layers of each kind.
    """

    multiply_adds: float
    parameter_bytes: int
    state_bytes: int
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
    >>> size.multiply_adds, size.parameter_bytes == size.state_bytes, size.layers["depthwise"]
    (121936.0, True, 2)
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

    layers = {}
    for kind in _KINDS:
        try:
            layers[kind] = len(spatial_layers(model, kind))
        except MkfaError:  # it has none
            layers[kind] = 0
    parameters = sum(p.numel() * p.element_size() for p in model.parameters())
    state = sum(t.numel() * t.element_size() for t in model.state_dict().values())
    return NetworkSize(_multiply_adds(model, shape), parameters, state, layers)


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
