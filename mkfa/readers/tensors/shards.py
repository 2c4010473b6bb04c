"""Read checkpoints of several files: an index with shards, a folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
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
    """Read the shards that a `*.index.json` lists, from its folder; parameters and errors as for `reader_for`."""
    return _read_index(path, CheckpointInfo(path), options)


def _read_index(path: Path, checkpoint: CheckpointInfo, options: ReadOptions = DEFAULT) -> Reading:
    entries = _json_file(path).get("weight_map")
    if not isinstance(entries, dict) or not all(isinstance(name, str) for name in entries.values()):
        raise SourceError(
            path, "is a JSON file, but not the index of a checkpoint", "give a checkpoint or its .index.json"
        )
    shards: dict[str, TensorFile] = {}
    tensors: dict[str, TensorInfo] = {}
    places: dict[str, TensorFile] = {}
    for key, name in entries.items():
        if name not in shards:
            shards[name] = _open_any(_inside(path, name))
        info = shards[name].tensors.get(key)
        if info is None:
            problem = f"lists {key[:80]!r} in {name[:80]}, which lacks it"
            raise SourceError(path, problem, "fetch index and shards again")
        tensors[key], places[key] = info, shards[name]
    file = ShardedFile(FrozenDict(tensors), FrozenDict(places))
    hashed = (path, *(path.parent / name for name in sorted(shards)))
    note = "source_sha256 is that of the lines 'digest  name' of the index and its shards, sorted by name"
    # An index is sorted by name, even if its shards are not.
    return read_checkpoint(file, replace(checkpoint, hashed=hashed, notes=(note,), keeps_order=False), options)


def read_folder(path: Path, options: ReadOptions = DEFAULT) -> Reading:
    """Read a folder: its model.safetensors, else an index, else its only checkpoint.

    A `config.json` that timm wrote names the architecture, the training set and the licence. Parameters and errors as
    for `reader_for`.
    """
    try:
        names = sorted(entry.name for entry in path.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise SourceError(path, f"cannot be read ({error.strerror or error})", "check its permissions") from error
    chosen = path / _choose(path, names)
    checkpoint = _config(path / "config.json") if "config.json" in names else CheckpointInfo(chosen)
    if chosen.name.endswith(".index.json"):
        return _read_index(chosen, checkpoint, options)
    return read_checkpoint(_open_any(chosen), replace(checkpoint, hashed=(chosen,)), options)


def _choose(path: Path, names: Sequence[str]) -> str:
    for good in ("model.safetensors", "model.safetensors.index.json"):
        if good in names:
            return good
    for kinds in ((".safetensors.index.json",), (".safetensors",), (".bin.index.json",), _PICKLES):
        fitting = [name for name in names if name.endswith(kinds)]
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            few = ", ".join(fitting[:3]) + (", ..." if len(fitting) > 3 else "")
            raise SourceError(path, f"has {len(fitting)} checkpoints ({few})", "name one of them")
    raise SourceError(path, "is a folder without a checkpoint", "name a file, or a folder with model.safetensors in it")


def _config(path: Path) -> CheckpointInfo:
    """Return the facts in a `config.json` that timm wrote; any other file is ignored."""
    from mkfa.readers.timm.catalogue import training_set_of

    try:
        config = _json_file(path)
    except SourceError:
        return CheckpointInfo(path.parent)
    cfg = config.get("pretrained_cfg")
    cfg = cfg if isinstance(cfg, dict) else {}
    tag, licence = str(cfg.get("tag") or ""), str(cfg.get("license") or "")
    name = config.get("architecture")
    hint = name if isinstance(name, str) else ""
    return CheckpointInfo(path.parent, hint=hint, training_set=training_set_of(tag), licence=licence)


def _inside(index: Path, name: str) -> Path:
    """Return a shard's path; refuses names that leave the index's folder."""
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or "\\" in name or "\0" in name:
        problem = f"names a shard outside its folder ({name[:80]!r}), which is not opened"
        raise SourceError(index, problem, "put the shards beside the index")
    return index.parent / name


def _open_any(path: Path) -> TensorFile:
    read_head(path)  # refuses missing files, LFS pointers and web pages
    if path.suffix in _PICKLES:
        from mkfa.readers.tensors.pytorch import open_torch

        return open_torch(path)
    return open_safetensors(path)


def _json_file(path: Path) -> dict[str, Any]:
    with open_file(path) as f:
        size = f.seek(0, 2)
        if size > MAX_HEADER:
            raise SourceError(path, f"is a JSON file of {size} bytes, too long for an index", "give the checkpoint")
        return json_object(read_span(f, 0, size, thing=path), path)
