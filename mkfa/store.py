"""Read and write banks and results as HDF5; the only module that imports h5py (layer 2).

Files are built in memory and written by `mkfa.atomic`: a killed or failed write leaves the old file or none.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from mkfa.atomic import atomic_write, check_target
from mkfa.bank import FilterBank, FilterGroup, Layer, Provenance
from mkfa.damaged import as_bank_error, looks_like
from mkfa.errors import BankError
from mkfa.rows import Rows, find_rows

__all__ = [
    "Analysis", "atomic_write", "check_target", "map_arrays", "open_arrays", "read_analyses", "read_arrays",
    "read_bank", "reserve_arrays", "write_analysis", "write_arrays", "write_bank",
]  # fmt: skip

BANK_FORMAT = "mkfa.filterbank"
BANK_VERSION = 1

_TEXT_ATTRIBUTES = (
    "source", "source_sha256", "hub_commit", "architecture", "training_set", "task", "licence", "rule",
    "mkfa_version", "created",
)  # fmt: skip
_MAX_FILTERS_BYTES = 1 << 36


@dataclass(frozen=True, slots=True)
class Analysis:
    """A result computed on a bank, with the parameters that made it.

    `arrays` hold one row a filter or layer, as each analysis documents; `parameters` is JSON-serialisable.
    """

    name: str
    arrays: Mapping[str, np.ndarray[Any, Any]]
    parameters: Mapping[str, Any]


def write_bank(
    bank: FilterBank, path: str | Path, *, analyses: Mapping[str, Analysis] | None = None, overwrite: bool = True
) -> Path:
    """Write a bank file atomically and return its path; raises as `atomic_write`."""
    path = Path(path)
    check_target(path, overwrite=overwrite)
    with _memory_file() as f:
        _put_bank(f, bank)
        for analysis in (analyses or {}).values():
            _put_analysis(f, analysis)
        f.flush()
        image = f.id.get_file_image()
    atomic_write(path, image, overwrite=overwrite)
    return path


def read_bank(path: str | Path) -> FilterBank:
    """Read a bank file.

    Raises
    ------
    BankError
        Missing, unreadable, of another format, of a newer version, truncated, or with inconsistent tables.
    """
    path = Path(path)
    with _open(path) as f:
        _check_format(path, f, BANK_FORMAT, BANK_VERSION)
        try:
            return _get_bank(f)
        except BankError as error:
            raise BankError(path, error.problem, error.remedy) from error


def write_analysis(path: str | Path, analysis: Analysis) -> None:
    """Store a result in the bank file under /analysis/<name>, replacing one of that name; atomic."""
    path = Path(path)
    with _open(path) as f:
        _check_format(path, f, BANK_FORMAT, BANK_VERSION)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BankError(path, f"cannot be read ({error.strerror})", "check the file's permissions") from error
    import h5py

    buffer = io.BytesIO(data)
    with as_bank_error(path), h5py.File(buffer, "r+", libver=("v110", "v110")) as f:
        _put_analysis(f, analysis)
    atomic_write(path, buffer.getbuffer())


def read_analyses(path: str | Path) -> dict[str, Analysis]:
    """Read all results stored in a bank file, by name; raises as `read_bank`."""
    path, found = Path(path), {}
    with _open(path) as f:
        _check_format(path, f, BANK_FORMAT, BANK_VERSION)
        for name, group in f.get("analysis", {}).items():
            parameters = json.loads(_text(group.attrs.get("parameters", "{}")))
            found[name] = Analysis(name, MappingProxyType(_read_all(group)), parameters)
    return found


def write_arrays(
    path: str | Path,
    *,
    kind: str,
    arrays: Mapping[str, np.ndarray[Any, Any]],
    attributes: Mapping[str, Any],
    overwrite: bool = True,
    chunks: Mapping[str, tuple[int, ...]] = MappingProxyType({}),
) -> Path:
    """Write a result file: format `mkfa.<kind>`, one dataset an array, attributes as JSON.

    A "/" in an array's name makes a group. The arrays named in `chunks` are compressed (gzip, level 9) in pieces of
    that shape; the others are contiguous. Raises as `atomic_write`.
    """
    path = Path(path)
    check_target(path, overwrite=overwrite)
    with _memory_file() as f:
        _put_attributes(f, kind, attributes)
        for name, array in arrays.items():
            if name in chunks:
                piece = tuple(min(a, b) for a, b in zip(chunks[name], array.shape, strict=True))
                f.create_dataset(name, data=array, chunks=piece, compression="gzip", compression_opts=9)
            else:
                _put_array(f, name, array)
        f.flush()
        image = f.id.get_file_image()
    atomic_write(path, image, overwrite=overwrite)
    return path


def read_arrays(path: str | Path, *, kind: str) -> tuple[dict[str, np.ndarray[Any, Any]], dict[str, Any]]:
    """Read a result file written by `write_arrays`; return (arrays, attributes). Raises as `read_bank`."""
    path = Path(path)
    with _open(path) as f:
        _check_format(path, f, f"mkfa.{kind}", 1)
        return _read_all(f), json.loads(_text(f.attrs.get("parameters", "{}")))


def reserve_arrays(
    path: Path, *, kind: str, shapes: Mapping[str, tuple[tuple[int, ...], str]], attributes: Mapping[str, Any]
) -> None:
    """Make a result file whose arrays, name -> (shape, dtype), lie contiguous in it and hold zeros.

    For results too large for memory: their values are filled in through `map_arrays`, which leaves HDF5's own tables
    as they are. Not atomic: the caller renames the file when it is complete.
    """
    import h5py

    with h5py.File(path, "w", libver=("v110", "v110")) as f:
        _put_attributes(f, kind, attributes)
        for name, (shape, dtype) in shapes.items():
            layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            layout.set_layout(h5py.h5d.CONTIGUOUS)
            layout.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
            layout.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
            kind_of = h5py.h5t.py_create(np.dtype(dtype))
            h5py.h5d.create(f.id, name.encode(), kind_of, h5py.h5s.create_simple(shape), layout)


def map_arrays(
    path: str | Path, *, kind: str, writable: bool = False
) -> tuple[dict[str, np.ndarray[Any, Any]], dict[str, Any]]:
    """As `read_arrays`, but contiguous arrays stay in the file, memory-mapped; compressed ones are read."""
    path, arrays = Path(path), {}
    mode: Any = "r+" if writable else "r"
    with _open(path) as f:
        _check_format(path, f, f"mkfa.{kind}", 1)
        for name, item in f.items():
            offset = item.id.get_offset()
            mapped = offset is not None and item.size and item.file.id == f.id and not item.external
            arrays[name] = np.memmap(path, item.dtype, mode, offset, item.shape) if mapped else _read(f, name)
        return arrays, json.loads(_text(f.attrs.get("parameters", "{}")))


def open_arrays(path: str | Path, *, kind: str) -> tuple[dict[str, np.ndarray[Any, Any] | Rows], dict[str, Any]]:
    """As `read_arrays`, but images, tables of bytes of four dimensions, stay in the file and are read by row."""
    import h5py

    path = Path(path)
    arrays: dict[str, np.ndarray[Any, Any] | Rows] = {}
    with _open(path) as f:
        _check_format(path, f, f"mkfa.{kind}", 1)
        for name, item in f.items():
            stays = isinstance(f.get(name, getlink=True), h5py.HardLink) and getattr(item, "ndim", 0) == 4
            found = find_rows(path, item) if stays else None
            arrays[name] = _read(f, name) if found is None else found
        return arrays, json.loads(_text(f.attrs.get("parameters", "{}")))


@contextlib.contextmanager
def _memory_file() -> Iterator[Any]:
    import h5py

    # From version 1.10 on, HDF5's own tables carry checksums: a flipped bit is an error, not an endless loop.
    version = ("v110", "v110")
    with h5py.File("memory", "w", driver="core", backing_store=False, block_size=1 << 20, libver=version) as f:
        yield f


@contextlib.contextmanager
def _open(path: Path) -> Iterator[Any]:
    import h5py

    if path.is_dir():
        raise BankError(path, "is a folder, not a bank file", "name a .h5 file")
    try:
        with path.open("rb") as probe:
            head = probe.read(64)
    except FileNotFoundError:
        problem = "is a link to a file that is gone" if path.is_symlink() else "does not exist"
        raise BankError(path, problem, "check the path; 'mkfa banks' lists the banks at hand") from None
    except OSError as error:
        raise BankError(path, f"cannot be read ({error.strerror})", "check the file's permissions") from error
    if not head:
        raise BankError(path, "is empty", "harvest the network again")
    if not head.startswith(b"\x89HDF\r\n\x1a\n"):
        raise BankError(path, f"is not an HDF5 file{looks_like(head)}", "name a bank that 'mkfa harvest' wrote")
    with as_bank_error(path), h5py.File(path, "r") as f:
        yield f


def _check_format(path: Path, f: Any, expected: str, version: int) -> None:
    found = _text(f.attrs.get("format", ""))
    if found != expected:
        what = f"has format {found!r}" if found else "has no format attribute"
        raise BankError(path, f"{what}, not {expected!r}", "name a file that mkfa wrote")
    number = int(f.attrs.get("format_version", 0))
    if number > version or number < 1:
        problem = f"has {expected} version {number}, this mkfa reads version {version}"
        raise BankError(path, problem, "upgrade mkfa" if number > version else "harvest the network again")


def _put_attributes(f: Any, kind: str, attributes: Mapping[str, Any]) -> None:
    _put_text(f, "format", f"mkfa.{kind}")
    f.attrs["format_version"] = 1
    _put_text(f, "parameters", json.dumps(dict(attributes)))


def _put_text(at: Any, key: str, text: str) -> None:
    """Store text of fixed length: damage to HDF5's heap of others, which has no checksum, is an endless loop."""
    at.attrs.create(key, np.array(_encode(text), _text_type([text])))


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")  # file names may hold what UTF-8 does not (surrogates)


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _layer_dtype(layers: tuple[Layer, ...]) -> np.dtype[Any]:
    """Return the type of the layer table; its texts are of fixed length, as HDF5's heap of others has no checksum."""
    name, dtype = _text_type([layer.name for layer in layers]), _text_type([layer.dtype for layer in layers])
    return np.dtype(
        [
            ("index", "<i4"), ("name", name), ("stage", "<i4"), ("depth", "<f8"), ("channels", "<i4"),
            ("kh", "<i4"), ("kw", "<i4"), ("stride", "<i4", (2,)), ("dilation", "<i4", (2,)),
            ("multiplier", "<i4"), ("has_bias", "?"), ("dtype", dtype), ("bn_folded", "?"),
        ]
    )  # fmt: skip


