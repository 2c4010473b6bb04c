"""From an open checkpoint to a reading: which architecture it is, which layers, its digest.

An architecture that the user names decides. Else one that the file names is tried, else timm's catalogue is asked
whose depthwise layers have these names and shapes. What is left is the shape rule.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from mkfa.errors import MkfaError, SourceError
from mkfa.readers.reading import GraphLayer, Reading, TensorFile, TensorInfo
from mkfa.readers.tensors.select import Selection, select, take
from mkfa.storage.files import sha256_of


@dataclass(frozen=True, slots=True)
class CheckpointInfo:
    """Where a checkpoint comes from.

    Attributes
    ----------
    thing : what to name in an error.
    hint : architecture that the file itself names; it is tried and does no harm when it does not fit.
    hashed : files whose digest is recorded: of one file its SHA-256, of several that of the lines
        "digest  name" in this order, as sha256sum prints them.
    keeps_order : as for `mkfa.readers.tensors.select.select`.
    training_set, licence : what the file says of them.
    notes : sentences for the reader.
    """

    thing: Path | str
    hint: str = ""
    hashed: tuple[Path, ...] = ()
    keeps_order: bool | None = None
    training_set: str = ""
    licence: str = ""
    notes: tuple[str, ...] = ()


def read_checkpoint(file: TensorFile, origin: CheckpointInfo, architecture: str) -> Reading:
    """Harvest an open checkpoint.

    Parameters
    ----------
    architecture : timm architecture that the weights belong to, or "" to find that out.

    Raises
    ------
    SourceError
        The file cannot be read or does not hold the layers of `architecture`.
    UnknownNameError
        timm does not know `architecture`.
    """
    digest = _Digest(origin.hashed)
    name, selection = _selected(file.tensors, origin, architecture)
    reading = take(file, selection, architecture=name, source_sha256=digest.result())
    return replace(
        reading, training_set=origin.training_set, licence=origin.licence, notes=(*reading.notes, *origin.notes)
    )


def _selected(infos: Mapping[str, TensorInfo], origin: CheckpointInfo, architecture: str) -> tuple[str, Selection]:
    """Return (architecture or "", what to read)."""
    if architecture:
        return architecture, _by_architecture(infos, architecture, origin.thing)
    if origin.hint:
        try:
            return origin.hint, _by_architecture(infos, origin.hint, origin.thing)
        except MkfaError:  # the file's own word for what it is need not be timm's
            pass
    return identify(infos, str(origin.thing), keeps_order=origin.keeps_order)


def identify(
    infos: Mapping[str, TensorInfo], thing: str, *, stem: str = "", keeps_order: bool | None = None
) -> tuple[str, Selection]:
    """Return (architecture or "", what to read) for tensors that nobody has named.

    timm's catalogue is asked whose depthwise layers these are; else the shape rule decides.

    Parameters
    ----------
    stem : name of the first convolution, without ".weight", of a network known to take one channel; else "".
    """
    from mkfa.readers.timm.catalogue import match_layers

    plain = select(infos, first_conv=stem, gray=bool(stem), keeps_order=keeps_order, thing=thing)
    shapes = {layer.key: layer.shape for layer in plain.layers}
    for prefix in _common_prefixes(list(shapes)):
        names = [key[len(prefix) :] for key in infos if key.startswith(prefix)]
        match = match_layers({key[len(prefix) :]: shape for key, shape in shapes.items()}, names)
        if match is not None:
            return match[0], select(infos, graph=match[1], rule="catalogue", thing=thing)
    return "", plain


def _by_architecture(infos: Mapping[str, TensorInfo], architecture: str, thing: Path | str) -> Selection:
    from mkfa.readers.timm.catalogue import graph_of, under_keys

    layers, aliases = graph_of(architecture)
    if not layers:
        raise SourceError(architecture, "has no depthwise layer", "give the architecture that the weights belong to")
    known = {suffix for key in infos for suffix in _suffixes(key)} if aliases else set()
    graph: tuple[GraphLayer, ...] = under_keys(layers, aliases, known)
    return select(infos, graph=graph, rule="catalogue", thing=str(thing))


def _common_prefixes(keys: list[str]) -> Iterator[str]:
    """Yield the dotted prefixes that all keys share, the empty one first."""
    if not keys:
        return
    yield ""
    at = 0
    while (at := keys[0].find(".", at) + 1) and all(key.startswith(keys[0][:at]) for key in keys):
        yield keys[0][:at]


def _suffixes(key: str) -> Iterator[str]:
    yield key
    while "." in key:
        key = key.partition(".")[2]
        yield key


class _Digest:
    """SHA-256 of one or more files, computed beside the reading (hashing leaves the interpreter free)."""

    def __init__(self, paths: tuple[Path, ...]) -> None:
        self._paths = paths
        self._text = ""
        self._error: SourceError | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            digests = [sha256_of(path) for path in self._paths]
        except SourceError as error:
            self._error = error
            return
        if len(digests) == 1:
            self._text = digests[0]
        elif digests:
            lines = "".join(f"{d}  {path.name}\n" for d, path in zip(digests, self._paths, strict=True))
            self._text = hashlib.sha256(lines.encode()).hexdigest()

    def result(self) -> str:
        """Wait for the digest; raises SourceError when a file could not be read."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._text
