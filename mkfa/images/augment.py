"""Per-sample augmentation of a batch on the device, vectorised over samples.

Random numbers come from numpy generators on the host, seeded by (run, step). So the host never waits for the device,
results do not depend on the device's generator, and a resumed run needs no generator state. Each augmentation is a pair
of functions: one draws for a whole batch without its images, the other applies what was drawn to the images. What was
drawn has a method `of_rows`, which selects rows of the batch.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

from mkfa.array_types import F32, I64, BoolArray
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

    def of_rows(self, rows: I64) -> Boxes:
        """Return the rectangles of these samples."""
        return Boxes(self.top[rows], self.left[rows], self.height[rows], self.width[rows])


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


@dataclass(frozen=True, slots=True)
class Shifts:
    """Pixels down and to the right, (B,) int64 each, and which images are mirrored, (B,) bool."""

    down: I64
    right: I64
    mirrored: BoolArray

    def of_rows(self, rows: I64) -> Shifts:
        """Return what was drawn for these rows of the batch."""
        return Shifts(self.down[rows], self.right[rows], self.mirrored[rows])


def draw_shifts(rng: np.random.Generator, count: int, *, shift: int, flip: float) -> Shifts | None:
    """Draw shifts of up to `shift` pixels and, with probability `flip`, a mirror image; None if there are neither."""
    if not shift and not flip:
        return None
    down = rng.integers(-shift, shift + 1, count)
    right = rng.integers(-shift, shift + 1, count)
    return Shifts(down, right, rng.random(count) < flip)


def shift_and_flip(x: torch.Tensor, shifts: Shifts | None) -> torch.Tensor:
    """Shift each image, repeating border pixels, and mirror some; (B, C, H, W)."""
    import torch

    if shifts is None:
        return x
    count, _, height, width = x.shape
    down, right, mirrored = (to_device(drawn, x)[:, None] for drawn in (shifts.down, shifts.right, shifts.mirrored))
    rows = (torch.arange(height, device=x.device) + down).clamp(0, height - 1)
    columns = (torch.arange(width, device=x.device) + right).clamp(0, width - 1)
    at_row = rows.view(count, 1, height, 1)
    at_column = torch.where(mirrored, columns.flip(1), columns).view(count, 1, 1, width)
    sample = torch.arange(count, device=x.device).view(count, 1, 1, 1)
    channel = torch.arange(x.shape[1], device=x.device).view(1, -1, 1, 1)
    return x[sample, channel, at_row, at_column]  # (B, C, H, W)


@dataclass(frozen=True, slots=True)
class Crops:
    """Numbers that place crops in images of any size (`mkfa.images.resample.draw_crops`), and which are mirrored."""

    drawn: F32
    mirrored: BoolArray

    def of_rows(self, rows: I64) -> Crops:
        """Return what was drawn for these rows of the batch."""
        return Crops(self.drawn[:, rows], self.mirrored[rows])


def draw_flipped_crops(rng: np.random.Generator, count: int, *, flip: float) -> Crops:
    """Draw crops and, with probability `flip`, a mirror image."""
    from mkfa.images.resample import draw_crops

    return Crops(draw_crops(rng, count), rng.random(count) < flip)


def crop_and_flip(
    x: torch.Tensor, crops: Crops, *, size: int = 0, extents: torch.Tensor | None = None, interpolation: str = "bicubic"
) -> torch.Tensor:
    """Crop each image, scale the crop and flip some, as timm's RandomResizedCrop with Pillow does.

    Parameters
    ----------
    x : (B, C, H, W), uint8 or float, 0-255
    crops : from `draw_flipped_crops`, for B images.
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

    from mkfa.images.resample import place_crops, scale_boxes

    count, _, height, width = x.shape
    if extents is None:
        full = torch.ones(count, device=x.device)
        box = place_crops(crops.drawn, full * height, full * width)
    else:
        box = place_crops(crops.drawn, extents[:, 0].float(), extents[:, 1].float())
    cut = scale_boxes(x, box, size or height, interpolation=interpolation)
    if extents is not None:
        cut = torch.where(extents[:, 2].view(-1, 1, 1, 1) > 0, cut.transpose(2, 3), cut)
    mirrored = to_device(crops.mirrored, x).view(-1, 1, 1, 1)
    return torch.where(mirrored, cut.flip(3), cut).contiguous(memory_format=torch.channels_last)


