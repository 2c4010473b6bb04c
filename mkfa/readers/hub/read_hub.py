"""Read the depthwise filters of a timm name or a hub repository.

A file in the user's cache is read without any request. Else the file is pinned at the hub's present commit and only
header and depthwise tensors are fetched, or the whole file if that is not possible or not worth it.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mkfa.errors import SourceError, UnknownNameError, WorkError
from mkfa.readers.hub import cache as hub_cache
from mkfa.readers.hub import requests as hub_http
from mkfa.readers.hub.cache import LocalCopy
from mkfa.readers.hub.choose_layers import choose
from mkfa.readers.hub.ranges import ChangedError, Pinned, RangedFile, pin
from mkfa.readers.hub.sharded import cached_shards, digest_of, listing, pinned_shards
from mkfa.readers.options import DEFAULT, ReadOptions
from mkfa.readers.reading import ModuleFile, Reading, TensorFile
from mkfa.readers.tensors.checkpoint import CheckpointInfo, read_checkpoint
from mkfa.readers.tensors.conversion import as_state_dict
from mkfa.readers.tensors.select import Selection, context_of, take
from mkfa.readers.tensors.shards import ShardedFile, joined, open_any, shards_note
from mkfa.readers.tensors.view import View
from mkfa.readers.timm import catalogue as timm_catalogue
from mkfa.storage.budget import Budget

PREFIX = "hf-hub:"
WHOLE_SHARE = 0.5
"""Share of a file above which it is fetched whole rather than in parts."""
STARTS = 3
"""How often a file is read that changes on the hub while it is read."""

_USUAL_FILES = ("model.safetensors", "pytorch_model.bin")
_LONGEST_CONFIG = 1 << 20


@dataclass(frozen=True, slots=True)
class Wanted:
    """The file that a name stands for.

    Attributes
    ----------
    files : file names in the repository, the preferred one first.
    architecture : timm architecture, "" if only the repository records it.
    entry : timm's facts about the weights.
    options : what the user decided; an architecture that the user named has to fit.
    """

    repo: str
    revision: str
    files: tuple[str, ...]
    architecture: str
    entry: timm_catalogue.Entry
    options: ReadOptions


def read_hub(source: str, options: ReadOptions = DEFAULT) -> Reading:
    """Read a timm name, with or without tag, or `hf-hub:OWNER/NAME[@REVISION]`.

    Parameters
    ----------
    options : `architecture` of the weights, "" for that of the name or the repository; which copy and which layers.

    Raises
    ------
    UnknownNameError
        The network does not exist; the message names the nearest ones.
    SourceError
        The repository, revision or file does not exist, is private, gated or damaged, or has no depthwise layers.
    WorkError
        The network, the hub or the disk failed.
    """
    wanted = _wanted(source, options)
    copy = _cached(wanted)
    if copy is not None:
        return _read_copy(copy, wanted)
    if copies := cached_shards(wanted.repo, wanted.revision):
        return _read_shards(copies, wanted)
    if hub_cache.offline():
        problem = f"is not in the cache ({wanted.repo}), and HF_HUB_OFFLINE forbids fetching it"
        raise WorkError(source, problem, "unset HF_HUB_OFFLINE")
    for start in range(STARTS):
        try:
            pinned = _pinned(wanted)
            return _read_pinned_shards(wanted) if pinned is None else _read_pinned(pinned, wanted)
        except ChangedError:
            if start == STARTS - 1:
                raise
    raise AssertionError("the last start returns or raises")


def _read_pinned(pinned: Pinned, wanted: Wanted) -> Reading:
    """Read one version of a file; raises ChangedError if another one answers on the way."""
    wanted = _with_config(wanted, pinned)
    if pinned.file.endswith(".safetensors"):
        reading = _read_parts(pinned, wanted)
        if reading is not None:
            return reading
    return _read_copy(_downloaded(pinned), wanted)


def state_of(source: str) -> tuple[str, str]:
    """Return the commit and digest that a name means now, "" where they are not known; few requests are made.

    Raises WorkError: the hub does not answer. Raises MkfaError: as `read_hub`.
    """
    wanted = _wanted(source, DEFAULT)
    copy = _cached(wanted)
    if copy is not None:
        return copy.commit, copy.sha256
    if copies := cached_shards(wanted.repo, wanted.revision):
        return copies[0].commit, digest_of([copy.sha256 for copy in copies], [copy.path.name for copy in copies])
    if hub_cache.offline():
        return "", ""
    for file in wanted.files:
        pinned = pin(wanted.repo, file, wanted.revision, retries=0)
        if pinned is not None:
            return pinned.commit, pinned.sha256
    return listing(wanted.repo, wanted.revision).commit, ""


def _wanted(source: str, options: ReadOptions) -> Wanted:
    if not source.startswith(PREFIX):
        if "/" in source:
            problem = "is neither a file nor a network that timm knows"
            raise UnknownNameError(source, problem, f"check the path, or write {PREFIX}{source} for a hub repository")
        entry = timm_catalogue.resolve(source)
        if not entry.repo:
            problem = f"has its weights on no hub, only at {entry.url}"
            remedy = f"download that file and harvest it with --arch {entry.architecture}"
            raise SourceError(entry.name, problem, remedy)
        repo, revision = entry.repo, ""
    else:
        parts = re.fullmatch(rf"{PREFIX}([\w.-]+(?:/[\w.-]+)?)(?:@([\w./-]+))?", source)
        if parts is None:
            raise hub_cache.bad_name(source)
        repo, revision = parts[1], parts[2] or ""
        known = timm_catalogue.entry_of_repo(repo)
        entry = known or timm_catalogue.Entry(repo.rpartition("/")[2], options.architecture)
    architecture = options.architecture or entry.architecture
    return Wanted(repo, revision, _files(entry.file), architecture, entry, options)


def _files(file: str) -> tuple[str, ...]:
    """Return the file names to look for: as in timm, a safetensors twin before a pickle."""
    if not file:
        return _USUAL_FILES
    if file.endswith(".safetensors"):
        return (file,)
    twins = {"pytorch_model.bin": "model.safetensors", "open_clip_pytorch_model.bin": "open_clip_model.safetensors"}
    return twins.get(file, f"{file.rpartition('.')[0]}.safetensors"), file


def _cached(wanted: Wanted) -> LocalCopy | None:
    for file in wanted.files:
        copy = hub_cache.cached(wanted.repo, file, wanted.revision)
        if copy is not None:
            return copy
    return None


def _pinned(wanted: Wanted) -> Pinned | None:
    pins = (pin(wanted.repo, file, wanted.revision) for file in wanted.files)
    return next((pinned for pinned in pins if pinned is not None), None)


def _read_pinned_shards(wanted: Wanted) -> Reading:
    """Read the shards of a repository that has no file of a usual name; raises SourceError if it has none."""
    pins, files = pinned_shards(wanted.repo, wanted.revision)
    if not pins:
        problem = f"has neither of the files {' and '.join(wanted.files)} on the hub"
        if others := files.checkpoints:
            problem += f", but {', '.join(others[:5])}" + (f" and {len(others) - 5} more" if len(others) > 5 else "")
        raise SourceError(wanted.repo, problem, "download its checkpoint and harvest that file")
    wanted = _with_config(wanted, pins[0])
    if all(pinned.file.endswith(".safetensors") for pinned in pins):
        with contextlib.suppress(hub_http.RangeIgnoredError):
            file = joined({pinned.thing: RangedFile(pinned) for pinned in pins})
            digest = digest_of([pinned.sha256 for pinned in pins], [pinned.file for pinned in pins])
            return _of_shards(file, len(pins), wanted, pins[0].commit, digest)
    return _read_shards([_downloaded(pinned) for pinned in pins], wanted)


def _read_shards(copies: Sequence[LocalCopy], wanted: Wanted) -> Reading:
    """Read shards that are whole local files."""
    wanted = _with_local_config(wanted, copies[0].path.parent)
    budget = Budget(wanted.repo)
    file = joined({str(copy.path): open_any(copy.path, budget) for copy in copies})
    digest = digest_of([copy.sha256 for copy in copies], [copy.path.name for copy in copies])
    return _of_shards(file, len(copies), wanted, copies[0].commit, digest)


def _of_shards(file: ShardedFile, count: int, wanted: Wanted, commit: str, digest: str) -> Reading:
    view = as_state_dict(file)
    name, selection = _chosen(view, wanted, wanted.repo)
    reading = take(view, selection, architecture=name)
    notes = (*reading.notes, shards_note(count))
    return _provenance(replace(reading, stood_in=file.stood_in, notes=notes), wanted, commit, digest)


def _with_config(wanted: Wanted, pinned: Pinned) -> Wanted:
    """Read the repository's `config.json` if the name does not give the architecture."""
    if wanted.architecture:
        return wanted
    url = pinned.url.rpartition("/")[0] + "/config.json"
    reply = hub_http.get_small(url, f"{wanted.repo}/config.json", limit=_LONGEST_CONFIG)
    return _configured(wanted, reply.body) if reply.status == 200 else wanted


