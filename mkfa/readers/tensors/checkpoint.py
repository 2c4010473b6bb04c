"""Read an open checkpoint: identify its architecture, choose its layers, compute its digest.

The architecture that the user names decides. Without one, the architecture that the file names is tried, then timm's
catalogue is searched for the same names and shapes of depthwise layers, and last comes the shape rule.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from mkfa.errors import MkfaError, SourceError
from mkfa.frozen import FrozenDict
from mkfa.readers.options import DEFAULT, ReadOptions
from mkfa.readers.reading import GraphLayer, ModuleFile, Reading, TensorFile, TensorInfo
from mkfa.readers.tensors.conversion import as_state_dict
from mkfa.readers.tensors.depthwise import JUDGED
from mkfa.readers.tensors.key_names import spellings
from mkfa.readers.tensors.select import Context, Selection, context_of, select, take
from mkfa.storage.files import sha256_of


@dataclass(frozen=True, slots=True)
class CheckpointInfo:
    """What a reader knows of a checkpoint besides its tensors.

    Attributes
    ----------
    thing : what to name in an error.
    hint : architecture that the file names; it is ignored if it does not fit.
    hashed : files whose digest is recorded: the SHA-256 of one file, or for several that of the lines
        "digest  name" in this order, as sha256sum prints them.
    keeps_order : as for `mkfa.readers.tensors.select.select`.
    training_set, licence, notes : added to the provenance.
    """

    thing: Path | str
    hint: str = ""
    hashed: tuple[Path, ...] = ()
    keeps_order: bool | None = None
    training_set: str = ""
    licence: str = ""
    notes: tuple[str, ...] = ()


def read_checkpoint(file: TensorFile, checkpoint: CheckpointInfo, options: ReadOptions = DEFAULT) -> Reading:
    """Read an open checkpoint; `options` and errors as for `mkfa.readers.formats.reader_for`."""
    digest = _Digest(checkpoint.hashed)
    whole = file if isinstance(file, ModuleFile) else None
    view = as_state_dict(file)
    context = context_of(view, options, checkpoint.thing)
    if whole is not None and whole.facts and not options.architecture:
        name = whole.architecture or identify(view.tensors, keeps_order=checkpoint.keeps_order, context=context)[0]
        selection = select(view.tensors, facts=whole.facts, keeps_order=True, context=context)
    else:
        name, selection = _selected(view.tensors, checkpoint, context)
    reading = take(view, selection, architecture=name, source_sha256=digest.result())
    return replace(
        reading,
        stood_in=FrozenDict({}) if whole is None else whole.stood_in,
        training_set=checkpoint.training_set,
        licence=checkpoint.licence,
        notes=(*reading.notes, *checkpoint.notes),
    )


def _selected(infos: Mapping[str, TensorInfo], checkpoint: CheckpointInfo, context: Context) -> tuple[str, Selection]:
    """Return (architecture or "", the layers to read)."""
    if named := context.options.architecture:
        return named, _by_architecture(infos, named, context)
    if checkpoint.hint:
        try:
            return checkpoint.hint, _by_architecture(infos, checkpoint.hint, context)
        except MkfaError:  # the name in the file need not be timm's
            pass
    return identify(infos, keeps_order=checkpoint.keeps_order, context=context)


def identify(
    infos: Mapping[str, TensorInfo], *, stem: str = "", keeps_order: bool | None = None, context: Context | None = None
) -> tuple[str, Selection]:
    """Return (architecture or "", the layers to read): by timm's catalogue, else by the shape rule.

    `stem` is the first convolution, without ".weight", of a network known to take one channel; else "".
    """
    from mkfa.readers.timm.catalogue import match_layers

    plain = select(infos, first_conv=stem, gray=bool(stem), keeps_order=keeps_order, context=context)
    judged = {key: infos[key].shape for key, why in plain.left_out.items() if why in JUDGED}
    taken = {layer.key: layer.shape for layer in plain.layers}
    for shapes in ({**taken, **judged}, taken) if judged else (taken,):
        for keys in spellings(infos):
            named = {name: shapes[key] for name, key in keys.items() if key in shapes}
            for prefix in _common_prefixes(list(named)):
                names = [name[len(prefix) :] for name in keys if name.startswith(prefix)]
                match = match_layers({name[len(prefix) :]: shape for name, shape in named.items()}, names)
                if match is not None:
                    return match[0], select(infos, graph=match[1], rule="catalogue", context=context)
    return "", plain


def _by_architecture(infos: Mapping[str, TensorInfo], architecture: str, context: Context) -> Selection:
    from mkfa.readers.timm.catalogue import graph_of, under_keys

    layers, aliases = graph_of(architecture)
    if not layers:
        raise SourceError(architecture, "has no depthwise layer", "give the architecture that the weights belong to")
    known = {suffix for key in infos for suffix in _suffixes(key)} if aliases else set()
    graph: tuple[GraphLayer, ...] = under_keys(layers, aliases, known)
    return select(infos, graph=graph, rule="catalogue", context=context)


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
    """SHA-256 of one or more files, computed in a thread while the tensors are read."""

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
        """Wait for the digest; raises SourceError if a file cannot be read."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._text
