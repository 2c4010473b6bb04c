"""Read checkpoints of several files: an index with its shards."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from mkfa.array_types import F32
from mkfa.errors import SourceError
from mkfa.frozen import FrozenDict
from mkfa.readers.options import DEFAULT, ReadOptions
from mkfa.readers.reading import Reading, TensorFile, TensorInfo, read_head
from mkfa.readers.tensors.checkpoint import CheckpointInfo, read_checkpoint
from mkfa.readers.tensors.safetensors import MAX_HEADER, json_object, open_safetensors
from mkfa.storage.files import open_file, read_span

_PICKLES = (".bin", ".pth", ".pt", ".ckpt")


@dataclass(frozen=True, slots=True)
class ShardedFile:
    """Several files as one `TensorFile`; `places` maps a key to its shard."""

    tensors: Mapping[str, TensorInfo]
    places: Mapping[str, TensorFile]

    def read(self, keys: Sequence[str]) -> Iterator[tuple[str, F32]]:
        """Yield (key, tensor as float32), shard by shard."""
        by_shard: dict[int, list[str]] = {}
        for key in keys:
            by_shard.setdefault(id(self.places[key]), []).append(key)
        for inside in by_shard.values():
            yield from self.places[inside[0]].read(inside)


def read_index(path: Path, options: ReadOptions = DEFAULT) -> Reading:
    """Read the shards that a `*.index.json` lists, from its folder; parameters and errors as for `reader_for`.

    If the index is a link, they may also lie beside the file that it leads to.
    """
    entries = json_file(path).get("weight_map")
    if not isinstance(entries, dict) or not all(isinstance(name, str) for name in entries.values()):
        raise SourceError(
            path, "is a JSON file, but not the index of a checkpoint", "give a checkpoint or its .index.json"
        )
    shards: dict[str, TensorFile] = {}
    paths: dict[str, Path] = {}
    tensors: dict[str, TensorInfo] = {}
    places: dict[str, TensorFile] = {}
    for key, name in entries.items():
        if name not in shards:
            paths[name] = _inside(path, name)
            shards[name] = open_any(paths[name])
        info = shards[name].tensors.get(key)
        if info is None:
            problem = f"lists {key[:80]!r} in {name[:80]}, which lacks it"
            raise SourceError(path, problem, "fetch index and shards again")
        tensors[key], places[key] = info, shards[name]
    file = ShardedFile(FrozenDict(tensors), FrozenDict(places))
    hashed = (path, *(paths[name] for name in sorted(paths)))
    note = "source_sha256 is that of the lines 'digest  name' of the index and its shards, sorted by name"
    # An index is sorted by name, even if its shards are not.
    return read_checkpoint(file, CheckpointInfo(path, hashed=hashed, notes=(note,), keeps_order=False), options)


def _inside(index: Path, name: str) -> Path:
    """Return a shard's path; refuses names that leave the index's folder."""
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or "\\" in name or "\0" in name:
        problem = f"names a shard outside its folder ({name[:80]!r}), which is not opened"
        raise SourceError(index, problem, "put the shards beside the index")
    beside = index.parent / name
    return beside if beside.exists() or not index.is_symlink() else index.resolve().parent / name


def open_any(path: Path) -> TensorFile:
    """Open a safetensors or PyTorch file, chosen by its ending; raises SourceError."""
    read_head(path)  # refuses missing files, LFS pointers and web pages
    if path.suffix in _PICKLES:
        from mkfa.readers.tensors.pytorch import open_torch

        return open_torch(path)
    return open_safetensors(path)


def json_file(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file; raises SourceError."""
    with open_file(path) as f:
        size = f.seek(0, 2)
        if size > MAX_HEADER:
            raise SourceError(path, f"is a JSON file of {size} bytes, too long for an index", "give the checkpoint")
        return json_object(read_span(f, 0, size, thing=path), path)