def _with_local_config(wanted: Wanted, folder: Path) -> Wanted:
    config = folder / "config.json"
    if not wanted.architecture and config.is_file() and config.stat().st_size <= _LONGEST_CONFIG:
        return _configured(wanted, config.read_bytes())
    return wanted


def _configured(wanted: Wanted, config: bytes) -> Wanted:
    """Add the facts of a `config.json` that timm wrote; any other file is ignored."""
    try:
        facts = json.loads(config)
    except (ValueError, RecursionError):
        return wanted
    if not isinstance(facts, dict) or not isinstance(facts.get("architecture"), str):
        return wanted
    cfg: Mapping[str, Any] = facts["pretrained_cfg"] if isinstance(facts.get("pretrained_cfg"), dict) else {}
    tag = cfg["tag"] if isinstance(cfg.get("tag"), str) else ""
    sizes = cfg.get("input_size")
    one_channel = isinstance(sizes, list) and sizes[:1] == [1] and isinstance(cfg.get("first_conv"), str)
    entry = timm_catalogue.Entry(
        name=wanted.entry.name,
        architecture=facts["architecture"],
        tag=tag,
        training_set=timm_catalogue.training_set_of(tag),
        task=timm_catalogue.task_of(tag) if facts.get("num_classes") else "",
        stem=str(cfg["first_conv"]) if one_channel else "",
    )
    return replace(wanted, architecture=entry.architecture, entry=entry)