def _text_type(texts: Iterable[str]) -> np.dtype[Any]:
    import h5py

    found: np.dtype[Any] = h5py.string_dtype("utf-8", max([1, *(len(_encode(text)) for text in texts)]))
    return found


def _put_bank(f: Any, bank: FilterBank) -> None:
    facts, skipped, notes = bank.provenance, dict(bank.provenance.skipped), list(bank.provenance.notes)
    texts = {"format": BANK_FORMAT, "name": bank.name, "skipped": json.dumps(skipped), "notes": json.dumps(notes)}
    for key, text in (texts | {key: getattr(facts, key) for key in _TEXT_ATTRIBUTES}).items():
        _put_text(f, key, text)
    f.attrs["format_version"] = BANK_VERSION
    table = np.zeros(len(bank.layers), _layer_dtype(bank.layers))
    for row, layer in zip(table, bank.layers, strict=True):
        for key in table.dtype.names or ():
            value = getattr(layer, key)
            row[key] = _encode(value) if isinstance(value, str) else value
    f.create_dataset("layers", data=table)
    for (kh, kw), group in bank.groups.items():
        at = f.create_group(f"filters/{kh}x{kw}")
        for key, dtype in (("weight", "<f4"), ("layer", "<i4"), ("channel", "<i4"), ("bias", "<f4")):
            if getattr(group, key) is not None:
                at.create_dataset(key, data=np.ascontiguousarray(getattr(group, key), dtype))


