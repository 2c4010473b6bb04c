"""Read and write HDF5 without trusting what a file claims; the only module that imports h5py.

Text has fixed length and HDF5's tables have checksums, so damage raises an error instead of causing an endless loop.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from mkfa.errors import BankError, DamagedBankError, InUseError, MkfaError, SourceError, one_line
from mkfa.storage.files import read_head

CHECKSUM = "checksum"
"""Attribute with the `checksum` of a dataset. Datasets without it are read unchecked."""

_VERSION = ("v110", "v110")  # from 1.10 on, HDF5's tables have checksums
_MOST_BYTES = 1 << 36
_LOCKED = "unable to lock file"
_MARKED = "already open for write"
"""HDF5's words for a file that another process has locked, and for one whose mark says that it is open for writing."""
_OWN_FILTERS = frozenset([1, 2, 3, 32000])  # gzip, shuffle, checksum, LZF: others would be loaded as plug-ins
_H5PY_ERRORS = (OSError, LookupError, RuntimeError, ValueError, TypeError, AttributeError, ArithmeticError)


def file_image(fill: Callable[[Any], None]) -> bytes:
    """Return the bytes of an HDF5 file made in memory; `fill` is called with the open h5py.File."""
    import h5py

    with h5py.File("memory", "w", driver="core", backing_store=False, block_size=1 << 20, libver=_VERSION) as f:
        fill(f)
        f.flush()
        image: bytes = f.id.get_file_image()
    return image


def changed_image(path: Path, change: Callable[[Any], None]) -> memoryview:
    """Return the bytes of the file at `path` after `change`, called with the open h5py.File; raises BankError."""
    import h5py

    try:
        buffer = io.BytesIO(path.read_bytes())
    except OSError as error:
        raise BankError(path, f"cannot be read ({error.strerror})", "check the file's permissions") from error
    with _as_bank_error(path), h5py.File(buffer, "r+", libver=_VERSION) as f:
        change(f)
    return buffer.getbuffer()


def create_empty(path: Path, fill: Callable[[Any], None], shapes: dict[str, tuple[tuple[int, ...], str]]) -> None:
    """Write a file with contiguous datasets of zeros, name -> (shape, dtype); `fill` adds the rest.

    The data take no memory. Not atomic.
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

    HDF5 marks a file that is open for writing, and the mark stays if the program that wrote is killed. Such a file is
    read through Python, which HDF5 does not lock: its tables and mkfa's arrays have checksums.

    Raises
    ------
    InUseError
        Another program has the file open for writing.
    BankError
        The file is missing, unreadable, not HDF5, or (raised while the body reads it) damaged.
    """
    import h5py

    if path.is_dir():
        raise BankError(path, "is a folder, not a bank file", "name a .h5 file")
    find = "check the path; 'mkfa banks' lists the banks at hand"
    head = read_head(path, error=BankError, kind="a bank", give="name a .h5 file", find=find)
    if not head.startswith(b"\x89HDF\r\n\x1a\n"):
        raise BankError(path, "is not an HDF5 file", "name a bank that 'mkfa harvest' wrote")
    marked = False
    with _as_bank_error(path), contextlib.ExitStack() as stack:
        try:
            f = stack.enter_context(h5py.File(path, "r"))
        except OSError as error:
            if _MARKED not in str(error):
                raise
            marked = True
            f = stack.enter_context(h5py.File(stack.enter_context(path.open("rb")), "r"))
        try:
            yield f
        except _H5PY_ERRORS as error:
            if not marked:
                raise
            problem = "is marked as open for writing in another program, and its tables are incomplete"
            raise InUseError(path, problem, "close it there; if no program has it open, remove it") from error


@contextlib.contextmanager
def open_weights(source: Path | IO[bytes], thing: object) -> Iterator[Any]:
    """Open an HDF5 file that another program wrote, or an open stream of one, and yield the h5py.File.

    Raises
    ------
    SourceError
        The file is not HDF5, or (raised while the body reads it) damaged. `thing` names it.
    """
    import h5py

    try:
        with h5py.File(source, "r") as f:
            yield f
    except SourceError:
        raise
    except BankError as error:
        raise SourceError(thing, error.problem, error.remedy) from error
    except (*_H5PY_ERRORS, MemoryError) as error:
        problem = f"is damaged or truncated ({one_line(str(error))[:120]})"
        raise SourceError(thing, problem, "fetch the file again") from error


