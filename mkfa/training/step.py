"""One optimiser step: batch, augmentation, loss, gradient, update."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mkfa.images import augment
from mkfa.training.batches import Side
from mkfa.training.device import Resolved, seed_generators
from mkfa.training.optimizer import lr_at, set_lr
from mkfa.training.recipe import Recipe

if TYPE_CHECKING:
    import torch

_STREAM = 2
"""Separates a step's random stream from that of the epoch's image order (1)."""


class Step:
    """Callable as `step(number, index)`: does one update and returns the loss as a device tensor, without waiting.

    All randomness is seeded by (seed, number): host draws come from a numpy generator, device draws (drop path, erasing
    noise) from torch's generator.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
        images: Side,
        *,
        recipe: Recipe,
        domain: str,
        seed: int,
        steps: int,
        how: Resolved,
    ) -> None:
        import torch

        self.optimizer, self.images, self.recipe = optimizer, images, recipe
        self.seed, self.steps, self.how = seed, steps, how
        self.flip = augment.effective_flip(recipe.flip, domain)
        self.shift = round(recipe.shift * images.side) if recipe.crop == "shift" else 0
        self.trained = [p for p in model.parameters() if p.requires_grad]
        self.forward: Any = torch.compile(model, dynamic=False) if how.compile else model
        self.classes = _outputs(model)
        self.lr = 0.0

    def __call__(self, number: int, index: torch.Tensor) -> torch.Tensor:
        """Train on the images of these rows, (B,) int64, on the device of the labels."""
        import torch

        rng = np.random.default_rng([self.seed, _STREAM, number])
        seed_generators(self.images.device, int(rng.integers(2**63)))
        x, target = self.batch(rng, index)
        self.lr = lr_at(number, self.recipe, steps=self.steps)
        set_lr(self.optimizer, self.lr)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.how.amp):
            logits = self.forward(x)
        loss = -(target * logits.float().log_softmax(1)).sum(1).mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if self.recipe.clip:
            torch.nn.utils.clip_grad_norm_(self.trained, self.recipe.clip)
        self.optimizer.step()
        done: torch.Tensor = loss.detach()
        return done

    def batch(self, rng: np.random.Generator, index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return augmented images, (B, C, H, W) float32, and targets, (B, classes) float32."""
        from timm.data import mixup

        if self.recipe.crop == "resized":
            x = augment.crop_and_flip(
                self.images.whole(index),
                rng,
                flip=self.flip,
                size=self.images.side,
                extents=self.images.extents_of(index),
                interpolation=self.recipe.interpolation,
            )
        else:
            x = augment.shift_and_flip(self.images.take(index), rng, shift=self.shift, flip=self.flip)
        if self.recipe.rand_augment:
            from mkfa.images.rand_augment import rand_augment

            x = rand_augment(x, rng, notation=self.recipe.rand_augment)
        x = augment.erase(self.images.normalise(x), rng, probability=self.recipe.erasing)
        x, share = augment.mix(x, rng, mixup=self.recipe.mixup, cutmix=self.recipe.cutmix)
        labels = self.images.labels_of(index)
        make_target: Any = mixup.mixup_target
        return x, make_target(labels, self.classes, share, self.recipe.label_smoothing)


def _outputs(model: torch.nn.Module) -> int:
    count: int = model.num_classes  # type: ignore[assignment]
    return count