def _get_bank(f: Any) -> FilterBank:
    for needed in ("layers", "filters"):
        if needed not in f:
            raise BankError("bank", f"has no /{needed}", "harvest the network again")
    table = _read(f, "layers")
    layers = tuple(_layer(row) for row in table)
    groups = {}
    for size in f["filters"]:
        match = re.fullmatch(r"(\d+)x(\d+)", size)
        if not match:
            problem = f"has a group /filters/{size} that names no kernel size"
            raise BankError("bank", problem, "harvest the network again")
        at = f["filters"][size]
        bias = _read(at, "bias").astype(np.float32, copy=False) if "bias" in at else None
        groups[int(match[1]), int(match[2])] = FilterGroup(
            _read(at, "weight").astype(np.float32, copy=False),
            _read(at, "layer").astype(np.int32, copy=False),
            _read(at, "channel").astype(np.int32, copy=False),
            bias,
        )
    texts = {key: _text(f.attrs.get(key, "")) for key in _TEXT_ATTRIBUTES}
    skipped = {str(k): int(v) for k, v in json.loads(_text(f.attrs.get("skipped", "{}"))).items()}
    notes = tuple(str(n) for n in json.loads(_text(f.attrs.get("notes", "[]"))))
    provenance = Provenance(**texts, skipped=MappingProxyType(skipped), notes=notes)
    return FilterBank(_text(f.attrs.get("name", "")), layers, groups, provenance)


