"""List a network's layers with spatial filters, in order of execution."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from mkfa.errors import MkfaError, UnknownNameError, nearest

if TYPE_CHECKING:
    from torch import nn


WHAT = ("depthwise", "pointwise", "conv")


def spatial_layers(model: nn.Module, what: str = "depthwise") -> tuple[tuple[str, nn.Module], ...]:
    """Return the layers counted by `--layers 1..n`, as (name, module), in order of execution.

    "depthwise": convolutions with one group per input channel (more than one) and a kernel larger than 1x1.
    "pointwise": layers that mix channels at each position separately, i.e. ungrouped 1x1 convolutions and linear layers
    applied to every position of a feature map (ConvNeXt's MLPs). Excluded are the classifier and layers that work on
    pooled values: squeeze-and-excitation, and anything after the last pooling.
    "conv": every convolution on the main path. The shortcut projection of a residual block is not counted; it is set
    together with its block's last convolution (`followers`). ResNet-50 has 49 such layers and 4 projections.

    The order is that of a forward pass over one blank image of the size that the network was built for.

    Raises MkfaError: `what` is not one of these three, or the network has no such layers.

    Examples
    --------
    >>> from mkfa.networks.build import build_network
    >>> model = build_network("convmixer_8_2", classes=3, channels=1, size=16, seed=0)
    >>> [name for name, _ in spatial_layers(model)]
    ['blocks.0.0.fn.0', 'blocks.1.0.fn.0']
    """
    if what not in WHAT:
        raise UnknownNameError(what, "unknown kind of layer", nearest(what, WHAT) or f"choose one of {', '.join(WHAT)}")
    shortcuts = {name for names in _shortcuts(model).values() for name, _ in names}
    called = _calls(model)
    layers = tuple(
        (name, module)
        for name, module, pooled in called
        if _is(what, module, pooled) and not (what == "conv" and name in shortcuts)
    )
    if not layers:
        other = [w for w in WHAT if w != what and any(_is(w, module, pooled) for _, module, pooled in called)]
        remedy = f"choose another network, or --what {' or '.join(other)}" if other else "choose another network"
        raise MkfaError(type(model).__name__, f"has no {what} layers", remedy)
    return layers


def followers(model: nn.Module, what: str = "depthwise") -> dict[str, tuple[tuple[str, nn.Module], ...]]:
    """Return the convolutions set together with a layer of `spatial_layers`: name -> ((name, module), ...).

    For "conv" these are the shortcut projections of residual blocks, keyed by the block's last convolution. For other
    kinds there are none.
    """
    return _shortcuts(model) if what == "conv" else {}


def norms_after(model: nn.Module, names: Sequence[str]) -> dict[str, str]:
    """Return the norm layer that belongs to each of these layers, by layer name; layers without one are left out.

    A layer's norm is the batch, layer or group norm that is called next after it, before any other convolution or
    linear layer, and has as many channels as the layer has outputs. An activation may lie between, as in ConvMixer.

    Examples
    --------
    >>> from mkfa.networks.build import build_network
    >>> model = build_network("convmixer_8_2", classes=3, channels=1, size=16, seed=0)
    >>> norms_after(model, ["blocks.0.0.fn.0"])
    {'blocks.0.0.fn.0': 'blocks.0.0.fn.2'}
    """
    import torch

    weighted = (torch.nn.Conv2d, torch.nn.Linear)
    norm_kinds = (torch.nn.BatchNorm2d, torch.nn.LayerNorm, torch.nn.GroupNorm)
    called = _order_of_calls(model, (*weighted, *norm_kinds))
    found = {}
    for (name, layer), (after, norm) in pairwise(called):
        if name in names and isinstance(layer, weighted) and isinstance(norm, norm_kinds):
            width = layer.out_channels if isinstance(layer, torch.nn.Conv2d) else layer.out_features
            if _channels_of(norm) == width:
                found[name] = after
    return {name: found[name] for name in names if name in found}


def _channels_of(norm: Any) -> int:
    """Return a norm layer's number of channels; -1 if it normalises several dimensions at once, or none is stated."""
    for key in ("num_features", "num_channels", "normalized_shape"):
        value = getattr(norm, key, None)
        if value is not None:
            return int(value) if isinstance(value, int) else int(value[0]) if len(value) == 1 else -1
    return -1


def _order_of_calls(model: Any, kinds: tuple[Any, ...]) -> list[tuple[str, Any]]:
    """Return the modules of these kinds as (name, module), in order of call; a module called twice appears twice."""
    calls: list[tuple[str, Any]] = []

    def note(name: str) -> Any:
        return lambda module, inputs: calls.append((name, module))

    handles = [
        module.register_forward_pre_hook(note(name))
        for name, module in model.named_modules()
        if isinstance(module, kinds)
    ]
    try:
        _run_blank(model)
    finally:
        for handle in handles:
            handle.remove()
    return calls


def _run_blank(model: Any) -> None:
    """Pass one blank image of the size that the network was built for through it, in evaluation mode."""
    import torch

    training = {module: module.training for module in model.modules()}
    parameter = next(model.parameters())
    try:
        with torch.no_grad():
            model.eval()(torch.zeros(1, *model.image_shape, device=parameter.device, dtype=parameter.dtype))
    finally:
        for module, was in training.items():
            module.training = was


def _shortcuts(model: Any) -> dict[str, tuple[tuple[str, Any], ...]]:
    """Map a block's last convolution to the convolutions of its shortcut (timm's ResNet blocks)."""
    import torch
    from timm.models.resnet import BasicBlock, Bottleneck

    shortcuts = {}
    for block_name, block in model.named_modules():
        if isinstance(block, BasicBlock | Bottleneck) and block.downsample is not None:
            last = "conv3" if isinstance(block, Bottleneck) else "conv2"
            shortcuts[f"{block_name}.{last}"] = tuple(
                (f"{block_name}.downsample.{name}", module)
                for name, module in block.downsample.named_modules()
                if isinstance(module, torch.nn.Conv2d)
            )
    return shortcuts


def _calls(model: Any) -> list[tuple[str, Any, bool]]:
    """Return convolutions and linear layers as (name, module, whether its input was pooled), in order of first call."""
    import torch
    from timm.layers.adaptive_avgmax_pool import SelectAdaptivePool2d

    calls: dict[str, tuple[Any, bool]] = {}
    pooled = False
    handles = []

    def note(name: str) -> Any:
        def hook(module: Any, inputs: tuple[Any, ...]) -> None:
            nonlocal pooled
            if isinstance(module, SelectAdaptivePool2d):
                pooled = True
            else:
                flat = isinstance(module, torch.nn.Linear) and inputs[0].ndim < 3
                calls.setdefault(name, (module, pooled or flat))

        return hook

    excited = _excitations(model)
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear | SelectAdaptivePool2d):
            handles.append(module.register_forward_pre_hook(note(name)))
    try:
        _run_blank(model)
    finally:
        for handle in handles:
            handle.remove()
    return [(name, module, flat or name in excited) for name, (module, flat) in calls.items()]


def _excitations(model: Any) -> set[str]:
    """Return the names of all modules inside squeeze-and-excitation blocks."""
    from timm.layers.squeeze_excite import EffectiveSEModule, SEModule
    from timm.models._efficientnet_blocks import SqueezeExcite

    return {
        f"{outer}.{inner}"
        for outer, module in model.named_modules()
        if isinstance(module, SEModule | EffectiveSEModule | SqueezeExcite)
        for inner, _ in module.named_modules()
    }


def has_one_filter_per_channel(convolution: Any) -> bool:
    """True for a convolution with one group per input channel, more than one channel and a kernel above 1x1."""
    return bool(convolution.groups == convolution.in_channels > 1 and max(convolution.kernel_size) > 1)


def _is(what: str, module: Any, pooled: bool) -> bool:
    import torch

    conv = isinstance(module, torch.nn.Conv2d)
    if what == "depthwise":
        return conv and has_one_filter_per_channel(module)
    if what == "conv":
        return conv and not pooled
    return not pooled and (not conv or (module.groups == 1 and max(module.kernel_size) == 1))
