"""Decode ONNX tensors; each size is checked against the available bytes before anything is allocated."""

from __future__ import annotations

import hashlib
import math
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, BinaryIO

import numpy as np

from mkfa.array_types import AnyArray
from mkfa.errors import SourceError
from mkfa.readers.graphs.graph_file import LARGEST_SPARSE, DamagedError, LeftOutError
from mkfa.readers.graphs.onnx_wire import Trimmed
from mkfa.readers.graphs.quantised import unpack_nibbles
from mkfa.storage.budget import DEEPEST, Budget
from mkfa.words import counted


@dataclass(frozen=True, slots=True)
class StoredType:
    """A type of TensorProto.DataType: name, type in memory, field for values that are not raw bytes, bits a value."""

    name: str
    memory: str
    typed: str
    bits: int


TYPES = {
    1: StoredType("float32", "<f4", "float_data", 32),
    2: StoredType("uint8", "u1", "int32_data", 8),
    3: StoredType("int8", "i1", "int32_data", 8),
    4: StoredType("uint16", "<u2", "int32_data", 16),
    5: StoredType("int16", "<i2", "int32_data", 16),
    6: StoredType("int32", "<i4", "int32_data", 32),
    7: StoredType("int64", "<i8", "int64_data", 64),
    9: StoredType("bool", "u1", "int32_data", 8),
    10: StoredType("float16", "<f2", "int32_data", 16),
    11: StoredType("float64", "<f8", "double_data", 64),
    16: StoredType("bfloat16", "<u2", "int32_data", 16),
    21: StoredType("uint4", "u1", "int32_data", 4),
    22: StoredType("int4", "u1", "int32_data", 4),
}
"""Types of weights, masks, scales, zero points and shapes, by number in TensorProto.DataType."""


@dataclass(slots=True)
class ExternalFiles:
    """The files with a model's larger tensors; only files beside the model are read.

    Beside means: in the model's folder, in the folder of the file that a link to the model leads to, or in the `blobs`
    of the same repository in a hub cache, where both are links.

    `trimmed` is the model file. `digests` maps the names of the files that were read to their SHA-256.
    """

    model: Path
    trimmed: Trimmed
    digests: dict[str, str] = field(default_factory=dict)

    def read(self, tensor: Any, size: int, budget: Budget) -> bytes:
        """Return the `size` bytes of a tensor that is stored outside the model file.

        Raises SourceError: the location is absolute, leaves the folder (also through a link), or is missing or too
        short.
        """
        budget.step(len(tensor.external_data))
        entries = {entry.key: entry.value for entry in tensor.external_data}
        location = entries.get("location", "")
        start = _whole(entries.get("offset", "0"), "offset")
        length = _whole(entries.get("length", str(size)), "length")
        if length != size:
            raise DamagedError(f"{location!r} gives {counted(length, 'byte')} to a tensor of {size}")
        path = self._inside(location)
        try:
            # a pipe or link that replaced the file meanwhile must not block or mislead the reader
            flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0)
            with os.fdopen(os.open(path, flags), "rb") as f:
                end = _regular_size(f, path)
                if start + size > end:
                    problem = f"should have {counted(start + size, 'byte')} of weights but has {end}"
                    raise SourceError(path, problem, "fetch the file again")
                if location not in self.digests:
                    budget.grow(end)
                    self.digests[location] = hashlib.file_digest(f, "sha256").hexdigest()
                budget.produce(size)
                f.seek(start)
                data = f.read(size)
        except OSError as error:
            raise SourceError(path, f"cannot be read ({error.strerror})", "check the file's permissions") from error
        if len(data) != size:
            raise SourceError(path, "became shorter while it was read", "fetch the file again")
        return data

    def _inside(self, location: str) -> Path:
        """Return the real path of a location, which must lie in the model's folder."""
        remedy = "use a model that keeps its weights in its own folder"
        posix, windows = PurePosixPath(location), PureWindowsPath(location)
        bad = not location or "\0" in location or posix.is_absolute() or windows.drive or windows.root
        if bad or ".." in posix.parts or ".." in windows.parts:
            raise SourceError(self.model, f"keeps weights outside its folder, at {location!r}", remedy)
        folders = _beside(self.model)
        path, problem = None, "is missing"
        for folder in dict.fromkeys((self.model.parent.resolve(), self.model.resolve().parent)):
            try:
                path = (folder / location).resolve(strict=True)
                break
            except FileNotFoundError:
                continue
            except (OSError, RuntimeError) as error:
                problem = f"cannot be read ({error})"
                break
        if path is None:
            problem = f"keeps its weights in {location!r}, which {problem}"
            raise SourceError(self.model, problem, "put that file beside the model")
        if not any(path.is_relative_to(folder) for folder in folders):
            raise SourceError(self.model, f"keeps weights behind a link that leaves its folder, {location!r}", remedy)
        return path


def _beside(model: Path) -> list[Path]:
    """Return the real folders that a model's weights may lie in."""
    folder = model.parent.resolve()
    folders = [folder, model.resolve().parent]
    for revision in (folder, *folder.parents):
        if revision.parent.name == "snapshots" and (revision.parent.parent / "blobs").is_dir():
            folders.append(revision.parent.parent / "blobs")  # a repository in the cache of huggingface_hub
            break
    return folders


