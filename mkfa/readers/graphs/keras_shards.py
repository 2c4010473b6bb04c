"""Read the weights of a Keras network in several files: NAME.weights.json and NAME_00000.weights.h5, ...

The index lists the files of each layer, whose weights may be in two files. Layout: keras/src/saving/saving_lib.py.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from mkfa.errors import SourceError
from mkfa.readers.graphs.graph_file import DamagedError, Tally, damaged
from mkfa.readers.graphs.keras import config_beside, parse_config, stored_layers
from mkfa.readers.graphs.keras_layers import StoredLayer, take_layer
from mkfa.readers.options import DEFAULT, ReadOptions
from mkfa.readers.reading import Reading, read_head
from mkfa.storage import hdf5
from mkfa.storage.budget import Budget
from mkfa.storage.files import open_file, read_span, sha256_of
from mkfa.words import counted

INDEX = ".weights.json"
"""How the name of an index ends."""

_SHARD = re.compile(r"(.+)_\d{5}\.weights\.h5")
_LONGEST_INDEX = 1 << 26
_STEPS_A_FILE = 20_000  # opening a file takes milliseconds
_STEPS_A_PART = 30
_AGAIN = "fetch index and shards again"


def index_of(path: Path) -> Path | None:
    """Return the index of a shard, None for a file that is not a shard.

    Raises SourceError: it is a shard by its name and that of the first one, but its index is not there.
    """
    named = _SHARD.fullmatch(path.name)
    if named is None:
        return None
    index = path.with_name(named[1] + INDEX)
    with contextlib.suppress(SourceError):
        if path.name in shards_of(index):
            return index
    if path.with_name(f"{named[1]}_00000.weights.h5").exists() and not index.exists():
        problem = f"is one of several shards of a Keras network, and {index.name} is not beside it"
        raise SourceError(path, problem, "fetch the index too, or rename it if it is a network")
    return None


def shards_of(index: Path) -> list[str]:
    """Return the names of the files that an index lists, in their order; raises SourceError."""
    return list(dict.fromkeys(name for names in _places(index, Budget(index)).values() for name in names))


def _places(index: Path, budget: Budget) -> dict[str, list[str]]:
    """Return group -> names of the files that have its weights."""
    with open_file(index) as f:
        size = f.seek(0, 2)
        if size > _LONGEST_INDEX:
            raise SourceError(
                index, f"is a JSON file of {counted(size, 'byte')}, too long for an index", "give the weights"
            )
        budget.grow(size)
        entries = parse_config(read_span(f, 0, size, thing=index), budget).get("weight_map")
    places: dict[str, Any] = {
        group: [names] if isinstance(names, str) else names
        for group, names in (entries.items() if isinstance(entries, dict) else ())
    }
    flat: list[Any] = [name for names in places.values() for name in (names if isinstance(names, list) else [None])]
    if not flat or not all(isinstance(name, str) for name in flat):
        problem = "is a JSON file, but not the index of a Keras network"
        raise SourceError(index, problem, "give the file of weights, or the index that Keras wrote")
    for name in flat:
        if Path(name).name != name or "\\" in name or "\0" in name or name in ("", ".", ".."):
            problem = f"names a shard outside its folder ({name[:80]!r}), which is not opened"
            raise SourceError(index, problem, "put the shards beside the index")
    return places


def read_keras_shards(index: Path, options: ReadOptions = DEFAULT) -> Reading:
    """Read the shards that an index lists; parameters and errors as for `mkfa.readers.formats.reader_for`."""
    budget = Budget(index)
    places = _places(index, budget)
    paths = {name: index.with_name(name) for names in places.values() for name in names}
    config = config_beside(index, budget)
    tally = Tally()
    with contextlib.ExitStack() as stack:
        files: dict[str, Any] = {}
        for name, path in paths.items():
            budget.step(_STEPS_A_FILE)
            read_head(path)  # refuses missing files, LFS pointers and web pages
            budget.grow(path.stat().st_size)
            files[name] = stack.enter_context(hdf5.open_weights(path, path))
        _check(index, places, files, budget)
        try:
            layers = _merged(layer for f in files.values() for layer in stored_layers(f, config, budget))
            stated = [take_layer(layer, tally) for layer in layers.values()]
        except DamagedError as error:
            raise damaged(index, error) from None
    lines = "".join(f"{sha256_of(path)}  {path.name}\n" for path in (index, *paths.values()))
    tally.notes.append("source_sha256 is that of the lines 'digest  name' of the index and its shards, in their order")
    reading = tally.reading(options.architecture, hashlib.sha256(lines.encode()).hexdigest())
    return reading if stated and all(stated) else replace(reading, rule="shape")


def _check(index: Path, places: Mapping[str, list[str]], files: Mapping[str, Any], budget: Budget) -> None:
    """Refuse shards that lack a group of weights that the index puts into them."""
    for group, names in places.items():
        for name in names:
            at = files[name]
            for part in group.strip("/").split("/"):
                budget.step(_STEPS_A_PART)
                if not hdf5.is_group(at) or not hdf5.is_inside(at, part):
                    raise SourceError(index, f"lists {group[:80]!r} in {name[:80]}, which lacks it", _AGAIN)
                at = at[part]


def _merged(layers: Iterator[StoredLayer]) -> dict[str, StoredLayer]:
    """Return layers by their path; the weights of one may be in two files."""
    out: dict[str, StoredLayer] = {}
    for layer in layers:
        path = next(iter(layer.weights.values())).key.rpartition("/")[0]
        if (former := out.get(path)) is not None:
            if former.weights.keys() & layer.weights.keys():
                raise DamagedError(f"weights of {path[:80]} in two shards")
            weights = dict(sorted({**former.weights, **layer.weights}.items()))
            layer = StoredLayer(weights, former.config or layer.config, (*former.names, *layer.names))
        out[path] = layer
    return out
