"""Read and write result files.

Files are built in memory and written by `mkfa.storage.atomic`: an interrupted write leaves the old file or none.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mkfa.frozen import FrozenDict
from mkfa.storage.atomic import atomic_write, check_target
from mkfa.storage.file_rows import Rows, find_rows
from mkfa.storage.hdf5 import (
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
from mkfa.storage.heading import heading


def write_arrays(
    path: str | Path,
    *,
    kind: str,
    arrays: Mapping[str, np.ndarray[Any, Any]],
    attributes: Mapping[str, Any],
    overwrite: bool = True,
    chunks: Mapping[str, tuple[int, ...]] = FrozenDict({}),
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
                put_array(f, name, array, checked=True)

    atomic_write(path, file_image(fill), overwrite=overwrite)
    return path


def read_arrays(path: str | Path, *, kind: str) -> tuple[dict[str, np.ndarray[Any, Any]], dict[str, Any]]:
    """Read a result file written by `write_arrays`; return (arrays, attributes). Raises as `read_bank`."""
    with open_file(Path(path)) as f:
        check_format(f, f"mkfa.{kind}")
        return read_all(f), get_parameters(f)


def reserve_arrays(
    path: Path, *, kind: str, shapes: Mapping[str, tuple[tuple[int, ...], str]], attributes: Mapping[str, Any]
) -> None:
    """Create a result file with contiguous arrays of zeros, name -> (shape, dtype).

    For results too large for memory, whose values are written through `map_arrays`. Not atomic: the caller renames the
    file when it is complete.
    """
    create_empty(path, lambda f: _put_attributes(f, kind, attributes), dict(shapes))


def map_arrays(
    path: str | Path, *, kind: str, writable: bool = False
) -> tuple[dict[str, np.ndarray[Any, Any]], dict[str, Any]]:
    """As `read_arrays`, but contiguous arrays are memory-mapped; compressed ones are read."""
    path, arrays = Path(path), {}
    mode: Any = "r+" if writable else "r"
    with open_file(path) as f:
        check_format(f, f"mkfa.{kind}")
        for name, item in f.items():
            offset = item.id.get_offset()
            mapped = offset is not None and item.size and item.file.id == f.id and not item.external
            arrays[name] = np.memmap(path, item.dtype, mode, offset, item.shape) if mapped else read_array(f, name)
        return arrays, get_parameters(f)


def open_arrays(path: str | Path, *, kind: str) -> tuple[dict[str, np.ndarray[Any, Any] | Rows], dict[str, Any]]:
    """As `read_arrays`, but images (arrays with four dimensions) stay in the file and are read by row."""
    path = Path(path)
    arrays: dict[str, np.ndarray[Any, Any] | Rows] = {}
    with open_file(path, compressed=True) as f:
        check_format(f, f"mkfa.{kind}")
        for name, item in f.items():
            is_image = is_inside(f, name) and getattr(item, "ndim", 0) == 4
            rows = find_rows(path, item) if is_image else None
            arrays[name] = read_array(f, name) if rows is None else rows
        return arrays, get_parameters(f)


def _put_attributes(f: Any, kind: str, attributes: Mapping[str, Any]) -> None:
    for key, value in heading(kind).items():
        if isinstance(value, str):
            put_text(f, key, value)
        else:
            f.attrs[key] = value
    put_text(f, "parameters", json.dumps(dict(attributes)))


def get_parameters(at: Any) -> dict[str, Any]:
    """Return the parameters that a file or group records."""
    parameters: dict[str, Any] = json.loads(get_text(at, "parameters", "{}"))
    return parameters
