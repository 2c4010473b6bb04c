"""Faster gradients of depthwise and pointwise convolutions on a CPU (torch inside functions).

**Depthwise.** PyTorch's weight gradient is designed for large images: for 7x7 kernels on small images it takes more
than ten times as long as the forward pass. Here it is a matrix product. Let X and G be the inputs and output gradients
of one channel as (N, H*W) matrices. X^T G contains the products of every input pixel with every output pixel, summed
over the batch. A tap of the gradient is the sum of the entries whose two pixels are offset by that tap. This is used
for kernels of at least 5x5 on images of up to 14x14, where it is faster. For a frozen layer with a trained bias, the
weight gradient is skipped; PyTorch would compute it along with the bias gradient.

**Pointwise.** In channels-last format, a 1x1 convolution is a matrix product without any copying, and the backward
pass of the matrix product is faster than that of the convolution.

`tests/benchmarks/bench_depthwise.py` measures both; `--no-quick` turns both off, and results record the choice.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from mkfa.networks.offset import has_offset

if TYPE_CHECKING:
    import torch
    from torch import nn

SMALLEST_KERNEL, LARGEST_IMAGE = 5, 196
"""Kernel size, and image area in pixels; beyond these bounds PyTorch's own gradient is as fast or faster."""


def use_cpu_gradients(model: nn.Module) -> int:
    """Make a network's convolutions use the fast CPU gradients; returns the number of convolutions changed.

    Parameters, buffers and outputs do not change; gradients agree up to rounding. The change applies to depthwise
    convolutions with stride 1, no dilation, zero "same" padding and one filter per channel, with an offset or without,
    and to ungrouped 1x1 convolutions with stride 1. Others are left alone.
    """
    from torch import nn

    count = 0
    for module in model.modules():
        offset = has_offset(module)
        if not isinstance(module, nn.Conv2d) or not (offset or type(module) is nn.Conv2d) or module.stride != (1, 1):
            continue
        if _is_pointwise(module) or _qualifies(module):
            module.__class__ = _quick_classes()[2 if offset else 0 if _is_pointwise(module) else 1]
            count += 1
    return count


def is_quick(module: nn.Module) -> bool:
    """True if `use_cpu_gradients` changed the module."""
    return type(module) in _quick_classes()


def weight_gradient(x: torch.Tensor, g: torch.Tensor, size: int) -> torch.Tensor:
    """Return the weight gradient of a depthwise convolution with stride 1 and padding size // 2.

    Parameters
    ----------
    x, g : (N, C, H, W) float
        Input, and gradient of the output.
    size : kernel size, odd.

    Returns
    -------
    (C, 1, size, size) tensor
        Sum over n, h, w of x[n, c, h + i - size // 2, w + j - size // 2] g[n, c, h, w].
    """
    import torch

    n, c, h, w = x.shape
    pixels = h * w

    def rows(t: torch.Tensor) -> torch.Tensor:
        # Copied, because multiplying strided matrices takes many times as long as contiguous ones.
        return t.permute(0, 2, 3, 1).reshape(n * pixels, c).t().contiguous().view(c, n, pixels)

    products = torch.bmm(rows(x).transpose(1, 2), rows(g)).view(c, pixels * pixels)
    where, inside = _pairs(h, w, size)
    taps = products.index_select(1, where).view(c, size * size, pixels)
    return (taps * inside.to(taps.dtype)).sum(-1).view(c, 1, size, size)


@functools.cache
def _pairs(h: int, w: int, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return, for each tap and output pixel, the index of its pixel pair, and whether the input pixel exists.

    Shapes (size**2 * h * w,) int64 and (size**2, h * w) bool; the index is 0 if the input pixel does not exist.
    """
    import torch

    offset = torch.arange(size) - size // 2
    row = torch.arange(h).view(1, 1, h, 1) + offset.view(-1, 1, 1, 1)
    column = torch.arange(w).view(1, 1, 1, w) + offset.view(1, -1, 1, 1)
    inside = (row >= 0) & (row < h) & (column >= 0) & (column < w)
    output = torch.arange(h * w).view(1, 1, h, w)
    index = torch.where(inside, (row * w + column) * (h * w) + output, 0)
    return index.view(-1), inside.view(size * size, h * w)


def _is_pointwise(conv: nn.Conv2d) -> bool:
    return conv.kernel_size == (1, 1) and conv.groups == 1 and conv.padding in ((0, 0), "same", "valid")


def _qualifies(conv: nn.Conv2d) -> bool:
    kh, kw = conv.kernel_size
    padded = conv.padding in ("same", (kh // 2, kw // 2)) and conv.padding_mode == "zeros"
    depthwise = conv.groups == conv.in_channels == conv.out_channels
    return depthwise and conv.dilation == (1, 1) and padded and kh == kw and kh % 2 == 1 and kh >= SMALLEST_KERNEL


def _is_quick_here(x: torch.Tensor) -> bool:
    import torch

    graph = torch.is_grad_enabled() and not torch.is_autocast_enabled(x.device.type)
    return graph and x.device.type == "cpu" and x.ndim == 4


@functools.cache
def _quick_classes() -> tuple[Any, Any, Any]:
    """Return the classes, created on first use so that torch is imported only for training."""
    import torch
    import torch.nn.functional as functional
    from torch import nn

    class Convolve(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: Any) -> torch.Tensor:
            ctx.save_for_backward(x, weight)
            return functional.conv2d(x, weight, bias, padding=weight.shape[-1] // 2, groups=len(weight))

        @staticmethod
        def backward(ctx: Any, *grads: Any) -> Any:
            (g,) = grads
            x, weight = ctx.saved_tensors
            size, needed = weight.shape[-1], ctx.needs_input_grad
            by_input = None
            if needed[0]:
                by_input, _, _ = torch.ops.aten.convolution_backward(
                    g,
                    x,
                    weight,
                    None,
                    [1, 1],
                    [size // 2] * 2,
                    [1, 1],
                    False,
                    [0, 0],
                    len(weight),
                    [True, False, False],
                )
            by_weight = weight_gradient(x, g, size) if needed[1] else None
            return by_input, by_weight, g.sum((0, 2, 3)) if needed[2] else None

    class QuickDepthwise(nn.Conv2d):
        """A depthwise convolution that uses `weight_gradient` where that is faster."""

        def _conv_forward(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
            small = x.shape[-2] * x.shape[-1] <= LARGEST_IMAGE
            if _is_quick_here(x) and (small or not weight.requires_grad):
                convolved: torch.Tensor = Convolve.apply(x, weight, bias)
                return convolved
            own: torch.Tensor = super()._conv_forward(x, weight, bias)
            return own

    class QuickPointwise(nn.Conv2d):
        """A 1x1 convolution computed as a matrix product for channels-last input."""

        def _conv_forward(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
            if _is_quick_here(x) and x.is_contiguous(memory_format=torch.channels_last):
                return functional.linear(x.permute(0, 2, 3, 1), weight.flatten(1), bias).permute(0, 3, 1, 2)
            own: torch.Tensor = super()._conv_forward(x, weight, bias)
            return own

    class QuickOffset(QuickDepthwise):
        """The same with an offset (`mkfa.networks.offset`); its gradient is the sum of the weight gradient's taps."""

        offset: nn.Parameter

        def _conv_forward(self, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
            convolved: torch.Tensor = super()._conv_forward(x, weight + self.offset, bias)
            return convolved

    return QuickPointwise, QuickDepthwise, QuickOffset