def own_children(group: Any) -> dict[str, Any]:
    """Return the groups and datasets of a group that are in the file itself; links to elsewhere are not followed."""
    import h5py

    out = {}
    for name in group:
        if is_inside(group, name):
            item = group[name]
            if isinstance(item, h5py.Group | h5py.Dataset):
                out[str(name)] = item
    return out


def is_group(item: Any) -> bool:
    """True for a group, False for a dataset."""
    import h5py

    return isinstance(item, h5py.Group)


def object_number(item: Any) -> int:
    """Return a number that is the same for all names of an object in a file."""
    import h5py

    return int(h5py.h5o.get_info(item.id).addr)


def get_texts(at: Any, key: str) -> list[str]:
    """Return an attribute that is a list of texts; a long one is spread over key0, key1, ... (as Keras does)."""
    parts = [at.attrs[key]] if key in at.attrs else []
    while key not in at.attrs and f"{key}{len(parts)}" in at.attrs:
        parts.append(at.attrs[f"{key}{len(parts)}"])
    return [decode(text) for part in parts for text in np.asarray(part).reshape(-1).tolist()]


def read_weight(data: Any, *, most_bytes: int) -> np.ndarray[Any, Any]:
    """Read a dataset of numbers whole.

    Raises
    ------
    BankError
        It is outside the file, of more than `most_bytes`, not of numbers, or packed by a filter that is not HDF5's own.
    """
    name, size = data.name, data.size * data.dtype.itemsize
    if data.is_virtual or data.external:
        raise BankError("file", f"keeps {name} outside the file, which is not read", "store it in one file")
    if data.dtype.kind not in "fiubV" or data.dtype.hasobject:
        raise BankError("file", f"has {name} as {data.dtype}", "store it as floats")
    chunk = int(np.prod(data.chunks)) * data.dtype.itemsize if data.chunks else 0
    if size > most_bytes or chunk > most_bytes:
        raise BankError(
            "file", f"claims {size} bytes of {name}, more than the file can justify", "fetch the file again"
        )
    if data.chunks is None and data.id.get_storage_size() < size:
        raise BankError("file", f"claims more numbers of {name} than it contains", "fetch the file again")
    layout = data.id.get_create_plist()
    filters = {layout.get_filter(i)[0] for i in range(layout.get_nfilters())}
    if not filters <= _OWN_FILTERS:
        raise BankError(
            "file", f"has {name} packed by a filter that is not HDF5's own", "store it unpacked or with gzip"
        )
    out = np.empty(data.shape, data.dtype)
    if data.size:
        data.read_direct(out)
    return out


def check_format(f: Any, expected: str, *, version: int = 1) -> None:
    """Refuse a file of another format or of an unknown version."""
    name = get_text(f, "format")
    if name != expected:
        problem = f"has format {name!r}" if name else "has no format attribute"
        raise BankError("file", f"{problem}, not {expected!r}", "name a file that mkfa wrote")
    number = int(f.attrs.get("format_version", 0))
    if number > version or number < 1:
        problem = f"has {expected} version {number}, this mkfa reads version {version}"
        raise BankError("file", problem, "upgrade mkfa" if number > version else "harvest the network again")


def put_text(at: Any, key: str, text: str) -> None:
    """Store text of fixed length. Other text is in HDF5's heap, whose damage can cause an endless loop."""
    at.attrs.create(key, np.array(encode(text), text_type([text])))


def get_text(at: Any, key: str, default: str = "") -> str:
    """Return an attribute as text."""
    return decode(at.attrs.get(key, default))


def encode(text: str) -> bytes:
    """Encode text for storage; surrogates, which file names may contain, are escaped."""
    return text.encode("utf-8", "backslashreplace")


