"""PyTorch checkpoints (.pth .pt .ckpt .bin; zip and legacy) and TorchScript archives (without torch).

`torch.load(weights_only=True)` refuses the same files (the tests compare the two), but importing torch takes seconds
and most of a gigabyte; `torch.jit.load` compiles the code in an archive and runs its `__setstate__` methods. Here
`mkfa.readers.tensors.inert_pickle`, which cannot run anything, reads the pickle and says where the numbers are.
"""

from __future__ import annotations

import io
import math
import os
import struct
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np

from mkfa.array_types import F32
from mkfa.errors import SourceError
from mkfa.frozen import FrozenDict
from mkfa.readers.options import DEFAULT, ReadOptions
from mkfa.readers.reading import Reading, TensorInfo
from mkfa.readers.tensors.dtypes import BITS, check_float, to_float32
from mkfa.readers.tensors.inert_pickle import (
    DamagedPickleError,
    Inert,
    Interpreter,
    RefusedPickleError,
    StorageRef,
    TensorRef,
)
from mkfa.readers.tensors.roles import is_depthwise_shape
from mkfa.storage.files import open_file, read_span

MAX_PICKLE = 1 << 28
"""Longest pickle that is read, bytes. It does not contain the numbers, so real ones have a few megabytes."""

MAX_DEPTH = 64
"""Deepest nesting of containers that is read."""

_CONTAINERS = (dict, list, tuple, TensorRef, Inert)
_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001
_AGAIN = "fetch the file again"
_RESAVE = "if you trust it, load it once yourself and save model.state_dict() as safetensors"


