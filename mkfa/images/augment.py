"""Per-sample augmentation of a batch on the device, vectorised over samples.

Random numbers come from numpy generators on the host, seeded by (run, step). So the host never waits for the device,
results do not depend on the device's generator, and a resumed run needs no generator state.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

from mkfa.array_types import I64
from mkfa.images.upload import to_device

DIRECTED = frozenset({"letters", "digits", "scripts"})
"""Domains in which a mirror image changes or loses its meaning; never flipped."""

ERASED_AREA = (0.02, 1 / 3)
ERASED_ASPECT = (0.3, 1 / 0.3)
ATTEMPTS = 10


@dataclass(frozen=True, slots=True)
class Boxes:
    """Rectangles, one per sample: first row and column, height and width, each (B,) int64; height 0 for none."""

    top: I64
    left: I64
    height: I64
    width: I64


def draw_boxes(
    rng: np.random.Generator, count: int, side: int, *, area: tuple[float, float], aspect: tuple[float, float]
) -> Boxes:
    """Draw rectangles strictly smaller than the image by the rejection rule of timm's RandomErasing.

    Area is uniform in `area` (share of the image), aspect (height / width) log-uniform. Each sample gets the first of
    ten drawn rectangles that fits, or none.
    """
    wanted = rng.uniform(*area, (ATTEMPTS, count)) * side * side
    ratio = np.exp(rng.uniform(math.log(aspect[0]), math.log(aspect[1]), (ATTEMPTS, count)))
    height = np.rint(np.sqrt(wanted * ratio)).astype(np.int64)
    width = np.rint(np.sqrt(wanted / ratio)).astype(np.int64)
    fits = (height < side) & (width < side)
    first, column = fits.argmax(0), np.arange(count)
    fitted = fits.any(0)
    height, width = height[first, column] * fitted, width[first, column] * fitted
    top = np.floor(rng.random(count) * (side - height + 1)).astype(np.int64)
    left = np.floor(rng.random(count) * (side - width + 1)).astype(np.int64)
    return Boxes(top, left, height, width)


def shift_and_flip(x: torch.Tensor, rng: np.random.Generator, *, shift: int, flip: float) -> torch.Tensor:
    """Randomly shift each image by up to `shift` pixels, repeating border pixels, and flip some; (B, C, H, W)."""
    import torch

    if not shift and not flip:
        return x
    count, _, height, width = x.shape
    down = rng.integers(-shift, shift + 1, count)
    right = rng.integers(-shift, shift + 1, count)
    mirrored = rng.random(count) < flip
    rows = np.clip(np.arange(height) + down[:, None], 0, height - 1)
    columns = np.clip(np.arange(width) + right[:, None], 0, width - 1)
    columns = np.where(mirrored[:, None], columns[:, ::-1], columns)
    at_row = to_device(rows, x).view(count, 1, height, 1)
    at_column = to_device(columns, x).view(count, 1, 1, width)
    sample = torch.arange(count, device=x.device).view(count, 1, 1, 1)
    channel = torch.arange(x.shape[1], device=x.device).view(1, -1, 1, 1)
    return x[sample, channel, at_row, at_column]  # (B, C, H, W)


def crop_and_flip(
    x: torch.Tensor,
    rng: np.random.Generator,
    *,
    flip: float,
    size: int = 0,
    extents: torch.Tensor | None = None,
    interpolation: str = "bicubic",
) -> torch.Tensor:
    """Crop each image at random, scale the crop and flip some, as timm's RandomResizedCrop with Pillow does.

    Parameters
    ----------
    x : (B, C, H, W), uint8 or float, 0-255
    flip : probability of a mirror image.
    size : side of the result, pixels; 0: the height of `x`.
    extents : (B, 3) int64 or None
        Height and width of each image, which lies in the upper left of its (H, W), and whether its rows and columns
        were exchanged (1), which is undone; None: images fill `x`.
    interpolation : "bicubic" or "bilinear".

    Returns
    -------
    (B, C, size, size) float32 of whole numbers
    """
    import torch

    from mkfa.images.resample import draw_crops, scale_boxes

    count, _, height, width = x.shape
    if extents is None:
        full = torch.ones(count, device=x.device)
        box = draw_crops(rng, full * height, full * width)
    else:
        box = draw_crops(rng, extents[:, 0].float(), extents[:, 1].float())
    cut = scale_boxes(x, box, size or height, interpolation=interpolation)
    if extents is not None:
        cut = torch.where(extents[:, 2].view(-1, 1, 1, 1) > 0, cut.transpose(2, 3), cut)
    mirrored = to_device(rng.random(count) < flip, x).view(-1, 1, 1, 1)
    return torch.where(mirrored, cut.flip(3), cut).contiguous(memory_format=torch.channels_last)


def erase(x: torch.Tensor, rng: np.random.Generator, *, probability: float) -> torch.Tensor:
    """Fill a rectangle of some normalised images with unit normal noise, as in timm's RandomErasing (mode "pixel").

    Writes into `x` and returns it.
    """
    import torch

    if not probability:
        return x
    count, _, side, _ = x.shape
    box = draw_boxes(rng, count, side, area=ERASED_AREA, aspect=ERASED_ASPECT)
    height = box.height * (rng.random(count) < probability)
    line = np.arange(side)
    rows = (line >= box.top[:, None]) & (line < (box.top + height)[:, None])
    columns = (line >= box.left[:, None]) & (line < (box.left + box.width)[:, None])
    chosen = np.flatnonzero(height)  # noise is drawn for these images only
    if not len(chosen):
        return x
    index = to_device(chosen, x)
    mask = to_device(rows[chosen], x)[:, None, :, None] & to_device(columns[chosen], x)[:, None, None, :]
    part = x.index_select(0, index)
    return x.index_copy_(0, index, torch.where(mask, torch.randn_like(part), part))


def mix(x: torch.Tensor, rng: np.random.Generator, *, mixup: float, cutmix: float) -> tuple[torch.Tensor, float]:
    """Mix each image of a batch with its counterpart in the reversed batch; return the images and the first's share.

    This is timm's Mixup in mode "batch" with probability 1 and switch probability 0.5: one draw per batch, and the
    share of a cut rectangle is corrected for the part outside the image.
    """
    if not mixup and not cutmix:
        return x, 1.0
    cut = bool(cutmix) and (not mixup or rng.random() < 0.5)
    share = float(rng.beta(cutmix, cutmix) if cut else rng.beta(mixup, mixup))
    if not cut:
        return x * share + x.flip(0) * (1 - share), share
    height, width = x.shape[-2:]
    ratio = math.sqrt(1 - share)
    tall, wide = int(height * ratio), int(width * ratio)
    row, column = int(rng.integers(0, height)), int(rng.integers(0, width))
    top, bottom = max(row - tall // 2, 0), min(row + (tall + 1) // 2, height)
    left, right = max(column - wide // 2, 0), min(column + (wide + 1) // 2, width)
    mixed = x.clone()
    mixed[:, :, top:bottom, left:right] = x.flip(0)[:, :, top:bottom, left:right]
    return mixed, 1 - (bottom - top) * (right - left) / (height * width)


def effective_flip(flip: float, domain: str) -> float:
    """Return the flip probability for a domain: `flip`, or 0 if left and right are meaningful."""
    return 0.0 if domain in DIRECTED else flip
