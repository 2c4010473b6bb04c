"""From a timm name or a hub id to the depthwise filters of its weights.

The user's cache is asked first, without any request; else the file is pinned at the hub's present commit and only
header and depthwise tensors are fetched; the whole file comes where that is not possible or not worth it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mkfa.errors import SourceError, UnknownNameError, WorkError
from mkfa.readers.hub import cache as hub_cache
from mkfa.readers.hub import requests as hub_http
from mkfa.readers.hub.cache import LocalCopy
from mkfa.readers.hub.choose_layers import choose
from mkfa.readers.hub.ranges import Pinned, RangedFile, pin
from mkfa.readers.reading import Reading, TensorFile
from mkfa.readers.tensors.select import Selection, take
from mkfa.readers.timm import catalogue as timm_catalogue

PREFIX = "hf-hub:"
WHOLE_SHARE = 0.5
"""Share of a file above which it is fetched whole rather than in parts."""

_USUAL_FILES = ("model.safetensors", "pytorch_model.bin")
_LONGEST_CONFIG = 1 << 20


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a name means.

    Attributes
    ----------
    name : name of the bank.
    files : file names in the repository, the one to prefer first.
    architecture : timm architecture, "" where only the repository can tell.
    given : True when the user named the architecture: it must fit then.
    entry : what timm says of the weights.
    """

    name: str
    repo: str
    revision: str
    files: tuple[str, ...]
    architecture: str
    given: bool
    entry: timm_catalogue.Entry


def read_hub(source: str, architecture: str) -> tuple[str, Reading]:
    """Harvest a timm name, with or without tag, or `hf-hub:OWNER/NAME[@REVISION]`.

    Parameters
    ----------
    architecture : timm architecture that the weights belong to, "" for that of the name or the repository.

    Returns
    -------
    (name of the network, what was read)

    Raises
    ------
    UnknownNameError
        No such network; the nearest names are offered.
    SourceError
        No such repository, revision or file; private, gated, damaged; or without depthwise layers by its name.
    WorkError
        The network, the hub or the disk failed.
    """
    wanted = _wanted(source, architecture)
    copy = _cached(wanted)
    if copy is not None:
        return wanted.name, _read_copy(copy, wanted)
    if hub_cache.offline():
        problem = f"is not in the cache ({wanted.repo}), and HF_HUB_OFFLINE forbids to fetch it"
        raise WorkError(source, problem, "unset HF_HUB_OFFLINE")
    pinned = _pinned(wanted)
    wanted = _with_config(wanted, pinned)
    if pinned.file.endswith(".safetensors"):
        reading = _read_parts(pinned, wanted)
        if reading is not None:
            return wanted.name, reading
    return wanted.name, _read_copy(_downloaded(pinned), wanted)


def _wanted(source: str, architecture: str) -> Wanted:
    if not source.startswith(PREFIX):
        if "/" in source:
            problem = "is neither a file nor a network that timm knows"
            raise UnknownNameError(source, problem, f"check the path, or write {PREFIX}{source} for a hub repository")
        entry = timm_catalogue.resolve(source)
        if not entry.repo:
            problem = f"has its weights on no hub, only at {entry.url}"
            remedy = f"download that file and harvest it with --arch {entry.architecture}"
            raise SourceError(entry.name, problem, remedy)
        return Wanted(
            entry.name,
            entry.repo,
            "",
            _files(entry.file),
            architecture or entry.architecture,
            bool(architecture),
            entry,
        )
    parts = re.fullmatch(rf"{PREFIX}([\w.-]+(?:/[\w.-]+)?)(?:@([\w./-]+))?", source)
    if parts is None:
        raise hub_cache.bad_name(source)
    repo, revision = parts[1], parts[2] or ""
    known = timm_catalogue.entry_of_repo(repo)
    if known is not None:
        return Wanted(
            known.name,
            repo,
            revision,
            _files(known.file),
            architecture or known.architecture,
            bool(architecture),
            known,
        )
    name = repo.rpartition("/")[2]
    entry = timm_catalogue.Entry(name, architecture)
    return Wanted(name, repo, revision, _USUAL_FILES, architecture, bool(architecture), entry)


def _files(told: str) -> tuple[str, ...]:
    """Return the file names to look for: as timm, a safetensors twin before a pickle."""
    if not told:
        return _USUAL_FILES
    if told.endswith(".safetensors"):
        return (told,)
    twins = {"pytorch_model.bin": "model.safetensors", "open_clip_pytorch_model.bin": "open_clip_model.safetensors"}
    return twins.get(told, f"{told.rpartition('.')[0]}.safetensors"), told


def _cached(wanted: Wanted) -> LocalCopy | None:
    for file in wanted.files:
        copy = hub_cache.cached(wanted.repo, file, wanted.revision)
        if copy is not None:
            return copy
    return None


