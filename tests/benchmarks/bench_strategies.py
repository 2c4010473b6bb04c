"""Many runs on one device: images per second, memory and speed-up of every strategy with 1, 2, 4, 8 runs at a time.

`python tests/benchmarks/bench_strategies.py [--device auto] [--arch convmixer_32_18] [--patch 4] [--batch 32]
[--counts 1,2,4,8] [--rounds 3] [--only strategies] [--json FILE]` writes a table for whatever device is at hand. Every
figure is measured in a process of its own, in turn with one run alone, which the speed-up is relative to. On a machine
that other programs use, only the speed-up is worth something; `--clock cpu` counts seconds of processor time instead,
for the strategies of one process.

Counted on any device: the weight gradients of a step with frozen and with trained layers. With a GPU also:
ConvNeXt-Femto at 32, 64 and 224 px beside timm's loop (`bench_train.py`) and beside airbench, and how often the host
waits for the device in an epoch.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

DOMAIN = "emoji"
AIRBENCH = {
    "images_per_second": 154_000,
    "where": "A100, 32 px, published",
    "flop_per_image": 0.36e15 / (154_000 * 3.09),
}
"""airbench94_compiled: 154,000 images per second; 0.36 PFLOP in 3.09 s (github.com/KellerJordan/cifar10-airbench)."""
PARTS = ("strategies", "frozen", "femto", "waits")


def spec_of(options: argparse.Namespace, **more: Any) -> tuple[Any, Any]:
    """Return a run's specification and its domains."""
    from mkfa.images.opened import Domains
    from mkfa.training.recipe import load_recipe
    from mkfa.training.spec import RunSpec

    recipe = load_recipe("fast", {"batch": options.batch})
    domains = Domains(recipe.size, recipe.max_size)
    network = {"patch": options.patch} if options.patch else {}
    digest = domains[DOMAIN].digest
    spec = RunSpec(options.arch, DOMAIN, digest, recipe.name, recipe.identity, 0, options=network, **more)
    return spec, domains


def execution_of(options: argparse.Namespace) -> Any:
    from mkfa.training.device import Execution

    return Execution(device=options.device, threads=1)


def measure(options: argparse.Namespace, strategy: str, count: int) -> dict[str, Any]:
    """Time one strategy in this process: images per second, and the most bytes on the GPU, else in memory."""
    from mkfa.engines.processes import timer_of

    spec, domains = spec_of(options)
    if options.clock == "cpu":
        time.perf_counter = time.process_time
    seconds, size = timer_of(domains, execution_of(options))(strategy, spec, count)
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if strategy == "processes":  # all are as large as the largest
        own += resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * count
    return {"images_per_second": count * options.batch / seconds, "bytes": size or 1024 * own}


