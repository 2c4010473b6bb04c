"""Several networks of one architecture computed as one, for devices that a small network cannot fill (torch inside
functions).

The channels of k networks are concatenated: images enter as (B, k C, H, W), logits leave as (B, k classes). Every
tensor of the group is the networks' own tensors concatenated along the first dimension, and keeps its name.

- Convolutions have k times as many groups; 1x1 convolutions and linear layers are batched matrix products, (k, N, C) by
  (k, C, O).
- Batch norm needs no change, since it treats each channel separately. Layer norm and global response normalisation
  (ConvNeXt V2) treat each network's channels separately.
- Stochastic depth is drawn for each image and network, by the network's own `mkfa.networks.drop_path.DropPaths`.

A network with other layers, or whose own code mixes channels between layers, has no grouped form. The second case is
detected by a test: two networks with random weights must have the same logits grouped and alone.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from mkfa.errors import MkfaError

if TYPE_CHECKING:
    import torch
    from torch import nn

_TOLERANCE = 1e-9
"""Largest relative difference of float64 logits that counts as rounding."""


def group_networks(models: Sequence[nn.Module]) -> nn.Module:
    """Return one network that computes several networks of one architecture.

    The models' parameters and buffers become views of the group's tensors: a change of one changes the other. Each
    model keeps its state dict and can be evaluated, and updated by its own optimiser. A parameter of the
    group is trained if it is trained in any of the models.

    Parameters
    ----------
    models : sequence of torch.nn.Module
        With tensors of the same names, shapes and memory formats, on one device.

    Returns
    -------
    torch.nn.Module
        From (B, k C, H, W) to (B, k classes); in training mode if the first model is.

    Raises MkfaError: a layer has no grouped form, or the models differ.

    Examples
    --------
    >>> import torch
    >>> from mkfa.networks.build import build_network
    >>> models = [build_network("convmixer_8_2", classes=3, channels=1, size=16, seed=s).eval() for s in (0, 1)]
    >>> x = torch.rand(5, 2, 16, 16)
    >>> alone = torch.cat([model(x[:, r : r + 1]) for r, model in enumerate(models)], 1)
    >>> bool(torch.allclose(group_networks(models)(x), alone, atol=1e-6))
    True
    """
    k = len(models)
    _check_equal(models)
    group = copy.deepcopy(models[0])
    for name, module in list(group.named_modules()):
        _convert(name, module, k)
    for (_, module), *own in zip(group.named_modules(), *(m.named_modules() for m in models), strict=True):
        _join(module, [part for _, part in own])
    return group


def hand_out_gradients(group: nn.Module, models: Sequence[nn.Module]) -> None:
    """Give each network's trained parameters their part of the group's gradients, and clear the group's gradients."""
    k = len(models)
    for whole, *own in zip(group.parameters(), *(m.parameters() for m in models), strict=True):
        parts = (None,) * k if whole.grad is None else whole.grad.chunk(k)
        for parameter, part in zip(own, parts, strict=True):
            parameter.grad = part if parameter.requires_grad else None
        whole.grad = None


def use_drop_paths(group: nn.Module, factors: Sequence[torch.Tensor | None]) -> None:
    """Use these factors of stochastic depth, (calls, B) of each network, in the group's forward passes that follow.

    See `mkfa.networks.drop_path.DropPaths.use`; None if the networks have none.
    """
    import torch

    if factors[0] is None:
        return
    joined = torch.stack([f for f in factors if f is not None], 2)
    for module in group.modules():
        if type(module) is _classes()[-1]:
            module.factors = joined


