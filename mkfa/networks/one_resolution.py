"""The base class of networks of one resolution: everything but the stem and the blocks, with the methods that timm
expects (torch inside functions)."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from mkfa.networks.names import KINDS

if TYPE_CHECKING:
    from torch import nn


@lru_cache(maxsize=2)
def base_class(kind: str) -> type[nn.Module]:
    """Return the class OneResolution (torch.nn.Module) for a kind of `mkfa.networks.names.KINDS`.

    Its parameters are the channels and layers, `kernel_size`, `patch_size`, `branch_gain`, and timm's `in_chans`,
    `num_classes` and `drop_path_rate` (stochastic depth, rising linearly from 0 with depth). Derived classes make the
    parts: stem, blocks, and the norm of the mean over positions.
    """
    from timm.layers.adaptive_avgmax_pool import SelectAdaptivePool2d
    from torch import Tensor, nn

    usual = KINDS[kind]

    class OneResolution(nn.Module):
        """Stem, blocks at one resolution, mean over positions, norm, linear classifier."""

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
            super().__init__()
            self.num_features, self.in_chans = width, in_chans
            self.stem = self.make_stem(in_chans, width, patch_size)
            rates = [drop_path_rate * i / max(1, layers - 1) for i in range(layers)]
            self.blocks = nn.Sequential(*(self.make_block(width, kernel_size, branch_gain, rate) for rate in rates))
            self.global_pool = SelectAdaptivePool2d(pool_type="avg", flatten=True)
            self.norm = self.make_norm(width)
            self.reset_classifier(num_classes)

        def make_stem(self, in_chans: int, width: int, patch: int) -> nn.Module:
            raise NotImplementedError

        def make_block(self, width: int, kernel: int, gain: float, drop_path: float) -> nn.Module:
            raise NotImplementedError

        def make_norm(self, width: int) -> nn.Module:
            return nn.Identity()

        def get_classifier(self) -> nn.Module:
            return self.head

        def reset_classifier(self, num_classes: int) -> None:
            self.num_classes = num_classes
            self.head = nn.Linear(self.num_features, num_classes) if num_classes else nn.Identity()

        def forward_features(self, x: Tensor) -> Tensor:
            return self.blocks(self.stem(x))  # type: ignore[no-any-return]

        def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
            pooled: Tensor = self.norm(self.global_pool(x))
            return pooled if pre_logits else self.head(pooled)

        def forward(self, x: Tensor) -> Tensor:
            return self.forward_head(self.forward_features(x))

    return OneResolution
