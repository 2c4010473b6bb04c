"""Harvest one network into a bank: choose the reader, check the layers, add provenance."""

from __future__ import annotations

import datetime as dt
import functools
import os
import re
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mkfa.arguments import check_arguments
from mkfa.array_types import F32
from mkfa.banks.bank import FilterBank, Layer, Provenance, make_bank
from mkfa.errors import MkfaError, SourceError
from mkfa.frozen import FrozenDict
from mkfa.progress import Progress, follow
from mkfa.readers.options import ReadOptions, make_options
from mkfa.readers.options import follow as follow_options
from mkfa.readers.reading import DepthwiseLayer, Reading
from mkfa.readers.tensors.shard_names import shard_name
from mkfa.storage.heading import now
from mkfa.version import VERSION
from mkfa.words import counted

if TYPE_CHECKING:
    from torch import nn

LONGEST_DOUBTS = 24_000
"""Most characters that a bank records about doubtful layers; an HDF5 attribute holds 64 kB."""

_PICKLES = (".pth", ".pt", ".pt2", ".ckpt", ".bin", ".tar", ".pkl")
ENDINGS = (".safetensors", ".onnx", ".tflite", ".h5", ".keras", ".json", *_PICKLES)
"""A source that ends like this is a path, whether the file exists or not."""


def harvest(  # noqa: PLR0913 (the options of the command line)
    source: str | Path | nn.Module | Mapping[str, Any],
    *,
    name: str | None = None,
    arch: str = "",
    weights: str = "",
    include: str | Sequence[str] = (),
    exclude: str | Sequence[str] = (),
    dilation: Mapping[str, int | Sequence[int]] | str | Sequence[str] = (),
    training_set: str = "",
    task: str = "",
    licence: str = "",
    allow_nonfinite: bool = False,
    progress: Progress = None,
) -> FilterBank:
    """Collect the depthwise filters of one network.

    Parameters
    ----------
    source : str, Path, torch.nn.Module or mapping
        A path (safetensors, PyTorch, TorchScript, ONNX, TFLite, Keras, TensorFlow.js's model.json, a folder of these,
        or one of several shards, which are read together), a timm name with or without tag,
        `hf-hub:OWNER/NAME[@REVISION]`, a network in memory, or a state dict (name -> torch tensor or array).
    name : str, optional
        Name of the bank; None takes the network's name.
    arch : str
        timm architecture of a checkpoint or state dict. Its module graph then gives order of execution,
        stride and dilation.
    weights : str
        "raw" or "ema": which copy of the weights to take from a checkpoint with both; "" takes the averaged one.
    include : str or sequence of str
        Patterns (`*`, `?`) of layer names: these layers are taken although a rule would leave them out. Their
        weights must have the shape (C, 1, kh, kw). Of several states in one file (folds, epochs), those whose layers
        all match are taken ("fold0.*").
    exclude : str or sequence of str
        Patterns of the names of layers to leave out.
    dilation : mapping, str or sequence of str
        Dilation of layers that the source does not give: {pattern: number or (height, width)}, or "PATTERN=3".
    training_set, task, licence : str
        Provenance that the checkpoint does not record; "" keeps what it records.
    allow_nonfinite : bool
        Store NaN and infinite weights, which every analysis leaves out, instead of refusing the network.
    progress : bool or callable, optional
        See `mkfa.progress.Progress`.

    Returns
    -------
    FilterBank
        Its weights are float32 copies, which further training does not change.

    Raises
    ------
    SourceError
        The source is unreadable, unsafe, of an unknown format, or has non-finite weights or no depthwise layers; or an
        option does not fit it.
    WorkError
        The hub could not be reached or failed.
    MkfaError
        `source` has another type, or `name` is empty.

    Examples
    --------
    >>> import mkfa, numpy as np
    >>> weight = np.random.default_rng(0).standard_normal((8, 1, 5, 5))
    >>> bank = mkfa.harvest({"blocks.0.conv_dw.weight": weight}, name="tiny", training_set="made up")
    >>> bank.layers[0].name, len(bank)
    ('blocks.0.conv_dw.weight', 8)

    The modules of a network in memory give order of execution, stride and dilation:

    >>> import torch
    >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 1), torch.nn.Conv2d(8, 16, 7, groups=8, dilation=2))
    >>> mkfa.harvest(model).layers[0].dilation
    (2, 2)
    """
    check_arguments(harvest, locals())
    if name is not None and not name.strip():
        raise MkfaError("name", "is empty", "name the bank, or leave it out")
    options = make_options(arch=arch, weights=weights, include=include, exclude=exclude, dilation=dilation)
    if isinstance(source, str | Path):
        source = repository_of_page(str(source))
    label, text = (source, _recorded(source)) if isinstance(source, str) else _of_memory(source)
    with follow(progress, f"harvest {label}", None):
        reading = follow_options(_read(source, options), options, label)
    if not reading.layers:
        contents = f": it has {reading.contents}" if reading.contents else ""
        raise SourceError(label, f"has no depthwise layer{contents}", "harvest a network with depthwise convolutions")
    if not allow_nonfinite:
        _refuse_nonfinite(label, reading.layers)
    provenance = Provenance(
        source=text,
        source_sha256=reading.source_sha256,
        hub_commit=reading.hub_commit,
        architecture=arch or reading.architecture,
        training_set=training_set or reading.training_set,
        task=task or reading.task,
        licence=licence or reading.licence,
        rule=reading.rule,
        mkfa_version=VERSION,
        created=_now(),
        weights=reading.copy,
        skipped=reading.skipped,
        doubtful=_few(reading.doubtful),
        notes=reading.notes,
        stood_in=reading.stood_in,
    )
    return make_bank(name or network_name(source), [_layer(layer) for layer in reading.layers], provenance)


