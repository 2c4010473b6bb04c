"""ConvNeXt of one resolution, for small images (torch inside functions).

Source: Liu et al., A ConvNet for the 2020s (CVPR 2022, arXiv 2201.03545), section 3.3, isotropic ConvNeXt: patches,
blocks of ConvNeXt at one resolution (depthwise convolution, layer norm, two pointwise layers with GELU between, layer
scale, residual), layer norm of the mean over positions, linear classifier. Here in any size: `convnext_C_L` has C
channels and L blocks of timm's class, without downsampling. In ConvNeXts with stages on small images, the stem and the
downsampling convolutions do most of the mixing of pixels (`tests/benchmarks/sensitivity.py` measures it).

`branch_gain` is the initial layer scale, by default the published 1e-6. Weights start as PyTorch initialises them, with
a spread that depends on the number of inputs: the published .02 suits hundreds of channels, and with tens of them the
blocks start so small that a few hundred steps hardly train them.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from mkfa.networks.names import KINDS, parse_name
from mkfa.networks.one_resolution import base_class, drop_rates

if TYPE_CHECKING:
    from torch import nn


@lru_cache(maxsize=1)
def network_class() -> type[nn.Module]:
    """Return the class IsotropicConvNeXt (torch.nn.Module), created on first use.

    Parameters as those of `mkfa.networks.residual_mixer.network_class`.

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

    usual = KINDS["convnext"]

    class IsotropicConvNeXt(base_class()):  # type: ignore[misc]
        """Patches, ConvNeXt blocks at one resolution, mean over positions, layer norm, linear classifier."""

        def __init__(
            self,
            width: int,
            layers: int,
            *,
            kernel_size: int = usual.kernel,
            patch_size: int = usual.patch,
            branch_gain: float = usual.branch_gain,
            in_chans: int = 3,
            num_classes: int = 1000,
            drop_path_rate: float = 0.0,
        ) -> None:
            super().__init__(
                width,
                in_chans=in_chans,
                num_classes=num_classes,
                stem=nn.Sequential(nn.Conv2d(in_chans, width, patch_size, patch_size), LayerNorm2d(width)),
                blocks=[
                    ConvNeXtBlock(width, kernel_size=kernel_size, ls_init_value=branch_gain, drop_path=rate)
                    for rate in drop_rates(drop_path_rate, layers)
                ],
                norm=nn.LayerNorm(width, eps=1e-6),
            )

    return IsotropicConvNeXt


default_cfgs: dict[str, Any] = {}
"""Read by timm's registry, which expects it in the module of an entry point."""


def register(name: str) -> None:
    """Register a `convnext_C_L` with timm; repeated calls have no effect.

    Raises
    ------
    ValueError
        The name is not of this form.

    Examples
    --------
    >>> import timm
    >>> register("convnext_8_2")
    >>> timm.create_model("convnext_8_2", num_classes=3).blocks[0].conv_dw.weight.shape
    torch.Size([8, 1, 7, 7])
    """
    from mkfa.networks.registry import register_small

    said = parse_name(name)
    if said is None or said.kind != "convnext":
        raise ValueError(f"{name}: no isotropic ConvNeXt, whose names are convnext_C_L")
    register_small(said, name, module=__name__, configs=default_cfgs, network=network_class)
