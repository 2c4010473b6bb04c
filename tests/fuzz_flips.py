"""Flip single bits in every kind of file that mkfa writes or reads: each is noticed or harmless.

    python tests/fuzz_flips.py --flips 3000 --seed 1 [--kind bank]

Noticed: an MkfaError of one line. Harmless: what is read is equal to what is read from the sound file. Formats without
a checksum (safetensors, PyTorch before 1.6, ONNX, TFLite) are not among the kinds: a bank records the SHA-256 of the
file that was harvested, by which it can be compared.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

OLD = Path(__file__).parent / "old_files"
RUN = "034170d77efac2e5"


@dataclass(frozen=True)
class Kind:
    """A kind of file: `make` writes a sound one into a folder and returns its path; `read` returns plain values."""

    make: Callable[[Path], Path]
    read: Callable[[Path], Any]


@dataclass
class Outcome:
    """What became of the flips of one kind."""

    noticed: int = 0
    harmless: int = 0
    unnoticed: list[int] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    seconds: float = 0.0


def plain(value: Any) -> Any:
    """Return a value that can be compared."""
    if hasattr(value, "tolist"):
        array = np.ascontiguousarray(value)
        content = repr(array.tolist()).encode() if array.dtype == object else array.tobytes()
        return str(array.dtype), array.shape, hashlib.sha256(content).hexdigest()
    if hasattr(value, "items"):
        return {key: plain(v) for key, v in value.items()}
    return [plain(v) for v in value] if isinstance(value, list | tuple) else repr(value)


# --- kinds -------------------------------------------------------------------------------------------------------


def make_bank(folder: Path) -> Path:
    from mkfa.banks.bank_file import Analysis, read_bank, write_analysis, write_bank

    path = write_bank(read_bank(OLD / "bank.h5"), folder / "bank.h5")
    for name in ("families", "quality"):
        values = {"5x5.label": np.arange(48), "5x5.word": np.array([f"w{i}" for i in range(48)], object)}
        write_analysis(path, Analysis(name, values, {"seed": 0, "name": name}))
    return path


def read_bank_file(path: Path) -> Any:
    from mkfa.banks.bank_file import read_analyses, read_bank

    bank = read_bank(path)
    groups = {size: (g.weight, g.layer, g.channel, g.bias) for size, g in bank.groups.items()}
    stored = {name: (one.arrays, one.parameters) for name, one in read_analyses(path).items()}
    return plain([bank.name, repr(bank.layers), repr(bank.provenance), groups, stored])


def _sides(count: int) -> Any:
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (count, 12, 12, 3), dtype=np.uint8), np.arange(count) % 3


def make_packed(folder: Path) -> Path:
    from mkfa.images.listing import ImageSet, Side
    from mkfa.images.pack import pack

    (a, y), (b, z) = _sides(40), _sides(12)
    images = ImageSet("d", ("a", "b", "c"), Side(y, pixels=a), Side(z, pixels=b), licence="CC0")
    return pack(images, folder / "packed.h5", size=12, workers=1).path


def make_domain_file(folder: Path) -> Path:
    from mkfa.images.domain_file import make_domain, write_domain

    made = make_domain("d", ["a", "b", "c"], train=_sides(40), test=_sides(12), licence="CC0")
    return write_domain(made, folder / "domain.h5", facts={"source": "x"})


def read_domain_file(path: Path) -> Any:
    from mkfa.images.domain_file import read_domain

    d = read_domain(path)
    pixels = [np.asarray(x) for x in (d.x_train, d.x_test)]
    return plain([d.name, d.classes, d.digest, d.licence, d.y_train, d.y_test, *pixels, d.x_train[np.arange(3)]])


def _run_folder(folder: Path) -> Any:
    from mkfa.training.folder import RunFolder, read_spec

    spec = read_spec(OLD / "sweep" / "runs" / RUN)
    assert spec is not None
    made = RunFolder(folder, spec)
    made.prepare()
    return made


def make_tensors(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        import torch

        torch.manual_seed(0)
        run = _run_folder(folder)
        run.save(
            name,
            {"step": 7, "net": {"a.weight": torch.randn(16, 1, 5, 5), "b": torch.ones(40)}, "rows": [{"epoch": 1}]},
        )
        return Path(run.path / name)

    return make


def read_tensors(path: Path) -> Any:
    from mkfa.training.folder import load_tensors

    return plain(load_tensors(path))


def _known(record: Any) -> Any:
    """Return the fields of a record that mkfa knows: a flip in the name of its checksum makes another field."""
    known = json.loads((OLD / "sweep" / "runs" / RUN / "result.json").read_text())
    return {key: record.get(key) for key in known}


def make_json(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        run = _run_folder(folder)
        if name != "spec.json":
            run.write_json(name, json.loads((OLD / "sweep" / "runs" / RUN / "result.json").read_text()))
        return Path(run.path / name)

    return make


def read_spec_file(path: Path) -> Any:
    from mkfa.training.folder import read_spec

    return plain(read_spec(path.parent).record)  # type: ignore[union-attr]


def read_result_file(path: Path) -> Any:
    from mkfa.training.folder import read_result

    result = read_result(path.parent)
    return plain([result.state, result.top1_last, result.right, _known(result.record)])  # type: ignore[union-attr]


def read_task_file(path: Path) -> Any:
    from mkfa.training.folder import read_json

    return plain(_known(read_json(path)))


def make_metrics(folder: Path) -> Path:
    run = _run_folder(folder)
    keys = ("step", "loss_train", "loss_test", "top1", "lr")
    run.write_metrics([{"epoch": i, **{key: (i + 1) / 7 for key in keys}} for i in range(20)])
    return Path(run.path / "metrics.jsonl")


def read_metrics_file(path: Path) -> Any:
    from mkfa.results.record import RunRecord

    keys = ("epoch", "step", "loss_train", "loss_test", "top1", "lr")
    return plain([[row.get(key) for key in keys] for row in RunRecord("", "", "", 0, 0, path=path.parent).metrics])


def make_archive(folder: Path) -> Path:
    return Path(shutil.copy(OLD / "archive.json.gz", folder / "archive.json.gz"))


def read_archive(path: Path) -> Any:
    from mkfa.results.archive import read_experiments

    found = read_experiments(path)
    return plain(
        [
            [
                e.name,
                e.kind,
                e.command,
                e.parameters,
                *[(r.spec.record, r.result and r.result.record) for r in e.runs if r.spec],
            ]
            for e in found
        ]
    )


def make_sweep(name: str) -> Callable[[Path], Path]:
    """Return what writes a sweep's result, built again from the packed runs."""

    def make(folder: Path) -> Path:
        from mkfa.results.archive import read_experiments
        from mkfa.results.gather import rebuild

        found = {f"{one.kind}.json": one for one in read_experiments(OLD / "archive.json.gz") if one.kind != "runs"}
        return rebuild(found[name]).save(folder / name)

    return make


