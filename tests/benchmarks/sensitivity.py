"""Find settings in which an experiment can see filters: the base's spread over seeds, and what identity kernels cost.

`python tests/benchmarks/sensitivity.py [--out FOLDER] [--only WORD] [--target digits] [--seeds 3]` trains, for every
setting below, base runs and runs with all depthwise layers frozen at the identity kernel (arm delta), and prints one
line of a Markdown table as each setting is done. A setting can see filters if the base's standard deviation over seeds
is below a point and delta costs more than ten. Runs are kept in FOLDER, so that a second call goes on where the first
stopped.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

SPREAD, COST = 0.01, 0.10
"""A setting passes if the base's standard deviation is below the first and delta costs more than the second."""
MIXER: Mapping[str, Any] = {"arch": "resmixer_32_18", "equal_steps": 150, "set": {"batch": 32, "lr": 0.01}}
NEXT: Mapping[str, Any] = {"arch": "convnext_32_12", "equal_steps": 150, "set": {"batch": 32, "lr": 0.01}}


def changed(base: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    """Return a setting with some of its fields changed; `lr`, `batch` and `warmup` are fields of its recipe."""
    recipe = {key: changes.pop(key) for key in ("lr", "batch", "warmup") if key in changes}
    return {**base, **changes, "set": base["set"] | recipe}


SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "mixer": MIXER,
    "mixer, 75 steps": changed(MIXER, equal_steps=75),
    "mixer, rate .003": changed(MIXER, lr=0.003),
    "mixer, 6 layers": changed(MIXER, arch="resmixer_32_6"),
    "mixer, 6 layers of 16 channels, 75 steps": changed(MIXER, arch="resmixer_16_6", equal_steps=75),
    "convnext, rate .003": changed(NEXT, lr=0.003),
    "convnext, branch gain .3": changed(NEXT, lr=0.003, branch_gain=0.3),
    "convnext with stages (zepto)": changed(NEXT, arch="convnext_zepto_rms", lr=0.003),
    "mixer, branch gain 1": changed(MIXER, branch_gain=1.0),
    "mixer, branch gain .1": changed(MIXER, branch_gain=0.1),
    "mixer, patches of 8": changed(MIXER, patch=8),
    "mixer, no warm-up": changed(MIXER, warmup=0.0),
    "mixer, rate .03": changed(MIXER, lr=0.03),
    "mixer, 16 channels": changed(MIXER, arch="resmixer_16_18"),
    "convnext, branch gain .3, rate .01": changed(NEXT, branch_gain=0.3),
    "convnext, branch gain .3, 300 steps": changed(NEXT, lr=0.003, branch_gain=0.3, equal_steps=300),
    "convnext, 6 layers, branch gain .3, rate .006, warm-up .3, 300 steps": changed(
        NEXT, arch="convnext_32_6", branch_gain=0.3, lr=0.006, warmup=0.3, equal_steps=300
    ),
    "convnext, 6 layers, branch gain 1, rate .006, 600 steps": changed(
        NEXT, arch="convnext_32_6", branch_gain=1.0, lr=0.006, equal_steps=600
    ),
    "convnext, 6 layers of 64 channels, branch gain .3, 300 steps": changed(
        NEXT, arch="convnext_64_6", branch_gain=0.3, lr=0.003, equal_steps=300
    ),
    "mixer, 300 steps": changed(MIXER, equal_steps=300),
    "mixer, 64 channels": changed(MIXER, arch="resmixer_64_18"),
    "mixer, patches of 2": changed(MIXER, patch=2),
    "ConvMixer: no second residual": changed(MIXER, arch="convmixer_32_18", patch=4),
}


def measure(setting: Mapping[str, Any], *, target: str, seeds: int, out: Path) -> dict[str, Any]:
    """Train a setting's base and delta runs; returns accuracies by arm, and CPU seconds of what was trained now."""
    import mkfa

    began = time.process_time()
    options = {"recipe": "fast", "seeds": seeds, "out": out, "device": "cpu", "threads": 1, "jobs": 1, **setting}
    table = mkfa.transfer_curve(source=target, target=target, layers="all", arms="delta", **options)
    trained = time.process_time() - began
    [delta] = table.cells
    return {"base": table.base.top1, "delta": delta.top1, "layers": delta.layers, "seconds": trained / (2 * seeds)}


def line(name: str, found: Mapping[str, Any]) -> str:
    """Return a setting's line of the table."""
    import numpy as np

    base, delta = (100 * np.asarray(found[arm]) for arm in ("base", "delta"))
    spread, cost = float(base.std(ddof=1)), float(base.mean() - delta.mean())
    passes = "yes" if spread < 100 * SPREAD and cost > 100 * COST else "no"
    return f"| {name} | {base.mean():.1f} | {spread:.1f} | {cost:.1f} | {found['seconds']:.0f} s | {passes} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("sensitivity"))
    parser.add_argument("--only", default="", help="settings whose name contains this word")
    parser.add_argument("--skip", default="", help="settings whose name contains this word are left out")
    parser.add_argument("--target", default="digits")
    parser.add_argument("--seeds", type=int, default=3)
    asked = parser.parse_args()
    print("| setting | base, % | SD over seeds | delta costs, points | CPU a run | can see filters |")
    print("|---|---|---|---|---|---|", flush=True)
    for name, setting in SETTINGS.items():
        if asked.only in name and not (asked.skip and asked.skip in name):
            found = measure(setting, target=asked.target, seeds=asked.seeds, out=asked.out)
            print(line(name, found), flush=True)


if __name__ == "__main__":
    main()
