"""Sizes at which images are packed."""

from __future__ import annotations

from dataclasses import dataclass

from mkfa.errors import MkfaError

ASPECT = 1.5
"""Longer side over shorter side of the rows into which images for training crops are packed: that of most photographs.
Longer images are made smaller until they fit."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """Sizes of packed images, pixels.

    Attributes
    ----------
    size : side of the square images.
    crop_from : 0: training images are squares of `size`. Otherwise they are packed whole, and made smaller (Lanczos)
        only where their shorter side exceeds this.
    eval_size : int
        0: the shorter side of test images is scaled to `size`. Otherwise it is scaled to this, and the central square
        of `size` is cut out.
    """

    size: int
    crop_from: int = 0
    eval_size: int = 0

    def __post_init__(self) -> None:
        if self.size < 1:
            raise MkfaError("--size", f"is {self.size}", "choose 1 or more")
        if self.crop_from < 0:
            raise MkfaError("--crop-from", f"is {self.crop_from}", "choose 1 or more, or 0 for squares")
        if self.eval_size and self.eval_size < self.size:
            raise MkfaError("--eval-size", f"is {self.eval_size}", f"choose {self.size} or more, or 0")


def fit_size(width: int, height: int, crop_from: int) -> tuple[int, int]:
    """Return the width and height at which an image is packed for training crops; never larger than it is.

    Examples
    --------
    >>> fit_size(640, 427, 448), fit_size(640, 427, 320), fit_size(1000, 300, 320), fit_size(32, 32, 448)
    ((640, 427), (480, 320), (480, 144), (32, 32))
    """
    short, long = sorted((width, height))
    scale = min(1.0, crop_from / short, round(ASPECT * crop_from) / long)
    return max(1, round(width * scale)), max(1, round(height * scale))