def check_grouped(model: nn.Module) -> None:
    """Raise MkfaError unless a network of `build_network` has a grouped form that computes the same.

    Two copies of it with other random weights are computed grouped and alone, in float64 on the CPU.
    """
    import torch

    generator = torch.Generator().manual_seed(0)
    pair = [copy.deepcopy(model).to("cpu", torch.float64).eval() for _ in range(2)]
    with torch.no_grad():
        for parameter in (p for one in pair for p in one.parameters()):
            if parameter.ndim < 2:  # a gain that starts near 0, such as layer scale, would hide what precedes it
                parameter.uniform_(-1, 1, generator=generator)
            else:
                parameter.mul_(1 + 0.5 * torch.rand(parameter.shape, generator=generator, dtype=torch.float64))
        shape: Any = model.image_shape
        x = torch.randn(3, 2 * shape[0], *shape[1:], generator=generator, dtype=torch.float64)
        alone = torch.cat([one(part) for one, part in zip(pair, x.chunk(2, 1), strict=True)], 1)
        try:
            grouped = group_networks(pair)(x)
        except (RuntimeError, ValueError, IndexError) as error:  # the network's own code expects the channels of one
            raise _refusal(model, f"cannot compute several networks at once ({str(error)[:100]})") from error
    if grouped.shape != alone.shape or float((grouped - alone).abs().max()) > _TOLERANCE * float(alone.abs().max()):
        raise _refusal(model, "mixes channels outside its layers")


def _refusal(model: nn.Module, problem: str) -> MkfaError:
    return MkfaError(
        f"--strategy stacked with {type(model).__name__}", problem, "choose another strategy, such as alone"
    )


def _check_equal(models: Sequence[nn.Module]) -> None:
    def shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
        return {name: tuple(t.shape) for name, t in (*model.named_parameters(), *model.named_buffers())}

    first = shapes(models[0])
    if any(shapes(model) != first for model in models[1:]):
        raise MkfaError("a group of runs", "has networks of different shapes", "group runs of one network")


def _named_tensors(module: nn.Module) -> Iterator[tuple[dict[str, Any], str]]:
    for holder in (module._parameters, module._buffers):
        for name, tensor in holder.items():
            if tensor is not None:
                yield holder, name


def _join(module: nn.Module, own: Sequence[nn.Module]) -> None:
    """Concatenate the tensors of the modules `own` into the group's module, and make them views of its tensors."""
    import torch

    for holder, name in _named_tensors(module):
        parts = [getattr(part, name) for part in own]
        first = parts[0].detach()
        joined = torch.cat([part.detach().reshape(part.shape or (1,)) for part in parts])
        if not first.is_contiguous() and first.is_contiguous(memory_format=torch.channels_last):
            joined = joined.contiguous(memory_format=torch.channels_last)
        if isinstance(parts[0], torch.nn.Parameter):
            holder[name] = torch.nn.Parameter(joined, requires_grad=any(part.requires_grad for part in parts))
            for part, view in zip(parts, joined.chunk(len(parts)), strict=True):
                part.data = view
        else:
            holder[name] = joined
            for owner, view in zip(own, joined.chunk(len(parts)), strict=True):
                owner._buffers[name] = view.view(first.shape)


def _convert(name: str, module: Any, k: int) -> None:
    """Turn one module of a network's copy into its grouped form, in place."""
    from timm.layers.drop import DropPath
    from timm.layers.grn import GlobalResponseNorm
    from timm.layers.norm import LayerNorm, LayerNorm2d
    from torch import nn

    linear, pointwise, norm, norm2d, response, drop = _classes()
    kind = type(module)
    if isinstance(module, nn.Conv2d) and _is_plain(module):
        by_products = module.kernel_size == (1, 1) and module.groups == 1 and module.stride == (1, 1)
        if by_products and module.padding in ((0, 0), "same", "valid") and "offset" not in module._parameters:
            module.__class__ = pointwise
        else:
            module.groups *= k
        module.in_channels, module.out_channels = k * module.in_channels, k * module.out_channels
    elif kind is nn.BatchNorm2d:
        module.num_features *= k
    elif kind is nn.GroupNorm:
        module.num_groups, module.num_channels = k * module.num_groups, k * module.num_channels
    elif kind is nn.Linear:
        module.__class__ = linear
    elif kind in (nn.LayerNorm, LayerNorm, LayerNorm2d) and len(module.normalized_shape) == 1:
        module.__class__ = norm2d if kind is LayerNorm2d else norm
    elif kind is GlobalResponseNorm:
        module.__class__ = response
    elif isinstance(module, DropPath) and module.drop_prob:
        module.__class__ = drop
    elif any(True for _ in _named_tensors(module)) and not any(True for _ in module.children()):
        problem = f"has layer {name} of class {kind.__name__}, which has no grouped form"
        raise MkfaError("--strategy stacked", problem, "choose another strategy, such as alone")
    module.runs = k


