"""Runs of a sweep with a planted difference between learned and random filters."""

from __future__ import annotations

import numpy as np

from mkfa.results.record import RunRecord
from mkfa.training.result import RunResult, encode_right
from mkfa.training.spec import RunSpec

IMAGES = 1000
SETTINGS = [
    {"width": w, "kernel": k, "ratio": w / k**2, "steps": 150, "arch": f"resmixer_{w}_6", "options": {"kernel": k}}
    for w in (8, 16, 32)
    for k in (3, 5)
]
PARAMETERS = {
    "source": "fashion",
    "target": "digits",
    "arch": "resmixer_32_6",
    "what": "depthwise",
    "seeds": 3,
    "layers": [6],
    "settings": SETTINGS,
}


def record(setting, arm, seed, top1, *, source="", target="digits"):
    recipe = {"equal_steps": setting["steps"], "lr": 0.01}
    layers = 0 if arm == "baseline" else 6
    spec = RunSpec(
        setting["arch"], target, "", "fast", recipe, seed, arm=arm, layers=layers, options=setting["options"]
    )
    right = encode_right(np.arange(IMAGES) < round(top1 * IMAGES))
    result = RunResult("done", top1, top1, 0.1, test_images=IMAGES, test_right=right, record={})
    return RunRecord(source or target * (arm == "baseline"), target, arm, layers, seed, result, spec, hash=spec.hash)


def runs(gap, *, settings=SETTINGS, arms=("baseline", "transfer", "random", "delta")):
    """Return runs whose transfer less random is gap(ratio, steps)."""
    rng = np.random.default_rng(0)
    made = []
    for setting in settings:
        between = gap(setting["ratio"], setting["steps"])
        means = {"baseline": 0.9, "transfer": 0.8 + between, "random": 0.8, "delta": 0.4}
        for seed in range(3):
            for arm in arms:
                source = "fashion" if arm == "transfer" else ""
                made.append(record(setting, arm, seed, means[arm] + rng.normal(0, 0.001), source=source))
            made.append(record(setting, "baseline", seed, 0.7, target="fashion"))  # the source's own
    return made
