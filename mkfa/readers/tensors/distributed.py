"""Checkpoints of `torch.distributed.checkpoint` (FSDP, Accelerate, Lightning): slices of tensors in .distcp files.

A pickle, `.metadata`, tells the shape of each tensor, and where its slices lie: each is a small file of `torch.save`
within a .distcp file. Nothing is run, and only the slices of the layers that are taken are read.
"""

from __future__ import annotations

import io
import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mkfa.array_types import F32
from mkfa.errors import SourceError
from mkfa.frozen import FrozenDict
from mkfa.readers.options import DEFAULT, ReadOptions
from mkfa.readers.reading import Reading, TensorInfo
from mkfa.readers.tensors.checkpoint import CheckpointInfo, read_checkpoint
from mkfa.readers.tensors.dtypes import BITS
from mkfa.readers.tensors.inert_pickle import Interpreter
from mkfa.readers.tensors.inert_values import DamagedPickleError, Global, Inert, whole
from mkfa.readers.tensors.pytorch import open_torch
from mkfa.readers.tensors.shard_names import distributed
from mkfa.storage.budget import LONGEST_KEY, Budget
from mkfa.storage.files import open_file, read_regular, read_span

METADATA = ".metadata"
"""The file that tells where the slices lie."""

_LARGEST = 1 << 28
_STEPS_A_SLICE = 60


@dataclass(frozen=True, slots=True)
class Slice:
    """A part of a tensor: its first index and sizes, and the bytes in a file of the folder that it is saved in."""

    first: tuple[int, ...]
    sizes: tuple[int, ...]
    file: str
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class DistributedFile:
    """A folder of a distributed checkpoint as a `TensorFile`; `slices` maps a key to its parts."""

    folder: Path
    tensors: Mapping[str, TensorInfo]
    slices: Mapping[str, Sequence[Slice]]
    budget: Budget

    def read(self, keys: Sequence[str]) -> Iterator[tuple[str, F32]]:
        """Yield (key, tensor as float32); raises SourceError if a part is missing or damaged."""
        for key in keys:
            shape = self.tensors[key].shape
            self.budget.produce(4 * math.prod(shape) + sum(part.length for part in self.slices[key]))
            out, filled = np.empty(shape, np.float32), np.zeros(shape, bool)
            for part in self.slices[key]:
                place = tuple(slice(a, a + n) for a, n in zip(part.first, part.sizes, strict=True))
                values = self._part(key, part)
                if values.shape != part.sizes or out[place].shape != part.sizes:
                    raise SourceError(self.folder, f"has a part of {key[:80]!r} of another shape", "fetch it again")
                out[place], filled[place] = values, True
            if not filled.all():
                raise SourceError(self.folder, f"lacks parts of {key[:80]!r}", "fetch the files of every process")
            yield key, out

    def _part(self, key: str, part: Slice) -> F32:
        path = self.folder / part.file
        with open_file(path) as f:
            data = read_span(f, part.offset, part.offset + part.length, thing=path)
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "slice.pt"
            copy.write_bytes(data)
            try:
                file = open_torch(copy)
                (values,) = (values for _, values in file.read(list(file.tensors)))
            except (SourceError, ValueError):
                raise SourceError(path, f"has a damaged part of {key[:80]!r}", "fetch the file again") from None
        return values


def read_distributed(folder: Path, options: ReadOptions = DEFAULT) -> Reading:
    """Read the checkpoint in a folder; parameters and errors as for `mkfa.readers.formats.reader_for`."""
    file = open_distributed(folder)
    names = sorted({part.file for parts in file.slices.values() for part in parts})
    note = f"source_sha256 is that of the lines 'digest  name' of {METADATA} and the .distcp files, sorted by name"
    hashed = (folder / METADATA, *(folder / name for name in names))
    return read_checkpoint(file, CheckpointInfo(folder, hashed=hashed, notes=(note,)), options)


def open_distributed(folder: Path) -> DistributedFile:
    """Open the checkpoint in a folder; raises SourceError."""
    if not (folder / METADATA).is_file():
        raise distributed(folder)
    try:
        data = read_regular(folder / METADATA, most_bytes=_LARGEST)
    except OSError as error:
        raise SourceError(folder / METADATA, f"cannot be read ({error.strerror})", "check the folder") from error
    budget = Budget(folder, len(data))
    try:
        state = _state(Interpreter(io.BytesIO(data), len(data), budget).load())
        tensors = {key: info for key, entry in _entries(state) if (info := _info(key, entry)) is not None}
        slices = _slices(state, tensors, folder, budget)
    except (DamagedPickleError, TypeError, ValueError, LookupError, AttributeError):
        raise SourceError(folder / METADATA, "is damaged or of a form that is not read", "fetch it again") from None
    for name in sorted({part.file for parts in slices.values() for part in parts}):
        try:
            budget.grow((folder / name).stat().st_size)
        except OSError:
            raise SourceError(folder, f"lacks the file {name[:80]}", "fetch the files of every process") from None
    whole_ones = {key: info for key, info in tensors.items() if key in slices}
    return DistributedFile(folder, FrozenDict(whole_ones), FrozenDict(slices), budget)


def _state(value: Any) -> dict[Any, Any]:
    return value.state if isinstance(value, Inert) and isinstance(value.state, dict) else {}


def _entries(state: Mapping[Any, Any]) -> Iterator[tuple[str, dict[Any, Any]]]:
    for key, entry in state["state_dict_metadata"].items():
        if isinstance(key, str) and "size" in _state(entry):
            yield key, _state(entry)


def _info(key: str, entry: Mapping[Any, Any]) -> TensorInfo | None:
    kind = entry["properties"].state
    kind = kind.get("dtype") if isinstance(kind, dict) else kind[0]
    dtype = kind.name.removeprefix("torch.") if isinstance(kind, Global) else ""
    shape = tuple(whole(n) for n in entry["size"])
    return TensorInfo(key, shape, dtype, math.prod(shape) * BITS[dtype] // 8) if dtype in BITS else None


def _slices(
    state: Mapping[Any, Any], tensors: Mapping[str, TensorInfo], folder: Path, budget: Budget
) -> dict[str, list[Slice]]:
    """Return the parts of each tensor by name."""
    sizes: dict[tuple[str, tuple[int, ...]], tuple[int, ...]] = {}
    for key, entry in _entries(state):
        budget.tensor(key, LONGEST_KEY, shape=tensors[key].shape if key in tensors else ())
        for chunk in entry["chunks"]:
            budget.step(_STEPS_A_SLICE)
            first, extent = (tuple(whole(n) for n in _state(chunk)[part]) for part in ("offsets", "sizes"))
            sizes[key, first] = extent
    out: dict[str, list[Slice]] = {}
    for index, place in state["storage_data"].items():
        budget.step(_STEPS_A_SLICE)
        key, where = _state(index)["fqn"], _state(place)
        if key not in tensors:
            continue
        first = tuple(whole(n) for n in _state(index)["offset"])
        name = where["relative_path"]
        if not isinstance(name, str) or Path(name).name != name or where.get("transform_descriptors"):
            raise SourceError(folder, f"has {key[:80]!r} in a file that is not read", "save it without compression")
        part = Slice(first, sizes[key, first], name, whole(where["offset"]), whole(where["length"]))
        out.setdefault(key, []).append(part)
    return out
