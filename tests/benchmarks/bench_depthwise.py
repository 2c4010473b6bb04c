"""A 7x7 depthwise convolution on its own: forward, input gradient, weight gradient, PyTorch's and ours.

`python tests/benchmarks/bench_depthwise.py [--size 7] [--batch 128] [--repeats 15] [--device auto]`: milliseconds
(median) at the four stages of ConvNeXt-Femto for 32 px images, channels first (NCHW) and last (NHWC). On CUDA in
bfloat16, without ours, which is for CPUs.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

STAGES = ((48, 16), (96, 8), (192, 4), (384, 2))
"""Channels and side of the images."""
JOBS: list[Any] = []
"""Nothing here is a process of its own; run this file."""


def milliseconds(work: Callable[[], Any], repeats: int, wait: Callable[[], Any]) -> float:
    found = []
    for i in range(repeats + 2):
        wait()
        start = time.perf_counter()
        work()
        wait()
        if i >= 2:
            found.append(time.perf_counter() - start)
    return 1e3 * statistics.median(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=7)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()

    import torch
    import torch.nn.functional as functional
    from run import machine

    from mkfa.networks.cpu_gradients import LARGEST_IMAGE, weight_gradient

    cuda = options.device.startswith("cuda") or (options.device == "auto" and torch.cuda.is_available())
    device, kind = ("cuda", torch.bfloat16) if cuda else ("cpu", torch.float32)
    wait: Callable[[], Any] = torch.cuda.synchronize if cuda else (lambda: None)
    if not cuda:
        torch.set_num_threads(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1)
    size, name = options.size, torch.cuda.get_device_name() if cuda else machine()
    print(f"{name}; torch {torch.__version__}; {size}x{size} depthwise, batch {options.batch}, {kind}, ms")
    print(f"{'channels':>8} {'side':>4} {'layout':>6} {'forward':>8} {'input gr.':>9} {'weight gr.':>10} {'ours':>7}")
    for channels, side in STAGES:
        for layout in ("NCHW", "NHWC"):
            memory = torch.channels_last if layout == "NHWC" else torch.contiguous_format
            x = torch.randn(options.batch, channels, side, side, device=device, dtype=kind).to(memory_format=memory)
            w = torch.randn(channels, 1, size, size, device=device, dtype=kind).to(memory_format=memory)
            g = torch.randn_like(x)

            def gradient(
                needed: list[bool], x: torch.Tensor = x, w: torch.Tensor = w, g: torch.Tensor = g
            ) -> Callable[[], Any]:
                return lambda: torch.ops.aten.convolution_backward(
                    g, x, w, None, [1, 1], [size // 2] * 2, [1, 1], False, [0, 0], len(w), needed
                )

            works = (
                lambda x=x, w=w: functional.conv2d(x, w, padding=size // 2, groups=len(w)),
                gradient([True, False, False]),
                gradient([False, True, False]),
            )
            taken = [milliseconds(work, options.repeats, wait) for work in works]
            ours = "-"
            if not cuda and side * side <= LARGEST_IMAGE:
                took = milliseconds(lambda x=x, g=g: weight_gradient(x, g, size), options.repeats, wait)
                ours = f"{took:.2f}"
            line = " ".join(f"{t:{width}.2f}" for t, width in zip(taken, (8, 9, 10), strict=True))
            print(f"{channels:8} {side:4} {layout:>6} {line} {ours:>7}")


if __name__ == "__main__":
    main()
