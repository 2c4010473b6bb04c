"""Assigning a pattern to a million 7x7 filters, nulls included, against scipy's curve_fit filter by filter."""

from __future__ import annotations

from pathlib import Path

from job import Job

MILLION, SAMPLE = 1_000_000, 200

CURVE_FIT = """
import sys, time
import numpy as np
from scipy.optimize import curve_fit
from scipy.special import ive
from mkfa.banks.bank_file import read_bank
weight = read_bank(sys.argv[1]).groups[7, 7].weight
rng = np.random.default_rng(0)
chosen = weight[rng.choice(len(weight), 200, replace=False)].reshape(200, 49).astype(float)
n = np.arange(-4, 5)
def T(t): return ive(np.abs(n), t)
def smooth(t): return T(t)[1:-1]
def central(t): return (T(t)[2:] - T(t)[:-2]) / 2
def forward(t): return (T(t)[2:] - T(t)[1:-1])
def backward(t): return (T(t)[1:-1] - T(t)[:-2])
def second(t): return T(t)[2:] - 2 * T(t)[1:-1] + T(t)[:-2]
kinds = [(smooth, smooth), (central, smooth), (smooth, central), (forward, smooth), (backward, smooth),
         (smooth, forward), (smooth, backward), (second, smooth), (smooth, second), (central, central)]
best = np.zeros(200)
for i, f in enumerate(chosen):
    variance = ((f - f.mean()) ** 2).sum()
    for along_x, along_y in kinds:
        def model(_, gain, offset, sx, sy):
            return (gain * np.outer(along_y(sy * sy)[::-1], along_x(sx * sx)) + offset).ravel()
        for start in (0.5, 1.5):
            try:
                p, _ = curve_fit(model, np.zeros(49), f, p0=[1, 0, start, start], maxfev=400,
                                 bounds=([-np.inf, -np.inf, 0.05, 0.05], [np.inf, np.inf, 3.5, 3.5]))
            except RuntimeError:
                continue
            best[i] = max(best[i], 1 - ((f - model(0, *p)) ** 2).sum() / variance)
print(f"curve_fit, 10 separable classes, 2 starts each: median R² {np.median(best):.4f} of 200 filters")
"""


def make_filters(work: Path) -> None:
    """A bank of 36 layers: patterns of every class, with noise of a tenth to all of their norm, gain and offset."""
    import numpy as np

    from mkfa.banks.bank import Layer, Provenance, make_bank
    from mkfa.banks.bank_file import write_bank
    from mkfa.patterns.dictionary import dictionary

    target = work / "patterns.h5"
    if target.exists():
        return
    rng, book = np.random.default_rng(0), dictionary("families", 7, 7)
    layers = []
    for i, n in enumerate(np.full(36, MILLION // 36) + (np.arange(36) < MILLION % 36)):
        weight = book.atoms[rng.integers(0, len(book.atoms), n)]
        noise = rng.standard_normal((n, 49), dtype=np.float32) / 7
        weight = weight + noise * rng.uniform(0.1, 1, (n, 1)).astype(np.float32)
        weight = weight * rng.choice([-1, 1], (n, 1)).astype(np.float32) + rng.standard_normal((n, 1), dtype=np.float32)
        layer = Layer(0, f"stages.{i}.conv_dw.weight", i // 9, 0.0, int(n), 7, 7, (1, 1), (1, 1), 1)
        layers.append((layer, weight.reshape(-1, 7, 7).astype(np.float32), None))
    write_bank(make_bank("patterns", layers, Provenance(source="made for the benchmark, seed 0", rule="graph")), target)


JOBS = [
    Job(
        "assign 1,000,000 7x7 filters (40,000 null filters included)",
        ["mkfa", "assign", "{work}/patterns.h5"],
        ["{python}", "-c", CURVE_FIT, "{work}/patterns.h5"],
        limit_s=60,
        limit_mb=2000,
        prepare=make_filters,
        scale=MILLION / SAMPLE,
        note="alternative: curve_fit of 10 classes on 200 filters, extrapolated; promised: 1000x faster",
    )
]
