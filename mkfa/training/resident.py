"""A domain on the device as bytes, and batches of it by index: no loader, no workers (layer 3)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mkfa.training.contract import Domain
from mkfa.training.recipe import Recipe

if TYPE_CHECKING:
    import torch

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_SHARE = 0.8
"""Of a GPU's free memory that images may take; larger sets stay on the host and are copied batch by batch."""


@dataclass(frozen=True, slots=True)
class Resident:
    """One side of a domain as tensors.

    Attributes
    ----------
    images : (N, H, W, C) uint8, on the device, or on the host where the device has no room.
    labels : (N,) int64, on the device.
    mean, scale : (1, C, 1, 1) float32 on the device, in units of the stored bytes.
    side : int
        To which the images are scaled; their own or the recipe's.
    channels_last : bool
    """

    images: torch.Tensor
    labels: torch.Tensor
    mean: torch.Tensor
    scale: torch.Tensor
    side: int
    channels_last: bool

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index: torch.Tensor) -> torch.Tensor:
        """Return the images of these rows (on the device), 0-255; (B, C, side, side), uint8 or float32 if scaled."""
        import torch
        import torch.nn.functional as functional

        at_home = index if self.images.device == index.device else index.to(self.images.device)
        x = self.images.index_select(0, at_home).to(self.labels.device, non_blocking=True)
        x = x.permute(0, 3, 1, 2)  # (B, C, H, W), channels last in memory
        if x.shape[-1] != self.side:
            x = functional.interpolate(x.float(), (self.side, self.side), mode="bicubic", antialias=True)
            x = x.clamp_(0, 255).contiguous(memory_format=torch.channels_last)
        return x

    def normalise(self, x: torch.Tensor) -> torch.Tensor:
        """Return images as float32 of zero mean and unit deviation in the memory format that was chosen."""
        import torch

        x = (x.float() - self.mean) * self.scale
        return x.contiguous(memory_format=torch.channels_last if self.channels_last else torch.contiguous_format)


def place(domain: Domain, recipe: Recipe, *, device: torch.device, channels_last: bool) -> tuple[Resident, Resident]:
    """Return the training and the test side of a domain on the device."""
    import torch

    mean, std = channel_statistics(domain, recipe)
    fits = True
    if device.type == "cuda":
        fits = domain.x_train.nbytes + domain.x_test.nbytes < _SHARE * torch.cuda.mem_get_info(device)[0]

    def side(x: NDArray[Any], y: NDArray[Any]) -> Resident:
        images = torch.from_numpy(np.array(x)) if fits else torch.from_numpy(x)
        return Resident(
            images=images.to(device) if fits else images,
            labels=torch.from_numpy(np.array(y, np.int64)).to(device),
            mean=_column(mean * 255, device),
            scale=_column(1 / (std * 255), device),
            side=recipe.size or domain.size,
            channels_last=channels_last,
        )

    return side(domain.x_train, domain.y_train), side(domain.x_test, domain.y_test)


def channel_statistics(domain: Domain, recipe: Recipe) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and deviation of each channel, in units of full scale; (C,), (C,).

    For gray images, ImageNet's are the mean over its three channels. Sums are of integers: exact, on any machine.
    """
    if recipe.normalise == "imagenet":
        mean, std = np.array(IMAGENET_MEAN), np.array(IMAGENET_STD)
        return (mean, std) if domain.channels == 3 else (mean.mean(keepdims=True), std.mean(keepdims=True))
    counts = np.zeros((domain.channels, 256))
    for start in range(0, len(domain.x_train), 4096):
        part = domain.x_train[start : start + 4096]
        for c in range(domain.channels):
            counts[c] += np.bincount(part[..., c].ravel(), minlength=256)
    share, value = counts / counts.sum(1, keepdims=True), np.arange(256) / 255
    mean = share @ value
    std = np.sqrt(np.maximum(share @ value**2 - mean**2, 0))
    return mean, np.maximum(std, 1 / 255)


def _column(values: NDArray[np.float64], device: torch.device) -> torch.Tensor:
    import torch

    return torch.tensor(values, dtype=torch.float32).view(1, -1, 1, 1).to(device)
