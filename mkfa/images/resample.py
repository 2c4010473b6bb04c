"""Cut a random rectangle out of each image and scale it, on the device (torch inside functions).

Scaling is Pillow's: a convolution with a cubic (a = -0.5) or a triangle, which is widened when the image is made
smaller and uses no pixels beyond the rectangle. It is computed as two matrix products per image.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mkfa.array_types import F32

if TYPE_CHECKING:
    import torch

CROPPED_AREA = (0.08, 1.0)
CROPPED_ASPECT = (3 / 4, 4 / 3)
ATTEMPTS = 10
INTERPOLATIONS = ("bicubic", "bilinear")
_CHUNK = 64
"""Images scaled at a time, so that the matrices need little memory."""


class CropBoxes(NamedTuple):
    """Rectangles, one per sample: first row and column, height and width, each (B,) float32 of whole numbers."""

    top: torch.Tensor
    left: torch.Tensor
    height: torch.Tensor
    width: torch.Tensor


def draw_crops(rng: np.random.Generator, count: int) -> F32:
    """Draw Inception-style crops as in timm's RandomResizedCrop, for images of any size.

    Returns
    -------
    (2 * ATTEMPTS + 2, count) float32
        Areas, uniform in `CROPPED_AREA` (share of the image); aspects (width / height), log-uniform in
        `CROPPED_ASPECT`; and the place, a share (0-1) of what is left above and to the left.
    """
    low, high = (math.log(bound) for bound in CROPPED_ASPECT)
    shares = rng.uniform(*CROPPED_AREA, (ATTEMPTS, count))
    ratios = np.exp(rng.uniform(low, high, (ATTEMPTS, count)))
    return np.concatenate([shares, ratios, rng.random((2, count))]).astype(np.float32)


def place_crops(crops: F32 | torch.Tensor, height: torch.Tensor, width: torch.Tensor) -> CropBoxes:
    """Place the crops that `draw_crops` drew in images of these sizes; nothing waits for the device.

    Each sample gets the first of its ten rectangles that fits; if none does, its centre in the nearest aspect ratio.

    Parameters
    ----------
    height, width : (B,) float32
        Of the images, pixels.
    """
    import torch

    from mkfa.images.upload import to_device

    drawn = to_device(crops, height)
    area, ratio, place = drawn[:ATTEMPTS] * height * width, drawn[ATTEMPTS:-2], drawn[-2:]
    wide, tall = (area * ratio).sqrt().round(), (area / ratio).sqrt().round()
    fits = (wide <= width) & (tall <= height)
    first = fits.int().argmax(0, keepdim=True)
    fitted = fits.any(0)
    aspect = width / height
    least, most = CROPPED_ASPECT
    else_wide = torch.where(aspect > most, (height * most).round(), width)
    else_high = torch.where(aspect < least, (width / least).round(), height)
    wide = torch.where(fitted, wide.gather(0, first)[0], else_wide)
    tall = torch.where(fitted, tall.gather(0, first)[0], else_high)
    top = torch.where(fitted, (place[0] * (height - tall + 1)).floor(), ((height - tall) / 2).floor())
    left = torch.where(fitted, (place[1] * (width - wide + 1)).floor(), ((width - wide) / 2).floor())
    # A share just below 1 may be rounded up to 1.
    return CropBoxes(torch.minimum(top, height - tall), torch.minimum(left, width - wide), tall, wide)


def scale_boxes(x: torch.Tensor, box: CropBoxes, size: int, *, interpolation: str = "bicubic") -> torch.Tensor:
    """Cut a rectangle out of each image and scale it to size x size; values are rounded, 0-255.

    Parameters
    ----------
    x : (B, C, H, W), uint8 or float
    interpolation : one of `INTERPOLATIONS`.

    Returns
    -------
    (B, C, size, size) float32

    Examples
    --------
    >>> import torch
    >>> x = torch.arange(16.0).view(1, 1, 4, 4)
    >>> one = torch.ones(1)
    >>> scale_boxes(x, CropBoxes(one, 2 * one, 2 * one, 2 * one), 2)[0, 0].tolist()
    [[6.0, 7.0], [10.0, 11.0]]
    """
    import torch

    parts = []
    for start in range(0, len(x), _CHUNK):
        part = slice(start, start + _CHUNK)
        down = _weights(box.top[part], box.height[part], x.shape[2], size, interpolation)
        across = _weights(box.left[part], box.width[part], x.shape[3], size, interpolation)
        rows = x[part].float() @ across.transpose(1, 2)[:, None]  # (B, C, H, size)
        parts.append(down[:, None] @ rows)
    return torch.cat(parts).clamp_(0, 255).round_()


def _weights(start: torch.Tensor, length: torch.Tensor, pixels: int, size: int, interpolation: str) -> torch.Tensor:
    """Return the weight of each pixel of a line in each pixel of the scaled line, (B, size, pixels) float32."""
    import torch

    start, length = start.view(-1, 1, 1), length.view(-1, 1, 1)
    step = length / size
    wide = step.clamp(min=1)
    centre = start + (torch.arange(size, device=start.device).view(1, -1, 1) + 0.5) * step
    pixel = torch.arange(pixels, device=start.device).view(1, 1, -1) + 0.5
    away = ((pixel - centre) / wide).abs()
    if interpolation == "bicubic":
        near = (1.5 * away - 2.5) * away * away + 1
        far = ((-0.5 * away + 2.5) * away - 4) * away + 2
        weight = torch.where(away < 1, near, torch.where(away < 2, far, 0))
    else:
        weight = (1 - away).clamp(min=0)
    inside = (pixel > start) & (pixel < start + length)
    weight = weight * inside
    return weight / weight.sum(2, keepdim=True)
