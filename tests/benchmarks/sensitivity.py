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
    "mixer: as is": MIXER,
    "mixer: rate .003": changed(MIXER, lr=0.003),
    "mixer: rate .03": changed(MIXER, lr=0.03),
    "mixer: branch gain .1": changed(MIXER, branch_gain=0.1),
    "mixer: branch gain 1": changed(MIXER, branch_gain=1.0),
    "mixer: 75 steps": changed(MIXER, equal_steps=75),
    "mixer: 300 steps": changed(MIXER, equal_steps=300),
    "mixer: no warm-up": changed(MIXER, warmup=0.0),
    "mixer: warm-up over .3": changed(MIXER, warmup=0.3),
    "mixer: 16 channels": changed(MIXER, arch="resmixer_16_18"),
    "mixer: 64 channels": changed(MIXER, arch="resmixer_64_18"),
    "mixer: 6 layers": changed(MIXER, arch="resmixer_32_6"),
    "mixer: patches of 8": changed(MIXER, patch=8),
    "mixer: patches of 2": changed(MIXER, patch=2),
    "mixer: kernels of 3": changed(MIXER, kernel=3),
    "mixer: ConvMixer, no second residual": changed(MIXER, arch="convmixer_32_18", patch=4),
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
    parser.add_argument("--target", default="digits")
    parser.add_argument("--seeds", type=int, default=3)
    asked = parser.parse_args()
    print("| setting | base, % | SD over seeds | delta costs, points | CPU a run | can see filters |")
    print("|---|---|---|---|---|---|", flush=True)
    for name, setting in SETTINGS.items():
        if asked.only in name:
            found = measure(setting, target=asked.target, seeds=asked.seeds, out=asked.out)
            print(line(name, found), flush=True)


if __name__ == "__main__":
    main()
