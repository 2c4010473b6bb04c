"""A zoo: groups of as many banks as timm has architectures with depthwise layers, compared with networks as units.

`python tests/benchmarks/bench_zoo.py [WORK] [--banks N]` writes a bank of made filters for each of the 551 recorded
architectures (its layers, kernel sizes and channel counts; 9 million filters) into a scratch folder, and compares two
groups of them by `mkfa.compare_groups` in a process of its own: processor and wall seconds, the peak of resident memory
that the operating system reports, and the result. Every layer has a covariance of its own; in the second group a third
of the filters of each layer are noisy copies of a dozen patterns that its banks share, in the first none.
Promised: under 2 GB.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path

PROMISE = 2_000_000_000


def write(work: Path, limit: int) -> None:
    """Write the banks that are not there yet, each under `first/` or `second/`."""
    import numpy as np

    from mkfa.banks.bank import Layer, Provenance, make_bank
    from mkfa.banks.bank_file import write_bank
    from mkfa.readers.timm.catalogue import _catalogue, layers_of

    total = 0
    names = sorted(_catalogue()["graphs"])
    names = [names[i] for i in np.unique(np.linspace(0, len(names) - 1, min(limit, len(names))).astype(int))]
    for name in names:
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        group = ("first", "second")[int(rng.integers(2))]
        path = work / group / f"{name}.h5"
        made = []
        for layer in layers_of(name):
            channels, (kh, kw) = layer.shape[0], layer.kernel if layer.kernel[0] else layer.shape[2:]
            taps = kh * kw
            total += channels
            if path.exists() or len(layer.shape) != 4 or taps < 2:
                continue
            root = (np.eye(taps) + rng.normal(size=(taps, taps)) / np.sqrt(taps)).astype(np.float32)
            weight = rng.standard_normal((channels, taps), np.float32) @ root
            if group == "second":
                known = np.random.default_rng(taps).standard_normal((12, taps)).astype(np.float32)
                rows = rng.permutation(channels)[: channels // 3]
                weight[rows] = 2 * known[rng.integers(0, 12, len(rows))] + 0.4 * weight[rows]
            entry = Layer(0, layer.key, -1, 0.0, channels, kh, kw, layer.stride, layer.dilation, 1)
            made.append((entry, weight.reshape(channels, kh, kw), None))
        if made:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_bank(make_bank(name, made, Provenance(architecture=name)), path)
    print(json.dumps({"banks": len(names), "filters": total}))


def compare(work: Path) -> None:
    """Compare the two groups; print seconds, peak memory and what was found."""
    import mkfa

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start, processor = time.perf_counter(), time.process_time()
    groups = {name: sorted((work / name).glob("*.h5")) for name in ("first", "second")}
    found = mkfa.compare_groups(groups, seed=0)
    print(
        json.dumps(
            {
                "wall": time.perf_counter() - start,
                "cpu": time.process_time() - processor,
                "before": before * 1024,
                "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
                "answer": found.in_words(),
                "families": len(found.families),
                "kinds": [(k.kind, len(k.members), k.n, k.measures[0].between.p) for k in found.kinds],
            }
        )
    )


def main() -> None:
    """Write the banks, compare them, and say whether the promise holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", nargs="?", type=Path)
    parser.add_argument("--banks", type=int, default=10_000, help="fewer architectures, evenly over the names")
    parser.add_argument("--step", choices=("write", "compare"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.step:
        write(given.work, given.banks) if given.step == "write" else compare(given.work)
        return
    with tempfile.TemporaryDirectory() as scratch:
        work = given.work or Path(scratch)
        for step in ("write", "compare"):
            command = [sys.executable, __file__, str(work), "--step", step, "--banks", str(given.banks)]
            said = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            print(json.dumps(said, indent=1))
        print(f"peak {said['peak'] / 1e6:.0f} MB, promised {PROMISE / 1e6:.0f} MB: {said['peak'] < PROMISE}")


if __name__ == "__main__":
    main()