def repository_of_page(source: str) -> str:
    """Return `hf-hub:OWNER/NAME[@REVISION]` for the address of a repository's page; other sources as they are.

    Raises SourceError: an address of anything else.
    """
    if not source.startswith(("https://", "http://")):
        return source
    page = re.fullmatch(r"https?://[^/]+/([^/?#]+/[^/?#]+?)(?:/tree/([^/?#]+))?/?", source)
    if not page:
        raise SourceError(source, "is not the page of a hub repository", "write hf-hub:OWNER/NAME, or a file's path")
    return f"hf-hub:{page[1]}" + (f"@{page[2]}" if page[2] else "")


def network_name(source: str | nn.Module | Mapping[str, Any]) -> str:
    """Return the default name of a network's bank: the stem of a file, the name of a folder, a timm name, the last
    part of a repository with its revision, the architecture or class of a network in memory.

    Of a file's name the last ending goes, whatever it is. `mkfa.readers.folders` takes off the endings of formats only,
    and all of ".weights.h5"; with that rule here, banks that were made before would get other names.
    """
    if not isinstance(source, str):
        if isinstance(source, Mapping):
            return "state_dict"
        from mkfa.readers.modules import module_name

        return module_name(source)
    if is_path(source):
        path = Path(source).expanduser()
        if (shard := shard_name(path.name)) and path.is_file():
            from mkfa.readers.tensors.shards import together

            return shard.stem if together(path) else path.stem
        return path.resolve().name if path.is_dir() else path.name.removesuffix(".tar").rpartition(".")[0] or path.stem
    repository, at, revision = source.removeprefix("hf-hub:").rstrip("/").partition("@")
    return repository.rpartition("/")[2] + at + revision.replace("/", "-")


def is_path(source: str) -> bool:
    """True if a text is the path of a file or folder, not the name of a network."""
    if source.startswith("hf-hub:"):
        return False
    path = Path(source).expanduser()
    return path.exists() or path.is_symlink() or source.startswith((".", "/", "~")) or source.lower().endswith(ENDINGS)


