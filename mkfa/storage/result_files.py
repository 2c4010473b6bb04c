"""Read and write files of banks and of results.

Files are built in memory and written by `mkfa.storage.atomic`: a killed or failed write leaves the old file or none.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from mkfa.banks.bank import FilterBank
from mkfa.banks.bank_file import check_bank, get_bank, put_bank
from mkfa.storage.atomic import atomic_write, check_target
from mkfa.storage.file_rows import Rows, find_rows
from mkfa.storage.hdf5 import (
    changed_image,
    check_format,
    create_empty,
    file_image,
    get_text,
    is_inside,
    open_file,
    put_array,
    put_text,
    read_all,
    read_array,
)

__all__ = [
    "Analysis",
    "atomic_write",
    "check_target",
    "map_arrays",
    "open_arrays",
    "read_analyses",
    "read_arrays",
    "read_bank",
    "reserve_arrays",
    "write_analysis",
    "write_arrays",
    "write_bank",
]


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

    def fill(f: Any) -> None:
        put_bank(f, bank)
        for analysis in (analyses or {}).values():
            _put_analysis(f, analysis)

    atomic_write(path, file_image(fill), overwrite=overwrite)
    return path


def read_bank(path: str | Path) -> FilterBank:
    """Read a bank file.

    Raises
    ------
    BankError
        Missing, unreadable, of another format, of a newer version, truncated, damaged, or with inconsistent tables.
    """
    with open_file(Path(path)) as f:
        check_bank(f)
        return get_bank(f)


def write_analysis(path: str | Path, analysis: Analysis) -> None:
    """Store a result in the bank file under /analysis/<name>, replacing one of that name; atomic."""
    path = Path(path)
    with open_file(path) as f:
        check_bank(f)
    atomic_write(path, changed_image(path, lambda f: _put_analysis(f, analysis)))


def read_analyses(path: str | Path) -> dict[str, Analysis]:
    """Read all results stored in a bank file, by name; raises as `read_bank`."""
    found = {}
    with open_file(Path(path)) as f:
        check_bank(f)
        for name, group in f.get("analysis", {}).items():
            found[name] = Analysis(name, MappingProxyType(read_all(group)), _parameters(group))
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

    def fill(f: Any) -> None:
        _put_attributes(f, kind, attributes)
        for name, array in arrays.items():
            if name in chunks:
                piece = tuple(min(a, b) for a, b in zip(chunks[name], array.shape, strict=True))
                f.create_dataset(name, data=array, chunks=piece, compression="gzip", compression_opts=9)
            else:
                put_array(f, name, array)

    atomic_write(path, file_image(fill), overwrite=overwrite)
    return path


def read_arrays(path: str | Path, *, kind: str) -> tuple[dict[str, np.ndarray[Any, Any]], dict[str, Any]]:
    """Read a result file written by `write_arrays`; return (arrays, attributes). Raises as `read_bank`."""
    with open_file(Path(path)) as f:
        check_format(f, f"mkfa.{kind}")
        return read_all(f), _parameters(f)


def reserve_arrays(
    path: Path, *, kind: str, shapes: Mapping[str, tuple[tuple[int, ...], str]], attributes: Mapping[str, Any]
) -> None:
    """Make a result file whose arrays, name -> (shape, dtype), lie contiguous in it and hold zeros.

    For results too large for memory: their values are filled in through `map_arrays`, which leaves HDF5's own tables
    as they are. Not atomic: the caller renames the file when it is complete.
    """
    create_empty(path, lambda f: _put_attributes(f, kind, attributes), dict(shapes))


def map_arrays(
    path: str | Path, *, kind: str, writable: bool = False
) -> tuple[dict[str, np.ndarray[Any, Any]], dict[str, Any]]:
    """As `read_arrays`, but contiguous arrays stay in the file, memory-mapped; compressed ones are read."""
    path, arrays = Path(path), {}
    mode: Any = "r+" if writable else "r"
    with open_file(path) as f:
        check_format(f, f"mkfa.{kind}")
        for name, item in f.items():
            offset = item.id.get_offset()
            mapped = offset is not None and item.size and item.file.id == f.id and not item.external
            arrays[name] = np.memmap(path, item.dtype, mode, offset, item.shape) if mapped else read_array(f, name)
        return arrays, _parameters(f)


def open_arrays(path: str | Path, *, kind: str) -> tuple[dict[str, np.ndarray[Any, Any] | Rows], dict[str, Any]]:
    """As `read_arrays`, but images, tables of bytes of four dimensions, stay in the file and are read by row."""
    path = Path(path)
    arrays: dict[str, np.ndarray[Any, Any] | Rows] = {}
    with open_file(path) as f:
        check_format(f, f"mkfa.{kind}")
        for name, item in f.items():
            stays = is_inside(f, name) and getattr(item, "ndim", 0) == 4
            found = find_rows(path, item) if stays else None
            arrays[name] = read_array(f, name) if found is None else found
        return arrays, _parameters(f)


def _put_attributes(f: Any, kind: str, attributes: Mapping[str, Any]) -> None:
    put_text(f, "format", f"mkfa.{kind}")
    f.attrs["format_version"] = 1
    put_text(f, "parameters", json.dumps(dict(attributes)))


def _parameters(at: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(get_text(at, "parameters", "{}"))
    return found


def _put_analysis(f: Any, analysis: Analysis) -> None:
    at = f.require_group("analysis")
    if analysis.name in at:
        del at[analysis.name]
    group = at.create_group(analysis.name)
    put_text(group, "parameters", json.dumps(dict(analysis.parameters)))
    for name, array in analysis.arrays.items():
        put_array(group, name, array, checked=True)
