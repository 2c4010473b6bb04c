"""Read the depthwise convolutions of Keras files: `.h5` of weights or whole models, `.weights.h5`, `.keras`.

A whole model contains its configuration, which tells each layer's class, stride and dilation. In a file of weights
alone, names tell the kind of a convolution, else the number of its biases. Nothing in the file is run: Keras is not
needed. Layouts: keras/src/legacy/saving/legacy_h5_format.py and keras/src/saving/saving_lib.py (Keras 3).
"""

from __future__ import annotations

import contextlib
import io
import json
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

import numpy as np

from mkfa.array_types import AnyArray
from mkfa.errors import SourceError
from mkfa.readers.graphs.graph_file import DamagedError, Tally, damaged
from mkfa.readers.graphs.keras_layers import (
    Finder,
    StoredLayer,
    Weight,
    class_of,
    has_members,
    inner,
    members,
    name_of,
    ordered_groups,
    snake_case,
    take_layer,
)
from mkfa.readers.options import DEFAULT, ReadOptions
from mkfa.readers.reading import Reading
from mkfa.storage import hdf5
from mkfa.storage.budget import LONGEST_NAME, Budget
from mkfa.storage.files import open_file, read_span, sha256_of
from mkfa.storage.zip_records import check_span

_DEEPEST = 32
_BYTES_A_LETTER = 24
"""Most bytes that a parsed configuration takes for a byte of its text, which may be a list of empty ones."""

_STEPS_A_WEIGHT, _STEPS_A_MEMBER = 60, 5
_OPTIMISERS = ("optimizer", "optimizer_weights", "_optimizer", "training_config")
_CONTAINERS = ("layers", "_layer_checkpoint_dependencies")
_LONGEST_CONFIG = 1 << 26
_AGAIN = "fetch the file again"


def read_keras(path: Path, options: ReadOptions = DEFAULT) -> Reading:
    """Read a Keras file; parameters and errors as for `mkfa.readers.formats.reader_for`."""
    tally = Tally()
    budget = Budget(path, path.stat().st_size)
    try:
        if zipfile.is_zipfile(path):
            with _archive(path, budget) as (config, stream), hdf5.open_weights(stream, path) as f:
                stated = _read(f, config, tally, budget)
        else:
            with hdf5.open_weights(path, path) as f:
                if _is_mkfas(f):
                    problem, remedy = (
                        "is a file of mkfa, not a checkpoint",
                        "a bank is compared or assigned by its path",
                    )
                    raise SourceError(path, problem, remedy)
                stated = _read(f, _stored_config(f, budget) or config_beside(path, budget), tally, budget)
    except DamagedError as error:
        raise damaged(path, error) from None
    reading = tally.reading(options.architecture, sha256_of(path))
    return reading if stated else replace(reading, rule="shape")


def is_bank(path: Path) -> bool:
    """True for an HDF5 file that mkfa wrote."""
    with contextlib.suppress(SourceError), hdf5.open_weights(path, path) as f:
        return _is_mkfas(f)
    return False


def _is_mkfas(f: Any) -> bool:
    return hdf5.get_text(f, "format").startswith("mkfa.")


def _read(f: Any, config: Mapping[str, Any] | None, tally: Tally, budget: Budget) -> bool:
    """Visit the layers of an open file; return whether a configuration states what every layer taken is."""
    stated = [take_layer(layer, tally) for layer in stored_layers(f, config, budget)]
    if not stated:
        problem = "is an HDF5 file without the layers of a Keras model"
        raise SourceError(budget.thing, problem, "give a file that Keras saved")
    return all(stated)


def stored_layers(f: Any, config: Mapping[str, Any] | None, budget: Budget) -> Iterator[StoredLayer]:
    """Yield the layers of an open file with their weights; `config` is the model's configuration, if it is known."""
    weights = _Weights(budget)
    root = f["model_weights"] if "model_weights" in f and hdf5.is_inside(f, "model_weights") else f
    old = any(hdf5.has_attribute(root, name, budget) for name in ("layer_names", "layer_names0"))
    return _old_layers(root, config, weights) if old else _Walk(weights).model(root, config)


