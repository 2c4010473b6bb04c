"""An open PyTorch file: where its tensors lie, and their numbers as float32."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np

from mkfa.array_types import F32, AnyArray
from mkfa.errors import SourceError
from mkfa.frozen import FrozenDict
from mkfa.readers.reading import GraphLayer, TensorInfo
from mkfa.readers.tensors.dtypes import BITS, QUANTISED, check_float, to_float32
from mkfa.readers.tensors.inert_pickle import Interpreter
from mkfa.readers.tensors.inert_values import QuantScale, StorageRef, TensorRef
from mkfa.readers.tensors.pickled_objects import LONGEST_KEY, Contents, contents_of, note_packed
from mkfa.storage.budget import Budget
from mkfa.storage.files import open_file, read_span
from mkfa.storage.zip_records import check_span
from mkfa.words import counted

MAX_PICKLE = 1 << 28
"""Longest pickle that is read, bytes. PyTorch's do not contain the numbers, so real ones have a few megabytes."""

_AGAIN = "fetch the file again"
_SUB_BYTE = ("quint4x2", "quint2x4")
_LONGEST_CONFIG = 64
_LONGEST_NAME = 200
_MOST_NAMES = 50
_STEPS_A_READ = 20
Spans = Mapping[str, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class TorchFile:
    """A local PyTorch file as a `TensorFile`.

    Attributes
    ----------
    refs : key -> place of the tensor in its storage.
    spans : storage -> (first byte, byte after the last) in the file.
    records : storage -> (first byte, byte after the last, CRC-32) of its record in a zip file, which is compared when
        a tensor of the storage is read.
    value : the content of the pickle, without numbers.
    unnamed : number of tensors with a depthwise layer's shape that a frozen TorchScript module stores without names.
    facts : weight -> what the modules of a network that was pickled whole say of it (`Contents.facts`).
    architecture : timm's name of such a network, else "".
    budget : of the file, for what is read of it.
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
    records: Mapping[str, tuple[int, int, int]] = field(default_factory=lambda: FrozenDict({}))
    budget: Budget = field(default_factory=Budget)

    def read(self, keys: Sequence[str]) -> Iterator[tuple[str, F32]]:
        """Yield (key, tensor as float32)."""
        for key in keys:
            check_float(self.path, self.tensors[key])
        wanted = dict.fromkeys(self.refs[key] for key in keys)
        for ref in wanted:  # views of one storage may overlap, and reach from its first number to its last
            self.budget.step(_STEPS_A_READ)
            stored = sum(_reach(part) * BITS[part.dtype] // 8 for part in ref.entries or (ref,))
            self.budget.produce((math.prod(ref.shape) * 4 + stored) * 2 // 3)
        with open_file(self.path) as f:
            for storage in dict.fromkeys(key for ref in wanted for key in _storages(ref)):
                if storage in self.records:
                    check_span(f, self.records[storage], name=f"data/{storage}", thing=self.path)
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
        """Return a tensor as float32; quantised integers become real numbers, and sparse tensors dense."""
        if ref.entries is not None:
            return self._dense(ref.shape, *ref.entries)
        flat = self._flat(ref)
        values = to_float32(flat, ref.dtype, big_endian=self._is_big_endian(ref))
        steps = tuple(step * 4 for step in ref.stride)
        # Safe: `values` ends with the last number that shape and strides reach.
        out = np.ascontiguousarray(np.lib.stride_tricks.as_strided(values, ref.shape, steps))
        if ref.scale is not None:
            out = self._real(out, ref.scale, ref)
        return -out if ref.negated else out

    def _dense(self, shape: tuple[int, ...], index: TensorRef, values: TensorRef) -> F32:
        """Return a sparse tensor as an array; numbers in one place add up, as in torch's to_dense()."""
        kind = (">" if self._is_big_endian(index) else "<") + "i8"
        flat, steps = np.frombuffer(self._flat(index), kind), tuple(step * 8 for step in index.stride)
        places = np.lib.stride_tricks.as_strided(flat, index.shape, steps)
        if ((places < 0) | (places >= np.array(shape[: len(places)])[:, None])).any():
            raise SourceError(self.path, "has a sparse tensor with numbers beyond its shape", _AGAIN)
        out = np.zeros(shape, np.float32)
        np.add.at(out, tuple(places), self.tensor(values))
        return out

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
            raise SourceError(
                self.path, f"has {counted(values.size, 'scale')} for a tensor of shape {ref.shape}", _AGAIN
            )
        return values.reshape([-1 if i == axis else 1 for i in range(len(ref.shape))])


def checked_span(record: tuple[int, int], ref: StorageRef, path: Path) -> tuple[int, int]:
    """Return where the numbers of a storage lie in its record; raises SourceError if it is too short."""
    nbytes = ref.numel * (BITS[ref.dtype] // 8 if ref.dtype else 1)
    if record[1] - record[0] < nbytes:
        problem = f"has {record[1] - record[0]} of {counted(nbytes, 'byte')} of the data record {ref.key[:40]!r}"
        raise SourceError(path, problem, _AGAIN)
    return record[0], record[0] + nbytes


def torch_file(
    numbers: Numbers, value: Any, interpreter: Interpreter, *, called: Mapping[str, Mapping[str, Any]] | None = None
) -> TorchFile:
    """Return an open file from the content of its pickle, the places of its storages and what its code calls."""
    path, budget = numbers.path, interpreter.budget
    found = contents_of({"tensor": value} if isinstance(value, TensorRef) else value, budget, called)
    refs: dict[str, TensorRef] = {}
    tensors: dict[str, TensorInfo] = {}
    for key, ref in found.tensors:
        budget.tensor(key, LONGEST_KEY, shape=ref.shape)
        if key in refs or not ref.dtype:
            continue
        size = BITS[ref.dtype] // 8
        dtype, count = ref.dtype, math.prod(ref.shape)
        if ref.without:
            dtype = f"{ref.without} {dtype}"
        elif ref.entries is not None:
            if any(_beyond(part) for part in ref.entries):
                raise SourceError(path, f"claims the tensor {key[:80]!r} beyond its data", _AGAIN)
        elif ref.dtype not in _SUB_BYTE:
            available = ref.storage.numel if ref.storage.dtype else ref.storage.numel // size
            if _beyond(ref):
                raise SourceError(path, f"claims the tensor {key[:80]!r} beyond its data", _AGAIN)
            # An expanded tensor (stride 0) repeats few numbers and may be larger than any memory.
            dtype = dtype if count <= available else f"expanded {dtype}"
        if dtype in QUANTISED and ref.scale is None:
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
        budget=budget,
    )


def _storages(ref: TensorRef) -> list[str]:
    """Return the storages in the file that a tensor and its scales are in."""
    parts = [ref, ref.scale.zero, ref.scale.scale] if ref.scale is not None else list(ref.entries or (ref,))
    return [part.storage.key for part in parts if isinstance(part, TensorRef) and part.storage.data is None]


def _stood_in(built: Mapping[str, int]) -> dict[str, int]:
    """Return the names that were stood in for, most frequent first; a name that only occurs counts once."""
    ranked = sorted(((max(n, 1), name) for name, n in built.items()), key=lambda item: (-item[0], item[1]))
    listed = {name[:_LONGEST_NAME]: n for n, name in ranked[:_MOST_NAMES]}
    rest = sum(n for n, _ in ranked[_MOST_NAMES:])
    return listed | ({"other names": rest} if rest else {})


def _note_packed(numbers: Numbers, found: Contents) -> None:
    """Read the configurations of packed quantised convolutions, which a file stores as short tensors."""
    for key, (config, _) in found.packed.items():
        found.budget.step(_STEPS_A_READ)
        if isinstance(config, TensorRef):
            if math.prod(config.shape) > _LONGEST_CONFIG or config.offset + _reach(config) > config.storage.numel:
                continue
            config = numbers.whole_numbers(config)
        note_packed(found, key, config)


def _beyond(ref: TensorRef) -> bool:
    """True for a tensor that reaches beyond its storage."""
    size = BITS[ref.dtype] // 8
    return ref.offset + _reach(ref) > (ref.storage.numel if ref.storage.dtype else ref.storage.numel // size)


def _reach(ref: TensorRef) -> int:
    """Return how many numbers the tensor spans from its first to its last; 0 if it is empty."""
    if 0 in ref.shape:
        return 0
    return 1 + sum((n - 1) * step for n, step in zip(ref.shape, ref.stride, strict=True))