def _read_parts(pinned: Pinned, wanted: Wanted) -> Reading | None:
    """Read by ranges; None if the whole file is needed, or most of it."""
    try:
        file = RangedFile(pinned)
        view = as_state_dict(file)
        name, selection = _chosen(view, wanted, pinned.thing)
        if file.cost(view.sources(selection.keys)) > WHOLE_SHARE * pinned.size:
            return None
        return _provenance(take(view, selection, architecture=name), wanted, pinned.commit, pinned.sha256)
    except hub_http.RangeIgnoredError:
        return None


def _downloaded(pinned: Pinned) -> LocalCopy:
    """Fetch the whole file and check it against the hub's digest (huggingface_hub does not)."""
    from mkfa.storage.files import sha256_of

    copy = hub_cache.download(pinned.repo, pinned.file, pinned.commit)
    if pinned.sha256 and sha256_of(copy.path) != pinned.sha256:
        remedy = f"delete {copy.path.resolve()} and try again"
        raise WorkError(
            pinned.thing, "was damaged in transit: its SHA-256 differs from the one that the hub states", remedy
        )
    return replace(copy, commit=pinned.commit or copy.commit, sha256=pinned.sha256)


def _read_copy(copy: LocalCopy, wanted: Wanted) -> Reading:
    """Read a whole local file; its folder in the cache may contain the configuration too."""
    wanted = _with_local_config(wanted, copy.path.parent)
    file = _open(copy.path)
    whole = file if isinstance(file, ModuleFile) else None
    if whole is not None and whole.facts and not wanted.options.architecture:  # a network that was saved whole
        reading = read_checkpoint(file, CheckpointInfo(copy.path), wanted.options)
        return _provenance(reading, wanted, copy.commit, copy.sha256)
    view = as_state_dict(file)
    name, selection = _chosen(view, wanted, str(copy.path))
    reading = take(view, selection, architecture=name)
    reading = reading if whole is None else replace(reading, stood_in=whole.stood_in)
    return _provenance(reading, wanted, copy.commit, copy.sha256)


def _open(path: Path) -> TensorFile:
    if path.suffix == ".safetensors":
        from mkfa.readers.tensors.safetensors import open_safetensors

        return open_safetensors(path)
    from mkfa.readers.tensors.pytorch import open_torch

    return open_torch(path)


def _chosen(file: View, wanted: Wanted, thing: str) -> tuple[str, Selection]:
    context = context_of(file, wanted.options, thing)
    return choose(file.tensors, wanted.architecture, stem=wanted.entry.stem, context=context)


def _provenance(reading: Reading, wanted: Wanted, commit: str, sha256: str) -> Reading:
    """Add the provenance of hub and timm; `reading.architecture` is the one that the layers have."""
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
