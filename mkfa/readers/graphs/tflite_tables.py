"""Read the tables of a TFLite file without trusting it.

The flatbuffers package does not verify offsets. Python checks the bounds of the memory map, so a wrong offset gives
only wrong numbers. This module limits the number of tables visited and checks indices and the sizes of data.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mkfa.array_types import AnyArray
from mkfa.readers.graphs.graph_file import DamagedError, LeftOutError
from mkfa.readers.graphs.quantised import unpack_nibbles
from mkfa.readers.graphs.tflite_sparse import Level, densify
from mkfa.storage.budget import LONGEST_NAME, Budget
from mkfa.words import counted

_STEPS_A_TABLE = 12
"""Overlapping vectors can list far more tables than a file contains."""

LARGEST_RANK = 8

TYPES: dict[int, tuple[str, str]] = {
    0: ("float32", "<f4"),
    1: ("float16", "<f2"),
    2: ("int32", "<i4"),
    3: ("uint8", "u1"),
    4: ("int64", "<i8"),
    7: ("int16", "<i2"),
    9: ("int8", "i1"),
    10: ("float64", "<f8"),
    17: ("int4", "u1"),
    18: ("bfloat16", "<u2"),
}
"""Number in TensorType -> name and type in memory."""


@dataclass(slots=True)
class Tables:
    """The tables of one file; every table visited and every byte decoded is charged to the budget."""

    content: Any
    size: int
    budget: Budget = field(default_factory=Budget)

    def children(self, owner: Any, field: str) -> list[Any]:
        """Return the tables of a vector."""
        count = self.count(owner, field)
        self.budget.step(_STEPS_A_TABLE * count)
        return [getattr(owner, field)(index) for index in range(count)]

    def count(self, owner: Any, field: str) -> int:
        """Return the length of a vector of tables."""
        self.budget.step(2)
        count = int(getattr(owner, f"{field}Length")())
        if count * 4 > self.size:
            raise DamagedError(
                f"a vector {field} of {counted(count, 'entry', 'entries')} in a file of {counted(self.size, 'byte')}"
            )
        return count

    def child(self, owner: Any, field: str, index: int) -> Any:
        """Return one table of a vector."""
        if not 0 <= index < self.count(owner, field):
            raise DamagedError(f"entry {index} of vector {field}, which has {self.count(owner, field)}")
        return getattr(owner, field)(index)

    def numbers(self, owner: Any, field: str, most: int | None = None) -> AnyArray:
        """Return a vector of numbers, at most `most`, as a view into the file; empty if it is absent."""
        self.budget.step(2)
        if getattr(owner, f"{field}IsNone")():
            return np.zeros(0, np.int32)
        numbers: AnyArray = getattr(owner, f"{field}AsNumpy")()
        return numbers[:most]

    def shape(self, tensor: Any) -> tuple[int, ...]:
        """Return a tensor's shape, -1 for a dimension that is not fixed."""
        shape = tuple(int(n) for n in self.numbers(tensor, "Shape", LARGEST_RANK + 1))
        if len(shape) > LARGEST_RANK:
            raise DamagedError(f"a tensor with more than {LARGEST_RANK} dimensions")
        return shape

    def data(self, buffer: Any) -> AnyArray:
        """Return the bytes of a buffer, in the flatbuffer or (models above 2 GB) after it; may be empty."""
        start, size = int(buffer.Offset()), int(buffer.Size())
        if start > 1:
            if start + size > self.size:
                raise DamagedError(f"a buffer of {counted(size, 'byte')} at {start} in a file of {self.size}")
            return np.frombuffer(self.content, np.uint8, size, start)
        return self.numbers(buffer, "Data")

    def values(self, tensor: Any, data: AnyArray) -> AnyArray:
        """Return a tensor's stored values in its shape, dense but not dequantised.

        Raises LeftOutError: weights cannot have this type. Raises DamagedError: the bytes do not fit the shape.
        """
        shape, (name, memory) = self.shape(tensor), stored_type(tensor)
        if any(n < 0 for n in shape):
            raise DamagedError(f"stored values of shape {list(shape)}")
        if data.size % np.dtype(memory).itemsize:
            raise DamagedError(f"{counted(data.size, 'byte')} of values of type {name}")
        values: AnyArray = np.frombuffer(data, memory)
        if (sparsity := tensor.Sparsity()) is not None and name != "int4":
            # the tree's levels hold a 64-bit number a place and dimension, before the dense tensor is made
            self.budget.produce(math.prod(shape) * (values.itemsize + 8 * len(shape)))
            return densify(_widened(values, name), shape, **self._sparsity(sparsity))
        count = math.prod(shape)
        self.budget.produce(4 * min(count, 2 * data.size))
        if name == "int4":
            return unpack_nibbles(values, count, signed=True).reshape(shape)
        if values.size != count:
            raise DamagedError(f"{counted(values.size, 'value')} for a tensor of shape {list(shape)}")
        return _widened(values, name).reshape(shape)

    def _sparsity(self, sparsity: Any) -> dict[str, Any]:
        most = 2 * LARGEST_RANK + 1
        if self.count(sparsity, "DimMetadata") > most:
            raise DamagedError("a sparse tensor with too many levels")
        return {
            "traversal": [int(n) for n in self.numbers(sparsity, "TraversalOrder", most)],
            "block_map": [int(n) for n in self.numbers(sparsity, "BlockMap", most)],
            "levels": [self._level(level) for level in self.children(sparsity, "DimMetadata")],
        }

    def _level(self, level: Any) -> Level:
        if level.Format() == 0:  # DENSE
            return Level(size=int(level.DenseSize()))
        segments = self._index_vector(level.ArraySegmentsType(), level.ArraySegments())
        return Level(segments=segments, indices=self._index_vector(level.ArrayIndicesType(), level.ArrayIndices()))

    def _index_vector(self, kind: int, table: Any) -> AnyArray:
        import tflite

        kinds = {1: tflite.Int32Vector, 2: tflite.Uint16Vector, 3: tflite.Uint8Vector}
        if kind not in kinds or table is None:
            raise DamagedError("a compressed level of a sparse tensor without indices")
        vector = kinds[kind]()
        vector.Init(table.Bytes, table.Pos)
        return self.numbers(vector, "Values")

    def scales(self, tensor: Any) -> tuple[AnyArray, AnyArray, int] | None:
        """Return (scale, zero point, dimension) of a quantised tensor, None if it has no scale."""
        quantisation = tensor.Quantization()
        if quantisation is None:
            return None
        scale, zero = self.numbers(quantisation, "Scale"), self.numbers(quantisation, "ZeroPoint")
        if not scale.size:
            return None
        return scale, zero if zero.size else np.zeros(1, np.int64), int(quantisation.QuantizedDimension())


