"""Peak memory of training on a resident domain, against the bytes of its images and of the network at work.

`python tests/benchmarks/bench_memory.py [WORK]` packs 614 MB of noise (50,000 images of 64 px) in a scratch folder and
trains ConvNeXt-Femto on it for a few steps with one evaluation, batch 128, on the CPU with one thread, three times,
each in a process of its own:

resident : the images as a whole in memory (`--data resident`).
stream : read from disk batch by batch (`--data stream`).
model : the same steps and evaluation on the first 640 images. Its peak is what the network takes at work: parameters,
    gradients, AdamW's state, the activations of a batch of 128 and of an evaluation batch of 512, the result's file.

Of each, the figure is the process's peak of resident memory (the operating system's own) less its resident memory
after all imports. Promised: resident <= 1.15 x (bytes of the images + model).
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from job import Job

ARCH, SIDE, TRAIN, TEST, CLASSES, BATCH, STEPS = "convnext_femto", 64, 48_000, 2_000, 10, 128, 4
FEW = (128, 512)
"""Images of the domain that stands for the model alone: a batch of each kind."""
PROMISE = 1.15
FILE = "noise_64.h5"


def prepare(work: Path) -> None:
    """Write the packed file, as `mkfa domains pack` lays it out."""
    import numpy as np

    from mkfa.storage.result_files import map_arrays, reserve_arrays

    path = work / FILE
    if path.exists():
        return
    rng = np.random.default_rng(0)
    shapes = {
        "x_train": ((TRAIN, SIDE, SIDE, 3), "u1"),
        "x_test": ((TEST, SIDE, SIDE, 3), "u1"),
        "y_train": ((TRAIN,), "<i8"),
        "y_test": ((TEST,), "<i8"),
    }
    facts = {"name": "noise", "classes": [str(i) for i in range(CLASSES)], "digest": "0" * 64}
    partial = path.with_suffix(".partial")
    reserve_arrays(partial, kind="domain", shapes=shapes, attributes=facts)
    arrays, _ = map_arrays(partial, kind="domain", writable=True)
    for part in ("train", "test"):
        arrays[f"y_{part}"][:] = np.arange(len(arrays[f"y_{part}"])) % CLASSES
        for start in range(0, len(arrays[f"x_{part}"]), 1000):
            rows = arrays[f"x_{part}"][start : start + 1000]
            rows[:] = rng.integers(0, 256, rows.shape, dtype=np.uint8)
        arrays[f"x_{part}"].flush()
    partial.replace(path)


def train(mode: str, work: Path) -> tuple[float, float]:
    """Train in this process; return the peak above the imports and the bytes of the images, megabytes (10^6)."""
    import timm.optim  # noqa: F401
    import torch._dynamo  # noqa: F401

    import mkfa.training.step  # noqa: F401
    from mkfa.images.domain import Domain
    from mkfa.images.load import load_domain
    from mkfa.networks.build import build_network
    from mkfa.training.device import Execution
    from mkfa.training.recipe import load_recipe
    from mkfa.training.run import compute_alone, train_run
    from mkfa.training.spec import RunSpec

    build_network(ARCH, classes=2, channels=3, size=32, seed=0)  # what timm loads with its first network
    before = resident_megabytes()
    domain = load_domain(work / FILE)
    if mode == "model":
        a, b = FEW
        domain = Domain(
            "few", domain.classes, domain.x_train[:a], domain.y_train[:a], domain.x_test[:b], domain.y_test[:b], "few"
        )
    used = load_recipe("fast", {"batch": BATCH, "equal_steps": STEPS})
    spec = RunSpec(ARCH, domain.name, domain.digest, used.name, used.identity, 0)
    how = Execution(device="cpu", threads=1, data="stream" if mode == "stream" else "resident")
    with tempfile.TemporaryDirectory(dir=work) as root:
        compute_alone(train_run(spec, domain, source=None, root=Path(root), execution=how))
    return peak_megabytes() - before, (domain.x_train.nbytes + domain.x_test.nbytes) / 1e6


def resident_megabytes() -> float:
    """Return what is in memory of this process now; its peak where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return peak_megabytes()
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def peak_megabytes() -> float:
    """Return the most that was in memory of this process."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def report(work: Path) -> None:
    """Measure all three and print them with the promise."""
    prepare(work)
    found = {}
    for mode in ("model", "resident", "stream"):
        words = [sys.executable, __file__, mode, str(work)]
        done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
        peak, images = (float(word) for word in done.stdout.split())
        found[mode] = peak
        print(f"{mode}: {peak:.0f} MB above the imports; {images:.0f} MB of images", flush=True)
    images = (TRAIN + TEST) * SIDE * SIDE * 3 / 1e6
    ratio = found["resident"] / (images + found["model"])
    print(f"resident / (images + model) = {ratio:.3f}; promised at most {PROMISE}")
    sys.exit(ratio > PROMISE)


def main() -> None:
    if len(sys.argv) > 2:
        print(*train(sys.argv[1], Path(sys.argv[2])))
    elif len(sys.argv) == 2:
        report(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory(prefix="mkfa-bench-") as folder:
            report(Path(folder))


SCRIPT = str(Path(__file__))
JOBS = [
    Job(
        "train Femto 64 px on 614 MB of images, resident",
        ["{python}", SCRIPT, "resident", "{work}"],
        ["{python}", SCRIPT, "stream", "{work}"],
        prepare=prepare,
        note="4 steps of 128 and an evaluation; instead: streamed from disk. bench_memory.py alone gives the ratio",
    )
]

if __name__ == "__main__":
    main()
