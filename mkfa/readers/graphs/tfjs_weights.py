"""The weights of a TensorFlow.js model: a manifest in model.json and shards beside it.

A group of weights is one run of bytes, cut into shards at any place. Numbers may be quantised to 8 or 16 bits with a
scale and a minimum, or stored as float16. Source: tfjs-core/src/io/types.ts and io_utils.ts.
"""

from __future__ import annotations

import bisect
import itertools
import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from mkfa.array_types import AnyArray
from mkfa.errors import SourceError
from mkfa.readers.graphs.graph_file import DamagedError
from mkfa.readers.graphs.keras_layers import Weight
from mkfa.readers.reading import read_head
from mkfa.storage.budget import LONGEST_NAME, Budget
from mkfa.storage.files import open_file, read_span
from mkfa.words import counted

_TYPES = {
    "float32": "<f4",
    "float16": "<f2",
    "int32": "<i4",
    "uint8": "u1",
    "uint16": "<u2",
    "bool": "u1",
    "int8": "i1",
}
_TYPES |= {"complex64": "<c8", "float64": "<f8", "int16": "<i2", "int64": "<i8"}
_MOST_WEIGHTS = 1_000_000
_STEPS_A_WEIGHT, _STEPS_A_READ = 20, 40
_AGAIN = "fetch model.json and its shards again"


@dataclass(frozen=True, slots=True)
class _Group:
    """Shards of one run of bytes, and where each begins in it."""

    model: Path
    files: tuple[Path, ...]
    starts: tuple[int, ...]
    size: int
    budget: Budget

    def read(self, first: int, count: int) -> bytes:
        """Return bytes of the run; raises SourceError if the shards end before."""
        if first + count > self.size:
            raise SourceError(
                self.model, f"claims weights beyond the {counted(self.size, 'byte')} of its shards", _AGAIN
            )
        self.budget.produce(count)
        parts = []
        index = bisect.bisect_right(self.starts, first) - 1
        while count:
            self.budget.step(_STEPS_A_READ)
            begin = first - self.starts[index]
            end = min(begin + count, (*self.starts, self.size)[index + 1] - self.starts[index])
            with open_file(self.files[index]) as f:
                parts.append(read_span(f, begin, end, thing=self.files[index]))
            first, count, index = first + end - begin, count - (end - begin), index + 1
        return b"".join(parts)


@dataclass(slots=True)
class Manifest:
    """All weights by name; `files` are the shards in order."""

    weights: dict[str, Weight] = field(default_factory=dict)
    files: list[Path] = field(default_factory=list)
    budget: Budget = field(default_factory=Budget)


def read_manifest(model: Path, groups: Any) -> Manifest:
    """Return the weights that the manifest of a model.json lists.

    Raises SourceError: a shard is missing, or named outside the model's folder; the weights claim far more than the
    files have. Raises DamagedError: the manifest is malformed.
    """
    budget = Budget(model, model.stat().st_size)
    manifest = Manifest(budget=budget)
    sizes: dict[Path, int] = {}
    places: dict[str, Path] = {}
    for entry in groups if isinstance(groups, list) else ():
        paths, specs = (entry.get("paths"), entry.get("weights")) if isinstance(entry, dict) else (None, None)
        if not isinstance(paths, list) or not isinstance(specs, list):
            raise DamagedError("a group of weights without paths")
        for name in paths:
            budget.step(_STEPS_A_WEIGHT)
            if str(name) not in places:
                budget.step(_STEPS_A_READ)
                file = places[str(name)] = _beside(model, name)
                read_head(file)  # refuses missing files, LFS pointers and web pages
                if file not in sizes:
                    sizes[file] = file.stat().st_size
                    budget.grow(sizes[file])
        files = tuple(places[str(name)] for name in paths)
        own = [sizes[file] for file in files]
        starts = tuple(itertools.accumulate((0, *own[:-1]))) if own else ()
        group = _Group(model, files, starts, sum(own), budget)
        manifest.files += files
        for weight in _weights(group, specs):
            if len(manifest.weights) >= _MOST_WEIGHTS:
                raise DamagedError("weights without end")
            manifest.weights.setdefault(weight.key, weight)
    return manifest


def _weights(group: _Group, specs: list[Any]) -> Iterator[Weight]:
    at = 0
    for spec in specs:
        group.budget.step(_STEPS_A_WEIGHT)
        name, shape = (spec.get("name"), spec.get("shape")) if isinstance(spec, dict) else (None, None)
        if not isinstance(name, str) or not isinstance(shape, list):
            raise DamagedError("a weight without name or shape")
        group.budget.key(name, LONGEST_NAME)
        if not all(type(n) is int and 0 <= n < 1 << 40 for n in shape) or len(shape) > 8:
            raise DamagedError(f"a weight of shape {str(shape)[:60]}")
        quantised = spec.get("quantization")
        quantised = quantised if isinstance(quantised, dict) else {}
        stored = str(quantised.get("dtype", spec.get("dtype")))
        count = math.prod(shape)
        if stored == "string":
            at += _string_bytes(group, at, count)
            continue
        if stored not in _TYPES:
            raise DamagedError(f"a weight of type {stored[:40]}")
        size = count * np.dtype(_TYPES[stored]).itemsize
        yield _weight(group, name, tuple(shape), (stored, at, size), quantised)
        at += size


def _string_bytes(group: _Group, at: int, count: int) -> int:
    """Return how many bytes texts take, each with its length before it."""
    first = at
    for _ in range(count):
        at += 4 + int(struct.unpack("<I", group.read(at, 4))[0])
    return at - first


def _weight(
    group: _Group, name: str, shape: tuple[int, ...], place: tuple[str, int, int], quantised: Mapping[str, Any]
) -> Weight:
    stored, first, size = place
    scale, least = quantised.get("scale", 1.0), quantised.get("min", 0.0)
    if not all(isinstance(n, int | float) and math.isfinite(n) for n in (scale, least)):
        raise DamagedError(f"a quantised weight {name[:60]} without a scale")
    is_integer = stored in ("uint8", "uint16") and "scale" in quantised

    def load() -> AnyArray:
        values = np.frombuffer(group.read(first, size), _TYPES[stored]).reshape(shape)
        group.budget.produce(8 * values.size)  # as float32, and once more in the bank
        return values.astype(np.float32) * np.float32(scale) + np.float32(least) if is_integer else values

    # plain whole numbers are not weights, and keep their type's name; those with a scale are real numbers
    dtype = stored if is_integer or stored not in ("uint8", "uint16") else f"plain {stored}"
    return Weight(name, shape, dtype, load)


def _beside(model: Path, name: object) -> Path:
    """Return a shard's path; refuses names that leave the model's folder."""
    name = name if isinstance(name, str) else ""
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or "\\" in name or "\0" in name or ":" in name:
        problem = f"names a shard outside its folder ({name[:80]!r}), which is not opened"
        raise SourceError(model, problem, "put the shards beside model.json")
    return model.parent / name