@dataclass(frozen=True, slots=True)
class Erased:
    """Rectangles that are filled with noise, in some images of a batch.

    Attributes
    ----------
    images : (K,) int64
        Rows of the batch.
    boxes : their rectangles, K.
    noise : (K,) int64
        Which of the `drawn` images of noise each of them gets.
    drawn : how many images of noise are drawn: one for each erased image of the whole batch.
    """

    images: I64
    boxes: Boxes
    noise: I64
    drawn: int

    def of_rows(self, rows: I64) -> Erased:
        """Return the rectangles in these rows of the batch; images are then numbered within these rows."""
        kept, images = places(self.images, rows)
        return Erased(images, self.boxes.of_rows(kept), self.noise[kept], self.drawn)


def draw_erased(rng: np.random.Generator, count: int, side: int, *, probability: float) -> Erased | None:
    """Draw which of `count` square images are erased, and where, as in timm's RandomErasing; None at probability 0."""
    if not probability:
        return None
    boxes = draw_boxes(rng, count, side, area=ERASED_AREA, aspect=ERASED_ASPECT)
    images = np.flatnonzero(boxes.height * (rng.random(count) < probability))
    return Erased(images, boxes.of_rows(images), np.arange(len(images)), len(images))


def erase(x: torch.Tensor, erased: Erased | None) -> torch.Tensor:
    """Fill rectangles of some normalised images with unit normal noise, as in timm's RandomErasing (mode "pixel").

    The noise comes from the generator of the device. Writes into `x` and returns it.
    """
    import torch

    if erased is None or not erased.drawn:
        return x
    _, channels, side, _ = x.shape
    images = to_device(erased.images, x)
    part = x.index_select(0, images)
    noise = torch.randn((erased.drawn, channels, side, side), device=x.device)
    if len(erased.noise) < erased.drawn:
        noise = noise.index_select(0, to_device(erased.noise, x))
    line, box = torch.arange(side, device=x.device), erased.boxes
    top, left, height, width = (to_device(n, x)[:, None] for n in (box.top, box.left, box.height, box.width))
    rows, columns = (line >= top) & (line < top + height), (line >= left) & (line < left + width)
    mask = rows[:, None, :, None] & columns[:, None, None, :]
    return x.index_copy_(0, images, torch.where(mask, noise, part))


def places(images: I64, rows: I64) -> tuple[I64, I64]:
    """Return which of `images` are among `rows`, and the place of each of these in `rows`; both (K,) int64.

    Examples
    --------
    >>> kept, where = places(np.array([2, 5, 7]), np.array([7, 0, 2]))
    >>> kept.tolist(), where.tolist()
    ([0, 2], [2, 0])
    """
    order = np.argsort(rows)
    at = np.minimum(np.searchsorted(rows, images, sorter=order), len(rows) - 1)
    where = order[at]
    kept = np.flatnonzero(rows[where] == images)
    return kept, where[kept]


@dataclass(frozen=True, slots=True)
class Mix:
    """How each image of a batch is mixed with its counterpart in the reversed batch.

    Attributes
    ----------
    share : share of the image itself, 0-1.
    box : (top, bottom, left, right) in pixels, which comes from the counterpart (CutMix); None: a mean (Mixup).
    """

    share: float
    box: tuple[int, int, int, int] | None = None


def draw_mix(rng: np.random.Generator, side: int, *, mixup: float, cutmix: float) -> Mix | None:
    """Draw how a batch of square images is mixed; None if it is not.

    This is timm's Mixup in mode "batch" with probability 1 and switch probability 0.5: one draw per batch, and the
    share of a cut rectangle is corrected for the part outside the image.
    """
    if not mixup and not cutmix:
        return None
    cut = bool(cutmix) and (not mixup or rng.random() < 0.5)
    share = float(rng.beta(cutmix, cutmix) if cut else rng.beta(mixup, mixup))
    if not cut:
        return Mix(share)
    length = int(side * math.sqrt(1 - share))
    row, column = int(rng.integers(0, side)), int(rng.integers(0, side))
    top, bottom = max(row - length // 2, 0), min(row + (length + 1) // 2, side)
    left, right = max(column - length // 2, 0), min(column + (length + 1) // 2, side)
    return Mix(1 - (bottom - top) * (right - left) / (side * side), (top, bottom, left, right))


def mix(x: torch.Tensor, drawn: Mix | None) -> torch.Tensor:
    """Mix each image of a batch with its counterpart in the reversed batch."""
    if drawn is None:
        return x
    if drawn.box is None:
        return x * drawn.share + x.flip(0) * (1 - drawn.share)
    top, bottom, left, right = drawn.box
    mixed = x.clone()
    mixed[:, :, top:bottom, left:right] = x.flip(0)[:, :, top:bottom, left:right]
    return mixed


def effective_flip(flip: float, domain: str) -> float:
    """Return the flip probability for a domain: `flip`, or 0 if left and right are meaningful."""
    return 0.0 if domain in DIRECTED else flip
