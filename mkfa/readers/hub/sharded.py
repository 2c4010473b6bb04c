"""Checkpoints of several files on a hub: the repository's list of files tells which shards there are.

No index is needed: the names of shards say how many belong together.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from mkfa.errors import MkfaError, SourceError
from mkfa.readers.hub import requests as hub_http
from mkfa.readers.hub.cache import LocalCopy, snapshot
from mkfa.readers.hub.ranges import Pinned, pin
from mkfa.readers.tensors.shard_names import ShardName, families, missing
from mkfa.words import counted

_STEMS = ("model", "pytorch_model", "open_clip_model", "open_clip_pytorch_model", "diffusion_pytorch_model")
_ENDINGS = (".safetensors", ".bin")
_CHECKPOINTS = (*_ENDINGS, ".pt", ".pth", ".ckpt", ".onnx", ".tflite", ".keras", ".h5")
_LONGEST_LIST = 1 << 24


@dataclass(frozen=True, slots=True)
class Listing:
    """The files of a repository at one commit; no names if the hub does not tell."""

    commit: str = ""
    names: tuple[str, ...] = ()

    @property
    def checkpoints(self) -> tuple[str, ...]:
        return tuple(name for name in self.names if name.endswith(_CHECKPOINTS))


def listing(repo: str, revision: str) -> Listing:
    """Ask the hub which files a repository has; a hub that does not say so gives no names. Raises WorkError."""
    url = f"{hub_http.endpoint()}/api/models/{repo}/revision/{quote(revision or 'main', safe='')}"
    reply = hub_http.get_small(url, repo, limit=_LONGEST_LIST)
    try:
        content = json.loads(reply.body) if reply.status == 200 else {}
        names = [str(file["rfilename"]) for file in content.get("siblings") or []]
        return Listing(str(content.get("sha") or ""), tuple(names))
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
        return Listing()


def shards_among(names: Iterable[str], repo: str) -> list[ShardName]:
    """Return the shards of the network among the files of a repository, by number; [] if there are none.

    Raises SourceError: one of them is missing.
    """
    known = {(shards[0].stem, Path(shards[0].name).suffix): shards for shards in families(names).values()}
    found = next((known[stem, end] for end in _ENDINGS for stem in _STEMS if (stem, end) in known), [])
    if found and (lacking := missing(found)):
        problem = f"has a checkpoint of {counted(found[0].total, 'shard')}, of which {', '.join(lacking)} "
        problem += "is missing" if len(lacking) == 1 else "are missing"
        raise SourceError(repo, problem, "ask its owner, or harvest another revision")
    return found


def pinned_shards(repo: str, revision: str) -> tuple[list[Pinned], Listing]:
    """Return the shards of a repository's network at one commit, by number, and all that the repository has.

    Raises SourceError: a shard is missing. Raises WorkError: as `mkfa.readers.hub.ranges.pin`.
    """
    files = listing(repo, revision)
    pins = [pin(repo, shard.name, files.commit or revision) for shard in shards_among(files.names, repo)]
    return [pinned for pinned in pins if pinned is not None], files


def cached_shards(repo: str, revision: str) -> list[LocalCopy]:
    """Return the shards in the user's cache, by number, without any request; [] unless all are there."""
    copies = snapshot(repo, revision)
    try:
        return [copies[shard.name] for shard in shards_among(copies, repo)]
    except MkfaError:
        return []


def digest_of(digests: Sequence[str], names: Sequence[str]) -> str:
    """Return the digest of several files, as for shards in a folder; "" if that of one is not known."""
    if not all(digests):
        return ""
    lines = "".join(f"{digest}  {name}\n" for digest, name in zip(digests, names, strict=True))
    return hashlib.sha256(lines.encode()).hexdigest()
