"""Read a state dict in memory: torch tensors or arrays by name."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mkfa.array_types import F32
from mkfa.errors import SourceError
from mkfa.frozen import FrozenDict
from mkfa.readers.options import DEFAULT, ReadOptions
from mkfa.readers.reading import Reading, TensorInfo
from mkfa.readers.tensors.dtypes import READABLE

_DEEPEST = 64
"""Deepest nesting of dictionaries and lists that is read."""


@dataclass(frozen=True, slots=True)
class StateDict:
    """Tensors or arrays by name, as a `TensorFile`."""

    tensors: Mapping[str, TensorInfo]
    values: Mapping[str, Any]

    def read(self, keys: Sequence[str]) -> Iterator[tuple[str, F32]]:
        """Yield (key, tensor copied to float32)."""
        for key in keys:
            value, dtype = self.values[key], self.tensors[key].dtype
            if dtype not in READABLE or getattr(value, "is_meta", False):
                problem = f"has {key} without values (meta device)" if dtype in READABLE else f"has {key} as {dtype}"
                raise SourceError("the state dict", problem, "pass the trained weights as floats")
            if hasattr(value, "detach"):
                from mkfa.readers.modules import to_numpy

                yield key, to_numpy(value)
            else:
                with np.errstate(over="ignore"):
                    yield key, np.array(value, np.float32)


def read_state_dict(state: Mapping[str, Any], options: ReadOptions = DEFAULT) -> Reading:
    """Read the depthwise layers of a state dict, or of a checkpoint's dictionary that contains one.

    `state` maps names to torch tensors or arrays; nested dictionaries and lists are searched, other values ignored.
    `options` and errors as for `mkfa.readers.formats.reader_for`.
    """
    from mkfa.readers.tensors.checkpoint import CheckpointInfo, read_checkpoint

    values = {key.replace("_orig_mod.", ""): value for key, value in _tensors(state)}
    if not values:
        raise SourceError("the state dict", "has no tensors", "pass a mapping of names to tensors or arrays")
    infos = {}
    for key, value in values.items():
        shape, dtype = tuple(int(n) for n in value.shape), str(value.dtype).removeprefix("torch.")
        infos[key] = TensorInfo(key, shape, dtype, math.prod(shape) * getattr(value, "itemsize", 4))
    return read_checkpoint(StateDict(FrozenDict(infos), values), CheckpointInfo("the state dict"), options)


def _tensors(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        yield ".".join(path), value
    elif isinstance(value, Mapping | list | tuple) and len(path) < _DEEPEST:
        for key, inner in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from _tensors(inner, (*path, str(key)))
