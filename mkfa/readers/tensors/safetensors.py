"""Read safetensors files: a strict header parser, and a reader of single tensors.

Format: 8 bytes header length (little-endian), a JSON object name -> dtype, shape, data_offsets, then the data, without
holes. The whole header is checked against the file before any data are read.
"""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mkfa.array_types import F32
from mkfa.errors import SourceError
from mkfa.frozen import FrozenDict
from mkfa.readers.options import DEFAULT, ReadOptions
from mkfa.readers.reading import Reading, TensorInfo
from mkfa.readers.tensors.dtypes import check_float, stored_bytes, to_float32
from mkfa.storage.budget import Budget
from mkfa.storage.files import open_file, read_span
from mkfa.words import counted

MAX_HEADER = 100_000_000
"""Longest header that is parsed, bytes; the limit of the safetensors library."""

MAX_DIMENSIONS = 64

_STEPS_AN_OBJECT = 20

_DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F8_E8M0": "float8_e8m0fnu",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
    "F6_E2M3": "float6_e2m3",
    "F6_E3M2": "float6_e3m2",
    "F4": "float4_e2m1",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U64": "uint64",
    "U32": "uint32",
    "U16": "uint16",
    "U8": "uint8",
    "BOOL": "bool",
    "C64": "complex64",
}
_AGAIN = "fetch the file again"


@dataclass(frozen=True, slots=True)
class Header:
    """A checked header.

    Attributes
    ----------
    tensors : in order of the header.
    spans : key -> (first byte, byte after the last), counted from the start of the file.
    metadata : the file's `__metadata__`, text -> text.
    size : where the data begin: bytes of length field and header.
    """

    tensors: Mapping[str, TensorInfo]
    spans: Mapping[str, tuple[int, int]]
    metadata: Mapping[str, str]
    size: int


def header_size(start: bytes, file_size: int, thing: object) -> int:
    """Return where the data begin, from the first 8 bytes of a file of `file_size` bytes; raises SourceError."""
    if len(start) < 8 or file_size < 8:
        raise SourceError(thing, f"is truncated: {counted(file_size, 'byte')}, too few for a safetensors file", _AGAIN)
    length = int(struct.unpack("<Q", start[:8])[0])
    if length > MAX_HEADER:
        problem = f"claims a header of {counted(length, 'byte')}, more than the limit of {MAX_HEADER:,}"
        raise SourceError(thing, problem, "check that it is a safetensors file, or fetch it again")
    if 8 + length > file_size:
        raise SourceError(thing, f"is truncated: its header ends at byte {8 + length} of {file_size}", _AGAIN)
    return 8 + length


def parse_header(data: bytes, file_size: int, thing: object, *, budget: Budget | None = None) -> Header:
    """Parse and check a header.

    Parameters
    ----------
    data : at least the first `header_size` bytes of the file.
    file_size : bytes of the whole file.
    thing : named in errors.
    budget : that of several files, grown by this one; None for one of its own.

    Raises SourceError: the JSON is malformed; a type is unknown; shapes and bytes disagree; data overlap, leave holes
    or do not end with the file; names are too long, or too many for the file's size.
    """
    size = header_size(data, file_size, thing)
    if len(data) < size:
        problem = f"is truncated: {counted(len(data), 'byte')} of a header of {counted(size, 'byte')}"
        raise SourceError(thing, problem, _AGAIN)
    budget = Budget(thing, file_size) if budget is None else budget
    entries = json_object(data[8:size], thing, budget)
    metadata = entries.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise SourceError(thing, "has metadata that are not text", _AGAIN)
    tensors: dict[str, TensorInfo] = {}
    spans: dict[str, tuple[int, int]] = {}
    for key, entry in entries.items():
        tensors[key], spans[key] = _entry(key, entry, thing)
        budget.tensor(key, shape=tensors[key].shape)
    _check_layout(spans, file_size - size, thing)
    placed = {key: (size + first, size + last) for key, (first, last) in spans.items()}
    return Header(FrozenDict(tensors), FrozenDict(placed), FrozenDict(metadata), size)


def json_object(data: bytes, thing: object, budget: Budget | None = None) -> dict[str, Any]:
    """Parse a JSON object; raises SourceError for other values, repeated names, and more objects than `budget` has."""
    spent = Budget(thing, len(data)) if budget is None else budget

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        spent.step(_STEPS_AN_OBJECT)
        out: dict[str, Any] = {}
        for name, value in pairs:
            if name in out:
                raise SourceError(thing, f"has the name {name[:80]!r} twice", _AGAIN)
            out[name] = value
        return out

    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        problem = f"does not contain valid JSON ({str(error)[:80]})"
        raise SourceError(thing, problem, "check that it is a safetensors file, or fetch it again") from None
    if not isinstance(value, dict):
        raise SourceError(thing, "has JSON that is not an object", _AGAIN)
    return value


