"""Read checkpoints of several files: an index with its shards, or shards that their names put together."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from mkfa.array_types import F32
from mkfa.errors import MkfaError, SourceError
from mkfa.frozen import FrozenDict
from mkfa.readers.options import DEFAULT, ReadOptions
from mkfa.readers.reading import GraphLayer, ModuleFile, Reading, TensorFile, TensorInfo, read_head
from mkfa.readers.tensors.checkpoint import CheckpointInfo, read_checkpoint
from mkfa.readers.tensors.safetensors import MAX_HEADER, json_object, open_safetensors
from mkfa.readers.tensors.shard_names import INDEX, ShardName, missing, shards_beside
from mkfa.storage.budget import Budget
from mkfa.storage.files import open_file, read_span
from mkfa.words import counted

_PICKLES = (".bin", ".pth", ".pt", ".pt2", ".ckpt")


@dataclass(frozen=True, slots=True)
class ShardedFile:
    """Several files as one `ModuleFile`; `places` maps a key to its shard, `metadata` are those of the first one."""

    tensors: Mapping[str, TensorInfo]
    places: Mapping[str, TensorFile]
    metadata: Mapping[str, str] = field(default_factory=lambda: FrozenDict({}))
    facts: Mapping[str, GraphLayer | str] = field(default_factory=lambda: FrozenDict({}))
    stood_in: Mapping[str, int] = field(default_factory=lambda: FrozenDict({}))
    architecture: str = ""

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
    budget = Budget(path)
    for key, name in entries.items():
        if name not in shards:
            paths[name] = _inside(path, name)
            shards[name] = open_any(paths[name], budget)
        info = shards[name].tensors.get(key)
        if info is None:
            problem = f"lists {key[:80]!r} in {name[:80]}, which lacks it"
            raise SourceError(path, problem, "fetch index and shards again")
        tensors[key], places[key] = info, shards[name]
    file = _with_facts(tensors, places, shards.values())
    hashed = (path, *(paths[name] for name in sorted(paths)))
    note = "source_sha256 is that of the lines 'digest  name' of the index and its shards, sorted by name"
    # An index is sorted by name, even if its shards are not.
    return read_checkpoint(file, CheckpointInfo(path, hashed=hashed, notes=(note,), keeps_order=False), options)


def read_shard(path: Path, options: ReadOptions = DEFAULT) -> Reading:
    """Read a shard together with those that belong to it, by the index that lists it or by their names.

    Files that are so named but have the same tensors are networks of their own (folds, seeds), and one is read.
    Parameters and errors as for `mkfa.readers.formats.reader_for`.

    Raises SourceError: also: a shard is missing, or two have a tensor of the same name.
    """
    if index := index_of(path):
        return read_index(index, options)
    shards = shards_beside(path)
    if shards[0].total == 1 or are_networks([path.parent / shard.name for shard in shards]):
        return _alone(path, options)
    if lacking := missing(shards):
        names = f"{', '.join(lacking)} {'is' if len(lacking) == 1 else 'are'} not beside it"
        problem = f"is one of {counted(shards[0].total, 'shard')} of a checkpoint, and {names}"
        raise SourceError(path, problem, "fetch all shards, or rename it if it is a network")
    if len({shard.number for shard in shards}) < len(shards):
        raise SourceError(path, "has a shard of the same number beside it", "leave one checkpoint in the folder")
    paths = [path.parent / shard.name for shard in shards]
    budget = Budget(path)
    file = joined({str(each): open_any(each, budget) for each in paths})
    hint = next((file.metadata[name] for name in ("architecture", "arch") if name in file.metadata), "")
    order = None if path.suffix.lower() in _PICKLES else False  # each safetensors file is sorted by name
    about = CheckpointInfo(path, hint=hint, hashed=tuple(paths), notes=(shards_note(len(paths)),), keeps_order=order)
    return read_checkpoint(file, about, options)


def index_of(path: Path) -> Path | None:
    """Return the index in a file's folder that lists it, if there is one."""
    with contextlib.suppress(OSError):
        for name in sorted(entry.name for entry in path.parent.iterdir() if INDEX.fullmatch(entry.name)):
            with contextlib.suppress(SourceError, LookupError, AttributeError, TypeError):
                if path.name in json_file(path.parent / name)["weight_map"].values():
                    return path.parent / name
    return None


