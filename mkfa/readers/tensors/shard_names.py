"""Names of the files that a checkpoint is split into, as `model-00001-of-00003.safetensors`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mkfa.errors import SourceError

INDEX = re.compile(r"(?P<stem>.+)\.(?P<format>safetensors|bin)\.index(\.(?P<variant>\w+))?\.json")
"""Name of the file that lists the shards of a checkpoint (Hugging Face)."""

_SHARD = (  # compiled when a name has "of" in it: that takes a millisecond
    r"(?P<before>.*?)(?P<joint>[-_.]?)(?P<number>\d{1,9})(?P<of>[-_]of[-_]|(?<=shard\d)of|(?<=shard\d\d)of)"
    r"(?P<total>\d{1,9})(?P<variant>\.\w+)?(?P<ending>\.(?:safetensors|bin|pth|pt|ckpt|h5))"
)

_WHOLE = (
    r"(?:^|.*[-_. ])(?:k?folds?|cv|seed|run|trial|member|repl\w*|rep|exp\w*|epochs?|ep|steps?|"
    r"iter\w*|round|stage|phase|task)"
)
"""Words before a number that counts whole networks: `fold_1_of_5`, `epoch_9_of_10`."""


@dataclass(frozen=True, slots=True)
class ShardName:
    """A shard's name in parts: shards with the same `family` belong together.

    Attributes
    ----------
    stem : the name of the whole checkpoint, without ending.
    number, total : its place among how many, from 0 or from 1 on.
    """

    name: str
    stem: str
    number: int
    total: int
    family: tuple[str, ...]
    span: tuple[int, int]

    def sibling(self, number: int) -> str:
        """Return the name of another shard, with as many digits."""
        first, last = self.span
        return f"{self.name[:first]}{number:0{last - first}d}{self.name[last:]}"


def shard_name(name: str) -> ShardName | None:
    """Return the parts of a shard's name, None for the name of anything else.

    Examples
    --------
    >>> shard = shard_name("model-00002-of-00003.fp16.safetensors")
    >>> shard.stem, shard.number, shard.total, shard.sibling(3)
    ('model.fp16', 2, 3, 'model-00003-of-00003.fp16.safetensors')
    """
    found = re.fullmatch(_SHARD, name, re.IGNORECASE) if "of" in name.lower() else None
    if found is None or not (found["joint"] or found["before"].lower().endswith("shard")):
        return None
    number, total, variant = int(found["number"]), int(found["total"]), found["variant"] or ""
    if not number <= total or not total or re.fullmatch(_WHOLE, found["before"], re.IGNORECASE):
        return None
    family = tuple(found[part] or "" for part in ("before", "joint", "of", "total", "variant", "ending"))
    return ShardName(name, (found["before"] or "shard") + variant, number, total, family, found.span("number"))


def shards_beside(path: Path) -> list[ShardName]:
    """Return the shards in a file's folder that belong to it, by number; [] if the file is not a shard."""
    own = shard_name(path.name)
    if own is None:
        return []
    return families(entry.name for entry in path.parent.iterdir()).get(own.family, [own])


def distributed(path: Path) -> SourceError:
    """Return the error for a checkpoint of torch.distributed without the file that tells where its slices lie."""
    problem = "is a distributed checkpoint of PyTorch (.distcp) without its file .metadata"
    return SourceError(path, problem, "fetch the whole folder")


def families(names: Iterable[str]) -> dict[tuple[str, ...], list[ShardName]]:
    """Return the shards among names, those that belong together in one list, by number."""
    out: dict[tuple[str, ...], list[ShardName]] = {}
    for shard in sorted(filter(None, map(shard_name, names)), key=lambda shard: (shard.number, shard.name)):
        out.setdefault(shard.family, []).append(shard)
    return out


def missing(shards: list[ShardName]) -> list[str]:
    """Return the names of the first shards that are not there; numbers begin at 0 if there is a shard 0."""
    numbers = {shard.number for shard in shards}
    first, total = (0 if 0 in numbers else 1), shards[0].total
    lacking = (number for number in range(first, first + total) if number not in numbers)
    return [shards[0].sibling(number) for number, _ in zip(lacking, range(3), strict=False)]
