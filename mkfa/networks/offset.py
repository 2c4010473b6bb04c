"""A trained constant for each channel of a frozen depthwise layer, added to all taps of its kernel (torch inside
functions).

The layer convolves with weight + offset. The weight keeps its name and value; the offset is a separate parameter,
`offset`, of shape (channels, 1, 1, 1), initially zero.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from mkfa.errors import MkfaError

if TYPE_CHECKING:
    from torch import nn


def add_offset(name: str, conv: nn.Module) -> nn.Parameter:
    """Give a convolution a trained offset per output channel, in place; return the offset.

    Raises MkfaError: the layer's class is not torch's, and may convolve in another way.

    Examples
    --------
    >>> import torch
    >>> conv = torch.nn.Conv2d(2, 2, 3, groups=2, bias=False)
    >>> plain = conv(torch.ones(1, 2, 3, 3)).flatten()
    >>> offset = add_offset("conv", conv)
    >>> with torch.no_grad():
    ...     offset[0] += 1  # on an image of ones, all nine taps add 1
    >>> (conv(torch.ones(1, 2, 3, 3)).flatten() - plain).round(decimals=4).tolist()
    [9.0, 0.0]
    """
    import torch

    if type(conv) is not torch.nn.Conv2d:
        problem = f"is a {type(conv).__name__}, which cannot take a trained offset"
        raise MkfaError(f"layer {name}", problem, "choose an arm without -K")
    conv.__class__ = offset_class()
    offset = torch.nn.Parameter(torch.zeros_like(conv.weight[:, :1, :1, :1]))
    conv.register_parameter("offset", offset)
    return offset


def has_offset(conv: nn.Module) -> bool:
    """True if `add_offset` gave the layer an offset."""
    return isinstance(conv, offset_class())


@functools.cache
def offset_class() -> Any:
    """Return the class of convolutions with an offset, created on first use: torch is imported only for training."""
    import torch
    from torch import nn

    class OffsetConv2d(nn.Conv2d):
        """A convolution with weight + offset."""

        offset: nn.Parameter

        def _conv_forward(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
            convolved: torch.Tensor = super()._conv_forward(x, weight + self.offset, bias)
            return convolved

    return OffsetConv2d