def together(path: Path) -> list[ShardName]:
    """Return the shards that make up the checkpoint that a file belongs to, by number; [] for any other file."""
    shards = shards_beside(path) if path.is_file() else []
    try:
        return [] if are_networks([path.parent / shard.name for shard in shards]) else shards
    except MkfaError:  # what is wrong with a shard is said when it is read
        return shards


def are_networks(paths: Sequence[Path]) -> bool:
    """True if files that are named like shards have tensors of the same names: each is a network."""
    if len(paths) < 2:
        return False
    first, second = (open_any(path).tensors for path in paths[:2])
    return bool(first) and set(first) == set(second)


def _alone(path: Path, options: ReadOptions) -> Reading:
    if path.suffix.lower() in _PICKLES:
        from mkfa.readers.tensors.pytorch import read_torch

        return read_torch(path, options)
    from mkfa.readers.tensors.safetensors import read_safetensors

    return read_safetensors(path, options)


def joined(files: Mapping[str, TensorFile]) -> ShardedFile:
    """Return several files, by what to name in an error, as one; raises SourceError if two have the same tensor."""
    tensors: dict[str, TensorInfo] = {}
    places: dict[str, TensorFile] = {}
    for thing, file in files.items():
        for key, info in file.tensors.items():
            if key in places:
                raise SourceError(thing, f"has {key[:80]!r}, as another shard has", "fetch the shards again")
            tensors[key], places[key] = info, file
    return _with_facts(tensors, places, files.values())


def shards_note(count: int) -> str:
    """Return the sentence for the bank on shards that their names put together."""
    lines = "source_sha256 is that of the lines 'digest  name' of them, by number"
    return f"the {counted(count, 'shard')} were read together; {lines}"


def _with_facts(
    tensors: Mapping[str, TensorInfo], places: Mapping[str, TensorFile], files: Iterable[TensorFile]
) -> ShardedFile:
    """Return several files as one, with what each says of its modules and objects."""
    facts: dict[str, GraphLayer | str] = {}
    stood_in: Counter[str] = Counter()
    metadata: Mapping[str, str] = {}
    for file in files:
        metadata = metadata or getattr(file, "metadata", {})
        if isinstance(file, ModuleFile):
            facts |= file.facts
            stood_in.update(file.stood_in)
    return ShardedFile(
        FrozenDict(tensors),
        FrozenDict(places),
        metadata=FrozenDict(metadata),
        facts=FrozenDict(facts),
        stood_in=FrozenDict(dict(stood_in.most_common())),
    )


def _inside(index: Path, name: str) -> Path:
    """Return a shard's path; refuses names that leave the index's folder."""
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or "\\" in name or "\0" in name:
        problem = f"names a shard outside its folder ({name[:80]!r}), which is not opened"
        raise SourceError(index, problem, "put the shards beside the index")
    beside = index.parent / name
    return beside if beside.exists() or not index.is_symlink() else index.resolve().parent / name


def open_any(path: Path, budget: Budget | None = None) -> TensorFile:
    """Open a safetensors or PyTorch file, chosen by its ending; raises SourceError.

    `budget` is that of the files that it is one of.
    """
    read_head(path)  # refuses missing files, LFS pointers and web pages
    if path.suffix.lower() in _PICKLES:
        from mkfa.readers.tensors.pytorch import open_torch

        return open_torch(path, budget)
    return open_safetensors(path, budget)


def json_file(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file; raises SourceError."""
    with open_file(path) as f:
        size = f.seek(0, 2)
        if size > MAX_HEADER:
            raise SourceError(
                path, f"is a JSON file of {counted(size, 'byte')}, too long for an index", "give the checkpoint"
            )
        return json_object(read_span(f, 0, size, thing=path), path)