def read_sweep(path: Path) -> Any:
    from mkfa.results.gather import read_result

    record = read_result(path)
    return plain([record["parameters"], record.get("cells"), record.get("rows"), record.get("bases")])


def make_comparison(folder: Path) -> Path:
    from mkfa.similarity.comparing import compare

    return compare("ppocrv4_det", "ppocrv4_rec", kernel_size="3x3", sample=32, draws=19).save(folder / "c.json")


def read_comparison(path: Path) -> Any:
    from mkfa.report.inputs import sort_inputs

    known = ("format", "format_version", "comparisons")
    found = [one.record for one in sort_inputs([str(path)]).results]
    return plain([{key: record.get(key) for key in known} for record in found])


def make_arrays(folder: Path) -> Path:
    from mkfa.storage.result_files import write_arrays

    arrays = {"5x5/value": np.arange(60.0), "5x5/name": np.array([f"m{i}" for i in range(20)], object), "x": np.eye(9)}
    return write_arrays(folder / "r.h5", kind="comparison", arrays=arrays, attributes={"seed": 1, "names": ["a", "b"]})


def read_arrays_file(path: Path) -> Any:
    from mkfa.storage.result_files import read_arrays

    return plain(list(read_arrays(path, kind="comparison")))


def make_torch(folder: Path) -> Path:
    import torch

    torch.manual_seed(0)
    torch.save({f"l{i}.weight": torch.randn(8, 1, k, k) for i, k in enumerate((3, 5, 7))}, folder / "net.pt")
    return folder / "net.pt"


