"""Images per second of training ConvNeXt-Femto: real data, one synthetic batch, frozen filters, a plain timm loop.

`python tests/benchmarks/bench_train.py [--size 32] [--batch 128] [--steps 12] [--rounds 5] [--device auto]` prints all
four. On CUDA both sides run in bfloat16, compiled, channels last. Ours are measured in one process in turns (a machine
that slows down slows all of them); timm's loop is a process of its own, in turn with ours, with as many workers as
cores, reading the same images as files.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from job import Job

ARCH, DOMAIN, WARM = "convnext_femto", "emoji", 3
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def domain_at(size: int) -> Any:
    """Return the domain with its images scaled to a size beforehand: both sides read images of that size."""
    from dataclasses import replace

    from PIL import Image

    from mkfa.images.load import load_domain

    found = load_domain(DOMAIN)
    if size == found.size:
        return found

    def scaled(images: Any) -> Any:
        return np.stack([np.asarray(Image.fromarray(np.asarray(x)).resize((size, size))) for x in images[:]])

    return replace(found, x_train=scaled(found.x_train), x_test=scaled(found.x_test), digest=f"{found.digest}-{size}")


def prepare(work: Path, size: int = 32) -> Path:
    """Write the training images as files, a folder a class, as timm's train script wants them."""
    from PIL import Image

    folder = work / f"{DOMAIN}-{size}-files"
    if folder.exists():
        return folder
    domain = domain_at(size)
    for i, (image, label) in enumerate(zip(domain.x_train[:], domain.y_train, strict=True)):
        (folder / f"{label:03}").mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{label:03}" / f"{i:05}.png")
    return folder


class Ours:
    """The engine's own step in one of three forms: "real", "synthetic" (one resident batch), "frozen" (all layers)."""

    def __init__(self, form: str, options: argparse.Namespace) -> None:
        import torch

        from mkfa.training.device import Execution
        from mkfa.training.folder import RunFolder
        from mkfa.training.recipe import load_recipe
        from mkfa.training.run import Run
        from mkfa.training.spec import BASE, RunSpec

        domain, recipe = domain_at(options.size), load_recipe("fast", {"batch": options.batch, "max_size": 0})
        frozen = form == "frozen"
        spec = RunSpec(
            ARCH,
            DOMAIN,
            domain.digest,
            recipe.name,
            recipe.identity,
            0,
            arm="random" if frozen else BASE,
            layers=12 if frozen else 0,
        )
        self.how = Execution(device=options.device, threads=CORES).resolved()
        with self.how.in_force():
            run = Run(RunFolder(Path(), spec), domain, None, self.how)
        self.step, self.batch, self.done = run.take_step, options.batch, 0
        self.order = torch.randperm(len(run.train_set), device=self.how.device)
        run.model.train()
        if form == "synthetic":
            fixed = self.step.augment(self.order[: self.batch], self.step.draw(0, self.batch))
            self.step.augment = lambda *_: fixed  # type: ignore[method-assign]
        self.rate(WARM)

    def rate(self, steps: int) -> float:
        """Train and return images per second; waits for the device at the end alone."""
        with self.how.in_force():
            start = time.perf_counter()
            for _ in range(steps):
                at = self.done * self.batch % (len(self.order) - self.batch)
                loss = self.step(self.done, self.order[at : at + self.batch])
                self.done += 1
            float(loss)
            return steps * self.batch / (time.perf_counter() - start)