@dataclass(frozen=True, slots=True)
class TorchFile:
    """A local PyTorch file as a `TensorFile`.

    Attributes
    ----------
    refs : key -> place of the tensor in its storage.
    spans : storage -> (first byte, byte after the last) in the file.
    value : the content of the pickle, without numbers.
    unnamed : number of tensors with a depthwise layer's shape that a frozen TorchScript module stores without names.
    """

    path: Path
    tensors: Mapping[str, TensorInfo]
    refs: Mapping[str, TensorRef]
    spans: Mapping[str, tuple[int, int]]
    value: Any
    big_endian: bool = False
    unnamed: int = 0

    def read(self, keys: Sequence[str]) -> Iterator[tuple[str, F32]]:
        """Yield (key, tensor as float32)."""
        for key in keys:
            check_float(self.path, self.tensors[key])
        wanted = dict.fromkeys(self.refs[key] for key in keys)
        with open_file(self.path) as f:
            # Views of one storage may overlap, but real ones do not add up to many times the file.
            total = sum(math.prod(ref.shape) * BITS[ref.dtype] // 8 for ref in wanted)
            if total > 4 * os.fstat(f.fileno()).st_size:
                raise SourceError(self.path, "claims more numbers than it has", _AGAIN)
            done: dict[TensorRef, F32] = {}
            for key in keys:
                ref = self.refs[key]
                if ref not in done:
                    done[ref] = self._tensor(f, ref)
                yield key, done[ref]

    def _tensor(self, f: FileIO, ref: TensorRef) -> F32:
        size = BITS[ref.dtype] // 8
        unit = size if ref.storage.dtype else 1  # views of untyped storage count bytes
        first = self.spans[ref.storage.key][0] + ref.storage.first * unit + ref.offset * size
        data = read_span(f, first, first + _reach(ref) * size, thing=self.path)
        flat = to_float32(data, ref.dtype, big_endian=self.big_endian)
        steps = tuple(step * 4 for step in ref.stride)
        # Safe: `flat` ends with the last number that shape and strides reach.
        return np.ascontiguousarray(np.lib.stride_tricks.as_strided(flat, ref.shape, steps))


def read_torch(path: Path, options: ReadOptions = DEFAULT) -> Reading:
    """Read one PyTorch file; parameters and errors as for `mkfa.readers.formats.reader_for`."""
    from mkfa.readers.tensors.checkpoint import CheckpointInfo, read_checkpoint

    file = open_torch(path)
    arch = file.value.get("arch") if isinstance(file.value, dict) else None
    hint = arch if isinstance(arch, str) else ""
    reading = read_checkpoint(file, CheckpointInfo(path, hint=hint, hashed=(path,)), options)
    if not reading.layers and file.unnamed:
        problem = f"is a frozen TorchScript module: {file.unnamed} depthwise weights have lost their names"
        raise SourceError(path, problem, "harvest the module before torch.jit.freeze")
    return reading


def open_torch(path: Path) -> TorchFile:
    """Open a PyTorch file of any format; raises SourceError as `read_torch`."""
    with open_file(path) as f:
        size = os.fstat(f.fileno()).st_size
        try:
            if read_span(f, 0, min(4, size), thing=path) == b"PK\x03\x04":
                return _open_zip(path, f, size)
            return _open_legacy(path, f, size)
        except RefusedPickleError as error:
            raise _refused(path, error) from None
        except DamagedPickleError as error:
            raise SourceError(path, f"is damaged or not a PyTorch file: it has {error}", _AGAIN) from None
        except OSError as error:
            raise SourceError(path, f"cannot be read ({error.strerror or error})", "check the disk") from error


def _refused(path: Path, error: RefusedPickleError) -> SourceError:
    if error.whole:
        problem = f"is a pickled object of {error.name}, not weights: loading it would run code, so none of it was read"
    else:
        problem = (
            f"contains the Python object {error.name} beside weights, which torch.load(weights_only=True) refuses too"
        )
    return SourceError(path, problem, _RESAVE)


def _open_zip(path: Path, f: FileIO, size: int) -> TorchFile:
    records = _records(f, size, path)
    pickles = [name for name in records if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(pickles) != 1:
        if any(name.endswith("archive_format") for name in records):
            raise SourceError(path, "is a torch.export archive", "save the module's state_dict() as safetensors")
        raise SourceError(path, "is a zip file, but not PyTorch's", "unpack it and give the checkpoint in it")
    top = pickles[0].removesuffix("data.pkl")
    script = f"{top}constants.pkl" in records
    order = records.get(f"{top}byteorder")
    word = read_span(f, order[0], min(order[1], order[0] + 16), thing=path) if order else b"little"
    big_endian = word.strip() == b"big"
    interpreter, value = _record_pickle(f, records[pickles[0]], path, script=script)
    spans = {}
    for key, ref in interpreter.storages.items():
        record = records.get(f"{top}data/{key}")
        if record is None:
            raise SourceError(path, f"lacks the data record {key[:40]!r}", _AGAIN)
        spans[key] = _checked_span(record, ref, path)
    unnamed = 0
    if script:
        _, constants = _record_pickle(f, records[f"{top}constants.pkl"], path, script=True)
        unnamed = sum(is_depthwise_shape(ref.shape) for _, ref in tensors_in(constants))
    return _torch_file(path, value, spans, big_endian=big_endian, unnamed=unnamed)


def _records(f: FileIO, size: int, path: Path) -> dict[str, tuple[int, int]]:
    """Return name -> (first byte, byte after the last) of the stored records of a zip file."""
    try:
        with zipfile.ZipFile(f) as archive:
            infos = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, LookupError, EOFError, OverflowError, struct.error):
        raise SourceError(path, "is truncated or damaged: its zip directory cannot be read", _AGAIN) from None
    out: dict[str, tuple[int, int]] = {}
    total = 0
    for info in infos:
        if info.filename in out:
            raise SourceError(path, f"has the record {info.filename[:60]!r} twice", _AGAIN)
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
            continue  # code of a TorchScript archive; PyTorch does not compress records that are read here
        first = _data_start(f, info, size, path)
        total += info.file_size
        if first + info.file_size > size or total > size or info.compress_size != info.file_size:
            raise SourceError(path, f"claims a record {info.filename[:60]!r} beyond its end", _AGAIN)
        out[info.filename] = (first, first + info.file_size)
    return out


def _data_start(f: FileIO, info: zipfile.ZipInfo, size: int, path: Path) -> int:
    at = info.header_offset
    if not 0 <= at <= size - 30:
        raise SourceError(path, f"claims a record {info.filename[:60]!r} beyond its end", _AGAIN)
    head = read_span(f, at, at + 30, thing=path)
    if head[:4] != b"PK\x03\x04":
        raise SourceError(path, f"has no record {info.filename[:60]!r} where its directory says", _AGAIN)
    name, extra = struct.unpack("<HH", head[26:30])
    return at + 30 + int(name) + int(extra)


def _record_pickle(f: FileIO, record: tuple[int, int], path: Path, *, script: bool) -> tuple[Interpreter, Any]:
    first, last = record
    if last - first > MAX_PICKLE:
        raise SourceError(path, f"has a pickle of {last - first} bytes", "save model.state_dict() alone")
    interpreter = Interpreter(io.BytesIO(read_span(f, first, last, thing=path)), last - first, script=script)
    return interpreter, interpreter.load()


def _checked_span(record: tuple[int, int], ref: StorageRef, path: Path) -> tuple[int, int]:
    nbytes = ref.numel * (BITS[ref.dtype] // 8 if ref.dtype else 1)
    if record[1] - record[0] < nbytes:
        problem = f"has {record[1] - record[0]} of {nbytes} bytes of the data record {ref.key[:40]!r}"
        raise SourceError(path, problem, _AGAIN)
    return record[0], record[0] + nbytes


def _open_legacy(path: Path, f: FileIO, size: int) -> TorchFile:
    """Open the format before PyTorch 1.6: five pickles, then count and numbers of each storage."""
    stream = io.BufferedReader(f)
    interpreter = Interpreter(stream, min(size, MAX_PICKLE))
    try:
        if interpreter.load() != _MAGIC:
            problem = "is a pickle, but not PyTorch's"
            raise SourceError(path, problem, "give a file that torch.save wrote, or safetensors")
        if interpreter.load() != _PROTOCOL:
            raise SourceError(path, "has an unknown PyTorch format", "save it again with a current PyTorch")
        interpreter.load()
        value, keys = interpreter.load(), interpreter.load()
        at = stream.tell()
    finally:
        stream.detach()  # else deleting the stream would close `f`
    if not isinstance(keys, list):
        raise DamagedPickleError("storages that are not a list")
    spans: dict[str, tuple[int, int]] = {}
    for key in (str(key) for key in keys):
        ref = interpreter.storages.get(key)
        if ref is None or key in spans or not ref.dtype:
            raise DamagedPickleError("a storage that no tensor uses")
        count = struct.unpack("<q", read_span(f, at, at + 8, thing=path))[0] if at + 8 <= size else -1
        if count != ref.numel:
            raise SourceError(path, f"is truncated or damaged at byte {at}", _AGAIN)
        record = (at + 8, min(size, at + 8 + ref.numel * BITS[ref.dtype] // 8))
        spans[key] = _checked_span(record, ref, path)
        at = spans[key][1]
    if set(interpreter.storages) - set(spans):
        raise DamagedPickleError("tensors without data")
    return _torch_file(path, value, spans)


def _torch_file(
    path: Path, value: Any, spans: Mapping[str, tuple[int, int]], *, big_endian: bool = False, unnamed: int = 0
) -> TorchFile:
    refs: dict[str, TensorRef] = {}
    tensors: dict[str, TensorInfo] = {}
    for key, ref in tensors_in(value):
        if key in refs or not ref.dtype:
            continue
        size = BITS[ref.dtype] // 8
        available = ref.storage.numel if ref.storage.dtype else ref.storage.numel // size
        if ref.offset + _reach(ref) > available:
            raise SourceError(path, f"claims the tensor {key[:80]!r} beyond its data", _AGAIN)
        count = math.prod(ref.shape)
        # An expanded tensor (stride 0) repeats few numbers and may be larger than any memory.
        dtype = ref.dtype if count <= available else f"expanded {ref.dtype}"
        refs[key], tensors[key] = ref, TensorInfo(key, ref.shape, dtype, count * size)
    return TorchFile(path, FrozenDict(tensors), FrozenDict(refs), FrozenDict(dict(spans)), value, big_endian, unnamed)


def _reach(ref: TensorRef) -> int:
    """Return how many numbers the tensor spans from its first to its last; 0 if it is empty."""
    if 0 in ref.shape:
        return 0
    return 1 + sum((n - 1) * step for n, step in zip(ref.shape, ref.stride, strict=True))


def tensors_in(value: Any) -> Iterator[tuple[str, TensorRef]]:
    """Yield (dotted path, tensor) of all tensors in nested containers, in order.

    A container that occurs twice is read once. Raises DamagedPickleError beyond `MAX_DEPTH` levels.
    """
    entered: set[int] = set()
    waiting: list[tuple[tuple[str, ...], Any]] = [((), value)]
    while waiting:
        path, item = waiting.pop()
        if isinstance(item, TensorRef):
            yield ".".join(path), item
            continue
        if isinstance(item, Inert):
            item = item.state
        if not isinstance(item, dict | list | tuple) or id(item) in entered:
            continue
        if len(path) >= MAX_DEPTH:
            raise DamagedPickleError("containers nested too deep")
        entered.add(id(item))
        pairs = item.items() if isinstance(item, dict) else enumerate(item)
        inner = [((*path, str(key)), part) for key, part in pairs if isinstance(part, _CONTAINERS)]
        waiting.extend(reversed(inner))