def make_keras(folder: Path) -> Path:
    sys.path.insert(0, str(Path(__file__).parent / "readers"))
    from keras_files import model, network, new_image, write_keras

    layers = network()
    write_keras(folder / "net.keras", model(layers), new_image(layers, names=True))
    return folder / "net.keras"


def read_harvested(path: Path) -> Any:
    from mkfa.readers.harvesting import harvest

    bank = harvest(str(path))
    groups = {size: (g.weight, g.layer, g.channel, g.bias) for size, g in bank.groups.items()}
    return plain([repr(bank.layers), groups])


KINDS = {
    "bank": Kind(make_bank, read_bank_file),
    "packed domain": Kind(make_packed, read_domain_file),
    "domain": Kind(make_domain_file, read_domain_file),
    "checkpoint.pt": Kind(make_tensors("checkpoint.pt"), read_tensors),
    "weights.pt": Kind(make_tensors("weights.pt"), read_tensors),
    "spec.json": Kind(make_json("spec.json"), read_spec_file),
    "result.json": Kind(make_json("result.json"), read_result_file),
    "task.json": Kind(make_json("task.json"), read_task_file),
    "metrics.jsonl": Kind(make_metrics, read_metrics_file),
    "curve.json": Kind(make_sweep("curve.json"), read_sweep),
    "table.json": Kind(make_sweep("table.json"), read_sweep),
    "matrix.json": Kind(make_sweep("matrix.json"), read_sweep),
    "comparison": Kind(make_comparison, read_comparison),
    "archive": Kind(make_archive, read_archive),
    "result arrays": Kind(make_arrays, read_arrays_file),
    "PyTorch checkpoint": Kind(make_torch, read_harvested),
    "Keras archive": Kind(make_keras, read_harvested),
}


# --- flips -------------------------------------------------------------------------------------------------------


def flip(kind: str, flips: int, seed: int, folder: Path) -> Outcome:
    """Flip one random bit at a time in a file of a kind; the work is done in an empty folder."""
    from mkfa.errors import MkfaError

    began, outcome, rng = time.perf_counter(), Outcome(), random.Random(seed)
    path = KINDS[kind].make(folder)
    sound = path.read_bytes()
    wanted = KINDS[kind].read(path)
    for _ in range(flips):
        bit = rng.randrange(8 * len(sound))
        damaged = bytearray(sound)
        damaged[bit // 8] ^= 1 << bit % 8
        path.unlink()  # a new file each time: what is known of a file's content is known by its inode and times
        path.write_bytes(damaged)
        try:
            got = KINDS[kind].read(path)
        except MkfaError as error:
            outcome.noticed += 1
            if "\n" in str(error) or "unexpected" in str(error):
                outcome.failures.append(f"bit {bit}: {error}")
        except Exception as error:
            outcome.failures.append(f"bit {bit}: {type(error).__name__}: {error}")
        else:
            if got == wanted:
                outcome.harmless += 1
            else:
                outcome.unnoticed.append(bit)
    outcome.seconds = time.perf_counter() - began
    return outcome


def main() -> int:
    """Flip bits in files of the chosen kinds and print what became of them; 1 if one was not noticed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flips", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", choices=KINDS)
    options = parser.parse_args()
    bad = 0
    for kind in [options.kind] if options.kind else KINDS:
        with tempfile.TemporaryDirectory() as folder:
            got = flip(kind, options.flips, options.seed, Path(folder))
        bad += len(got.unnoticed) + len(got.failures)
        print(
            f"{kind:20} {got.noticed:6} noticed {got.harmless:6} harmless {len(got.unnoticed):6} unnoticed"
            f" {len(got.failures):4} failures {got.seconds:7.1f} s {got.unnoticed[:5]} {got.failures[:2]}",
            flush=True,
        )
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
