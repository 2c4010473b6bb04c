"""The residual mixer: a small network of one resolution that shows what filters do (torch inside functions).

**Why it exists.** An experiment can show an effect of filters only in a network that trains well and depends on them.
In a network with downsampling, the stem and the downsampling convolutions mix pixels too, and filters frozen at
identity cost little.

A ConvMixer (Trockman and Kolter 2022, arXiv 2201.09792) has one resolution, so that after the patches its depthwise
layers alone mix pixels. But its pointwise half has no residual connection: with 18 layers and 32 channels it hardly
trains in a few hundred steps, and accuracy differs more between seeds than between filters. Here both halves are
residual branches, and both start small:

    x <- x + BN(GELU(depthwise x)),    x <- x + BN(GELU(pointwise x)),

with the weight of either batch norm starting at `branch_gain`, by default .3, so that 18 layers start near the identity
(the idea of SkipInit, De and Smith 2020, arXiv 2002.10444, with a gain above 0, so that filters get gradients from the
first step on).

**Names.** `resmixer_C_L` has C channels and L layers; `mkfa.networks.registry` registers such names with timm.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from mkfa.networks.one_resolution import base_class

if TYPE_CHECKING:
    from torch import nn


@lru_cache(maxsize=1)
def network_class() -> type[nn.Module]:
    """Return the class ResidualMixer, created on first use; its parameters are those of `base_class`.

    Examples
    --------
    >>> import torch
    >>> model = network_class()(8, 2, patch_size=4, in_chans=1, num_classes=3)
    >>> model(torch.zeros(5, 1, 16, 16)).shape, model.forward_features(torch.zeros(5, 1, 16, 16)).shape
    (torch.Size([5, 3]), torch.Size([5, 8, 4, 4]))
    """
    from timm.layers.drop import DropPath
    from torch import Tensor, nn

    class Branch(nn.Module):
        """x + BN(GELU(convolution x)), with the weight of the batch norm starting at `gain`."""

        def __init__(self, convolution: nn.Conv2d, *, gain: float, drop_path: float) -> None:
            super().__init__()
            self.conv = convolution
            self.act = nn.GELU()
            self.norm = nn.BatchNorm2d(convolution.out_channels)
            self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()
            nn.init.constant_(self.norm.weight, gain)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.drop_path(self.norm(self.act(self.conv(x))))  # type: ignore[no-any-return]

    class Block(nn.Module):
        """Mix pixels within each channel, then channels at each position."""

        def __init__(self, width: int, *, kernel: int, gain: float, drop_path: float) -> None:
            super().__init__()
            depthwise = nn.Conv2d(width, width, kernel, groups=width, padding=kernel // 2)
            self.depthwise = Branch(depthwise, gain=gain, drop_path=drop_path)
            self.pointwise = Branch(nn.Conv2d(width, width, 1), gain=gain, drop_path=drop_path)

        def forward(self, x: Tensor) -> Tensor:
            return self.pointwise(self.depthwise(x))  # type: ignore[no-any-return]

    class ResidualMixer(base_class("resmixer")):  # type: ignore[misc]
        """Patches, blocks of two residual branches at one resolution, mean over positions, linear classifier."""

        def make_stem(self, in_chans: int, width: int, patch: int) -> nn.Module:
            return nn.Sequential(nn.Conv2d(in_chans, width, patch, patch), nn.GELU(), nn.BatchNorm2d(width))

        def make_block(self, width: int, kernel: int, gain: float, drop_path: float) -> nn.Module:
            return Block(width, kernel=kernel, gain=gain, drop_path=drop_path)

    return ResidualMixer
