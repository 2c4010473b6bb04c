"""Start-up of the command line, and reading a bank of a million filters."""

from __future__ import annotations

from pathlib import Path

from job import Job

MILLION = 1_000_000

READ_OURS = """
import sys
from mkfa.banks.bank_file import read_bank
bank = read_bank(sys.argv[1])
assert len(bank) == 1_000_000
"""
READ_RAW = """
import sys
data = open(sys.argv[1], 'rb').read()
assert len(data) > 196_000_000
"""
READ_PANDAS = """
import sys, h5py, pandas as pd
with h5py.File(sys.argv[1]) as f:
    filters = f['filters'][()]
meta = pd.read_hdf(sys.argv[1], 'meta')
assert len(filters) == 1_000_000 and len(meta) == 36
"""


def make_million(work: Path) -> None:
    """A bank of 36 layers, and the same in the layout of CNN Filter DB: /filters (N, K) and /meta as a pandas table."""
    import numpy as np

    from mkfa.banks.bank import Layer, Provenance, make_bank
    from mkfa.banks.bank_file import write_bank

    target = work / "million.h5"
    if target.exists():
        return
    rng = np.random.default_rng(0)
    sizes = np.full(36, MILLION // 36)
    sizes[0] += MILLION - sizes.sum()
    layers = [
        (
            Layer(0, f"stages.{i}.conv_dw.weight", i // 9, 0.0, n, 7, 7, (1, 1), (1, 1), 1),
            rng.standard_normal((n, 7, 7), dtype=np.float32),
            None,
        )
        for i, n in enumerate(sizes)
    ]
    bank = make_bank("million", layers, Provenance(source="made for the benchmark, seed 0", rule="graph"))
    write_bank(bank, target)
    import h5py
    import pandas as pd

    with h5py.File(work / "million_cnnfilterdb.h5", "w") as f:
        f["filters"] = bank.groups[7, 7].weight.reshape(MILLION, 49)
    ends = np.cumsum(sizes)
    meta = pd.DataFrame(
        {
            "model_id": 0,
            "conv_depth": range(36),
            "filter_ids": [f"{e - n}:{e - 1}" for n, e in zip(sizes, ends, strict=True)],
            "model": "made",
        }
    )
    meta.to_hdf(work / "million_cnnfilterdb.h5", key="meta", mode="a")


JOBS = [
    Job("mkfa --help", ["mkfa", "--help"], limit_s=0.4),
    Job(
        "read a bank of 1,000,000 7x7 filters (against a raw read of the file)",
        ["{python}", "-c", READ_OURS, "{work}/million.h5"],
        ["{python}", "-c", READ_RAW, "{work}/million.h5"],
        prepare=make_million,
        note="imports of numpy and h5py included; promised: 2x a raw read",
    ),
    Job(
        "read a bank of 1,000,000 7x7 filters (against pandas on CNN Filter DB's layout)",
        ["{python}", "-c", READ_OURS, "{work}/million.h5"],
        ["{python}", "-c", READ_PANDAS, "{work}/million_cnnfilterdb.h5"],
        prepare=make_million,
    ),
]
