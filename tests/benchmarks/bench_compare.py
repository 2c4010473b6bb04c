"""Compare two banks of 18,000 7x7 filters with every measure, every null, 999 draws, and all layer pairs."""

from __future__ import annotations

from pathlib import Path

from job import Job

LAYERS, CHANNELS = 36, 500
DRAWS, NULLS, SIDES = 999, 4, 2
SAMPLED = 100

FULL = """
import sys, h5py, numpy as np, ot
def cloud(path):
    with h5py.File(path) as f:
        w = f['filters/7x7/weight'][()].reshape(-1, 49)
    return canonical(w)
def canonical(w):
    w = w - w.mean(1, keepdims=True)
    return w / np.linalg.norm(w, axis=1, keepdims=True)
def sums(a, b, same):
    best, k, d = [], 0.0, 0.0
    for i in range(0, len(a), 3000):
        c = np.abs(a[i:i + 3000] @ b.T)
        best.append(c.max(1))
        s = np.clip(1 - c * c, 0, None)
        k, d = k + np.exp(-s / .25).sum(), d + np.sqrt(s).sum()
    n = len(a) * (len(b) - same)
    return np.concatenate(best).mean(), k / n, d / n
a, b = (cloud(p) for p in sys.argv[1:3])
rng = np.random.default_rng(0)
null = canonical(rng.permuted(b, axis=1))
coverage = sums(a, null, 0)[0] + sums(null, a, 0)[0]
parts = sums(a, a, 1), sums(null, null, 1), sums(a, null, 0)
sliced = ot.sliced_wasserstein_distance(a, null, n_projections=64, seed=0)
"""
"""One draw of one null for one side, on all filters: coverage both ways, MMD, energy and sliced transport only."""

SAME_SAMPLES = """
import sys, h5py, numpy as np, ot
from scipy.linalg import sqrtm, subspace_angles
from scipy.optimize import linear_sum_assignment
def canonical(w):
    w = w - w.mean(1, keepdims=True)
    return w / np.linalg.norm(w, axis=1, keepdims=True)
def load(path):
    with h5py.File(path) as f:
        return f['filters/7x7/weight'][()].reshape(-1, 49)
def kernels(a, b):
    c = np.abs(a @ b.T)
    s = np.clip(1 - c * c, 0, None)
    return c, np.exp(-s / .25), np.sqrt(s)
rng = np.random.default_rng(0)
a, b = (canonical(load(p)[rng.permutation(18000)[:192]]) for p in sys.argv[1:3])
layer = np.arange(192) % 36
for _ in range(int(sys.argv[3])):
    null = canonical(rng.permuted(b, axis=1))
    (c, k, d), (_, ka, da), (_, kb, db) = kernels(a, null), kernels(a, a), kernels(null, null)
    coverage = c.max(1).mean() + c.max(0).mean()
    mmd, energy = ka.mean() + kb.mean() - 2 * k.mean(), 2 * d.mean() - da.mean() - db.mean()
    rows, columns = linear_sum_assignment(1 - c[::4, ::4])
    sliced = ot.sliced_wasserstein_distance(a, null, n_projections=64, seed=0)
    s, t = a.T @ a / 192, null.T @ null / 192
    s, t = s + 1e-9 * np.eye(49), t + 1e-9 * np.eye(49)  # zero-mean filters: singular
    root = sqrtm(s).real
    bures = np.trace(s + t - 2 * sqrtm(root @ t @ root).real)
    angles = subspace_angles(np.linalg.eigh(s)[1][:, -12:], np.linalg.eigh(t)[1][:, -12:])
    pairs = [[(c[np.ix_(layer == i, layer == j)].max(1).mean(), k[np.ix_(layer == i, layer == j)].mean(),
               d[np.ix_(layer == i, layer == j)].mean()) for j in range(36)] for i in range(36)]
"""
"""The same samples and null draws with NumPy, SciPy and POT; without pca_kl and responses, which they do not have."""


def make_banks(work: Path) -> None:
    """Two banks like convnext_base's (36 layers, 18,000 filters): smooth prototypes with noise, seeds 1 and 2."""
    import numpy as np

    from mkfa.banks.bank import Layer, Provenance, make_bank
    from mkfa.banks.bank_file import write_bank
    from mkfa.nulls.draws import draw_null

    shape = np.zeros((12, 7, 7), np.float32)
    centres = draw_null("blurred", shape, np.random.default_rng(0))
    for name, seed in (("one", 1), ("two", 2)):
        if (work / f"compare_{name}.h5").exists():
            continue
        rng = np.random.default_rng(seed)
        layers = []
        for i in range(LAYERS):
            weight = centres[rng.integers(0, 12, CHANNELS)] + 0.3 * rng.standard_normal((CHANNELS, 7, 7))
            layer = Layer(0, f"stages.{i // 9}.{i}.weight", i // 9, 0.0, CHANNELS, 7, 7, (1, 1), (1, 1), 1)
            layers.append((layer, weight.astype(np.float32), None))
        bank = make_bank(name, layers, Provenance(source=f"made, seed {seed}", rule="graph"))
        write_bank(bank, work / f"compare_{name}.h5")


BANKS = ["{work}/compare_one.h5", "{work}/compare_two.h5"]
OURS = ["mkfa", "compare", "--a", BANKS[0], "--b", BANKS[1]]

JOBS = [
    Job(
        "compare two banks of 18,000 7x7 filters, 999 draws (against all filters in NumPy and POT)",
        OURS,
        ["{python}", "-c", FULL, *BANKS],
        limit_s=15,
        limit_mb=1500,
        prepare=make_banks,
        scale=DRAWS * NULLS * SIDES,
        note="the alternative draws once, has four of the eleven measures and no layer pairs; its time is scaled",
    ),
    Job(
        "compare two banks of 18,000 7x7 filters, 999 draws (against the same samples in NumPy, SciPy, POT)",
        OURS,
        ["{python}", "-c", SAME_SAMPLES, *BANKS, str(SAMPLED)],
        limit_s=15,
        limit_mb=1500,
        prepare=make_banks,
        scale=DRAWS * NULLS * SIDES / SAMPLED,
        note="the alternative has nine of the eleven measures; its time is scaled from 100 draws",
    ),
]
