"""HDF5 as mkfa uses it: files that nothing in them is believed of; the only module that imports h5py.

Text is stored with fixed length and tables carry HDF5's own checksums, so that damage is an error and no endless loop.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mkfa.errors import BankError, MkfaError, one_line
from mkfa.storage.files import read_head

CHECKSUM = "checksum"
"""Attribute of a dataset: `mkfa.storage.hdf5.checksum` of its data. Datasets without it are read unchecked."""

_VERSION = ("v110", "v110")  # from 1.10 on, HDF5's own tables carry checksums
_MOST_BYTES = 1 << 36


def file_image(fill: Callable[[Any], None]) -> bytes:
    """Return the bytes of an HDF5 file, made in memory, that `fill` fills; it is called with the open h5py.File."""
    import h5py

    with h5py.File("memory", "w", driver="core", backing_store=False, block_size=1 << 20, libver=_VERSION) as f:
        fill(f)
        f.flush()
        image: bytes = f.id.get_file_image()
    return image


def changed_image(path: Path, change: Callable[[Any], None]) -> memoryview:
    """Return the bytes of the file at `path` after a change by `change`, called with the open h5py.File.

    Raises
    ------
    BankError
        The file cannot be read.
    """
    import h5py

    try:
        buffer = io.BytesIO(path.read_bytes())
    except OSError as error:
        raise BankError(path, f"cannot be read ({error.strerror})", "check the file's permissions") from error
    with _as_bank_error(path), h5py.File(buffer, "r+", libver=_VERSION) as f:
        change(f)
    return buffer.getbuffer()


def create_empty(path: Path, fill: Callable[[Any], None], shapes: dict[str, tuple[tuple[int, ...], str]]) -> None:
    """Write a file whose datasets, name -> (shape, dtype), lie contiguous in it and hold zeros; `fill` adds the rest.

    The data take no space in memory. Not atomic.
    """
    import h5py

    with h5py.File(path, "w", libver=_VERSION) as f:
        fill(f)
        for name, (shape, dtype) in shapes.items():
            layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            layout.set_layout(h5py.h5d.CONTIGUOUS)
            layout.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
            layout.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
            kind_of = h5py.h5t.py_create(np.dtype(dtype))
            h5py.h5d.create(f.id, name.encode(), kind_of, h5py.h5s.create_simple(shape), layout)


@contextlib.contextmanager
def open_file(path: Path) -> Iterator[Any]:
    """Open a file for reading and yield the h5py.File.

    Raises
    ------
    BankError
        Missing, unreadable, no HDF5 file, or, while the body reads it, damaged.
    """
    import h5py

    if path.is_dir():
        raise BankError(path, "is a folder, not a bank file", "name a .h5 file")
    find = "check the path; 'mkfa banks' lists the banks at hand"
    head = read_head(path, error=BankError, kind="a bank", give="name a .h5 file", find=find)
    if not head.startswith(b"\x89HDF\r\n\x1a\n"):
        raise BankError(path, "is not an HDF5 file", "name a bank that 'mkfa harvest' wrote")
    with _as_bank_error(path), h5py.File(path, "r") as f:
        yield f


def check_format(f: Any, expected: str, *, version: int = 1) -> None:
    """Refuse a file of another format, or of a version that this mkfa does not know."""
    found = get_text(f, "format")
    if found != expected:
        what = f"has format {found!r}" if found else "has no format attribute"
        raise BankError("file", f"{what}, not {expected!r}", "name a file that mkfa wrote")
    number = int(f.attrs.get("format_version", 0))
    if number > version or number < 1:
        problem = f"has {expected} version {number}, this mkfa reads version {version}"
        raise BankError("file", problem, "upgrade mkfa" if number > version else "harvest the network again")


def put_text(at: Any, key: str, text: str) -> None:
    """Store text of fixed length: damage to HDF5's heap of others, which has no checksum, is an endless loop."""
    at.attrs.create(key, np.array(encode(text), text_type([text])))


def get_text(at: Any, key: str, default: str = "") -> str:
    """Return an attribute as text."""
    return decode(at.attrs.get(key, default))


def encode(text: str) -> bytes:
    """Return text as it is stored; what UTF-8 has no form for (file names may hold surrogates) is escaped."""
    return text.encode("utf-8", "backslashreplace")