def child(options: argparse.Namespace, strategy: str, count: int) -> dict[str, Any]:
    words = [f"--{key}={getattr(options, key)}" for key in ("device", "arch", "patch", "batch", "clock")]
    command = [sys.executable, __file__, *words, f"--one={strategy},{count}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"problem": (done.stderr.strip().splitlines() or ["?"])[-1][:150]}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def strategies(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the table's rows."""
    rows = []
    names = ("alone", "processes", "stacked", *(("graph",) if execution_of(options).kind == "cuda" else ()))
    if options.clock == "cpu":
        names = ("alone", "stacked")
    for name in names:
        for count in options.counts:
            if name == "alone" and count > 1:
                continue
            pairs = [(child(options, "alone", 1), child(options, name, count)) for _ in range(options.rounds)]
            row: dict[str, Any] = {"strategy": name, "runs": count}
            if problem := next((found["problem"] for _, found in pairs if "problem" in found), ""):
                rows.append(row | {"problem": problem})
                continue
            rates = [found["images_per_second"] for _, found in pairs]
            gains = [found["images_per_second"] / alone["images_per_second"] for alone, found in pairs]
            row |= {"images_per_second": statistics.median(rates), "bytes": max(found["bytes"] for _, found in pairs)}
            rows.append(row | {"speed_up": statistics.median(gains), "speed_ups": sorted(gains)})
            print(json.dumps(rows[-1]), flush=True)
    return rows


def frozen(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Count a step's weight gradients of convolutions, in calls and, on a GPU, in kernels that are named after them."""
    import torch
    from torch.profiler import ProfilerActivity, profile
    from torch.utils._python_dispatch import TorchDispatchMode

    from mkfa.engines.estimate import Specimen

    class Count(TorchDispatchMode):
        calls = 0

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func.overloadpacket is torch.ops.aten.convolution_backward:
                self.calls += int(args[-1][1])  # output_mask: input, weight, bias
            return func(*args, **(kwargs or {}))

    rows = []
    how = replace(execution_of(options), quick=False, compile=False)
    for arm, layers in (("baseline", 0), ("random", options.layers)):
        spec, domains = spec_of(options, arm=arm, layers=layers)
        run = Specimen(spec, domains, how).run
        with run.how.in_force():
            index = torch.arange(run.batch, device=run.train_set.labels.device)
            run.take_step(0, index)
            with Count() as counted:
                run.take_step(1, index)
            row: dict[str, Any] = {"frozen_layers": layers, "weight_gradients": counted.calls}
            if run.how.device.type == "cuda":
                with profile(activities=[ProfilerActivity.CUDA]) as profiled:
                    run.take_step(2, index)
                names = [event.key for event in profiled.key_averages() for _ in range(event.count)]
                row |= {"kernels": len(names), "wgrad_kernels": sum("wgrad" in n or "bgrad" in n for n in names)}
        rows.append(row)
    return rows


def femto(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Time ConvNeXt-Femto beside timm's loop, and count its operations beside airbench's; needs a GPU."""
    import bench_train
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from mkfa.networks.build import build_network

    rows: list[dict[str, Any]] = [{"what": "airbench94", **AIRBENCH}]
    for size in (32, 64, 224):
        with tempfile.TemporaryDirectory() as work:
            at = argparse.Namespace(size=size, batch=options.batch, device=options.device, work=Path(work))
            ours, theirs = bench_train.Ours("real", at), bench_train.timms(at)
            pairs = [(ours.rate(50), theirs(50)) for _ in range(options.rounds)]
        model = build_network("convnext_femto", classes=9, channels=3, size=size, seed=0).to("meta")
        with FlopCounterMode(display=False) as counter:
            model(torch.empty(1, 3, size, size, device="meta")).sum().backward()
        row = {"what": "convnext_femto", "size": size, "flop_per_image": counter.get_total_flops()}
        row |= {"images_per_second": statistics.median(a for a, _ in pairs)}
        rows.append(row | {"timm_images_per_second": statistics.median(b for _, b in pairs)})
    return rows


def waits(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Count how often the host waits for the GPU in the steps of an epoch."""
    import torch

    from mkfa.engines.estimate import Specimen

    spec, domains = spec_of(options)
    run = Specimen(spec, domains, execution_of(options)).run
    with run.how.in_force(), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        batches = np.split(np.arange(run.epoch_steps * run.batch), run.epoch_steps)
        run.take_step(0, run.train_set.index(batches[0]))
        torch.cuda.set_sync_debug_mode("warn")
        for number, drawn in enumerate(run.take_step.draw_ahead(0, batches)):
            run.take_step.compute(run.take_step.prepare(number, *drawn))
        torch.cuda.set_sync_debug_mode("default")
    return [{"steps": run.epoch_steps, "waits": sum("synchroniz" in str(w.message) for w in caught)}]


def table(rows: list[dict[str, Any]]) -> str:
    """Return rows of `strategies` in Markdown."""
    lines = ["| strategy | runs | images/s | memory | speed-up |", "|---|---|---|---|---|"]
    for row in rows:
        first = f"| {row['strategy']} | {row['runs']} | "
        if "problem" in row:
            lines.append(f"{first}- | - | {row['problem']} |")
            continue
        low, *_, high = (row["speed_ups"] * 2)[:1] + row["speed_ups"]
        spread = f"{row['speed_up']:.2f} ({low:.2f}-{high:.2f})"
        lines.append(f"{first}{row['images_per_second']:,.0f} | {row['bytes'] / 1e6:,.0f} MB | {spread} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--arch", default="convmixer_32_18")
    parser.add_argument("--patch", type=int, default=0)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--layers", type=int, default=9, help="frozen layers in the comparison")
    parser.add_argument("--counts", default="1,2,4,8", type=lambda text: [int(n) for n in text.split(",")])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clock", default="wall", choices=("wall", "cpu"))
    parser.add_argument("--only", default="", help=f"one of {', '.join(PARTS)}")
    parser.add_argument("--json", type=Path, help="file for the results")
    parser.add_argument("--one", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        name, count = options.one.split(",")
        print(json.dumps(measure(options, name, int(count))))
        return
    cuda = execution_of(options).kind == "cuda"
    wanted = [options.only] if options.only else list(PARTS if cuda else PARTS[:2])
    found = {part: globals()[part](options) for part in wanted}
    if "strategies" in found:
        print(table(found["strategies"]))
    for part in wanted:
        print(part, json.dumps(found[part]), flush=True)
    if options.json:
        options.json.write_text(json.dumps({"device": execution_of(options).resolved().record, **found}, indent=1))


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
