"""One optimiser step in three parts: draw on the host, augment on the device, compute.

`draw` makes everything random that the host draws, for the whole batch, without its images; `draw_ahead` does so for
the steps of an epoch and copies all of it to the device at once. `augment` takes images and draws to a `Batch`; it
draws erasing noise and stochastic depth from the device's generator, which it seeds. `compute` does the forward and the
backward pass and the update: it draws nothing, and all its tensors have the same shapes in every step.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mkfa.array_types import I64
from mkfa.errors import MkfaError
from mkfa.images import augment
from mkfa.images.upload import all_to_device, to_device
from mkfa.networks.drop_path import give_drop_paths
from mkfa.training.batches import Side
from mkfa.training.device import Resolved, seed_generators
from mkfa.training.draws import Draws, draw
from mkfa.training.optimizer import lr_at, set_lr
from mkfa.training.ranks import ALONE, Ranks
from mkfa.training.recipe import Recipe

if TYPE_CHECKING:
    import torch

DRAWN_AT_ONCE = 65_536
"""Images for which is drawn at a time, in whole batches: an epoch of most data sets. The draws of the recipe `paper`
take 120 bytes and 2.9 microseconds an image in batches of 1024. So this takes 8 MB and 0.2 s, in which no step begins
and no request to stop is answered; an epoch of ImageNet would take 150 MB and 4 s."""


@dataclass(frozen=True, slots=True)
class Batch:
    """What a step computes with, on the device.

    Attributes
    ----------
    images : (B, C, H, W) float32, augmented
    targets : (B, classes) float32
    drop_path : (calls, B) float32 or None
        Factors of stochastic depth (`mkfa.networks.drop_path.DropPaths`); None if the network has none.
    """

    images: torch.Tensor
    targets: torch.Tensor
    drop_path: torch.Tensor | None


class Step:
    """Callable as `step(number, index)`: does one update and returns the loss as a device tensor, without waiting.

    All randomness is seeded by (seed, number). The call is `compute(augment(index, draw(number, B)))` with the learning
    rate of the step's number. Where several processes share a run, each does this for its rows of the batch, and the
    loss is its part of the mean. A run draws ahead, and calls `compute(prepare(number, *drawn))`.
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
        ranks: Ranks = ALONE,
    ) -> None:
        import torch

        self.model, self.optimizer, self.images, self.recipe = model, optimizer, images, recipe
        self.seed, self.steps, self.how = seed, steps, how
        self.flip = augment.effective_flip(recipe.flip, domain)
        self.trained = [p for p in model.parameters() if p.requires_grad]
        self.drop_paths = give_drop_paths(model, (images.mean.shape[1], images.side, images.side))
        self.ranks, self.count = ranks, min(recipe.batch, len(images))
        shared = self._shared(model) if ranks.world > 1 else model
        self.forward: Any = torch.compile(shared, dynamic=False) if how.compile else shared
        self.classes = _outputs(model)
        self.lr = 0.0

    def __call__(self, number: int, index: torch.Tensor) -> torch.Tensor:
        """Train on the images of these rows, (B,) int64, on the device of the labels; for a run of one process."""
        draws = all_to_device(self.draw(number, len(index)), self.images.mean)
        return self.compute(self.prepare(number, index, draws))

    def draw_ahead(self, first: int, batches: Sequence[I64]) -> Iterator[tuple[torch.Tensor, Draws]]:
        """Draw for the steps from `first` on, whose batches have these rows, (B,) int64 on the host.

        Yields
        ------
        (torch.Tensor, Draws)
            What `prepare` needs for each step: this process's rows, on the device of the labels, and what was drawn for
            them, on the device. Up to `DRAWN_AT_ONCE` images go there in one copy.
        """
        import torch

        on_device = self.images.labels.device == self.images.device
        count = max(1, DRAWN_AT_ONCE // max(1, len(batches[0])))
        for start in range(0, len(batches), count):
            drawn: list[tuple[Any, Draws]] = []
            for number, rows in enumerate(batches[start : start + count], first + start):
                draws = self.draw(number, len(rows))
                if self.ranks.world > 1:
                    kept = self.ranks.rows(len(rows))
                    rows, draws = rows[kept], draws.of_rows(kept)
                drawn.append((rows if on_device else torch.from_numpy(rows), draws))
            yield from all_to_device(tuple(drawn), self.images.mean)

    def prepare(self, number: int, index: torch.Tensor, draws: Draws) -> Batch:
        """Return the batch of step `number` from what was drawn, and set the learning rate; changes no weights."""
        batch = self.augment(index, draws)
        self.lr = lr_at(number, self.recipe, steps=self.steps)
        set_lr(self.optimizer, self.lr)
        return batch

    def _shared(self, model: torch.nn.Module) -> torch.nn.Module:
        """Return a network whose gradients and batch statistics are those of all processes."""
        from torch.nn.parallel import DistributedDataParallel

        from mkfa.networks.batch_norm import share_batch_norms

        name = type(model).__name__
        if self.drop_paths is None:
            problem = "has stochastic depth that cannot be drawn for a batch shared by processes"
            raise MkfaError(name, problem, "train it in one process, or set drop_path to 0 in the recipe")
        share_batch_norms(model, name, self.ranks.group)
        return DistributedDataParallel(model, process_group=self.ranks.group, broadcast_buffers=False)

    def draw(self, number: int, count: int) -> Draws:
        """Draw for a batch of `count` images in step `number`; on the host."""
        return draw(self.recipe, seed=self.seed, number=number, count=count, side=self.images.side, flip=self.flip)

    def augment(self, index: torch.Tensor, draws: Draws) -> Batch:
        """Take the images of these rows, (B,) int64, for which `draws` were made, and augment them on the device."""
        from timm.data import mixup

        from mkfa.images.rand_augment import rand_augment

        device = self.images.device
        seed_generators(device, draws.seed)
        if draws.crops is not None:
            x = augment.crop_and_flip(
                self.images.whole(index),
                draws.crops,
                size=self.images.side,
                extents=self.images.extents_of(index),
                interpolation=self.recipe.interpolation,
            )
        else:
            x = augment.shift_and_flip(self.images.take(index), draws.shifts)
        if draws.operations is not None:
            x = rand_augment(x, draws.operations)
        x = augment.erase(self.images.normalise(x), draws.erased)
        x = augment.mix(x, draws.mix)
        make_target: Any = mixup.mixup_target
        share = 1.0 if draws.mix is None else draws.mix.share
        targets = make_target(self.images.labels_of(index), self.classes, share, self.recipe.label_smoothing)
        factors = self.drop_paths.draw(draws.count, device) if self.drop_paths is not None else None
        if factors is not None and draws.rows is not None:
            factors = factors.index_select(1, to_device(draws.rows, factors))
        return Batch(x, targets, factors)

    def compute(self, batch: Batch) -> torch.Tensor:
        """Do one update with a batch, at the optimiser's learning rate, and return the loss; () float32."""
        import torch

        if self.drop_paths is not None:
            self.drop_paths.use(batch.drop_path)
        with torch.autocast(batch.images.device.type, torch.bfloat16, enabled=self.how.amp):
            logits = self.forward(batch.images)
        losses = -(batch.targets * logits.float().log_softmax(1)).sum(1)
        loss = losses.mean() if self.ranks.world == 1 else losses.sum() / self.count
        self.optimizer.zero_grad(set_to_none=True)
        (loss * self.ranks.world if self.ranks.world > 1 else loss).backward()  # gradients of ranks are averaged
        self.update()
        done: torch.Tensor = loss.detach()
        return done

    def update(self) -> None:
        """Update the weights with their gradients, clipped if the recipe says so."""
        import torch

        if self.recipe.clip:
            torch.nn.utils.clip_grad_norm_(self.trained, self.recipe.clip)
        self.optimizer.step()


def _outputs(model: torch.nn.Module) -> int:
    count: int = model.num_classes  # type: ignore[assignment]
    return count