def _is_plain(conv: nn.Conv2d) -> bool:
    """Turn a convolution of `mkfa.networks` back into PyTorch's or one with an offset; False for any other class."""
    from torch import nn

    from mkfa.networks.cpu_gradients import is_quick
    from mkfa.networks.offset import has_offset, offset_class

    if is_quick(conv):
        conv.__class__ = offset_class() if "offset" in conv._parameters else nn.Conv2d
    return type(conv) is nn.Conv2d or has_offset(conv)


def _per_network(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, k: int) -> torch.Tensor:
    """Multiply each network's channels by its own matrix; (..., k C), (k O, C), (k O,) -> (..., k O)."""
    import torch

    inputs = weight.shape[1]
    rows = x.reshape(-1, k, inputs).transpose(0, 1)
    matrices = weight.view(k, -1, inputs).transpose(1, 2)
    out = torch.bmm(rows, matrices) if bias is None else torch.baddbmm(bias.view(k, 1, -1), rows, matrices)
    return out.transpose(0, 1).reshape(*x.shape[:-1], -1)


@functools.cache
def _classes() -> tuple[Any, ...]:
    """Return the classes of grouped layers, created on first use so that torch is imported only for training."""
    import torch.nn.functional as functional
    from timm.layers.drop import DropPath
    from timm.layers.grn import GlobalResponseNorm
    from torch import Tensor, nn

    class GroupedLinear(nn.Linear):
        runs: int

        def forward(self, x: Tensor) -> Tensor:
            return _per_network(x, self.weight, self.bias, self.runs)

    class GroupedPointwise(nn.Conv2d):
        runs: int

        def forward(self, x: Tensor) -> Tensor:
            mixed = _per_network(x.permute(0, 2, 3, 1), self.weight.flatten(1), self.bias, self.runs)
            return mixed.permute(0, 3, 1, 2)

    class GroupedLayerNorm(nn.LayerNorm):
        runs: int

        def forward(self, x: Tensor) -> Tensor:
            split = x.view(*x.shape[:-1], self.runs, -1)
            x = functional.layer_norm(split, split.shape[-1:], eps=self.eps).flatten(-2)
            if self.weight is not None:
                x = x * self.weight
            return x if self.bias is None else x + self.bias

    class GroupedLayerNorm2d(GroupedLayerNorm):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    class GroupedResponseNorm(GlobalResponseNorm):
        runs: int

        def forward(self, x: Tensor) -> Tensor:
            size = x.norm(p=2, dim=self.spatial_dim, keepdim=True)
            split = size.view(len(x), self.runs, -1)
            ratio = (split / (split.mean(-1, keepdim=True) + self.eps)).view(size.shape)
            grown: Tensor = x + self.bias.view(self.wb_shape) + self.weight.view(self.wb_shape) * (x * ratio)
            return grown

    class GroupedDropPath(DropPath):
        runs: int
        factors: Tensor
        calls: tuple[int, ...]
        at: int

        def forward(self, x: Tensor) -> Tensor:
            if not self.training:
                return x
            factors = self.factors[self.calls[self.at]].to(x.dtype)
            self.at = (self.at + 1) % len(self.calls)
            return x * factors.repeat_interleave(x.shape[1] // self.runs, 1).view(len(x), -1, 1, 1)

    return (GroupedLinear, GroupedPointwise, GroupedLayerNorm, GroupedLayerNorm2d, GroupedResponseNorm, GroupedDropPath)