def _read(source: str | nn.Module | Mapping[str, Any], options: ReadOptions) -> Reading:
    if isinstance(source, str):
        if is_path(source):
            from mkfa.readers.formats import reader_for

            path = Path(source).expanduser()
            return reader_for(path)(path, options)
        from mkfa.readers.hub.read_hub import read_hub

        return read_hub(source, options)
    if not isinstance(source, Mapping):
        import torch

        if isinstance(source, torch.jit.ScriptModule):
            return _read_saved(source.save, options)
        if isinstance(source, torch.export.ExportedProgram):
            return _read_saved(functools.partial(torch.export.save, source), options)
        from mkfa.readers.modules import read_module

        return read_module(source)
    from mkfa.readers.tensors.state_dict import read_state_dict

    return read_state_dict(source, options)


def _read_saved(save: Callable[[str], object], options: ReadOptions) -> Reading:
    """Read a scripted, traced or exported network as its archive, whose code or graph tells stride and dilation."""
    from mkfa.readers.tensors.checkpoint import CheckpointInfo, read_checkpoint
    from mkfa.readers.tensors.pytorch import open_torch

    with tempfile.TemporaryDirectory() as folder:
        save(str(Path(folder) / "module.pt2"))
        return read_checkpoint(open_torch(Path(folder) / "module.pt2"), CheckpointInfo("the network"), options)


def _of_memory(source: Any) -> tuple[str, str]:
    """Return how errors name a network in memory, and the source that its bank records."""
    torch = sys.modules.get("torch")  # a module exists only if torch is imported already
    if torch is not None and isinstance(source, (torch.nn.Module, torch.export.ExportedProgram)):
        return type(source).__name__, f"memory:{network_name(source)}"
    if isinstance(source, Mapping):
        return "the state dict", "memory:state_dict"
    problem = f"cannot be harvested ({type(source).__name__})"
    raise MkfaError("network", problem, "pass a path, a name, a torch.nn.Module or a state dict")


def _recorded(source: str) -> str:
    """Return a source as a bank records it: a path is absolute, in its real folder. A link keeps its own name, since
    the file that it leads to may have none that says anything (in a hub's cache)."""
    if not is_path(source):
        return source
    path = Path(source).expanduser()
    return str(path.resolve() if path.name in ("", "..") else path.parent.resolve() / path.name)


def _layer(layer: DepthwiseLayer) -> tuple[Layer, F32, F32 | None]:
    n, kh, kw = layer.weight.shape
    shared = {
        name: getattr(layer, name) for name in ("stage", "stride", "dilation", "multiplier", "dtype", "bn_folded")
    }
    return Layer(index=0, name=layer.key, depth=0, channels=n, kh=kh, kw=kw, **shared), layer.weight, layer.bias


def _refuse_nonfinite(label: str, layers: tuple[DepthwiseLayer, ...]) -> None:
    bad = [layer.key for layer in layers if not np.isfinite(layer.weight).all()]
    if bad:
        problem = (
            f"has NaN or infinite weights in {len(bad)} of {counted(len(layers), 'depthwise layer')}, first {bad[0]}"
        )
        raise SourceError(label, problem, "pass --allow-nonfinite to store them and leave them out of analyses")


def _few(doubtful: Mapping[str, str]) -> FrozenDict[str, str]:
    """Return as many doubtful layers as an HDF5 attribute can hold, and how many more there are."""
    kept: dict[str, str] = {}
    size = 0
    for name, why in doubtful.items():
        size += 2 * len(name) + len(why)  # a character may need an escape
        if size > LONGEST_DOUBTS:
            kept["others"] = f"{counted(len(doubtful) - len(kept), 'more layer is', 'more layers are')} doubtful"
            break
        kept[name] = why
    return FrozenDict(kept)


def _now() -> str:
    """Return the time, or SOURCE_DATE_EPOCH for banks that are equal byte for byte (reproducible-builds.org)."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    return dt.datetime.fromtimestamp(int(epoch), dt.UTC).isoformat() if epoch.isdecimal() else now()
