"""Choose the reader of a file by its name and first bytes."""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from mkfa.errors import MkfaError, SourceError
from mkfa.readers.options import DEFAULT, ReadOptions
from mkfa.readers.reading import FORMATS, Reading, read_head
from mkfa.readers.tensors.shard_names import shard_name
from mkfa.words import counted

_PACKED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
_PACKED |= {b"7z\xbc\xaf": "7-Zip", b"Rar!": "RAR"}

_TO_ONNX = "export the network to ONNX, or save its weights as safetensors"
_FOREIGN = {
    ".caffemodel": ("a Caffe model", _TO_ONNX),
    ".engine": ("a TensorRT engine", _TO_ONNX),
    ".gguf": ("a GGUF file", _TO_ONNX),
    ".mlmodel": ("a Core ML model", _TO_ONNX),
    ".param": ("an ncnn model", _TO_ONNX),
    ".params": ("an MXNet checkpoint", _TO_ONNX),
    ".pdiparams": ("a PaddlePaddle inference model", "convert it with paddle2onnx, or give the .pdparams"),
    ".pdmodel": ("a PaddlePaddle inference model", "convert it with paddle2onnx, or give the .pdparams"),
    ".pte": ("an ExecuTorch program", _TO_ONNX),
    ".t7": ("a Lua Torch file", _TO_ONNX),
    ".weights": ("a Darknet file", _TO_ONNX),
    ".xml": ("an OpenVINO model", _TO_ONNX),
    ".msgpack": (
        "a Flax file",
        "pass what flax.serialization.msgpack_restore returns to mkfa.harvest, or use safetensors",
    ),
    ".npy": ("a NumPy array", "pass a dictionary of arrays by name to mkfa.harvest, or save it as safetensors"),
    ".npz": ("a NumPy archive", "pass dict(numpy.load(FILE)) to mkfa.harvest, or save it as safetensors"),
}
"""Ending of a format that is not read -> what it is and what to do."""


def reader_for(path: Path) -> Callable[[Path, ReadOptions], Reading]:
    """Return the reader `(path, options) -> Reading` for a local file or folder.

    `options.architecture` is the timm architecture that the weights belong to; with "" a reader identifies it. Graph
    files give order, stride and dilation themselves and only record it.

    Raises
    ------
    SourceError
        Missing, unreadable, empty, not a regular file, a web page, an LFS pointer, or of an unknown format. Readers
        raise it for a file that is damaged, unsafe or does not have the layers of `architecture`.
    UnknownNameError
        Raised by readers: timm does not know `architecture`.
    MkfaError
        Raised by readers: the package that reads the format is not installed.
    """
    if path.is_dir():
        return read_folder
    if path.suffix in (".npz", ".xml") and path.is_file():  # these look like PyTorch's zip file and a web page
        raise _foreign(path)
    head = read_head(path, 512)
    if path.name.endswith(".weights.json"):
        from mkfa.readers.graphs.keras_shards import read_keras_shards

        return read_keras_shards
    if path.suffix == ".distcp" or path.name == ".metadata":
        from mkfa.readers.tensors.distributed import read_distributed

        return lambda _, options: read_distributed(path.parent, options)
    if path.name == "weights_manifest.json":
        raise _of_tensorflow(path)
    if path.suffix == ".json":
        from mkfa.readers.graphs.tfjs import is_tfjs, read_tfjs

        if is_tfjs(path):
            return read_tfjs
        from mkfa.readers.tensors.shards import read_index

        return read_index
    if (shard := shard_name(path.name)) and path.suffix.lower() == ".h5" and shard.total > 1:
        problem = f"is one of {counted(shard.total, 'shard')} of a Keras network, which are not read together"
        raise SourceError(path, problem, "save the network as one file, or as safetensors")
    if shard and path.suffix == ".bin" and (path.parent / "model.json").is_file():
        from mkfa.readers.graphs.tfjs import read_tfjs, shards_of

        model = path.parent / "model.json"
        if path.name in shards_of(model):
            return lambda _, options: read_tfjs(model, options)
    if shard and path.suffix.lower() != ".h5":
        from mkfa.readers.tensors.shards import read_shard

        return read_shard
    if looks_like_safetensors(head, path):
        from mkfa.readers.tensors.safetensors import read_safetensors

        return read_safetensors
    if head[4:8] == b"TFL3" or path.suffix == ".tflite":
        from mkfa.readers.graphs.tflite import read_tflite

        return read_tflite
    if path.suffix == ".onnx":
        from mkfa.readers.graphs.onnx import read_onnx

        return read_onnx
    if head.startswith(b"\x89HDF\r\n\x1a\n") or path.suffix == ".keras":
        from mkfa.readers.graphs.keras import read_keras
        from mkfa.readers.graphs.keras_shards import index_of, read_keras_shards

        if index := index_of(path):
            return lambda _, options: read_keras_shards(index, options)
        return read_keras
    if packed := next((name for start, name in _PACKED.items() if head.startswith(start)), ""):
        raise SourceError(path, f"is packed by {packed}", "unpack it and give the checkpoint in it")
    if head[:4] == b"PK\x03\x04" or _looks_like_pickle(head, path):
        from mkfa.readers.tensors.pytorch import read_torch

        return read_torch
    if path.suffix in (".pb", ".pbtxt", ".index") or ".data-" in path.suffix:
        raise _of_tensorflow(path)
    if path.suffix in _FOREIGN:
        raise _foreign(path)
    raise SourceError(path, "has an unknown format", f"give a {FORMATS} file")


