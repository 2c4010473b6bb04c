"""Read and write HDF5 without trusting what a file claims; the only module that imports h5py.

mkfa's texts have fixed length and its tables checksums, so that damage raises an error instead of causing an endless
loop; the heaps of other programs' files, in which HDF5 can loop, are checked first (`hdf5_heaps`).

Before anything is read, a file of mkfa's is checked to have only what mkfa writes (`open_file`): hard links, each to
another object, and contiguous data within the file that do not overlap. So what is read is never larger than the file.
Files of other programs (`open_weights`) may be chunked and compressed. Every reader has a budget: groups can have very
many members, a few bytes can claim many chunks, and texts of variable length can share one place in the file.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import io
import math
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from mkfa.errors import BankError, DamagedBankError, InUseError, MkfaError, SourceError, one_line
from mkfa.storage.budget import Budget
from mkfa.storage.files import read_head
from mkfa.storage.hdf5_heaps import check_heaps
from mkfa.words import counted

CHECKSUM = "checksum"
"""Attribute with the `checksum` of a dataset. Datasets without it are read unchecked."""

WIDEST = 1 << 16
"""Most bytes of one row of a table and of one text."""

_STEPS_AN_OBJECT, _STEPS_A_CHECK, _STEPS_A_CHUNK = 100, 150, 4
_BYTES_AN_OBJECT, _BYTES_A_TEXT, _BYTES_A_CHUNK = 1500, 120, 2300
_ATTRIBUTES_A_STEP = 20  # attributes, and members of small groups, are looked for one by one
_MOST_ATTRIBUTE = 1 << 26
_VERSION = ("v110", "v110")  # from 1.10 on, HDF5's tables have checksums
_LOCKED = "unable to lock file"
_MARKED = "already open for write"
"""HDF5's words for a file that another process has locked, and for one whose mark says that it is open for writing."""
_OWN_FILTERS = frozenset([1, 2, 3, 32000])  # gzip, shuffle, checksum, LZF: others would be loaded as plug-ins
_OWN, _AGAIN = "name a file that mkfa wrote", "fetch the file again"
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
        _check_layout(f, len(buffer.getbuffer()), compressed=False)
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
def open_file(path: Path, *, compressed: bool = False) -> Iterator[Any]:
    """Open a file that mkfa wrote for reading and yield the h5py.File.

    HDF5 marks a file that is open for writing, and the mark stays if the program that wrote is killed. Such a file is
    read through Python, which HDF5 does not lock: its tables and mkfa's arrays have checksums.

    Parameters
    ----------
    compressed : accept images (four dimensions, uint8) that gzip compresses; `mkfa.storage.file_rows` reads those.

    Raises InUseError: another program has the file open for writing. Raises BankError: the file is missing, unreadable,
    not HDF5, has links or data that mkfa does not write, or (raised while the body reads it) is damaged.
    """
    import h5py

    if path.is_dir():
        raise BankError(path, "is a folder, not a bank file", "name a .h5 file")
    find = "check the path; a bank's name, as 'mkfa banks' lists them, is for mkfa.load_bank"
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
            _check_layout(f, path.stat().st_size, compressed=compressed)
            yield f
        except _H5PY_ERRORS as error:
            if not marked:
                raise
            problem = "is marked as open for writing in another program, and its tables are incomplete"
            raise InUseError(path, problem, "close it there; if no program has it open, remove it") from error


@contextlib.contextmanager
def open_weights(source: Path | IO[bytes], thing: object) -> Iterator[Any]:
    """Open an HDF5 file that another program wrote, or an open stream of one, and yield the h5py.File.

    Raises InUseError: another program has the file open for writing. Raises SourceError: the file is not HDF5, or
    (raised while the body reads it) damaged. `thing` names it.
    """
    import h5py

    try:
        with h5py.File(source, "r") as f:
            with source.open("rb") if isinstance(source, Path) else contextlib.nullcontext(source) as stream:
                check_heaps(stream, length_bytes=f.id.get_create_plist().get_sizes()[1])
            yield f
    except (SourceError, InUseError):
        raise
    except BankError as error:
        raise SourceError(thing, error.problem, error.remedy) from error
    except (*_H5PY_ERRORS, MemoryError) as error:
        if _LOCKED in str(error) and isinstance(source, Path):
            raise _lock_error(source, error) from error
        problem = f"is damaged or truncated ({one_line(str(error))[:120]})"
        raise SourceError(thing, problem, "fetch the file again") from error


def own_children(group: Any, budget: Budget) -> dict[str, Any]:
    """Return the groups and datasets of a group that are in the file itself; links to elsewhere are not followed."""
    import h5py

    _charge_members(group, budget)
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


