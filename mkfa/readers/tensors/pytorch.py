"""PyTorch checkpoints (.pth .pt .ckpt .bin; zip and legacy), other pickles of tensors, and TorchScript archives.

`torch.load` runs what a pickle names, or refuses it; importing torch takes seconds and most of a gigabyte;
`torch.jit.load` compiles the code in an archive and runs its `__setstate__` methods. Here
`mkfa.readers.tensors.inert_pickle`, which cannot run anything, reads the pickle and says where the numbers are.
"""

from __future__ import annotations

import io
import math
import os
import struct
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np

from mkfa.array_types import F32, AnyArray
from mkfa.errors import SourceError
from mkfa.frozen import FrozenDict
from mkfa.readers.options import DEFAULT, ReadOptions
from mkfa.readers.reading import GraphLayer, Reading, TensorInfo
from mkfa.readers.tensors.dtypes import BITS, check_float, to_float32
from mkfa.readers.tensors.inert_pickle import Interpreter
from mkfa.readers.tensors.inert_values import DamagedPickleError, Inert, QuantScale, StorageRef, TensorRef
from mkfa.readers.tensors.pickled_objects import Contents, contents_of, note_packed
from mkfa.readers.tensors.roles import is_depthwise_shape
from mkfa.storage.files import open_file, read_span

MAX_PICKLE = 1 << 28
"""Longest pickle that is read, bytes. PyTorch's do not contain the numbers, so real ones have a few megabytes."""

