"""Check the heaps in which HDF5 keeps texts of variable length, before HDF5 itself walks through them.

HDF5 (2.0 and before) goes from object to object of a heap by sizes that it does not check: a size of 0 holds it in an
endless loop, which no signal ends.
"""

from __future__ import annotations

from typing import IO

from mkfa.errors import DamagedBankError

_BLOCK = 1 << 20


def check_heaps(stream: IO[bytes], *, length_bytes: int = 8) -> None:
    """Refuse a file with a heap that is damaged ("global heap collection", HDF5 file format, III.E).

    The file is searched for the mark of heaps, so that time is linear in its size.

    Parameters
    ----------
    stream : binary stream
        Of the whole file, seekable; its position is changed.
    length_bytes : bytes of a length in this file, as its superblock says.

    Raises DamagedBankError: an object of a heap is smaller than its header or ends behind its heap, or heaps overlap.
    """
    size = stream.seek(0, 2)
    left, offset, kept = size, 0, b""
    while True:
        stream.seek(offset + len(kept))
        block = kept + stream.read(_BLOCK)
        if len(block) <= len(kept):
            return
        at = block.find(b"GCOL\1")
        while at >= 0:
            left -= _check_heap(stream, offset + at, size, length_bytes)
            if left < 0:
                raise _damaged()
            at = block.find(b"GCOL\1", at + 1)
        kept = block[-4:]
        offset += len(block) - len(kept)


def _check_heap(stream: IO[bytes], start: int, file_size: int, length_bytes: int) -> int:
    """Go through the objects as HDF5 does; return the bytes of the heap."""
    header = 8 + -(-length_bytes // 8) * 8  # of the heap, and of each object: their last field is a length
    stream.seek(start)
    size = int.from_bytes(stream.read(header)[8 : 8 + length_bytes], "little")
    if size < header or start + size > file_size:
        raise _damaged()
    stream.seek(start)
    heap, at = stream.read(size), header
    while at + header <= size:
        number = int.from_bytes(heap[at : at + 2], "little")
        length = int.from_bytes(heap[at + 8 : at + 8 + length_bytes], "little")
        step = header + -(-length // 8) * 8 if number else length  # object 0 is what is free, with its header
        if step < header or at + step > size:
            raise _damaged()
        at += step
    return size


def _damaged() -> DamagedBankError:
    return DamagedBankError("file", "has texts whose places in it are damaged", "fetch the file again")
