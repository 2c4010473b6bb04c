"""Atlas and keys of 18,000 7x7 filters, against plain scikit-learn and umap on the raw filters."""

from __future__ import annotations

from pathlib import Path

from job import Job

FILTERS = 18_000

PLAIN = """
import sys, warnings
import numpy as np
from mkfa.banks.bank_file import read_bank
warnings.simplefilter('ignore')
from sklearn.cluster import KMeans
from sklearn.metrics import silhouette_score
from umap import UMAP
x = read_bank(sys.argv[1]).groups[7, 7].weight.reshape(-1, 49)
for k in (2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 32):
    label = KMeans(k, n_init=10, random_state=0).fit(x).labels_
    silhouette_score(x, label, sample_size=4000, random_state=0)
UMAP(random_state=0).fit_transform(x)
"""


def make_bank_of_18000(work: Path) -> None:
    """A bank of 18 layers: mixtures of two of the eight named patterns, random gain and sign, noise."""
    import numpy as np

    from mkfa.banks.bank import Layer, Provenance, make_bank
    from mkfa.banks.bank_file import write_bank
    from mkfa.patterns.named_sets import named_set

    target = work / "atlas.h5"
    if target.exists():
        return
    rng = np.random.default_rng(0)
    pattern = named_set("eight", 7, 7).patterns
    layers = []
    for i in range(18):
        n = FILTERS // 18
        clean = pattern[rng.integers(8, size=n)] + 0.5 * pattern[rng.integers(8, size=n)]
        raw = clean * rng.normal(0, 1, (n, 1, 1)) + 0.05 * rng.standard_normal((n, 7, 7))
        layers.append((Layer(0, f"l{i}", i // 5, 0.0, n, 7, 7, (1, 1), (1, 1), 1), raw.astype(np.float32), None))
    write_bank(make_bank("made", layers, Provenance(source="made for the benchmark, seed 0", rule="graph")), target)


JOBS = [
    Job(
        "atlas of 18,000 7x7 filters, with map",
        ["mkfa", "atlas", "{work}/atlas.h5", "--out", "{work}/atlas_out.h5", "--force"],
        ["{python}", "-c", PLAIN, "{work}/atlas.h5"],
        prepare=make_bank_of_18000,
        note="the alternative sweeps KMeans and maps the raw filters: sees signs and gains, and has no null",
    ),
    Job("keys of 18,000 7x7 filters", ["mkfa", "keys", "{work}/atlas.h5"], prepare=make_bank_of_18000),
]
