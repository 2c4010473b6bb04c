"""Rows of bytes that stay in their file and are read when needed.

Rows are read, not mapped: a truncated file raises an error instead of ending the process, and pages do not count as the
process's memory twice. Reading does not use HDF5 and works in any thread.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mkfa.array_types import I64, U8, BoolArray
from mkfa.errors import WorkError

_SLAB = 1 << 24
"""Bytes read at a time when all rows are read in order."""
_DEFLATE = 1100
"""Limit of the compression ratio (deflate reaches 1032); a file that claims more is damaged."""
_VECTORS = 512
"""Buffers that one system call fills; POSIX allows at least 16, Linux and macOS 1024."""


class ReadError(WorkError):
    """Rows that were readable before cannot be read."""


@dataclass(frozen=True, slots=True)
class Rows:
    """An array of bytes in a file, read by row; numpy's functions read it whole.

    Attributes
    ----------
    path : Path
    shape : (N, ...)
    stamp : (int, int)
        Size of the file, bytes, and its time of change, ns; a file that was replaced is not read.
    offset : offset of the first row of contiguous rows.
    piece : rows in a compressed piece, which is read whole; 0 if rows are not compressed.
    pieces : tuple of (offset, bytes)
    crcs : (N,) uint32 or None
        CRC-32 of each row. A row is compared when it is first read; later reads of it take no longer than without.
    checked : (N,) bool or None
        Which rows were compared; changed by `read`.
    """

    path: Path
    shape: tuple[int, ...]
    stamp: tuple[int, int]
    offset: int = 0
    piece: int = 0
    pieces: tuple[tuple[int, int], ...] = ()
    crcs: NDArray[np.uint32] | None = field(default=None, compare=False, repr=False)
    checked: BoolArray | None = field(default=None, compare=False, repr=False)

    dtype = np.dtype(np.uint8)

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of all rows, uncompressed."""
        return len(self) * self.row_bytes

    @property
    def row_bytes(self) -> int:
        return int(np.prod(self.shape[1:], dtype=np.int64))

    def first(self, count: int) -> Rows:
        """Return the first rows, still in the file."""
        return replace(self, shape=(min(count, len(self)), *self.shape[1:]))

    def with_crcs(self, crcs: NDArray[np.uint32]) -> Rows:
        """Return the rows with the CRC-32 that each must have."""
        return replace(self, crcs=crcs, checked=np.zeros(len(self), bool))

    def __getitem__(self, key: Any) -> U8:
        """Read the rows of a number or slice; any other numpy index reads all rows."""
        if isinstance(key, int | np.integer):
            if not -len(self) <= key < len(self):
                raise IndexError(f"row {key} of {len(self)}")
            wanted, rest = np.array([key % len(self)]), 0
        elif isinstance(key, slice):
            wanted, rest = np.arange(len(self))[key], None
        else:
            return self.__array__()[key]  # type: ignore[no-any-return]
        out = self.read(wanted)
        return out if rest is None else out[rest]

    def __iter__(self) -> Iterator[U8]:
        for _, part in self.slabs():
            yield from part

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        out = np.empty(self.shape, np.uint8)
        self.load(out)
        return out if dtype is None else out.astype(dtype, copy=False)

    def slabs(self, nbytes: int = _SLAB) -> Iterator[tuple[int, U8]]:
        """Yield (number of the first row, rows) in order, about `nbytes` at a time."""
        step = max(1, nbytes // max(1, self.row_bytes), self.piece)
        for start in range(0, len(self), step):
            yield start, self[start : start + step]

    def load(self, out: U8) -> None:
        """Read all rows into `out`, of the same shape, with only one piece of further memory."""
        step = max(1, _SLAB // max(1, self.row_bytes), self.piece)
        for start in range(0, len(self), step):
            stop = min(start + step, len(self))
            self.read(np.arange(start, stop), out[start:stop])

    def read(self, rows: NDArray[np.integer[Any]], out: U8 | None = None) -> U8:
        """Read rows in any order, (B,) integers, and return them in that order, (B, ...) uint8.

        The file is read from beginning to end; contiguous rows are read at once.

        Parameters
        ----------
        out : (B, ...) uint8, C-contiguous, to be filled; None creates it.

        Raises ReadError: the file is missing, was replaced, is too short or cannot be read, or a row differs from its
        CRC-32.
        """
        numbers: I64 = np.asarray(rows, np.int64)
        filled = np.empty((len(rows), *self.shape[1:]), np.uint8) if out is None else out
        if len(numbers) and not 0 <= int(numbers.min()) <= int(numbers.max()) < len(self):
            raise IndexError(f"rows {numbers.min()} to {numbers.max()} of {len(self)}")
        flat = filled.reshape(len(numbers), self.row_bytes)
        order = np.argsort(numbers, kind="stable")
        try:
            handle = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                if stamp_of(handle) != self.stamp:
                    raise self._error("was changed since it was opened")
                if self.piece:
                    self._inflate(handle, numbers, order=order, out=flat)
                else:
                    self._gather(handle, numbers, order=order, out=flat)
            finally:
                os.close(handle)
        except FileNotFoundError:
            raise self._error("is gone") from None
        except OSError as error:
            raise self._error(f"cannot be read ({error.strerror or error})") from error
        except EOFError:
            raise self._error("ends before its images do") from None
        except zlib.error as error:
            raise self._error(f"is damaged ({error})") from error
        if self.crcs is not None and self.checked is not None:
            self._check(numbers, flat)
        return filled

    def _check(self, rows: I64, values: U8) -> None:
        """Compare rows that were read for the first time with their CRC-32; raises ReadError."""
        assert self.crcs is not None and self.checked is not None
        places = np.flatnonzero(~self.checked[rows])
        for place in places:
            if zlib.crc32(values[place].data) != self.crcs[rows[place]]:
                raise self._error(f"is damaged: image {rows[place]} differs from what was packed")
        self.checked[rows[places]] = True

    def _error(self, problem: str) -> ReadError:
        return ReadError(self.path, problem, "bring the file back or pack the data set again, and start again")

    def _gather(self, handle: int, rows: I64, *, order: I64, out: U8) -> None:
        breaks = np.flatnonzero(np.diff(rows[order]) != 1) + 1
        for run in np.split(order, breaks):  # places in `out` of contiguous rows in the file
            if not len(run):
                continue
            at = self.offset + int(rows[run[0]]) * self.row_bytes
            if run[-1] - run[0] == len(run) - 1 and (np.diff(run) == 1).all():
                _fill(handle, [out[run[0] : run[-1] + 1]], at)
                continue
            for i in range(0, len(run), _VECTORS):
                _fill(handle, [out[place] for place in run[i : i + _VECTORS]], at + i * self.row_bytes)

    def _inflate(self, handle: int, rows: I64, *, order: I64, out: U8) -> None:
        number = rows[order] // self.piece
        for part in np.split(order, np.flatnonzero(np.diff(number)) + 1):
            if not len(part):
                continue
            index = int(rows[part[0]]) // self.piece
            at, nbytes = self.pieces[index]
            packed = np.empty(nbytes, np.uint8)
            _fill(handle, [packed], at)
            whole = self.piece * self.row_bytes
            values = np.frombuffer(zlib.decompressobj().decompress(packed.data, whole), np.uint8)
            if len(values) != whole:
                raise EOFError
            out[part] = values.reshape(self.piece, self.row_bytes)[rows[part] - index * self.piece]


def row_crcs(rows: U8) -> NDArray[np.uint32]:
    """Return the CRC-32 of each row of an array of bytes, (N, ...) uint8, as (N,) uint32.

    Examples
    --------
    >>> row_crcs(np.array([[0], [97]], np.uint8)).tolist()
    [3523407757, 3904355907]
    """
    return np.array([zlib.crc32(np.ascontiguousarray(row).data) for row in rows], np.uint32)


def stamp_of(file: Path | int) -> tuple[int, int]:
    """Return the size of a file (or open file), bytes, and its time of change, ns."""
    status = os.fstat(file) if isinstance(file, int) else file.stat()
    return status.st_size, status.st_mtime_ns


def find_rows(path: Path, dataset: Any) -> Rows | None:
    """Return the rows of an HDF5 dataset of bytes if they can be read without HDF5, else None.

    They can if they are contiguous, or in pieces of whole rows that only gzip compresses.
    """
    if dataset.dtype != np.uint8 or dataset.ndim < 2 or not dataset.size or dataset.is_virtual or dataset.external:
        return None
    shape, stamp = tuple(int(n) for n in dataset.shape), stamp_of(path)
    if dataset.chunks is None:
        offset = dataset.id.get_offset()
        return None if offset is None or offset + dataset.size > stamp[0] else Rows(path, shape, stamp, int(offset))
    filtered = dataset.shuffle or dataset.fletcher32 or dataset.scaleoffset is not None
    if dataset.compression != "gzip" or filtered or dataset.chunks[1:] != dataset.shape[1:]:
        return None
    piece = int(dataset.chunks[0])
    known: list[Any] = []
    dataset.id.chunk_iter(known.append)  # to ask for them by number takes time that grows with their square
    places = {int(k.chunk_offset[0]) // piece: (int(k.byte_offset), int(k.size)) for k in known if not k.filter_mask}
    count = -(-shape[0] // piece)
    claimed = dataset.size > _DEFLATE * sum(nbytes for _, nbytes in places.values())
    if sorted(places) != list(range(count)) or claimed:
        return None
    return Rows(path, shape, stamp, piece=piece, pieces=tuple(places[i] for i in range(count)))


def _fill(handle: int, views: Sequence[U8], at: int) -> None:
    """Fill buffers, one after the other, with the bytes of a file from `at` on; raises EOFError at its end."""
    buffers: list[Any] = list(views)
    if os.preadv(handle, buffers, at) == sum(v.nbytes for v in views):
        return
    for buffer in buffers:  # the system may read less than requested
        data, done = memoryview(buffer).cast("B"), 0
        while done < len(data):
            got = os.preadv(handle, [data[done:]], at + done)
            if not got:
                raise EOFError
            done += got
        at += len(data)