def _charge_members(group: Any, budget: Budget, more: int = 0) -> None:
    """Charge the opening of all members of a group."""
    import h5py

    count = len(group)
    messages = int(h5py.h5o.get_info(group.id).hdr.nmesgs)  # a small group's members are among them
    budget.step((_STEPS_AN_OBJECT + more + messages // _ATTRIBUTES_A_STEP) * count)
    budget.produce(_BYTES_AN_OBJECT * count)


def get_texts(at: Any, key: str, budget: Budget) -> list[str]:
    """Return an attribute that is a list of texts; a long one is spread over key0, key1, ... (as Keras does)."""
    names = [key] if has_attribute(at, key, budget) else []
    while key not in names and has_attribute(at, f"{key}{len(names)}", budget):
        names.append(f"{key}{len(names)}")
    parts = [_attribute(at, name, (), budget) for name in names]
    return [decode(text) for part in parts for text in np.asarray(part).reshape(-1).tolist()]


def has_attribute(at: Any, key: str, budget: Budget) -> bool:
    """True if an object has an attribute of that name."""
    import h5py

    budget.step(2 + h5py.h5a.get_num_attrs(at.id) // _ATTRIBUTES_A_STEP)
    return key in at.attrs


def read_weight(data: Any, budget: Budget) -> np.ndarray[Any, Any]:
    """Read a dataset of numbers whole; its bytes are charged twice, since the reader makes them float32.

    Raises BankError: it is outside the file, not of numbers, or packed by a filter that is not HDF5's own. Raises
    SourceError: it has more bytes or chunks than are left of the budget.
    """
    name, size = data.name, data.size * data.dtype.itemsize
    if data.is_virtual or data.external:
        raise BankError("file", f"keeps {name} outside the file, which is not read", "store it in one file")
    if data.dtype.kind not in "fiubV" or data.dtype.hasobject:
        raise BankError("file", f"has {name} as {data.dtype}", "store it as floats")
    budget.step(_STEPS_AN_OBJECT)
    budget.produce(2 * size)
    if data.chunks:
        budget.produce(math.prod(data.chunks) * data.dtype.itemsize)
        _charge_chunks(data, budget)
    if data.chunks is None and data.id.get_storage_size() < size:
        raise BankError("file", f"claims more numbers of {name} than it contains", "fetch the file again")
    if not set(_filters(data.id.get_create_plist())) <= _OWN_FILTERS:
        raise BankError(
            "file", f"has {name} packed by a filter that is not HDF5's own", "store it unpacked or with gzip"
        )
    out = np.empty(data.shape, data.dtype)
    if data.size:
        data.read_direct(out)
    return out


def _filters(layout: Any) -> list[int]:
    """Return the numbers of the filters that pack a dataset, in their order."""
    return [layout.get_filter(i)[0] for i in range(layout.get_nfilters())]


def _charge_chunks(data: Any, budget: Budget) -> None:
    """Charge what HDF5 needs for the chunks of a dataset, whatever they hold; raises SourceError if too many."""
    pieces = math.prod(-(-n // step) for n, step in zip(data.shape, data.chunks, strict=True))
    budget.step(_STEPS_A_CHUNK * pieces)
    budget.produce(_BYTES_A_CHUNK * pieces)


def _check_layout(f: Any, size: int, *, compressed: bool) -> None:
    """Refuse a file of `size` bytes with links or data that mkfa does not write; nothing is read or allocated.

    Raises BankError: a link is not a hard link or leads to an object that has another name, or a dataset is virtual,
    external, chunked, filtered, of variable length, wider than `WIDEST`, outside the file or overlaps another one.
    """
    import h5py

    budget = Budget("file", size)
    seen: set[int] = {object_number(f["/"])}
    spans: list[tuple[int, int, str]] = []
    groups = [("", f["/"])]
    while groups:
        at, group = groups.pop()
        _charge_members(group, budget, _STEPS_A_CHECK)
        for key in group:
            name = f"{at}/{key}"
            if not is_inside(group, key):
                raise BankError("file", f"keeps {name[:80]} behind a link or outside the file", _OWN)
            item = group[key]
            number = object_number(item)
            if number in seen:
                raise BankError("file", f"has one object under two names ({name[:80]})", _OWN)
            seen.add(number)
            if isinstance(item, h5py.Group):
                groups.append((name, item))
            elif isinstance(item, h5py.Dataset):
                spans += _span(item, name, budget, compressed=compressed)
            else:
                raise BankError("file", f"has {name[:80]}, which is neither a group nor a dataset", _OWN)
    at_byte = 0
    for first, last, name in sorted(spans):
        if last > size:
            raise DamagedBankError("file", f"claims more values of {name[:80]} than it contains", _AGAIN)
        if first < at_byte:
            raise BankError("file", f"has {name[:80]} in the same place as another dataset", _OWN)
        at_byte = last


def _span(data: Any, name: str, budget: Budget, *, compressed: bool) -> list[tuple[int, int, str]]:
    """Return the place of a dataset in the file: its first byte and the one after its last; [] if it is empty."""
    import h5py

    layout = data.id.get_create_plist()
    if compressed and data.chunks is not None and data.dtype == np.uint8 and data.ndim == 4:
        if _filters(layout) != [h5py.h5z.FILTER_DEFLATE]:
            raise BankError("file", f"has {name[:80]} packed otherwise than with gzip alone", _OWN)
        budget.produce(int(data.size) + math.prod(data.chunks))  # a piece can be larger than the images
        _charge_chunks(data, budget)
        return []
    if layout.get_layout() != h5py.h5d.CONTIGUOUS or layout.get_nfilters() or layout.get_external_count():
        raise BankError("file", f"has {name[:80]} in pieces, compressed or outside the file", _OWN)
    if data.dtype.hasobject:
        raise BankError("file", f"has {name[:80]} with values of variable length", _OWN)
    if data.dtype.itemsize > WIDEST:
        raise BankError("file", f"has {name[:80]} with {counted(data.dtype.itemsize, 'byte')} a row", _OWN)
    nbytes, first = int(data.size) * data.dtype.itemsize, data.id.get_offset()
    if not nbytes:
        return []
    if first is None or data.id.get_storage_size() < nbytes:
        raise DamagedBankError("file", f"claims more values of {name[:80]} than it contains", _AGAIN)
    return [(int(first), int(first) + nbytes, name)]


def has(at: Any, key: str) -> bool:
    """True if a group has a member of that name, also one that is damaged."""
    return bool(at.id.links.exists(key.encode()))


def get_group(at: Any, key: str) -> Any:
    """Return a group in a group; raises BankError if it is missing or not a group."""
    if not has(at, key):
        raise BankError("file", f"has no {at.name.rstrip('/')}/{key}", "harvest the network again")
    group = at[key]
    if not is_group(group):
        raise BankError("file", f"has {group.name} as a table where a group should be", "harvest the network again")
    return group


def check_format(f: Any, expected: str, *, version: int = 1) -> None:
    """Refuse a file of another format or of an unknown version."""
    name = get_text(f, "format")
    if name != expected:
        problem = f"has format {name!r}" if name else "has no format attribute"
        raise BankError("file", f"{problem}, not {expected!r}", "name a file that mkfa wrote")
    number = int(_attribute(f, "format_version", 0))
    if number > version or number < 1:
        problem = f"has {expected} version {number}, this mkfa reads version {version}"
        raise BankError("file", problem, "upgrade mkfa" if number > version else "harvest the network again")


def put_text(at: Any, key: str, text: str) -> None:
    """Store text of fixed length. Other text is in HDF5's heap, whose damage can cause an endless loop."""
    at.attrs.create(key, np.array(encode(text), text_type([text])))


def get_text(at: Any, key: str, default: str = "", *, budget: Budget | None = None) -> str:
    """Return an attribute as text; raises BankError if it is larger than any that mkfa writes."""
    return decode(_attribute(at, key, default, budget))


def _attribute(at: Any, key: str, default: Any, budget: Budget | None = None) -> Any:
    """Return an attribute, or the default if there is none. A damaged one raises, unlike `attrs.get`.

    Without a budget it is one of mkfa's own, which are short and of fixed length.
    """
    import h5py

    if not (key in at.attrs if budget is None else has_attribute(at, key, budget)):
        return default
    found = h5py.h5a.open(at.id, key.encode())
    size, count = found.get_storage_size(), math.prod(found.shape)
    if found.dtype.hasobject:  # each value may be as long as the file, and all may share one place in it
        if budget is None and (count > 1 or at.file.driver == "fileobj"):  # packed images have single ones
            raise BankError("file", f"has the attribute {key} with values of variable length", _OWN)
        if budget is None:
            path = Path(at.file.filename)
            status = path.stat()
            lengths = at.file.id.get_create_plist().get_sizes()[1]
            _check_own_heaps(path, lengths, (status.st_size, status.st_mtime_ns))
        size = count * (0 if budget is None else budget.size)
    if budget is None:
        if size > _MOST_ATTRIBUTE:
            raise BankError("file", f"has the attribute {key} of more than {_MOST_ATTRIBUTE >> 20} MiB", _OWN)
    else:
        budget.step(count)
        budget.produce(_BYTES_A_TEXT * count + 2 * size)
    return at.attrs[key]


@functools.lru_cache(maxsize=256)
def _check_own_heaps(path: Path, length_bytes: int, state: tuple[int, int]) -> None:
    """Check the heaps of a file of mkfa's once for each state that it is in."""
    with path.open("rb") as stream:
        check_heaps(stream, length_bytes=length_bytes)


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
        if (wide := max((len(encode(text)) for text in texts), default=0)) > WIDEST:
            raise BankError(name, f"has a text of {wide} bytes", f"shorten it to {WIDEST}")
        array = np.array([encode(text) for text in texts], text_type(texts)).reshape(array.shape)
    array = np.ascontiguousarray(array)
    dataset = at.create_dataset(name, data=array)
    if checked:
        put_text(dataset, CHECKSUM, checksum(array))


def read_array(at: Any, key: str) -> np.ndarray[Any, Any]:
    """Read one dataset whole.

    Raises BankError: it is not a dataset, or does not match its checksum. What `open_file` refuses is not met here.
    """
    import h5py

    data = at[key]
    if not isinstance(data, h5py.Dataset):
        raise BankError("bank", f"{data.name} is a group where a table should be", "harvest the network again")
    text = h5py.check_string_dtype(data.dtype)
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
    except SourceError as error:  # the budget
        raise BankError(path, error.problem, error.remedy) from error
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
