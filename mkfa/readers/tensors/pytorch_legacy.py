"""PyTorch's formats before its zip archives, and plain pickles of tensors and arrays.

From 0.1.2 to 1.5 a file is five pickles and then the numbers; before, it was a tar file. A plain pickle (detectron's
`.pkl`, `pickle.dump(model.state_dict())`) contains the numbers itself. Source: torch/serialization.py, `_legacy_load`.
"""

from __future__ import annotations

import io
import struct
from io import FileIO
from pathlib import Path
from typing import Any

from mkfa.errors import SourceError
from mkfa.readers.tensors.dtypes import BITS
from mkfa.readers.tensors.inert_pickle import MAGIC, Interpreter
from mkfa.readers.tensors.inert_values import DamagedPickleError, Global, StorageRef, storage_dtype, tensor, whole
from mkfa.readers.tensors.torch_file import MAX_PICKLE, Numbers, TorchFile, checked_span, torch_file
from mkfa.storage.budget import Budget
from mkfa.storage.files import read_span

_PROTOCOL = 1001
_AGAIN = "fetch the file again"
_MOST_AXES = 64


def open_legacy(path: Path, f: FileIO, size: int, *, budget: Budget) -> TorchFile:
    """Open a file of pickles: PyTorch's, with count and numbers of each storage after them, or a plain one."""
    stream = io.BufferedReader(f)
    interpreter = Interpreter(stream, min(size, MAX_PICKLE), budget)
    try:
        first = interpreter.load()
        if first != MAGIC:
            return _plain(path, f, first, interpreter)
        if interpreter.load() != _PROTOCOL:
            raise SourceError(path, "has an unknown PyTorch format", "save it again with a current PyTorch")
        interpreter.load()
        value, keys = interpreter.load(), interpreter.load()
        at = stream.tell()
    except DamagedPickleError:
        if size > MAX_PICKLE and stream.tell() > MAX_PICKLE // 2:
            problem = f"has a pickle of more than {MAX_PICKLE} bytes"
            raise SourceError(path, problem, "save its tensors as safetensors") from None
        raise
    finally:
        stream.detach()  # else deleting the stream would close `f`
    if not isinstance(keys, list):
        raise DamagedPickleError("storages that are not a list")
    spans: dict[str, tuple[int, int]] = {}
    for key in (str(key) for key in keys):
        ref = interpreter.storages.get(key)
        if ref is None or key in spans or not ref.dtype:
            raise DamagedPickleError("a storage that no tensor uses")
        count = struct.unpack("<q", read_span(f, at, at + 8, thing=path))[0] if at + 8 <= size else -1
        if count != ref.numel:
            raise SourceError(path, f"is truncated or damaged at byte {at}", _AGAIN)
        record = (at + 8, min(size, at + 8 + ref.numel * BITS[ref.dtype] // 8))
        spans[key] = checked_span(record, ref, path)
        at = spans[key][1]
    if set(interpreter.storages) - set(spans):
        raise DamagedPickleError("tensors without data")
    return torch_file(Numbers(path, f, spans), value, interpreter)


def _plain(path: Path, f: FileIO, value: Any, interpreter: Interpreter) -> TorchFile:
    if interpreter.storages:
        raise DamagedPickleError("tensors without data")
    file = torch_file(Numbers(path, f, {}), value, interpreter)
    if not file.tensors and not file.stood_in:
        raise SourceError(path, "is a pickle, but not PyTorch's", "give a file that torch.save wrote, or safetensors")
    return file


def open_tar(path: Path, f: FileIO, size: int, *, budget: Budget) -> TorchFile:
    """Open the oldest format: a tar file of `storages`, `tensors` and `pickle`."""
    import tarfile  # seldom needed

    try:
        with tarfile.open(fileobj=f, mode="r:") as archive:
            places = {m.name: (m.offset_data, m.size) for m in archive if m.isreg() and not m.issparse()}
    except (tarfile.TarError, ValueError, EOFError, struct.error):
        raise SourceError(path, "is truncated or damaged: its tar directory cannot be read", _AGAIN) from None
    if not {"storages", "tensors", "pickle"} <= set(places):
        raise SourceError(path, "is a tar file, but not PyTorch's", "unpack it and give the checkpoint in it")
    if any(first + length > size for first, length in places.values()):
        raise SourceError(path, "is truncated: its tar directory claims more than it has", _AGAIN)
    stream = io.BufferedReader(f)
    try:
        known, spans = _tar_storages(stream, *places["storages"], budget)
        known |= _tar_tensors(stream, *places["tensors"], known, budget)
        stream.seek(places["pickle"][0])
        interpreter = Interpreter(stream, min(places["pickle"][1], MAX_PICKLE), budget)
        interpreter.known = known
        value = interpreter.load()
    finally:
        stream.detach()
    return torch_file(Numbers(path, f, spans), value, interpreter)


def _tar_storages(
    stream: io.BufferedReader[FileIO], first: int, length: int, budget: Budget
) -> tuple[dict[int, Any], dict[str, tuple[int, int]]]:
    """Return storages by their number, and where their numbers lie in the file."""
    stream.seek(first)
    interpreter = Interpreter(stream, length, budget)
    known: dict[int, Any] = {}
    spans: dict[str, tuple[int, int]] = {}
    for _ in range(whole(interpreter.load())):
        key, kind = _tar_entry(interpreter)
        dtype = storage_dtype(kind.name) if isinstance(kind, Global) else None
        if not dtype:
            raise DamagedPickleError("a storage without a type")
        numel = struct.unpack("<q", interpreter.read(8))[0]
        at = stream.tell()
        interpreter.skip(whole(numel) * BITS[dtype] // 8)
        known[key], spans[str(key)] = StorageRef(str(key), dtype, numel), (at, stream.tell())
    views = interpreter.load()
    for view in views if isinstance(views, list) else ():
        target, root, offset, numel = view
        base = known[root]
        if whole(offset) + whole(numel) > base.numel:
            raise DamagedPickleError("a view beyond its storage")
        known[target] = StorageRef(base.key, base.dtype, numel, offset)
    return known, spans


def _tar_tensors(
    stream: io.BufferedReader[FileIO], first: int, length: int, storages: dict[int, Any], budget: Budget
) -> dict[int, Any]:
    stream.seek(first)
    interpreter = Interpreter(stream, length, budget)
    known: dict[int, Any] = {}
    for _ in range(whole(interpreter.load())):
        key, storage = _tar_entry(interpreter)
        axes, _ = struct.unpack("<ii", interpreter.read(8))
        if not 0 <= axes <= _MOST_AXES:
            raise DamagedPickleError("a malformed shape")
        shape, stride, (offset,) = (struct.unpack(f"<{n}q", interpreter.read(8 * n)) for n in (axes, axes, 1))
        if storage not in storages:
            raise DamagedPickleError("a tensor without numbers")
        known[key] = tensor(storages[storage], offset, shape, stride)
    return known


def _tar_entry(interpreter: Interpreter) -> tuple[int, Any]:
    """Return number and meaning of an entry: (number, place, storage class) or (number, storage, tensor class)."""
    entry = interpreter.load()
    if not isinstance(entry, tuple) or len(entry) != 3 or type(entry[0]) is not int:
        raise DamagedPickleError("a malformed entry")
    return entry[0], entry[2] if isinstance(entry[2], Global) and storage_dtype(entry[2].name) else entry[1]