def _entry(key: str, entry: Any, thing: object) -> tuple[TensorInfo, tuple[int, int]]:
    """Check one tensor's entry; its offsets are relative to the data."""
    name = key[:80]
    if not isinstance(entry, dict) or not {"dtype", "shape", "data_offsets"} <= entry.keys():
        raise SourceError(thing, f"describes the tensor {name!r} incompletely", _AGAIN)
    code, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(code, str) or code not in _DTYPES:
        raise SourceError(thing, f"has {name!r} in the unknown type {str(code)[:20]!r}", "save it as float32")
    if not _whole_numbers(shape) or len(shape) > MAX_DIMENSIONS:
        raise SourceError(thing, f"gives {name!r} a malformed shape", _AGAIN)
    if not _whole_numbers(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise SourceError(thing, f"gives {name!r} malformed offsets", _AGAIN)
    dtype, size = _DTYPES[code], offsets[1] - offsets[0]
    # At most 8 numbers fit a byte: no larger product of the shape is computed.
    if 0 not in shape and math.prod(min(n, 8 * size + 1) for n in shape) > 8 * size:
        raise SourceError(thing, f"claims more numbers for {name!r} than fit its {counted(size, 'byte')}", _AGAIN)
    try:
        nbytes = stored_bytes(tuple(shape), dtype)
    except ValueError:
        nbytes = -1
    if nbytes != size:
        raise SourceError(
            thing, f"has {counted(size, 'byte')} for {name!r}, which do not fit its shape and type", _AGAIN
        )
    return TensorInfo(key, tuple(shape), dtype, nbytes), (offsets[0], offsets[1])


def _whole_numbers(value: Any) -> bool:
    return isinstance(value, list) and all(type(n) is int and 0 <= n < 1 << 63 for n in value)


def _check_layout(spans: Mapping[str, tuple[int, int]], data_size: int, thing: object) -> None:
    at = 0
    for key, (first, last) in sorted(spans.items(), key=lambda item: item[1]):
        if first != at:
            word = "overlaps the tensor before it" if first < at else "leaves a hole before it"
            raise SourceError(thing, f"has data where {key[:80]!r} {word}", _AGAIN)
        at = last
    if at > data_size:
        raise SourceError(thing, f"is truncated: {data_size:,} of {counted(at, 'byte')} of data", _AGAIN)
    if at < data_size:
        raise SourceError(thing, f"has {counted(data_size - at, 'byte')} after its last tensor", _AGAIN)


@dataclass(frozen=True, slots=True)
class SafetensorsFile:
    """A local safetensors file as a `TensorFile`."""

    path: Path
    header: Header

    @property
    def tensors(self) -> Mapping[str, TensorInfo]:
        return self.header.tensors

    @property
    def metadata(self) -> Mapping[str, str]:
        """What the file says of itself."""
        return self.header.metadata

    def read(self, keys: Sequence[str]) -> Iterator[tuple[str, F32]]:
        """Yield (key, tensor as float32) in order of the file."""
        with open_file(self.path) as f:
            for key in sorted(keys, key=lambda key: self.header.spans[key]):
                info, (first, last) = self.tensors[key], self.header.spans[key]
                check_float(self.path, info)
                yield key, to_float32(read_span(f, first, last, thing=self.path), info.dtype).reshape(info.shape)


def open_safetensors(path: Path, budget: Budget | None = None) -> SafetensorsFile:
    """Open a safetensors file; `budget` is that of the files that it is one of. Raises as `parse_header`."""
    with open_file(path) as f:
        size = os.fstat(f.fileno()).st_size
        if budget is not None:
            budget.grow(size)
        start = read_span(f, 0, min(8, size), thing=path)
        data = read_span(f, 0, header_size(start, size, path), thing=path)
        return SafetensorsFile(path, parse_header(data, size, path, budget=budget))


def read_safetensors(path: Path, options: ReadOptions = DEFAULT) -> Reading:
    """Read one safetensors file; parameters and errors as for `mkfa.readers.formats.reader_for`."""
    from mkfa.readers.tensors.checkpoint import CheckpointInfo, read_checkpoint

    file = open_safetensors(path)
    hint = next((file.header.metadata[name] for name in ("architecture", "arch") if name in file.header.metadata), "")
    return read_checkpoint(file, CheckpointInfo(path, hint=hint, hashed=(path,)), options)