def config_beside(path: Path, budget: Budget) -> Mapping[str, Any] | None:
    """Return the configuration that Keras writes beside weights in a folder (`config.json`), None if there is none."""
    if not path.name.startswith("model.weights."):
        return None
    with contextlib.suppress(SourceError), open_file(path.with_name("config.json")) as f:
        size = f.seek(0, 2)
        if size <= _LONGEST_CONFIG:
            budget.grow(size)
            config = parse_config(read_span(f, 0, size, thing=path), budget)
            return config if has_members(config) else None
    return None


def parse_config(text: str | bytes, budget: Budget) -> Mapping[str, Any]:
    """Parse the configuration of a model; raises SourceError."""
    budget.produce(_BYTES_A_LETTER * len(text))
    budget.step(len(text) // 4)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise SourceError(budget.thing, "has a configuration that is not JSON", _AGAIN) from None
    if not isinstance(value, dict):
        raise SourceError(budget.thing, "has a configuration that is not a model's", _AGAIN)
    return value


def _stored_config(f: Any, budget: Budget) -> Mapping[str, Any] | None:
    """Return the configuration in an .h5 file of a whole model, None if there is none."""
    text = hdf5.get_text(f, "model_config", budget=budget)
    return parse_config(text, budget) if text else None


@contextlib.contextmanager
def _archive(path: Path, budget: Budget) -> Iterator[tuple[Mapping[str, Any] | None, IO[bytes]]]:
    """Open a .keras archive; yield its configuration and a stream of its weights."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
            if "model.weights.h5" not in names:
                problem, remedy = "is a zip file, but not Keras's: it has no model.weights.h5", "save it as one file"
                raise SourceError(path, problem, remedy)
            config = None
            if "config.json" in names:
                config = parse_config(_unpacked(archive, "config.json", budget, path), budget)
            info = archive.getinfo("model.weights.h5")
            if info.compress_type == zipfile.ZIP_STORED and not info.flag_bits & 1:
                with archive.open(info) as member, open_file(path) as f:
                    member.read(1)  # checks the local header
                    start = _data_start(f, info)
                    check_span(f, (start, start + info.file_size, info.CRC), name=info.filename, thing=path)
                    yield config, io.BufferedReader(_Window(f, start, info.file_size))
            else:
                yield config, io.BytesIO(_unpacked(archive, "model.weights.h5", budget, path))
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, RuntimeError, OSError) as error:
        raise SourceError(path, f"is truncated or damaged ({str(error)[:80]})", _AGAIN) from None


def _unpacked(archive: zipfile.ZipFile, name: str, budget: Budget, path: Path) -> bytes:
    size = archive.getinfo(name).file_size
    budget.produce(size)
    with archive.open(name) as member:
        data = member.read(size + 1)
    if len(data) != size:
        raise SourceError(path, f"has a record {name} of another size than its directory says", _AGAIN)
    return data


def _data_start(f: IO[bytes], info: zipfile.ZipInfo) -> int:
    f.seek(info.header_offset + 26)
    head = f.read(4)
    return info.header_offset + 30 + int.from_bytes(head[:2], "little") + int.from_bytes(head[2:], "little")


class _Window(io.RawIOBase):
    """A part of a file as a file of its own."""

    def __init__(self, f: IO[bytes], first: int, size: int) -> None:
        self._f, self._first, self._size, self._at = f, first, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = max(0, offset + (0, self._at, self._size)[whence])
        return self._at

    def readinto(self, buffer: Any) -> int:
        count = max(0, min(len(buffer), self._size - self._at))
        self._f.seek(self._first + self._at)
        data = self._f.read(count)
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)


@dataclass(slots=True)
class _Weights:
    """Makes weights of datasets, at the cost of the file's budget."""

    budget: Budget

    def weight(self, key: str, data: Any) -> Weight:
        self.budget.step(_STEPS_A_WEIGHT)
        self.budget.key(key, LONGEST_NAME)
        dtype = str(data.dtype.newbyteorder("="))
        if data.dtype.kind == "V" and data.dtype.itemsize == 2:
            dtype = "bfloat16" if hdf5.get_text(data, "dtype", budget=self.budget) == "bfloat16" else dtype
        shape = tuple(int(n) for n in data.shape or ())
        return Weight(key, shape, dtype.lstrip("<>|="), lambda: self._load(data, dtype))

    def _load(self, data: Any, dtype: str) -> AnyArray:
        values = hdf5.read_weight(data, self.budget)
        if dtype == "bfloat16":
            return (values.view("<u2").astype(np.uint32) << 16).view(np.float32)
        return values


def _old_layers(root: Any, config: Mapping[str, Any] | None, weights: _Weights) -> Iterator[StoredLayer]:
    """Yield the layers of the format of Keras 1 and 2, in order of execution.

    Attributes list the layers and the weights of each; the group of a nested model lists those of all its layers.
    """
    budget = weights.budget
    find = Finder(budget).find
    for name in hdf5.get_texts(root, "layer_names", budget):
        if not hdf5.is_inside(root, name):
            continue
        budget.step(_STEPS_A_WEIGHT)
        group = root[name]
        top = find(config, name)
        by_layer: dict[str, dict[str, Weight]] = {}
        for key in hdf5.get_texts(group, "weight_names", budget):
            budget.step(_STEPS_A_WEIGHT * (2 + key.count("/")))
            data = _dataset(group, key)
            if data is not None:
                full = key if name in key.split("/")[:-1] else f"{name}/{key}"
                owner = key.rpartition("/")[0].rpartition("/")[2] or name
                by_layer.setdefault(owner, {})[key] = weights.weight(full, data)
        for owner, own in by_layer.items():
            node = top if owner == name or top is None else find(top, owner)
            node = top if node is None and top is not None and not members(top) else node
            while node is not None and (wrapped := inner(node, "layer")) is not None:
                node = wrapped
            yield StoredLayer(own, node, (owner, name))


def _dataset(group: Any, key: str) -> Any:
    """Return a dataset by its path in a group, None if it is missing or a link leads to it."""
    at = group
    for part in key.split("/"):
        if not hdf5.is_group(at) or part in ("", ".", "..") or not hdf5.is_inside(at, part):
            return None
        at = at[part]
    return None if hdf5.is_group(at) else at


@dataclass(slots=True)
class _Walk:
    """Visits the groups of the format of Keras 3: a layer has `vars`, a model has its layers in further groups."""

    weights: _Weights
    entered: set[int] = field(default_factory=set)

    def model(self, root: Any, config: Mapping[str, Any] | None) -> Iterator[StoredLayer]:
        """Yield the layers below the root, but for the optimiser's variables."""
        yield from self._object(root, config, ())

    def _object(self, group: Any, node: Mapping[str, Any] | None, path: tuple[str, ...]) -> Iterator[StoredLayer]:
        number = hdf5.object_number(group)
        if number in self.entered or len(path) > _DEEPEST:
            return
        self.entered.add(number)
        budget = self.weights.budget
        children = hdf5.own_children(group, budget)
        variables = children.pop("vars", None)
        name = ""
        if variables is not None and hdf5.is_group(variables):
            name = hdf5.get_text(variables, "name", budget=budget)
            own = {key: data for key, data in hdf5.own_children(variables, budget).items() if not hdf5.is_group(data)}
            made = {key: self.weights.weight("/".join((*path, "vars", key)), data) for key, data in own.items()}
            if made:
                yield StoredLayer(made, node, (*path[-1:], name))
        for key in ordered_groups([key for key, item in children.items() if hdf5.is_group(item)]):
            if not path and key in _OPTIMISERS:
                continue
            budget.key(key, LONGEST_NAME)
            below = (*path, *key.split("\\"))
            if key in _CONTAINERS and node is not None and has_members(node):
                yield from self._members(children[key], node, below)
            else:
                yield from self._object(children[key], None if node is None else inner(node, key), below)

    def _members(self, group: Any, node: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[StoredLayer]:
        """Yield the layers of a model in the order of its configuration.

        A group has the class of its layer for a name, numbered among the layers of that class.
        """
        children = hdf5.own_children(group, self.weights.budget)
        seen: Counter[str] = Counter()
        for member in members(node):
            self.weights.budget.step(_STEPS_A_MEMBER + len(class_of(member)) // 4)
            base = snake_case(class_of(member))
            key = f"{base}_{seen[base]}" if seen[base] else base
            seen[base] += 1
            child = children.pop(key, None) or children.pop(name_of(member), None)
            if child is not None and hdf5.is_group(child):
                yield from self._object(child, member, (*path, key))
        for key in ordered_groups(list(children)):
            if hdf5.is_group(children[key]):
                yield from self._object(children[key], None, (*path, key))
