"""Run records with planted accuracies: what a claim's verdict must be is known beforehand."""

from __future__ import annotations

import numpy as np

from mkfa.results.record import RunRecord
from mkfa.training.result import RunResult, encode_right
from mkfa.training.spec import RunSpec

IMAGES = 4000


def runs(arm, *, target="digits", source="", means, arch="resmixer_32_18", layers=18, recipe=None, **more):
    """Return one finished run a seed: `means` are its accuracies."""
    recipe = {"size": 0, "max_size": 64, "equal_steps": 150, "lr": 0.01} | (recipe or {})
    layers = 0 if arm == "baseline" else layers
    made = []
    for seed, top1 in enumerate(means):
        spec = RunSpec(
            arch, target, "", "fast", recipe, seed, arm=arm, layers=layers, source=source and f"bank:{source}", **more
        )
        correct = np.arange(IMAGES) < round(top1 * IMAGES)
        record = {"steps": 150, "train_images": TRAIN.get(target, 0), "state": "done"}
        result = RunResult(
            "done", float(top1), float(top1), 0.1, test_images=IMAGES, test_right=encode_right(correct), record=record
        )
        source_name = target if arm == "baseline" else source
        made.append(RunRecord(source_name, target, arm, layers, seed, result, spec, hash=spec.hash))
    return made


TRAIN = {"letters": 18386, "fashion": 10000, "scripts": 8000, "digits": 4000, "emoji": 2000, "clipart": 1000}


def around(mean, spread=0.003, seeds=5):
    """Return accuracies whose mean and standard deviation are exact."""
    z = np.linspace(-1, 1, seeds)
    return mean + spread * z / (np.std(z, ddof=1) if seeds > 1 else 1)


def setting(arms, *, seeds=5, spread=0.003, **more):
    """Return runs of one pair, fashion to digits: arm -> mean accuracy."""
    from_source = ("transfer", "shuffle", "first-k", "covariance", "stack")
    made = []
    for arm, mean in arms.items():
        source = "fashion" if arm in from_source else ""
        made += runs(arm, source=source, means=around(mean, spread, seeds), **more)
    return made