def decode(value: Any) -> str:
    """Return stored text."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def text_type(texts: Iterable[str]) -> np.dtype[Any]:
    """Return the type of fixed length that fits all texts."""
    import h5py

    fixed: np.dtype[Any] = h5py.string_dtype("utf-8", max([1, *(len(encode(text)) for text in texts)]))
    return fixed


def put_array(at: Any, name: str, array: np.ndarray[Any, Any], *, checked: bool = False) -> None:
    """Store a contiguous array, with its checksum if `checked`; text becomes UTF-8 of fixed length."""
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
        It is not a dataset, is outside the file, claims an impossible size, or does not match its checksum.
    """
    import h5py

    data = at[key]
    if not isinstance(data, h5py.Dataset):
        raise BankError("bank", f"{data.name} is a group where a table should be", "harvest the network again")
    if data.is_virtual or data.external or not is_inside(at, key):
        raise BankError("bank", f"{data.name} lies outside the file", "use a file that mkfa wrote")
    if data.chunks is None and data.id.get_storage_size() < data.size * data.dtype.itemsize:
        raise DamagedBankError("bank", f"{data.name} claims more rows than the file contains", "fetch the file again")
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
        problem = f"is damaged: the values of {data.name} differ from those that were written"
        raise DamagedBankError("bank", problem, "harvest the network again or fetch the file again")
    return np.char.decode(out, "utf-8").astype(object) if text else out


def read_all(at: Any) -> dict[str, np.ndarray[Any, Any]]:
    """Read all datasets below a group, by their path in it."""
    import h5py

    names: list[str] = []
    at.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
    return {name: read_array(at, name) for name in names}


def is_inside(at: Any, key: str) -> bool:
    """True if a key is in the file itself, not a link to elsewhere."""
    import h5py

    return isinstance(at.get(key, getlink=True), h5py.HardLink)


@contextlib.contextmanager
def _as_bank_error(path: Path) -> Iterator[None]:
    """Turn h5py's errors on a damaged file into one sentence, and name the file in mkfa's own errors."""
    try:
        yield
    except BankError as error:
        raise type(error)(path, error.problem, error.remedy) from error
    except MkfaError:
        raise
    except (*_H5PY_ERRORS, MemoryError) as error:
        if _LOCKED in str(error):
            raise _lock_error(path, error) from error
        problem = f"is damaged or truncated ({one_line(str(error))[:120]})"
        raise DamagedBankError(path, problem, "harvest the network again or fetch the file again") from error


def _in_use(path: Path) -> InUseError:
    remedy = "close it there (a notebook, a script, another mkfa), then try again"
    return InUseError(path, "is in use: another program has it open for writing", remedy)


def _lock_error(path: Path, error: BaseException) -> BankError:
    """Return the error for a file that HDF5 could not lock."""
    number = getattr(error, "errno", None) or 0
    if isinstance(error, BlockingIOError | PermissionError) or number in (errno.EAGAIN, errno.EACCES, errno.EDEADLK):
        return _in_use(path)
    problem = f"cannot be locked on this file system ({os.strerror(number) if number else one_line(str(error))[:120]})"
    return BankError(path, problem, "set HDF5_USE_FILE_LOCKING=FALSE and try again")


WORDS = 4093
"""Number of sums; prime, so that swapped blocks of a disk do not change the same sums."""
_ROW = 8 * WORDS


def checksum(array: np.ndarray[Any, Any]) -> str:
    """Return a checksum of an array's bytes in C order, 64 hexadecimal digits; any dtype but object.

    The data are read as 64-bit little-endian words, the last one padded with zeros. Word i is added to sum i mod 4093,
    modulo 2**64; the checksum is the SHA-256 of the 4093 sums. Damage within 32 KB changes at least one sum, so it is
    always detected; wider damage is missed only if its parts cancel in every sum. SHA-256 or CRC-32 of all data takes
    as long as reading them, or longer; this takes a quarter of that time.
    """
    data = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    whole = len(data) // _ROW * _ROW
    rest = np.zeros(_ROW, np.uint8)
    rest[: len(data) - whole] = data[whole:]
    sums = data[:whole].view("<u8").reshape(-1, WORDS).sum(axis=0, dtype=np.uint64) + rest.view("<u8")
    return hashlib.sha256(sums.astype("<u8").tobytes()).hexdigest()
