"""HorNet with 7x7 gated convolutions, Tiny, Small, Base and Large, registered with timm (torch inside functions).

Source: Rao et al., HorNet (NeurIPS 2022, arXiv 2207.14284), section 3.1 and table 1. Parameter names match the authors'
released weights, so their files load unchanged. The variants with global filters (`hornet_tiny_gf` and so on) are
refused: half of their late layers work in the frequency domain and have no spatial kernels to borrow.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

from mkfa.errors import MkfaError

DEPTHS = (2, 3, 18, 2)
"""Blocks per stage, the same in every size: 25 depthwise layers."""
WIDTHS = {"hornet_tiny": 64, "hornet_small": 96, "hornet_base": 128, "hornet_large": 192}
"""Channels of the first stage; each later stage has twice as many as the one before."""
ORDERS = (2, 3, 4, 5)
"""Order n of the gated convolutions in each stage."""
_SCALE = 1 / 3
"""Factor on the output of the depthwise convolution, as in the released configurations."""


def plain_name(arch: str) -> str:
    """Return a network's name without the authors' ending for 7x7 kernels; other names are unchanged.

    Raises MkfaError: it is the authors' name of a variant with global filters.

    Examples
    --------
    >>> plain_name("hornet_tiny_7x7"), plain_name("convnext_tiny")
    ('hornet_tiny', 'convnext_tiny')
    """
    name, _, ending = arch.rpartition("_")
    if name in WIDTHS and ending == "gf":
        problem = "has global filters, which are not kernels that another network could borrow"
        raise MkfaError(arch, problem, f"choose {name}, which has 7x7 kernels throughout")
    return name if name in WIDTHS and ending == "7x7" else arch


@lru_cache(maxsize=1)
def classes() -> SimpleNamespace:
    """Return the classes GatedConv, Block and HorNet (torch.nn.Module), created on first use."""
    import torch
    from timm.layers.drop import DropPath
    from timm.layers.norm import LayerNorm2d
    from torch import Tensor, nn

    class GatedConv(nn.Module):
        """Recursive gated convolution g^n conv, equations (3.3) to (3.5): n multiplications of increasing width.

        One depthwise 7x7 convolution serves all orders: its sum(dims) channels are split into widths dim/2^(n-1), ...,
        dim/2, dim.
        """

        def __init__(self, dim: int, order: int) -> None:
            super().__init__()
            self.dims = [dim // 2**i for i in reversed(range(order))]
            total = sum(self.dims)
            self.proj_in = nn.Conv2d(dim, 2 * dim, 1)
            self.dwconv = nn.Conv2d(total, total, 7, padding=3, groups=total)
            self.proj_out = nn.Conv2d(dim, dim, 1)
            self.pws = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in pairwise(self.dims))

        def forward(self, x: Tensor) -> Tensor:
            gate, rest = torch.split(self.proj_in(x), [self.dims[0], sum(self.dims)], dim=1)  # sizes sum to 2 dim
            parts = torch.split(self.dwconv(rest) * _SCALE, self.dims, dim=1)
            x = gate * parts[0]
            for project, part in zip(self.pws, parts[1:], strict=True):
                x = project(x) * part
            return self.proj_out(x)  # type: ignore[no-any-return]

    class Block(nn.Module):
        """Gated convolution and pointwise MLP, each after a norm, with layer scale."""

        def __init__(self, dim: int, order: int, drop_path: float) -> None:
            super().__init__()
            self.norm1 = LayerNorm2d(dim, eps=1e-6)
            self.gnconv = GatedConv(dim, order)
            self.norm2 = nn.LayerNorm(dim, eps=1e-6)
            self.pwconv1 = nn.Linear(dim, 4 * dim)
            self.act = nn.GELU()
            self.pwconv2 = nn.Linear(4 * dim, dim)
            self.gamma1 = nn.Parameter(1e-6 * torch.ones(dim))
            self.gamma2 = nn.Parameter(1e-6 * torch.ones(dim))
            self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()

        def forward(self, x: Tensor) -> Tensor:
            x = x + self.drop_path(self.gamma1.view(-1, 1, 1) * self.gnconv(self.norm1(x)))
            y = self.norm2(x.permute(0, 2, 3, 1))  # (B, H, W, C)
            y = self.gamma2 * self.pwconv2(self.act(self.pwconv1(y)))
            return x + self.drop_path(y.permute(0, 3, 1, 2))  # type: ignore[no-any-return]

    class HorNet(nn.Module):
        """Four stages of blocks, after a 4x4 stem and 2x2 downsampling convolutions."""

        def __init__(self, dim: int, *, in_chans: int = 3, num_classes: int = 1000, drop_path_rate: float = 0) -> None:
            super().__init__()
            self.num_classes, self.num_features = num_classes, 8 * dim
            dims = [dim * 2**i for i in range(4)]
            stem = nn.Sequential(nn.Conv2d(in_chans, dim, 4, 4), LayerNorm2d(dim, eps=1e-6))
            self.downsample_layers = nn.ModuleList([stem])
            for a, b in pairwise(dims):
                self.downsample_layers.append(nn.Sequential(LayerNorm2d(a, eps=1e-6), nn.Conv2d(a, b, 2, 2)))
            rates = iter([drop_path_rate * i / (sum(DEPTHS) - 1) for i in range(sum(DEPTHS))])
            self.stages = nn.ModuleList(
                nn.Sequential(*(Block(d, order, next(rates)) for _ in range(depth)))
                for d, order, depth in zip(dims, ORDERS, DEPTHS, strict=True)
            )
            self.norm = nn.LayerNorm(dims[-1], eps=1e-6)
            self.head = nn.Linear(dims[-1], num_classes) if num_classes else nn.Identity()
            self.apply(_initialise)

        def get_classifier(self) -> nn.Module:
            return self.head

        def forward_features(self, x: Tensor) -> Tensor:
            for downsample, stage in zip(self.downsample_layers, self.stages, strict=True):
                x = stage(downsample(x))
            return x

        def forward_head(self, x: Tensor) -> Tensor:
            return self.head(self.norm(x.mean((-2, -1))))  # type: ignore[no-any-return]

        def forward(self, x: Tensor) -> Tensor:
            return self.forward_head(self.forward_features(x))

    def _initialise(module: nn.Module) -> None:
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)

    return SimpleNamespace(GatedConv=GatedConv, Block=Block, HorNet=HorNet)


def _entrypoint(name: str, width: int) -> Any:
    def build(pretrained: bool = False, **options: Any) -> Any:
        from timm.models import build_model_with_cfg

        return build_model_with_cfg(classes().HorNet, name, pretrained, dim=width, **options)

    build.__name__, build.__module__ = name, __name__
    build.__doc__ = f"HorNet of width {width} with 7x7 kernels."
    return build


default_cfgs: dict[str, Any] = {}
"""Read by timm's registry, which expects it in the module of an entry point."""


def register() -> None:
    """Register the networks in `WIDTHS` with timm, `hornet_tiny` and so on; repeated calls have no effect.

    If timm already has a HorNet, that one is used.
    """
    import timm
    from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
    from timm.models import generate_default_cfgs, register_model

    for name, width in WIDTHS.items():
        if timm.is_model(name):
            continue
        default_cfgs.update(
            generate_default_cfgs(
                {
                    f"{name}.untrained": {
                        "url": "",
                        "num_classes": 1000,
                        "input_size": (3, 224, 224),
                        "crop_pct": 0.875,
                        "interpolation": "bicubic",
                        "mean": IMAGENET_DEFAULT_MEAN,
                        "std": IMAGENET_DEFAULT_STD,
                        "first_conv": "downsample_layers.0.0",
                        "classifier": "head",
                    }
                }
            )
        )
        register_model(_entrypoint(name, width))