def timms(options: argparse.Namespace) -> Callable[[int], float]:
    """Return a plain loop as timm's train script has it, warmed up: steps to images per second."""
    import timm.optim
    import torch
    from timm.data import ImageDataset, create_loader
    from timm.loss import LabelSmoothingCrossEntropy

    from mkfa.networks.build import build_network

    torch.set_num_threads(CORES)
    name = options.device if options.device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    cuda = device.type == "cuda"
    files = prepare(options.work, options.size)
    loader = create_loader(
        ImageDataset(str(files)),
        (3, options.size, options.size),
        options.batch,
        is_training=True,
        use_prefetcher=cuda,
        re_prob=0.1,
        re_mode="pixel",
        hflip=0.5,
        color_jitter=None,
        num_workers=CORES,
        persistent_workers=True,
        device=device,
        pin_memory=cuda,
    )
    model = build_network(ARCH, classes=9, channels=3, size=options.size, seed=0).to(device)
    model = model.to(memory_format=torch.channels_last)
    optimizer = timm.optim.create_optimizer_v2(model, opt="adamw", lr=4e-3, weight_decay=0.05)
    forward: Any = torch.compile(model) if cuda else model
    loss_of = LabelSmoothingCrossEntropy(0.1)

    def forever() -> Any:
        while True:
            yield from loader

    batches = forever()

    def rate(steps: int) -> float:
        start = time.perf_counter()
        for _ in range(steps):
            x, y = next(batches)
            x = x.contiguous(memory_format=torch.channels_last)
            with torch.autocast(device.type, torch.bfloat16, enabled=cuda):
                loss = loss_of(forward(x), y)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
        float(loss.detach())
        return float(steps * options.batch / (time.perf_counter() - start))

    rate(WARM)
    return rate


def worker(options: argparse.Namespace) -> None:
    """Measure when asked to on stdin (a line a round), so that two processes take turns."""
    forms = {form: timms(options) if form == "timm" else Ours(form, options).rate for form in options.worker.split(",")}
    print("ready", flush=True)
    for _ in sys.stdin:
        print(json.dumps({form: rate(options.steps) for form, rate in forms.items()}), flush=True)


def measure(options: argparse.Namespace) -> dict[str, list[float]]:
    """Return images per second of every form, round by round."""
    given = [f"--{key}={getattr(options, key)}" for key in ("size", "batch", "steps", "device", "work")]
    workers = []
    wanted = options.forms.split(",")
    for forms in (",".join(f for f in wanted if f != "timm"), "timm" if "timm" in wanted else ""):
        if not forms:
            continue
        command = [sys.executable, __file__, *given, "--worker", forms]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if process.stdout is None or process.stdout.readline().strip() != "ready":
            sys.exit(f"{forms}: could not be started")
        workers.append(process)
    found: dict[str, list[float]] = {}
    for _ in range(options.rounds):
        for process in workers:
            assert process.stdin and process.stdout
            print(file=process.stdin, flush=True)
            for form, rate in json.loads(process.stdout.readline()).items():
                found.setdefault(form, []).append(rate)
    for process in workers:
        process.communicate()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=12, help="a round, after three to warm up")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--work", type=Path, help="folder for the image files, kept")
    parser.add_argument("--forms", default="real,synthetic,frozen,timm", help="which of the four")
    parser.add_argument("--worker", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        worker(options)
        return
    with tempfile.TemporaryDirectory(prefix="mkfa-bench-") as scratch:
        options.work = options.work or Path(scratch)
        options.work.mkdir(parents=True, exist_ok=True)
        from run import machine

        print(
            f"{machine()}; {ARCH}, {options.size} px, batch {options.batch}, {options.rounds} rounds of "
            f"{options.steps} steps"
        )
        found = measure(options)
    for form, rates in found.items():
        print(f"{form:10} {statistics.median(rates):8.1f} images/s ({min(rates):.1f} - {max(rates):.1f})")
    for a, b, promise in (
        ("real", "synthetic", "at least 0.95"),
        ("real", "timm", "at least 1.3 on a CPU"),
        ("frozen", "real", ""),
    ):
        if a in found and b in found:
            ratios = [x / y for x, y in zip(found[a], found[b], strict=True)]
            print(f"{a} / {b}: {statistics.median(ratios):.2f} ({min(ratios):.2f} - {max(ratios):.2f}) {promise}")


SCRIPT = str(Path(__file__))
COMMAND = ["{python}", SCRIPT, "--work", "{work}", "--rounds", "1", "--steps", "24", "--forms"]
JOBS = [
    Job(
        "train Femto 32 px, 27 steps of 128, against a plain loop over timm's loader",
        [*COMMAND, "real"],
        [*COMMAND, "timm"],
        prepare=lambda work: prepare(work) and None,
        note="with start-up; for images per second alone run bench_train.py itself",
    )
]

if __name__ == "__main__":
    main()
