"""Copy arrays to the device of a tensor (torch inside functions)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch


def to_device(values: Any, like: torch.Tensor) -> torch.Tensor:
    """Copy an array to the device of `like` without waiting for the device."""
    import torch

    tensor = torch.from_numpy(np.ascontiguousarray(values))
    if like.device.type == "cuda":
        return tensor.pin_memory().to(like.device, non_blocking=True)
    return tensor.to(like.device)
