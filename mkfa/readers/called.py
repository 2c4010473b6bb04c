"""Depthwise convolutions that a network in memory calls as functions, with parameters of its own: no module tells them.

So do a block that calls `torch.nn.functional.conv2d`, and every convolution of a network that `torch.export` wrote.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

_PART = re.compile(r"(?:^|\.)(?:parametrizations\.|weight_\w+$)")
"""Parts from which a module computes its weight (weight norm, pruning)."""


@dataclass(frozen=True, slots=True)
class CalledConvolution:
    """A convolution as its call states it, with the attributes of `torch.nn.Conv2d`; `key` names its weight."""

    key: str
    weight: Any
    bias: Any
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int

    @property
    def in_channels(self) -> int:
        return self.groups

    @property
    def out_channels(self) -> int:
        return int(self.weight.shape[0])

    @property
    def kernel_size(self) -> tuple[int, ...]:
        return tuple(int(n) for n in self.weight.shape[2:])


def free_weights(model: nn.Module) -> dict[str, Any]:
    """Return name -> parameter of those shaped like a depthwise layer's weight that no convolution module has."""
    from torch.nn.modules.conv import _ConvNd

    owned = {id(module._parameters.get("weight")) for module in model.modules() if isinstance(module, _ConvNd)}
    return {
        name: parameter
        for name, parameter in model.named_parameters()
        if id(parameter) not in owned and _is_like_depthwise(parameter) and not _PART.search(name)
    }


def _is_like_depthwise(parameter: Any) -> bool:
    shape = parameter.shape
    return len(shape) == 4 and shape[1] == 1 < shape[0] and max(shape[2:]) > 1


def watch(model: nn.Module, stand_ins: Mapping[str, Any], first: int) -> Any:
    """Return a context in which depthwise convolutions with a network's free weights are noted.

    Parameters
    ----------
    stand_ins : name -> tensor that stands for the parameter while the network runs.
    first : index of the first noted convolution in `sizes`.

    Its `found` has the convolutions in order of first call, and its `sizes`, which may be replaced, maps the index of
    each to the height and width of its output.
    """
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    parameters = dict(model.named_parameters())
    names = {id(tensor): name for name, tensor in stand_ins.items()}
    free = free_weights(model)

    class Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __init__(self) -> None:
            super().__init__()  # type: ignore[no-untyped-call]
            self.found: list[CalledConvolution] = []
            self.sizes: dict[int, tuple[int, ...]] = {}

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = func(*args, **(kwargs or {}))
            if func is torch.ops.aten.convolution.default:
                self.note(args, tuple(int(n) for n in out.shape[-2:]))
            return out

        def note(self, args: Any, size: tuple[int, ...]) -> None:
            _, weight, bias, stride, _, dilation, transposed, _, groups = args
            name = names.get(id(weight), "")
            if name not in free or transposed or groups < 2:
                return
            known = [each.key for each in self.found]
            if name not in known:
                values = free[name], parameters.get(names.get(id(bias), ""))
                self.found.append(CalledConvolution(name, *values, tuple(stride), tuple(dilation), groups))
                known.append(name)
            self.sizes.setdefault(first + known.index(name), size)

    return Watch()
