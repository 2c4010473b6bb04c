"""Filters of one's own: read a NumPy file, a bank, or the keys that were found in banks, as a bank."""

from __future__ import annotations

import io
import zipfile
import zlib
from pathlib import Path

import numpy as np

from mkfa.array_types import F32, AnyArray
from mkfa.banks.bank import FilterBank, Layer, Provenance, make_bank
from mkfa.banks.bank_file import read_bank
from mkfa.errors import BankError
from mkfa.storage.files import read_regular
from mkfa.storage.hdf5 import get_text, open_file
from mkfa.storage.result_files import read_arrays
from mkfa.words import counted

ENDINGS = (".npy", ".npz", ".h5")
MOST_BYTES = 1 << 30
"""Largest array that is read."""
_SHAPES = "store an array (filters, height, width)"


def read_filters(path: str | Path) -> FilterBank:
    """Read filters from a file; the bank is named after the file, without its ending.

    Parameters
    ----------
    path : .npy: an array (N, kh, kw), (N, 1, kh, kw), or (kh, kw) for one filter; .npz: one such array, or several with
        different kernel sizes (other arrays are ignored); .h5: a bank, or the result of `mkfa keys --out`.

    Raises BankError: the file is missing or damaged, has another ending or no filters, or has filters that are not
    finite or zero.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(Path(folder, "edges.npy"), np.array([[[1.0, -1.0]], [[2.0, 0.0]]]))
    ...     read_filters(Path(folder, "edges.npy"))
    <FilterBank: edges, 1 depthwise layer, 2 filters of 1x2>
    """
    path = Path(path).expanduser()
    if path.suffix.lower() not in ENDINGS:
        raise BankError(path, "has an unknown ending", f"name a file that ends in {', '.join(ENDINGS)}")
    if path.suffix.lower() == ".h5":
        arrays = _keys(path)
        if arrays is None:
            return _checked(read_bank(path), path)
    else:
        arrays = _numpy(path)
    found: dict[str, F32] = {}
    for name, array in arrays.items():
        if array.dtype.kind not in "fiu" or array.ndim not in (2, 3, 4) or (array.ndim == 4 and array.shape[1] != 1):
            continue
        filters = np.asarray(array.reshape(-1, *array.shape[-2:]), np.float32)
        if filters.size and filters.shape[1:] in [x.shape[1:] for x in found.values()]:
            size = "x".join(map(str, filters.shape[1:]))
            raise BankError(path, f"has several arrays of {size} filters", "store one array of each kernel size")
        if filters.size:
            found[name] = filters
    if not found:
        shapes = ", ".join(f"{array.dtype} {array.shape}" for array in list(arrays.values())[:4]) or "no array"
        raise BankError(path, f"has no filters ({shapes})", _SHAPES)
    return _checked(filters_bank(path.stem, found, source=str(path)), path)


def filters_bank(name: str, arrays: dict[str, F32], *, source: str) -> FilterBank:
    """Return a bank of arrays of filters, (N, kh, kw) each, one layer for each.

    Examples
    --------
    >>> filters_bank("pair", {"f": np.ones((2, 3, 3), np.float32)}, source="here")
    <FilterBank: pair, 1 depthwise layer, 2 filters of 3x3>
    """
    layers = [
        (Layer(0, key, 0, 0.0, len(array), array.shape[1], array.shape[2]), array, None)
        for key, array in arrays.items()
    ]
    return make_bank(name, layers, Provenance(source=source))


def _checked(bank: FilterBank, path: Path) -> FilterBank:
    for group in bank.groups.values():
        flat = group.weight.reshape(len(group), -1)
        for bad, problem in ((~np.isfinite(flat).all(axis=1), "not finite"), (~flat.any(axis=1), "zero everywhere")):
            if bad.any():
                many = "filters that are" if bad.sum() > 1 else "a filter that is"
                where = f"number {int(bad.argmax())} of {group.size[0]}x{group.size[1]}, counted from 0"
                raise BankError(path, f"has {many} {problem} ({where})", "leave such filters out")
    return bank


def _keys(path: Path) -> dict[str, F32] | None:
    """Return the filters of a result of `mkfa keys`; None if the file is none."""
    with open_file(path) as f:
        if get_text(f, "format") != "mkfa.keys":
            return None
    arrays, _ = read_arrays(path, kind="keys")
    return {"key": arrays["key"]} if "key" in arrays else {}


def _numpy(path: Path) -> dict[str, AnyArray]:
    """Return the arrays of a .npy or .npz file, without pickled objects."""
    try:
        data = read_regular(path)
    except FileNotFoundError:
        raise BankError(path, "does not exist", "check the path") from None
    except OSError as error:
        problem = f"cannot be read ({error.strerror or error})"
        raise BankError(path, problem, "check the path and its permissions") from error
    if path.suffix.lower() == ".npy":
        return {"filters": _array(data, path)}
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            large = [entry.filename for entry in archive.infolist() if entry.file_size > MOST_BYTES]
            if large:
                raise BankError(path, f"has an array of more than {MOST_BYTES >> 30} GiB ({large[0]})", _SHAPES)
            members = [entry for entry in archive.infolist() if entry.filename.endswith(".npy")]
            return {entry.filename.removesuffix(".npy"): _array(archive.read(entry), path) for entry in members}
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError) as error:
        raise BankError(path, f"is damaged or not a .npz file ({type(error).__name__})", "write it again") from error


def _array(data: bytes, path: Path) -> AnyArray:
    """Return the array of the bytes of a .npy file, whose header must claim as many bytes as there are."""
    stream = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(stream)
    except Exception as error:  # numpy raises many kinds for a header that it cannot parse
        raise BankError(path, "is damaged or not a NumPy array", "write it again with numpy.save") from error
    if dtype.hasobject:
        raise BankError(path, "has Python objects, which are not read", f"{_SHAPES} of numbers")
    rest = len(data) - stream.tell()
    count = 1
    for length in shape:
        count *= int(length)
    if count * dtype.itemsize != rest:
        raise BankError(path, f"is damaged: {counted(rest, 'byte')} for an array {shape} of {dtype}", "write it again")
    flat = np.frombuffer(data, dtype, count, offset=stream.tell())
    return flat.reshape(shape, order="F" if fortran else "C")