def _pinned(wanted: Wanted) -> Pinned:
    for file in wanted.files:
        pinned = pin(wanted.repo, file, wanted.revision)
        if pinned is not None:
            return pinned
    problem = f"has neither of the files {' and '.join(wanted.files)} on the hub"
    raise SourceError(wanted.repo, problem, "download its checkpoint and harvest that file")


def _with_config(wanted: Wanted, pinned: Pinned) -> Wanted:
    """Ask the repository itself (`config.json`, as timm writes it) where the name tells no architecture."""
    if wanted.architecture:
        return wanted
    url = pinned.url.rpartition("/")[0] + "/config.json"
    reply = hub_http.get_small(url, f"{wanted.repo}/config.json", limit=_LONGEST_CONFIG)
    return _told(wanted, reply.body) if reply.status == 200 else wanted


def _told(wanted: Wanted, config: bytes) -> Wanted:
    """Add what a timm `config.json` says; anything else in its place says nothing."""
    try:
        told = json.loads(config)
    except (ValueError, RecursionError):
        return wanted
    if not isinstance(told, dict) or not isinstance(told.get("architecture"), str):
        return wanted
    cfg: Mapping[str, Any] = told["pretrained_cfg"] if isinstance(told.get("pretrained_cfg"), dict) else {}
    tag = cfg["tag"] if isinstance(cfg.get("tag"), str) else ""
    sizes = cfg.get("input_size")
    one_channel = isinstance(sizes, list) and sizes[:1] == [1] and isinstance(cfg.get("first_conv"), str)
    entry = timm_catalogue.Entry(
        name=wanted.name,
        architecture=told["architecture"],
        tag=tag,
        training_set=timm_catalogue.training_set_of(tag),
        task=timm_catalogue.task_of(tag) if told.get("num_classes") else "",
        stem=str(cfg["first_conv"]) if one_channel else "",
    )
    return replace(wanted, architecture=entry.architecture, entry=entry)


def _read_parts(pinned: Pinned, wanted: Wanted) -> Reading | None:
    """Read by ranges; None where the whole file has to come or nearly would."""
    try:
        file = RangedFile(pinned)
        name, selection = _chosen(file, wanted, pinned.thing)
        if file.cost(selection.keys) > WHOLE_SHARE * pinned.size:
            return None
        return _provenance(take(file, selection, architecture=name), wanted, pinned.commit, pinned.sha256)
    except hub_http.RangeIgnoredError:
        return None


def _downloaded(pinned: Pinned) -> LocalCopy:
    """Fetch the whole file and compare it with the digest that the hub states (huggingface_hub does not)."""
    from mkfa.storage.files import sha256_of

    copy = hub_cache.download(pinned.repo, pinned.file, pinned.commit)
    if pinned.sha256 and sha256_of(copy.path) != pinned.sha256:
        remedy = f"delete {copy.path.resolve()} and try again"
        raise WorkError(pinned.thing, "was damaged on its way: its SHA-256 is not the one that the hub states", remedy)
    return replace(copy, commit=pinned.commit or copy.commit, sha256=pinned.sha256)


def _read_copy(copy: LocalCopy, wanted: Wanted) -> Reading:
    """Read a whole local file; its folder in the cache may hold the configuration too."""
    config = copy.path.parent / "config.json"
    if not wanted.architecture and config.is_file() and config.stat().st_size <= _LONGEST_CONFIG:
        wanted = _told(wanted, config.read_bytes())
    file = _open(copy.path)
    name, selection = _chosen(file, wanted, str(copy.path))
    reading = take(file, selection, architecture=name)
    return _provenance(reading, wanted, copy.commit, copy.sha256)


def _open(path: Path) -> TensorFile:
    if path.suffix == ".safetensors":
        from mkfa.readers.tensors.safetensors import open_safetensors

        return open_safetensors(path)
    from mkfa.readers.tensors.pytorch import open_torch

    return open_torch(path)


def _chosen(file: TensorFile, wanted: Wanted, thing: str) -> tuple[str, Selection]:
    return choose(file.tensors, wanted.architecture, stem=wanted.entry.stem, given=wanted.given, thing=thing)


def _provenance(reading: Reading, wanted: Wanted, commit: str, sha256: str) -> Reading:
    """Add what the hub and timm say; `reading.architecture` is what the layers turned out to be."""
    entry, architecture = wanted.entry, reading.architecture
    if entry.tag and architecture == entry.architecture:
        architecture = f"{architecture}.{entry.tag}"
    return replace(
        reading,
        architecture=architecture,
        source_sha256=sha256 or reading.source_sha256,
        hub_commit=commit,
        training_set=entry.training_set,
        task=entry.task,
        licence=entry.licence,
    )