_AGAIN = "fetch the file again"
_SUB_BYTE = ("quint4x2", "quint2x4")
_LONGEST_CONFIG = 64
_LONGEST_NAME = 200
_MOST_NAMES = 50
Spans = Mapping[str, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class TorchFile:
    """A local PyTorch file as a `TensorFile`.

    Attributes
    ----------
    refs : key -> place of the tensor in its storage.
    spans : storage -> (first byte, byte after the last) in the file.
    value : the content of the pickle, without numbers.
    unnamed : number of tensors with a depthwise layer's shape that a frozen TorchScript module stores without names.
    facts : weight -> what the modules of a network that was pickled whole say of it (`Contents.facts`).
    architecture : timm's name of such a network, else "".
    stood_in : name of a class or function -> number of objects that inert data stand for.
    """

    path: Path
    tensors: Mapping[str, TensorInfo]
    refs: Mapping[str, TensorRef]
    spans: Spans
    value: Any
    big_endian: bool = False
    unnamed: int = 0
    facts: Mapping[str, GraphLayer | str] = field(default_factory=lambda: FrozenDict({}))
    architecture: str = ""
    stood_in: Mapping[str, int] = field(default_factory=lambda: FrozenDict({}))

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
            numbers = Numbers(self.path, f, self.spans, self.big_endian)
            done: dict[TensorRef, F32] = {}
            for key in keys:
                ref = self.refs[key]
                if ref not in done:
                    done[ref] = numbers.tensor(ref)
                yield key, done[ref]


@dataclass(frozen=True, slots=True)
class Numbers:
    """Reads tensors from an open file, or from the bytes that its pickle contains."""

    path: Path
    f: FileIO
    spans: Spans
    big_endian: bool = False

    def tensor(self, ref: TensorRef) -> F32:
        """Return a tensor as float32; quantised integers become real numbers."""
        flat = self._flat(ref)
        values = to_float32(flat, ref.dtype, big_endian=self._is_big_endian(ref))
        steps = tuple(step * 4 for step in ref.stride)
        # Safe: `values` ends with the last number that shape and strides reach.
        out = np.ascontiguousarray(np.lib.stride_tricks.as_strided(values, ref.shape, steps))
        if ref.scale is not None:
            out = self._real(out, ref.scale, ref)
        return -out if ref.negated else out

    def whole_numbers(self, ref: TensorRef) -> list[int]:
        """Return a short list of 16-bit whole numbers."""
        kind = (">" if self._is_big_endian(ref) else "<") + "i2"
        return [int(n) for n in np.frombuffer(self._flat(ref), kind)[:: max(ref.stride[0], 1)]]

    def _is_big_endian(self, ref: TensorRef) -> bool:
        return self.big_endian if ref.storage.data is None else ref.storage.big_endian

    def _flat(self, ref: TensorRef) -> bytes:
        """Return the stored bytes from a tensor's first number to its last."""
        size = BITS[ref.dtype] // 8
        unit = size if ref.storage.dtype else 1  # views of untyped storage count bytes
        first = ref.storage.first * unit + ref.offset * size
        last = first + _reach(ref) * size
        if ref.storage.data is not None:
            return ref.storage.data[first:last]
        start = self.spans[ref.storage.key][0]
        return read_span(self.f, start + first, start + last, thing=self.path)

    def _real(self, integers: F32, scale: QuantScale, ref: TensorRef) -> F32:
        """Return (integer - zero) * scale in the precision of torch's dequantize(): one scale in float32, one for each
        channel in float64."""
        zero, step = (self._along(part, scale.axis, ref) for part in (scale.zero, scale.scale))
        return np.asarray((integers - zero.astype(np.float32)) * step, np.float32)

    def _along(self, part: Any, axis: int, ref: TensorRef) -> AnyArray:
        if axis < 0:
            return np.asarray(part, np.float32)
        if isinstance(part, TensorRef) and part.dtype == "float64":
            values = np.frombuffer(self._flat(part), ">f8" if self._is_big_endian(part) else "<f8").astype(np.float64)
            values = values[:: max(part.stride[0], 1)]
        else:
            values = np.asarray(self.tensor(part) if isinstance(part, TensorRef) else part, np.float64)
        if values.size != ref.shape[axis]:
            raise SourceError(self.path, f"has {values.size} scales for a tensor of shape {ref.shape}", _AGAIN)
        return values.reshape([-1 if i == axis else 1 for i in range(len(ref.shape))])


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
    if not file.tensors and isinstance(file.value, Inert):
        problem = f"is a pickled object of {file.value.name[:80]} without tensors; it was not built"
        raise SourceError(path, problem, "give a checkpoint with weights")
    return reading


def open_torch(path: Path) -> TorchFile:
    """Open a PyTorch file of any format; raises SourceError as `read_torch`."""
    from mkfa.readers.tensors.pytorch_legacy import open_legacy, open_tar

    with open_file(path) as f:
        size = os.fstat(f.fileno()).st_size
        try:
            head = read_span(f, 0, min(512, size), thing=path)
            if head.startswith(b"PK\x03\x04"):
                return _open_zip(path, f, size)
            return open_tar(path, f, size) if head[257:262] == b"ustar" else open_legacy(path, f, size)
        except DamagedPickleError as error:
            raise SourceError(path, f"is damaged or not a PyTorch file: it has {error}", _AGAIN) from None
        except OSError as error:
            raise SourceError(path, f"cannot be read ({error.strerror or error})", "check the disk") from error


def _open_zip(path: Path, f: FileIO, size: int) -> TorchFile:
    records = _records(f, size, path)
    pickles = [name for name in records if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(pickles) != 1:
        if any(name.endswith("archive_format") for name in records):
            raise SourceError(path, "is a torch.export archive", "save the module's state_dict() as safetensors")
        raise SourceError(path, "is a zip file, but not PyTorch's", "unpack it and give the checkpoint in it")
    top = pickles[0].removesuffix("data.pkl")
    constants = records.get(f"{top}constants.pkl")
    order = records.get(f"{top}byteorder")
    word = read_span(f, order[0], min(order[1], order[0] + 16), thing=path) if order else b"little"
    big_endian = word.strip() == b"big"
    interpreter, value = _record_pickle(f, records[pickles[0]], path)
    spans = {}
    for key, ref in interpreter.storages.items():
        record = records.get(f"{top}data/{key}")
        if record is None:
            raise SourceError(path, f"lacks the data record {key[:40]!r}", _AGAIN)
        spans[key] = checked_span(record, ref, path)
    file = torch_file(Numbers(path, f, spans, big_endian), value, interpreter)
    if constants is None:
        return file
    _, frozen = _record_pickle(f, constants, path)
    return replace(file, unnamed=sum(is_depthwise_shape(ref.shape) for _, ref in contents_of(frozen).tensors))


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


def _record_pickle(f: FileIO, record: tuple[int, int], path: Path) -> tuple[Interpreter, Any]:
    first, last = record
    if last - first > MAX_PICKLE:
        raise SourceError(path, f"has a pickle of {last - first} bytes", "save model.state_dict() alone")
    interpreter = Interpreter(io.BytesIO(read_span(f, first, last, thing=path)), last - first)
    return interpreter, interpreter.load()


def checked_span(record: tuple[int, int], ref: StorageRef, path: Path) -> tuple[int, int]:
    """Return where the numbers of a storage lie in its record; raises SourceError if it is too short."""
    nbytes = ref.numel * (BITS[ref.dtype] // 8 if ref.dtype else 1)
    if record[1] - record[0] < nbytes:
        problem = f"has {record[1] - record[0]} of {nbytes} bytes of the data record {ref.key[:40]!r}"
        raise SourceError(path, problem, _AGAIN)
    return record[0], record[0] + nbytes


def torch_file(numbers: Numbers, value: Any, interpreter: Interpreter) -> TorchFile:
    """Return an open file from the content of its pickle and the places of its storages."""
    path, found = numbers.path, contents_of(value)
    refs: dict[str, TensorRef] = {}
    tensors: dict[str, TensorInfo] = {}
    for key, ref in found.tensors:
        if key in refs or not ref.dtype:
            continue
        size = BITS[ref.dtype] // 8
        dtype, count = ref.dtype, math.prod(ref.shape)
        if ref.without:
            dtype = f"{ref.without} {dtype}"
        elif ref.dtype not in _SUB_BYTE:
            available = ref.storage.numel if ref.storage.dtype else ref.storage.numel // size
            if ref.offset + _reach(ref) > available:
                raise SourceError(path, f"claims the tensor {key[:80]!r} beyond its data", _AGAIN)
            # An expanded tensor (stride 0) repeats few numbers and may be larger than any memory.
            dtype = dtype if count <= available else f"expanded {dtype}"
        if dtype in ("qint8", "quint8", "qint32") and ref.scale is None:
            dtype = f"{dtype} without scale"
        refs[key], tensors[key] = ref, TensorInfo(key, ref.shape, dtype, count * size)
    _note_packed(numbers, found)
    return TorchFile(
        path,
        FrozenDict(tensors),
        FrozenDict(refs),
        FrozenDict(dict(numbers.spans)),
        value,
        numbers.big_endian,
        facts=FrozenDict(found.facts),
        architecture=found.architecture,
        stood_in=FrozenDict(_stood_in(interpreter.built)),
    )


def _stood_in(built: Mapping[str, int]) -> dict[str, int]:
    """Return the names that were stood in for, most frequent first; a name that only occurs counts once."""
    ranked = sorted(((max(n, 1), name) for name, n in built.items()), key=lambda item: (-item[0], item[1]))
    listed = {name[:_LONGEST_NAME]: n for n, name in ranked[:_MOST_NAMES]}
    rest = sum(n for n, _ in ranked[_MOST_NAMES:])
    return listed | ({"other names": rest} if rest else {})


def _note_packed(numbers: Numbers, found: Contents) -> None:
    """Read the configurations of packed quantised convolutions, which a file stores as short tensors."""
    for key, (config, weight) in found.packed.items():
        if isinstance(config, TensorRef):
            if math.prod(config.shape) > _LONGEST_CONFIG or config.offset + _reach(config) > config.storage.numel:
                continue
            config = numbers.whole_numbers(config)
        note_packed(config, weight, key, found)


def _reach(ref: TensorRef) -> int:
    """Return how many numbers the tensor spans from its first to its last; 0 if it is empty."""
    if 0 in ref.shape:
        return 0
    return 1 + sum((n - 1) * step for n, step in zip(ref.shape, ref.stride, strict=True))
