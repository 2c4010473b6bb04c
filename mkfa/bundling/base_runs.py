"""Make the bundled banks of 7x7 filters: base runs of two small networks on three bundled image sets.

python -m mkfa.bundling.base_runs --runs FOLDER --out data

The runs are trained where they are not done (minutes each on one core). Each image set has a seed of its own, since
networks of one seed start from the same weights and would have a common parent. They are not published networks: they
are there so that a ConvNeXt of one's own, or any network of 7x7 filters, can be compared with something at once.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mkfa.banks.bank import FilterBank
from mkfa.banks.bank_file import read_bank, write_bank
from mkfa.errors import MkfaError, WorkError
from mkfa.storage.atomic import atomic_write
from mkfa.words import counted

COMMAND = "python -m mkfa.bundling.base_runs --runs FOLDER --out data"
CREATED = "2026-11-28T00:00:00+00:00"
"""Recorded instead of the present time, so that the same runs give the same files."""
LICENCES = {"fashion": "MIT", "scripts": "OFL-1.1", "clipart": "public domain"}
"""Of the images that the networks were trained on; the filters are mkfa's own and stand under its licence."""


@dataclass(frozen=True, slots=True)
class BaseRun:
    """A network and how it is trained: name of its banks, architecture, steps of 32 images, peak learning rate."""

    name: str
    arch: str
    steps: int
    lr: float

    def options(self, runs: Path, seed: int) -> dict[str, Any]:
        """Return the options of `mkfa.train`, which trains the seeds up to `seed`."""
        changes = {"batch": 32} | ({"lr": self.lr} if self.lr else {})
        return {
            "arch": self.arch,
            "recipe": "fast",
            "equal_steps": self.steps,
            "set": changes,
            "seeds": seed + 1,
            "device": "cpu",
            "threads": 1,
            "out": runs,
        }


NETWORKS = (BaseRun("resmixer", "resmixer_32_18", 150, 0.01), BaseRun("convnext", "convnext_zepto_rms", 200, 0.0))
DOMAINS = tuple(LICENCES)


def make(network: BaseRun, domain: str, runs: Path) -> FilterBank:
    """Train a base run if it is not done, and return its bank with provenance; raises as `mkfa.train`."""
    import mkfa

    seed = DOMAINS.index(domain)
    run = mkfa.train(domain, **network.options(runs, seed))[seed]
    if run.spec is None or run.result is None:
        raise WorkError(f"{domain} {network.arch}", "has no result", "run it again")
    bank = read_bank(runs / "runs" / run.spec.hash / "bank.h5")
    notes = (
        f"A base run of mkfa itself, and no published network: {network.arch} trained from scratch for {network.steps} "
        f"steps of 32 images on the bundled image set {domain} at 32 x 32 pixels, seed {seed} (run {run.spec.hash}).",
        f"Top-1 on its test images: {100 * run.result.top1_last:.1f} %.",
    )
    provenance = replace(
        bank.provenance,
        source=f"run:{run.spec.hash}",
        licence="Apache-2.0",
        training_set=f"{domain} at 32 px, bundled with mkfa",
        created=CREATED,
        notes=notes,
    )
    return replace(bank, name=f"{network.name}_{domain}", provenance=provenance)


def index_entry(bank: FilterBank, file: Path) -> dict[str, Any]:
    """Return the entry in data/index.json of a bank that was written to `file`."""
    provenance = bank.provenance
    return {
        "file": file.name,
        "origin": {"run": provenance.source.removeprefix("run:"), "sha256": provenance.source_sha256},
        "licence": provenance.licence,
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        "made": COMMAND,
        "architecture": provenance.architecture,
        "training_set": provenance.training_set,
        "task": provenance.task,
        "layers": len(bank.layers),
        "filters": len(bank),
    }


def build(runs: Path, out: Path) -> dict[str, Any]:
    """Write the banks into `out` and add them to its index.json, which has other banks first; return the index."""
    index_file = out / "index.json"
    banks: dict[str, Any] = json.loads(index_file.read_text("utf-8"))["banks"] if index_file.is_file() else {}
    for network in NETWORKS:
        for domain in DOMAINS:
            bank = make(network, domain, runs)
            banks[bank.name] = index_entry(bank, write_bank(bank, out / f"{bank.name}.h5", overwrite=True))
    index = {"banks": banks}
    atomic_write(index_file, (json.dumps(index, indent=2, ensure_ascii=False) + "\n").encode())
    return index


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the module as a command; returns the exit code."""
    parser = argparse.ArgumentParser("python -m mkfa.bundling.base_runs", description="Make the banks of base runs.")
    parser.add_argument("--runs", type=Path, required=True, help="folder of the runs, trained where they are missing")
    parser.add_argument("--out", type=Path, required=True, help="folder for the banks and index.json")
    options = parser.parse_args(arguments)
    try:
        index = build(options.runs, options.out)
    except MkfaError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    for entry in index["banks"].values():
        if entry.get("made") == COMMAND:
            print(
                f"{entry['file']}: {counted(entry['layers'], 'layer')}, {counted(entry['filters'], 'filter')}, "
                f"SHA-256 {entry['sha256']}"
            )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
