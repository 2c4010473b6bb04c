"""Everything random of one training batch, drawn on the host before its images are known.

All of it is a function of the recipe, the seed and the step's number, and it is drawn for the whole batch, in one
order. A process that computes only some of the batch's rows draws the same and keeps its rows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from mkfa.array_types import I64
from mkfa.images import augment, rand_augment
from mkfa.training.recipe import Recipe

_STREAM = 2
"""Separates a step's random stream from that of the epoch's image order (1)."""


@dataclass(frozen=True, slots=True)
class Draws:
    """What is drawn for a batch of `count` images: numpy arrays, or tensors once it is on a device.

    Attributes
    ----------
    seed : of the device's generator, from which erasing noise and then stochastic depth are drawn for the whole batch.
    count : images of the whole batch.
    rows : (B,) int64 or None
        The rows of the batch that are kept (`of_rows`), to which everything below belongs; None: all.
    crops, shifts : how images are cut or shifted, and mirrored; one of them at most.
    operations : RandAugment's passes; None: the recipe has none.
    erased : rectangles of noise; None: the recipe has none.
    mix : one draw for the batch; None: the recipe has none.
    """

    seed: int
    count: int
    crops: augment.Crops | None
    shifts: augment.Shifts | None
    operations: tuple[rand_augment.Pass, ...] | None
    erased: augment.Erased | None
    mix: augment.Mix | None
    rows: I64 | None = None

    def of_rows(self, rows: I64) -> Draws:
        """Return what was drawn for these rows of the whole batch, (B,) int64.

        Image i is mixed with image count - 1 - i, so that rows must contain both, one at i and the other at B - 1 - i.
        """
        return replace(
            self,
            rows=rows,
            crops=self.crops and self.crops.of_rows(rows),
            shifts=self.shifts and self.shifts.of_rows(rows),
            operations=self.operations and rand_augment.passes_of_rows(self.operations, rows),
            erased=self.erased and self.erased.of_rows(rows),
        )


def draw(recipe: Recipe, *, seed: int, number: int, count: int, side: int, flip: float) -> Draws:
    """Draw for step `number` of a run with this seed.

    Parameters
    ----------
    count : images in the batch.
    side : size of the images that the network sees, pixels.
    flip : probability of a mirror image; see `mkfa.images.augment.effective_flip`.

    Examples
    --------
    >>> from mkfa.training.recipe import load_recipe
    >>> paper = load_recipe("paper")
    >>> drawn = draw(paper, seed=0, number=7, count=8, side=224, flip=0.5)
    >>> drawn.crops.mirrored.shape, drawn.of_rows(np.array([1, 6])).crops.mirrored.shape
    ((8,), (2,))
    """
    rng = np.random.default_rng([seed, _STREAM, number])
    of_device = int(rng.integers(2**63))
    crops = shifts = operations = None
    if recipe.crop == "resized":
        crops = augment.draw_flipped_crops(rng, count, flip=flip)
    else:
        shift = round(recipe.shift * side) if recipe.crop == "shift" else 0
        shifts = augment.draw_shifts(rng, count, shift=shift, flip=flip)
    if recipe.rand_augment:
        operations = rand_augment.draw_operations(rng, count, notation=recipe.rand_augment)
    erased = augment.draw_erased(rng, count, side, probability=recipe.erasing)
    mix = augment.draw_mix(rng, side, mixup=recipe.mixup, cutmix=recipe.cutmix)
    return Draws(of_device, count, crops, shifts, operations, erased, mix)