def _layer(row: Any) -> Layer:
    return Layer(
        index=int(row["index"]),
        name=_text(row["name"]),
        stage=int(row["stage"]),
        depth=float(row["depth"]),
        channels=int(row["channels"]),
        kh=int(row["kh"]),
        kw=int(row["kw"]),
        stride=(int(row["stride"][0]), int(row["stride"][1])),
        dilation=(int(row["dilation"][0]), int(row["dilation"][1])),
        multiplier=int(row["multiplier"]),
        has_bias=bool(row["has_bias"]),
        dtype=_text(row["dtype"]),
        bn_folded=bool(row["bn_folded"]),
    )


def _read(at: Any, key: str) -> np.ndarray[Any, Any]:
    """Read one dataset whole; refuses data kept outside the file and sizes that the file cannot hold."""
    import h5py

    data = at[key]
    if not isinstance(data, h5py.Dataset):
        raise BankError("bank", f"{data.name} is a group where a table should be", "harvest the network again")
    if data.is_virtual or data.external or not isinstance(at.get(key, getlink=True), h5py.HardLink):
        raise BankError("bank", f"{data.name} lies outside the file", "use a file that mkfa wrote")
    if data.chunks is None and data.id.get_storage_size() < data.size * data.dtype.itemsize:
        raise BankError("bank", f"{data.name} claims more rows than the file holds", "fetch the file again")
    if data.size * data.dtype.itemsize > _MAX_FILTERS_BYTES:
        raise BankError("bank", f"{data.name} claims {data.size} values", "fetch the file again")
    if h5py.check_string_dtype(data.dtype):
        return np.asarray(data.asstr()[()], dtype=object)
    out = np.empty(data.shape, data.dtype)
    if data.size:
        data.read_direct(out)
    return out


def _read_all(at: Any) -> dict[str, np.ndarray[Any, Any]]:
    """Read all datasets below a group, by their path in it."""
    import h5py

    names: list[str] = []
    at.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
    return {name: _read(at, name) for name in names}


def _put_array(at: Any, name: str, array: np.ndarray[Any, Any]) -> None:
    array = np.asarray(array)
    if array.dtype.kind in "UO":
        texts = [str(text) for text in array.ravel()]
        encoded = np.array([_encode(text) for text in texts], _text_type(texts)).reshape(array.shape)
        at.create_dataset(name, data=encoded)
    else:
        at.create_dataset(name, data=np.ascontiguousarray(array))


def _put_analysis(f: Any, analysis: Analysis) -> None:
    at = f.require_group("analysis")
    if analysis.name in at:
        del at[analysis.name]
    group = at.create_group(analysis.name)
    _put_text(group, "parameters", json.dumps(dict(analysis.parameters)))
    for name, array in analysis.arrays.items():
        _put_array(group, name, array)
