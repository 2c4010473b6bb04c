"""Harvest a source into a bank: choose the reader, check what it found, add provenance."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mkfa.array_types import F32
from mkfa.banks.bank import FilterBank, Layer, Provenance, make_bank
from mkfa.errors import SourceError
from mkfa.readers.reading import FoundLayer, Reading
from mkfa.version import VERSION

TORCH_SUFFIXES = (".pth", ".pt", ".ckpt", ".bin", ".tar", ".pkl")


@dataclass(frozen=True, slots=True)
class HarvestOptions:
    """How to harvest.

    Attributes
    ----------
    name : str
        Name of the bank; "" takes the network's own.
    architecture : str
        timm architecture that a local checkpoint belongs to; its module graph then gives order, stride and dilation.
    allow_nonfinite : bool
        Store NaN and infinite weights (left out of every analysis) rather than refuse the source.
    training_set, task, licence : str
        Provenance that the source does not tell; "" keeps what it tells.
    """

    name: str = ""
    architecture: str = ""
    allow_nonfinite: bool = False
    training_set: str = ""
    task: str = ""
    licence: str = ""


def harvest(source: str, options: HarvestOptions | None = None) -> FilterBank:
    """Collect the depthwise filters of one network.

    Parameters
    ----------
    source : str
        A path (safetensors, PyTorch, TorchScript, ONNX, TFLite, bank), a timm name with or without tag, or `hf-hub:ID`.

    Raises
    ------
    SourceError
        Not readable, of an unknown format, unsafe, without depthwise layers, or with non-finite weights.
    WorkError
        The hub could not be reached or failed.
    """
    options = options or HarvestOptions()
    reading = read_source(source, options)
    if not reading.layers:
        holds = f": it holds {reading.contents}" if reading.contents else ""
        raise SourceError(source, f"has no depthwise layer{holds}", "harvest a network with depthwise convolutions")
    if not options.allow_nonfinite:
        _refuse_nonfinite(source, reading.layers)
    layers = [_layer(found) for found in reading.layers]
    return make_bank(options.name or network_name(source), layers, _provenance(source, reading, options))


def network_name(source: str) -> str:
    """Return the name a source's bank gets: a file's stem, a folder's name, a timm name, a repository's last part."""
    if is_path(source):
        path = Path(source).expanduser()
        return path.resolve().name if path.is_dir() else path.stem
    return source.removeprefix("hf-hub:").rstrip("/").rsplit("/", 1)[-1]


def read_source(source: str, options: HarvestOptions) -> Reading:
    """Return what the reader for `source` found; raises as `harvest`."""
    if is_path(source):
        path = Path(source).expanduser()
        return _reader(path)(path, options.architecture)
    from mkfa.readers.hub.read_hub import read_hub

    return read_hub(source, options.architecture)[1]


def is_path(source: str) -> bool:
    """True when a source stands for a local file or folder rather than a network's name."""
    if source.startswith("hf-hub:"):
        return False
    path = Path(source).expanduser()
    known = (".safetensors", ".onnx", ".tflite", ".h5", ".json", *TORCH_SUFFIXES)
    return path.exists() or path.is_symlink() or source.startswith((".", "/", "~")) or source.lower().endswith(known)


def _reader(path: Path) -> Callable[[Path, str], Reading]:
    """Choose the reader by the first bytes of a file, not by its name alone."""
    from mkfa.readers.formats import reader_for

    return reader_for(path)


def _layer(found: FoundLayer) -> tuple[Layer, F32, F32 | None]:
    n, kh, kw = found.weight.shape
    layer = Layer(
        index=0,
        name=found.key,
        stage=found.stage,
        depth=0.0,
        channels=n,
        kh=kh,
        kw=kw,
        stride=found.stride,
        dilation=found.dilation,
        multiplier=found.multiplier,
        has_bias=found.bias is not None,
        dtype=found.dtype,
        bn_folded=found.bn_folded,
    )
    return layer, found.weight, found.bias


def _refuse_nonfinite(source: str, layers: tuple[FoundLayer, ...]) -> None:
    bad = [found.key for found in layers if not np.isfinite(found.weight).all()]
    if bad:
        problem = f"has NaN or infinite weights in {len(bad)} of {len(layers)} depthwise layers, first {bad[0]}"
        raise SourceError(source, problem, "pass --allow-nonfinite to store them and leave them out of analyses")


def _provenance(source: str, reading: Reading, options: HarvestOptions) -> Provenance:
    # SOURCE_DATE_EPOCH makes a bank reproducible byte for byte (reproducible-builds.org)
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    now = dt.datetime.fromtimestamp(int(epoch), dt.UTC) if epoch.isdigit() else dt.datetime.now(dt.UTC)
    return Provenance(
        source=source,
        source_sha256=reading.source_sha256,
        hub_commit=reading.hub_commit,
        architecture=options.architecture or reading.architecture,
        training_set=options.training_set or reading.training_set,
        task=options.task or reading.task,
        licence=options.licence or reading.licence,
        rule=reading.rule,
        mkfa_version=VERSION,
        created=now.replace(microsecond=0).isoformat(),
        skipped=reading.skipped,
        notes=reading.notes,
    )
