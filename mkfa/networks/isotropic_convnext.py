"""ConvNeXt of one resolution, for small images (torch inside functions).

Source: Liu et al., A ConvNet for the 2020s (CVPR 2022, arXiv 2201.03545), section 3.3, isotropic ConvNeXt: patches,
blocks of ConvNeXt at one resolution (depthwise convolution, layer norm, two pointwise layers with GELU between, layer
scale, residual), layer norm of the mean over positions, linear classifier. Here in any size: `convnext_C_L` has C
channels and L blocks of timm's class, without downsampling. In ConvNeXts with stages on small images, the stem and the
downsampling convolutions do most of the pixel mixing (`tests/benchmarks/sensitivity.py` measures it).

`branch_gain` is the initial layer scale, by default the published 1e-6. Weights have PyTorch's initialisation, whose
spread depends on the number of inputs: the published .02 suits hundreds of channels; with tens of channels, the blocks
start so small that a few hundred steps hardly train them.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from mkfa.networks.one_resolution import base_class

if TYPE_CHECKING:
    from torch import nn


@lru_cache(maxsize=1)
def network_class() -> type[nn.Module]:
    """Return the class IsotropicConvNeXt, created on first use; its parameters are those of `base_class`.

    Examples
    --------
    >>> import torch
    >>> model = network_class()(8, 2, patch_size=4, in_chans=1, num_classes=3)
    >>> model(torch.zeros(5, 1, 16, 16)).shape, model.forward_features(torch.zeros(5, 1, 16, 16)).shape
    (torch.Size([5, 3]), torch.Size([5, 8, 4, 4]))
    """
    from timm.layers.norm import LayerNorm2d
    from timm.models.convnext import ConvNeXtBlock
    from torch import nn

    class IsotropicConvNeXt(base_class("convnext")):  # type: ignore[misc]
        """Patches, ConvNeXt blocks at one resolution, mean over positions, layer norm, linear classifier."""

        def make_stem(self, in_chans: int, width: int, patch: int) -> nn.Module:
            return nn.Sequential(nn.Conv2d(in_chans, width, patch, patch), LayerNorm2d(width))

        def make_block(self, width: int, kernel: int, gain: float, drop_path: float) -> nn.Module:
            block: nn.Module = ConvNeXtBlock(width, kernel_size=kernel, ls_init_value=gain, drop_path=drop_path)
            return block

        def make_norm(self, width: int) -> nn.Module:
            return nn.LayerNorm(width, eps=1e-6)

    return IsotropicConvNeXt
