"""Training steps: real data against one resident batch, and against a plain loop over timm's loader.

ConvNeXt-Femto on emoji at 32 px, batch 128. Run as a program with a mode it prints images a second of the loop alone:
`python tests/benchmarks/bench_train.py real|synthetic|timm WORK [STEPS]`.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from job import Job

ARCH, DOMAIN, BATCH, WARM = "convnext_femto", "emoji", 128, 3


def prepare(work: Path) -> None:
    """Write the training images as files, a folder a class, as timm's train script wants them."""
    from PIL import Image

    from mkfa.training.domains import load_domain

    folder = work / f"{DOMAIN}-files"
    if folder.exists():
        return
    domain = load_domain(DOMAIN)
    for i, (image, label) in enumerate(zip(domain.x_train, domain.y_train, strict=True)):
        (folder / f"{label:03}").mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{label:03}" / f"{i:05}.png")


def ours(steps: int, *, synthetic: bool) -> float:
    """Return images a second of the engine's steps, or of the same network and update on one resident batch."""
    import torch

    from mkfa.training.domains import load_domain
    from mkfa.training.engine import Run
    from mkfa.training.execution import Execution
    from mkfa.training.recipe import load_recipe
    from mkfa.training.runfolder import RunFolder, RunSpec

    domain, recipe = load_domain(DOMAIN), load_recipe("fast", {"batch": BATCH})
    spec = RunSpec(ARCH, DOMAIN, domain.digest, recipe.name, recipe.identity, 0)
    resolved = Execution(threads=len(os.sched_getaffinity(0))).resolved()
    with resolved.in_force():
        run = Run(RunFolder(Path(), spec), domain, None, resolved)
        order = torch.randperm(len(run.train_set), device=resolved.device)
        run.model.train()
        step = run.take_step
        if synthetic:
            import numpy as np

            fixed = step.batch(np.random.default_rng(0), order[:BATCH])
            step.batch = lambda *_: fixed  # type: ignore[method-assign]
        for i in range(WARM + steps):
            if i == WARM:
                start = time.perf_counter()
            at = i * BATCH % (len(order) - BATCH)
            loss = step(i, order[at : at + BATCH])
        float(loss)
        return steps * BATCH / (time.perf_counter() - start)


def timms(steps: int, work: Path) -> float:
    """Return images a second of a plain loop as timm's train script has it, as many workers as cores."""
    import timm.optim
    import torch
    from timm.data import ImageDataset, create_loader
    from timm.loss import LabelSmoothingCrossEntropy

    from mkfa.training.networks import build_network

    cores = len(os.sched_getaffinity(0))
    torch.set_num_threads(cores)
    loader = create_loader(ImageDataset(str(work / f"{DOMAIN}-files")), (3, 32, 32), BATCH, is_training=True,
                           use_prefetcher=False, re_prob=0.1, re_mode="pixel", hflip=0.5, color_jitter=None,
                           num_workers=cores, persistent_workers=True)  # fmt: skip
    model = build_network(ARCH, classes=9, channels=3, size=32, seed=0).to(memory_format=torch.channels_last)
    optimizer = timm.optim.create_optimizer_v2(model, opt="adamw", lr=4e-3, weight_decay=0.05)
    loss_of = LabelSmoothingCrossEntropy(0.1)
    done, start = 0, 0.0
    while True:
        for x, y in loader:
            if done == WARM:
                start = time.perf_counter()
            loss = loss_of(model(x.contiguous(memory_format=torch.channels_last)), y)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            done += 1
            if done == WARM + steps:
                return steps * BATCH / (time.perf_counter() - start)


def main() -> None:
    mode, work, steps = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 20
    rate = timms(steps, work) if mode == "timm" else ours(steps, synthetic=mode == "synthetic")
    print(f"{mode}: {rate:.1f} images/s")


SCRIPT = str(Path(__file__))
JOBS = [
    Job("train Femto 32 px, real data against one resident batch", ["{python}", SCRIPT, "real", "{work}"],
        ["{python}", SCRIPT, "synthetic", "{work}"], prepare=prepare,
        note="23 steps of 128 each with start-up; at least 0.95 in images/s of the loop"),
    Job("train Femto 32 px, against a plain loop over timm's loader", ["{python}", SCRIPT, "real", "{work}"],
        ["{python}", SCRIPT, "timm", "{work}"], prepare=prepare,
        note="23 steps of 128 each with start-up; all cores used by both"),
]  # fmt: skip

if __name__ == "__main__":
    main()
