"""A step: its draws are those that runs on disk were trained with, and its parts do what they say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from mkfa.images.domain import Domain
from mkfa.training.device import Execution
from mkfa.training.folder import RunFolder
from mkfa.training.recipe import load_recipe
from mkfa.training.run import Run
from mkfa.training.spec import TRAINING_VERSION, RunSpec

PAPER = {"size": 32, "crop_from": 0, "eval_size": 0, "drop_path": 0.3, "warmup": 0.0}
"""Every augmentation, on small images."""
BATCH = 16


def blocks() -> Domain:
    """Return 64 training images of random squares in four classes."""
    rng = np.random.default_rng(7)
    y = np.arange(96) % 4
    x = rng.integers(0, 256, (96, 4, 4, 3), dtype=np.uint8).repeat(8, 1).repeat(8, 2)
    return Domain("made", tuple("abcd"), x[:64], y[:64], x[64:], y[64:], "made")


def begun(arch: str, name: str = "paper", changes: dict | None = None, **options: int) -> Run:
    changes = PAPER if changes is None else changes
    recipe = load_recipe(name, {"equal_steps": 40, "batch": BATCH, **changes})
    spec = RunSpec(arch, "made", "made", recipe.name, recipe.identity, 0, options=options)
    run = Run(RunFolder(Path("/nonexistent"), spec), blocks(), None, Execution(device="cpu", threads=1).resolved())
    run.model.train()
    return run


def order_of(run: Run) -> list[torch.Tensor]:
    """Return the rows of the batches of the first epoch."""
    return [torch.from_numpy(rows) for rows in run._epoch(0)]


@pytest.mark.parametrize(
    ("arch", "options", "name", "changes", "losses"),
    [
        ("convmixer_16_4", {"patch": 4}, "paper", PAPER, [1.441051, 1.377245, 1.342398]),
        ("convnext_atto", {}, "paper", PAPER, [1.416021, 2.229759, 2.971111]),
        ("resnet10t", {}, "paper", PAPER, [1.483876, 1.861274, 1.551023]),
        ("convmixer_16_4", {"patch": 4}, "fast", {"shift": 0.1}, [1.423196, 1.355235, 1.391278]),
    ],
)
def test_draws_are_those_of_the_training_version(arch, options, name, changes, losses):
    """The losses are those of version 2 as first released: other draws need another `TRAINING_VERSION`."""
    assert TRAINING_VERSION == 2
    with Execution(device="cpu", threads=1).resolved().in_force():
        run = begun(arch, name, changes, **options)
        found = [float(run.take_step(number, index)) for number, index in enumerate(order_of(run)[:3])]
    assert found == pytest.approx(losses, rel=2e-3)


def test_computing_draws_nothing_and_repeats_to_the_bit():
    with Execution(device="cpu", threads=1).resolved().in_force():
        results = []
        for _ in range(2):
            run = begun("convnext_atto")
            step = run.take_step
            batch = step.augment(order_of(run)[0], step.draw(0, BATCH))
            torch.manual_seed(len(results))
            before = torch.get_rng_state()
            loss = step.compute(batch)
            assert torch.equal(torch.get_rng_state(), before)
            results.append((float(loss), [p.detach().clone() for p in run.model.parameters()]))
    (loss, first), (again, second) = results
    assert loss == again
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("name", ["paper", "fast"])
def test_what_is_drawn_for_some_rows_gives_their_images_of_the_whole_batch(name):
    with Execution(device="cpu", threads=1).resolved().in_force():
        run = begun("convnext_atto", name, {**PAPER, "crop": "resized" if name == "paper" else "shift", "shift": 0.1})
        step, index = run.take_step, order_of(run)[0]
        for number in range(4):
            draws = step.draw(number, BATCH)
            whole = step.augment(index, draws)
            kept = np.array([1, 2, 5, 10, 13, 14])  # closed under i -> 15 - i
            part = step.augment(index[kept], draws.of_rows(kept))
            torch.testing.assert_close(part.images, whole.images[kept], atol=1e-6, rtol=0)
            assert torch.equal(part.targets, whole.targets[kept])
            assert torch.equal(part.drop_path, whole.drop_path[:, kept])
