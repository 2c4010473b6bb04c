"""What networks of one resolution share: everything around the blocks, with the methods that timm expects (torch inside
functions)."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn


@lru_cache(maxsize=1)
def base_class() -> type[nn.Module]:
    """Return the class OneResolution (torch.nn.Module), created on first use.

    Its parameters are the number of channels, timm's `in_chans` and `num_classes`, and the parts: the stem, the blocks,
    and the norm of the mean over positions, if there is one.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> model = base_class()(8, in_chans=1, num_classes=3, stem=nn.Conv2d(1, 8, 4, 4), blocks=[nn.ReLU()])
    >>> model(torch.zeros(5, 1, 16, 16)).shape, model.forward_features(torch.zeros(5, 1, 16, 16)).shape
    (torch.Size([5, 3]), torch.Size([5, 8, 4, 4]))
    """
    from timm.layers.adaptive_avgmax_pool import SelectAdaptivePool2d
    from torch import Tensor, nn

    class OneResolution(nn.Module):
        """Stem, blocks at one resolution, mean over positions, norm, linear classifier."""

        def __init__(
            self,
            width: int,
            *,
            in_chans: int,
            num_classes: int,
            stem: nn.Module,
            blocks: Iterable[nn.Module],
            norm: nn.Module | None = None,
        ) -> None:
            super().__init__()
            self.num_features, self.in_chans = width, in_chans
            self.stem = stem
            self.blocks = nn.Sequential(*blocks)
            self.global_pool = SelectAdaptivePool2d(pool_type="avg", flatten=True)
            self.norm = nn.Identity() if norm is None else norm
            self.reset_classifier(num_classes)

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


def drop_rates(rate: float, layers: int) -> list[float]:
    """Return each block's rate of stochastic depth: rising linearly from 0 to `rate`.

    Examples
    --------
    >>> drop_rates(0.2, 3), drop_rates(0.2, 1)
    ([0.0, 0.1, 0.2], [0.0])
    """
    return [rate * i / max(1, layers - 1) for i in range(layers)]