def decode(value: Any) -> str:
    """Return stored text."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def text_type(texts: Iterable[str]) -> np.dtype[Any]:
    """Return the type of fixed length that holds all the texts."""
    import h5py

    found: np.dtype[Any] = h5py.string_dtype("utf-8", max([1, *(len(encode(text)) for text in texts)]))
    return found


def put_array(at: Any, name: str, array: np.ndarray[Any, Any], *, checked: bool = False) -> None:
    """Store an array, contiguous; text in UTF-8 of fixed length; with its checksum where it is to be checked."""
    array = np.asarray(array)
    if array.dtype.kind in "UO":
        texts = [str(text) for text in array.ravel()]
        array = np.array([encode(text) for text in texts], text_type(texts)).reshape(array.shape)
    array = np.ascontiguousarray(array)
    dataset = at.create_dataset(name, data=array)
    if checked:
        put_text(dataset, CHECKSUM, checksum(array))


def read_array(at: Any, key: str) -> np.ndarray[Any, Any]:
    """Read one dataset whole.

    Raises
    ------
    BankError
        It is no dataset, lies outside the file, claims a size that the file cannot hold, or has other values than were
        written.
    """
    import h5py

    data = at[key]
    if not isinstance(data, h5py.Dataset):
        raise BankError("bank", f"{data.name} is a group where a table should be", "harvest the network again")
    if data.is_virtual or data.external or not is_inside(at, key):
        raise BankError("bank", f"{data.name} lies outside the file", "use a file that mkfa wrote")
    if data.chunks is None and data.id.get_storage_size() < data.size * data.dtype.itemsize:
        raise BankError("bank", f"{data.name} claims more rows than the file holds", "fetch the file again")
    if data.size * data.dtype.itemsize > _MOST_BYTES:
        raise BankError("bank", f"{data.name} claims {data.size} values", "fetch the file again")
    text = h5py.check_string_dtype(data.dtype)
    if text and text.length is None:
        return np.asarray(data.asstr()[()], dtype=object)
    out = np.empty(data.shape, data.dtype)
    if data.size:
        data.read_direct(out)
    written = get_text(data, CHECKSUM)
    if written and written != checksum(out):
        problem = f"is damaged: the values of {data.name} are not those that were written"
        raise BankError("bank", problem, "harvest the network again or fetch the file again")
    return np.char.decode(out, "utf-8").astype(object) if text else out


def read_all(at: Any) -> dict[str, np.ndarray[Any, Any]]:
    """Read all datasets below a group, by their path in it."""
    import h5py

    names: list[str] = []
    at.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
    return {name: read_array(at, name) for name in names}


def is_inside(at: Any, key: str) -> bool:
    """True for what is in the file itself, no link to elsewhere."""
    import h5py

    return isinstance(at.get(key, getlink=True), h5py.HardLink)


@contextlib.contextmanager
def _as_bank_error(path: Path) -> Iterator[None]:
    """Turn what h5py raises on a damaged file into one sentence, and name the file in what mkfa raises."""
    try:
        yield
    except BankError as error:
        raise BankError(path, error.problem, error.remedy) from error
    except MkfaError:
        raise
    except (
        OSError,
        KeyError,
        RuntimeError,
        ValueError,
        TypeError,
        AttributeError,
        OverflowError,
        IndexError,
        MemoryError,
        NotImplementedError,
    ) as error:
        problem = f"is damaged or truncated ({one_line(str(error))[:120]})"
        raise BankError(path, problem, "harvest the network again or fetch the file again") from error


WORDS = 4093
"""Number of sums; prime, so that blocks of a disk that change places do not fall on the same sums."""


_ROW = 8 * WORDS


def checksum(array: np.ndarray[Any, Any]) -> str:
    """Return a checksum of an array's bytes in C order, 64 hexadecimal digits; any dtype but object.

    The data are taken as 64-bit little-endian words, the last one padded with zeros; word i is added to sum i mod
    4093, modulo 2**64; the checksum is the SHA-256 of the 4093 sums. A change within 32 KB alters at least one sum,
    so it is always noticed: a flipped bit, a block of a disk. Wider damage passes unnoticed only if its parts cancel
    in every sum. SHA-256 or CRC-32 over all data takes as long as reading them, or longer; this takes a quarter.
    """
    data = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    whole = len(data) // _ROW * _ROW
    rest = np.zeros(_ROW, np.uint8)
    rest[: len(data) - whole] = data[whole:]
    sums = data[:whole].view("<u8").reshape(-1, WORDS).sum(axis=0, dtype=np.uint64) + rest.view("<u8")
    return hashlib.sha256(sums.astype("<u8").tobytes()).hexdigest()