def _foreign(path: Path) -> SourceError:
    kind, remedy = _FOREIGN[path.suffix]
    return SourceError(path, f"is by its name {kind}, which is not read", remedy)


def _of_tensorflow(path: Path) -> SourceError:
    """Return the error for a file or folder of TensorFlow's own formats, which need its runtime."""
    remedy = "save the network as .keras or .h5, or convert it to TFLite, ONNX or TensorFlow.js's model.json"
    if path.name in ("tensorflowjs_model.pb", "weights_manifest.json"):
        problem = "is of a model that TensorFlow.js's converter wrote before version 1, whose graph is not read"
        return SourceError(path, problem, "convert the network again, which writes a model.json")
    if path.suffix in (".pb", ".pbtxt"):
        kind = "a TensorFlow SavedModel" if path.name.startswith("saved_model.") else "a frozen TensorFlow graph"
        return SourceError(path, f"is {kind}, which is not read", remedy)
    if path.is_dir():
        return SourceError(path, "is a TensorFlow SavedModel, which is not read", remedy)
    return SourceError(path, "is a part of a TensorFlow checkpoint, which is not read", remedy)


def _looks_like_pickle(head: bytes, path: Path) -> bool:
    """True for a pickle, of protocol 0 and 1 only by its name too, and for a tar file of PyTorch's first year."""
    if head[:1] == b"\x80":
        return True
    named = path.suffix in (".pth", ".pt", ".ckpt", ".bin", ".tar", ".pkl", ".pickle")
    return named and (head[:1] in b"(]}cLI\x8a" or head[257:262] == b"ustar")


def read_folder(path: Path, options: ReadOptions = DEFAULT) -> Reading:
    """Read the checkpoint in a folder that `mkfa.readers.folders.choose` chooses; of a pipeline's networks (diffusers)
    the only one with depthwise layers.

    A `config.json` beside it that timm wrote names the architecture, the training set and the licence. Parameters and
    errors as for `reader_for`.
    """
    from mkfa.readers.folders import choose, config_facts, is_saved_model, parts_of_pipeline

    if parts := parts_of_pipeline(path):
        return _read_pipeline(path, parts, options)
    if is_saved_model(path):
        raise _of_tensorflow(path)
    chosen = choose(path, prefer_ema=options.weights == "ema")
    facts = config_facts(chosen.path.parent)
    reading = _with_hint(chosen.path, options, facts["architecture"])
    return replace(
        reading,
        training_set=facts["training_set"] or reading.training_set,
        licence=facts["licence"] or reading.licence,
        notes=(*reading.notes, *chosen.notes),
        copy=reading.copy or chosen.copy,
    )


def _read_pipeline(path: Path, parts: Sequence[Path], options: ReadOptions) -> Reading:
    readings = {}
    for part in parts:
        reading = read_folder(part, options)
        if reading.layers:
            readings[part.name] = reading
    names = ", ".join(part.name for part in parts)
    if len(readings) > 1:
        problem = f"is a pipeline, and {len(readings)} of its networks have depthwise layers ({', '.join(readings)})"
        raise SourceError(path, problem, f"name one of them, such as {path / next(iter(readings))}")
    if not readings:
        problem = f"is a pipeline, and none of its networks has a depthwise layer ({names})"
        raise SourceError(path, problem, "harvest a network with depthwise convolutions")
    name, reading = next(iter(readings.items()))
    note = f"{name} was taken, the only network of the pipeline with depthwise layers (of {names})."
    return replace(reading, notes=(*reading.notes, note))


def _with_hint(path: Path, options: ReadOptions, hint: str) -> Reading:
    reader = reader_for(path)
    if hint and not options.architecture:
        with contextlib.suppress(MkfaError):  # the name in the file need not be timm's
            return reader(path, replace(options, architecture=hint))
    return reader(path, options)


def looks_like_safetensors(head: bytes, path: Path) -> bool:
    """True for a name that ends in .safetensors, unless it is a PyTorch file; or a plausible header length and '{'."""
    if path.suffix == ".safetensors":
        return head[8:9] == b"{" or not head.startswith((b"PK\x03\x04", b"\x80\x02"))
    if len(head) < 9 or head[8:9] != b"{":
        return False
    length = int(struct.unpack("<Q", head[:8])[0])
    return length < os.stat(path).st_size  # noqa: PTH116 (path was opened just before)