def stored_type(tensor: Any) -> tuple[str, str]:
    """Return a tensor's type: name as in `DepthwiseLayer.dtype`, and type in memory."""
    number = int(tensor.Type())
    if number not in TYPES:
        raise LeftOutError(f"weights of TFLite type {number}")
    return TYPES[number]


def tensor_name(tensor: Any, budget: Budget) -> str:
    """Return a tensor's name; bytes that are not text are replaced. Raises SourceError if it is too long."""
    name = (tensor.Name() or b"").decode("utf-8", "replace")
    budget.key(name, LONGEST_NAME)
    return name


def _widened(values: AnyArray, name: str) -> AnyArray:
    """Return bfloat16, which NumPy does not have, as float32 (it is the upper half of one)."""
    return (values.astype(np.uint32) << 16).view(np.float32) if name == "bfloat16" else values


def options(operator: Any, kind: type[Any], number: int) -> Any:
    """Return an operator's options as the table `kind`, `number` in the union BuiltinOptions."""
    table = operator.BuiltinOptions()
    if table is None or operator.BuiltinOptionsType() != number:
        raise DamagedError(f"an operator without its {kind.__name__}")
    decoded = kind()
    decoded.Init(table.Bytes, table.Pos)
    return decoded


def first(numbers: Sequence[int] | AnyArray) -> int:
    """Return the first number of a vector, -1 if it is empty."""
    return int(numbers[0]) if len(numbers) else -1
