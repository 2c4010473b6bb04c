"""PyTorch checkpoints (.pth .pt .ckpt .bin; zip and legacy), other pickles of tensors, and TorchScript archives.

`torch.load` runs what a pickle names, or refuses it; importing torch takes seconds and most of a gigabyte;
`torch.jit.load` compiles the code in an archive and runs its `__setstate__` methods. Here
`mkfa.readers.tensors.inert_pickle`, which cannot run anything, reads the pickle and says where the numbers are.
"""

from __future__ import annotations

import io
import os
import struct
import zipfile
from dataclasses import replace
from io import FileIO
from pathlib import Path
from typing import Any

from mkfa.errors import SourceError
from mkfa.frozen import FrozenDict
from mkfa.readers.options import DEFAULT, ReadOptions
from mkfa.readers.reading import Reading
from mkfa.readers.tensors.inert_pickle import Interpreter
from mkfa.readers.tensors.inert_values import DamagedPickleError, Inert
from mkfa.readers.tensors.pickled_objects import contents_of
from mkfa.readers.tensors.roles import is_depthwise_shape
from mkfa.readers.tensors.torch_file import MAX_PICKLE, Numbers, TorchFile, checked_span, torch_file
from mkfa.readers.tensors.torchscript import convolutions
from mkfa.storage.budget import Budget
from mkfa.storage.files import open_file, read_span
from mkfa.storage.zip_records import check_span
from mkfa.words import counted

_AGAIN = "fetch the file again"


def read_torch(path: Path, options: ReadOptions = DEFAULT) -> Reading:
    """Read one PyTorch file; parameters and errors as for `mkfa.readers.formats.reader_for`."""
    from mkfa.readers.tensors.checkpoint import CheckpointInfo, read_checkpoint

    file = open_torch(path)
    arch = file.value.get("arch") if isinstance(file.value, dict) else None
    hint = arch if isinstance(arch, str) else ""
    reading = read_checkpoint(file, CheckpointInfo(path, hint=hint, hashed=(path,)), options)
    if not reading.layers and file.unnamed:
        problem = f"is a frozen TorchScript module: {counted(file.unnamed, 'depthwise weight')} without a name"
        raise SourceError(path, problem, "harvest the module before torch.jit.freeze")
    if not file.tensors and isinstance(file.value, Inert):
        problem = f"is a pickled object of {file.value.name[:80]} without tensors; it was not built"
        raise SourceError(path, problem, "give a checkpoint with weights")
    return reading


def open_torch(path: Path, budget: Budget | None = None) -> TorchFile:
    """Open a PyTorch file of any format; `budget` is that of the files that it is one of. Raises as `read_torch`."""
    with open_file(path) as f:
        size = os.fstat(f.fileno()).st_size
        budget = Budget(path) if budget is None else budget
        budget.grow(size)
        try:
            head = read_span(f, 0, min(512, size), thing=path)
            if head.startswith(b"PK\x03\x04"):
                return _open_zip(path, f, size, budget)
            from mkfa.readers.tensors.pytorch_legacy import open_legacy, open_tar

            opener = open_tar if head[257:262] == b"ustar" else open_legacy
            return opener(path, f, size, budget=budget)
        except DamagedPickleError as error:
            raise SourceError(path, f"is damaged or not a PyTorch file: it has {error}", _AGAIN) from None
        except OSError as error:
            raise SourceError(path, f"cannot be read ({error.strerror or error})", "check the disk") from error


def _open_zip(path: Path, f: FileIO, size: int, budget: Budget) -> TorchFile:
    records = _records(f, size, path)
    pickles = [name for name in records if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(pickles) != 1:
        if exported := next((name for name in records if name.endswith("archive_format")), ""):
            from mkfa.readers.tensors.exported import open_exported

            top = exported.removesuffix("archive_format")
            return open_exported(path, f, {name.removeprefix(top): r for name, r in records.items()}, budget=budget)
        raise SourceError(path, "is a zip file, but not PyTorch's", "unpack it and give the checkpoint in it")
    top = pickles[0].removesuffix("data.pkl")
    constants = records.get(f"{top}constants.pkl")
    order = records.get(f"{top}byteorder")
    word = b"little"
    if order:
        check_span(f, order, name="byteorder", thing=path)
        word = read_span(f, order[0], min(order[1], order[0] + 16), thing=path)
    big_endian = word.strip() == b"big"
    interpreter, value = _record_pickle(f, records[pickles[0]], path, budget)
    spans = {}
    for key, ref in interpreter.storages.items():
        record = records.get(f"{top}data/{key}")
        if record is None:
            raise SourceError(path, f"lacks the data record {key[:40]!r}", _AGAIN)
        spans[key] = checked_span(record[:2], ref, path)
    crcs = FrozenDict({key: records[f"{top}data/{key}"] for key in spans})
    called = {} if constants is None else convolutions(f, top, budget)
    file = replace(torch_file(Numbers(path, f, spans, big_endian), value, interpreter, called=called), records=crcs)
    if constants is None:
        return file
    _, frozen = _record_pickle(f, constants, path, budget)
    found = contents_of(frozen, budget)
    return replace(file, unnamed=sum(is_depthwise_shape(ref.shape) for _, ref in found.tensors))


def _records(f: FileIO, size: int, path: Path) -> dict[str, tuple[int, int, int]]:
    """Return name -> (first byte, byte after the last, CRC-32) of the stored records of a zip file."""
    try:
        with zipfile.ZipFile(f) as archive:
            infos = archive.infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, LookupError, EOFError, OverflowError, struct.error):
        raise SourceError(path, "is truncated or damaged: its zip directory cannot be read", _AGAIN) from None
    out: dict[str, tuple[int, int, int]] = {}
    total = 0
    for info in infos:
        if info.filename in out:
            raise SourceError(path, f"has the record {info.filename[:60]!r} twice", _AGAIN)
        if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
            continue  # code of a TorchScript archive; PyTorch does not compress records that are read here
        first = _data_start(f, info, size, path)
        total += info.file_size
        if first + info.file_size > size or total > size or info.compress_size != info.file_size:
            raise SourceError(path, f"claims a record {info.filename[:60]!r} beyond its end", _AGAIN)
        out[info.filename] = (first, first + info.file_size, info.CRC)
    return out


def _data_start(f: FileIO, info: zipfile.ZipInfo, size: int, path: Path) -> int:
    at = info.header_offset
    if not 0 <= at <= size - 30:
        raise SourceError(path, f"claims a record {info.filename[:60]!r} beyond its end", _AGAIN)
    head = read_span(f, at, at + 30, thing=path)
    if head[:4] != b"PK\x03\x04":
        raise SourceError(path, f"has no record {info.filename[:60]!r} where its directory says", _AGAIN)
    name, extra = struct.unpack("<HH", head[26:30])
    return at + 30 + int(name) + int(extra)


def _record_pickle(f: FileIO, record: tuple[int, int, int], path: Path, budget: Budget) -> tuple[Interpreter, Any]:
    first, last, _ = record
    if last - first > MAX_PICKLE:
        raise SourceError(path, f"has a pickle of {counted(last - first, 'byte')}", "save model.state_dict() alone")
    check_span(f, record, name="data.pkl", thing=path)
    interpreter = Interpreter(io.BytesIO(read_span(f, first, last, thing=path)), last - first, budget)
    return interpreter, interpreter.load()