def _regular_size(f: BinaryIO, path: Path) -> int:
    status = os.fstat(f.fileno())
    if not stat.S_ISREG(status.st_mode):
        raise SourceError(path, "is not a regular file", "put the weights beside the model")
    return status.st_size


def _whole(text: str, name: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise DamagedError(f"external data with {name} {text[:40]!r}")
    return int(text)


def tensor_shape(tensor: Any) -> tuple[int, ...]:
    """Return the shape of a TensorProto or SparseTensorProto."""
    if len(tensor.dims) > DEEPEST:
        raise DamagedError(f"a tensor of {counted(len(tensor.dims), 'dimension')}")
    shape = tuple(int(d) for d in tensor.dims)
    if any(d < 0 for d in shape):
        raise DamagedError(f"a tensor of shape {list(shape)}")
    return shape


def type_name(tensor: Any) -> str:
    """Return the stored type of a TensorProto or SparseTensorProto as in `DepthwiseLayer.dtype`."""
    return _stored_type(tensor.values if is_sparse(tensor) else tensor).name


def is_sparse(tensor: Any) -> bool:
    """True for a SparseTensorProto."""
    return hasattr(tensor, "indices")


def _stored_type(tensor: Any) -> StoredType:
    stored = TYPES.get(tensor.data_type)
    if stored is None:
        raise LeftOutError(f"weights of ONNX type {tensor.data_type}")
    return stored


def tensor_array(tensor: Any, external: ExternalFiles, budget: Budget | None = None) -> AnyArray:
    """Return a TensorProto or SparseTensorProto as an array of its shape.

    bfloat16 becomes float32, 4-bit integers become 8-bit ones.

    Raises
    ------
    DamagedError
        The bytes do not fit the shape.
    LeftOutError
        Weights cannot have this type.
    SourceError
        As `ExternalFiles.read`.
    """
    budget = Budget(external.model) if budget is None else budget
    if is_sparse(tensor):
        return _dense(tensor, external, budget)
    shape, stored = tensor_shape(tensor), _stored_type(tensor)
    count = math.prod(shape)
    size = (count * stored.bits + 7) // 8
    if tensor.HasField("segment"):
        raise DamagedError("a tensor stored in segments")
    if tensor.data_location == 1:  # EXTERNAL
        data: bytes | memoryview = external.read(tensor, size, budget)
    elif tensor.HasField("raw_data"):
        budget.produce(size)  # the package copies it
        data = tensor.raw_data
    elif size > 0 and (raw := external.trimmed.raw(tensor.name)) is not None and not len(getattr(tensor, stored.typed)):
        data = raw
    else:
        budget.step(len(getattr(tensor, stored.typed)) // 8)
        budget.produce(8 * len(getattr(tensor, stored.typed)))
        return _typed(tensor, stored, count).reshape(shape)
    if len(data) != size:
        raise DamagedError(f"{counted(len(data), 'byte')} for a tensor of shape {list(shape)} and type {stored.name}")
    if stored.bits == 4 or stored.name == "bfloat16":
        budget.produce(2 * len(data))
    return _decode(np.frombuffer(data, stored.memory), stored, count).reshape(shape)


def _typed(tensor: Any, stored: StoredType, count: int) -> AnyArray:
    """Return values from a typed field, one number a value (4-bit types: one number for two values)."""
    values = getattr(tensor, stored.typed)
    entries = (count + 1) // 2 if stored.bits == 4 else count
    if len(values) != entries:
        raise DamagedError(f"{counted(len(values), 'number')} for a tensor of {counted(count, 'value')}")
    if stored.typed != "int32_data" or stored.name == "int32":
        return np.array(values, stored.memory)
    whole = np.array(values, np.int32)
    if stored.name == "float16":
        return whole.astype(np.uint16).view(np.float16)
    return _decode(whole.astype(stored.memory), stored, count)


def _decode(values: AnyArray, stored: StoredType, count: int) -> AnyArray:
    if stored.name == "bfloat16":  # the upper half of a float32
        return (values.astype(np.uint32) << 16).view(np.float32)
    if stored.bits == 4:
        return unpack_nibbles(values, count, signed=stored.name == "int4")
    return values


def _dense(tensor: Any, external: ExternalFiles, budget: Budget) -> AnyArray:
    """Return a SparseTensorProto as a dense array; its indices are linear (nnz,) or coordinates (nnz, rank)."""
    shape = tensor_shape(tensor)
    count = math.prod(shape)
    if count > LARGEST_SPARSE:
        raise DamagedError(f"a sparse tensor of shape {list(shape)}")
    values, indices = (tensor_array(part, external, budget) for part in (tensor.values, tensor.indices))
    budget.produce(count * values.itemsize)
    forms = ((values.size,), (values.size, len(shape)))
    if values.ndim != 1 or indices.dtype.kind != "i" or indices.shape not in forms:
        raise DamagedError(f"{list(values.shape)} sparse values with indices of shape {list(indices.shape)}")
    limits = np.array(shape if indices.ndim == 2 else count, np.int64)
    if (indices < 0).any() or (indices >= limits).any():
        raise DamagedError("indices of a sparse tensor outside its shape")
    out = np.zeros(shape, values.dtype)
    if indices.ndim == 2:
        out[tuple(indices.T)] = values
    else:
        out.reshape(-1)[indices] = values
    return out
