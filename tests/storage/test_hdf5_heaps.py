"""Damaged heaps of texts are refused before HDF5, which would loop, sees them."""

import io
import struct

import h5py
import numpy as np
import pytest

from mkfa.errors import DamagedBankError
from mkfa.storage.hdf5 import get_text, open_file
from mkfa.storage.hdf5_heaps import check_heaps


def with_texts(before: int = 0) -> bytearray:
    """Return a file with texts of variable length, behind `before` bytes of numbers."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as f:
        if before:
            f["numbers"] = np.full(before, 7, np.uint8)
        f.attrs["one"] = "a" * 100
        f.attrs["many"] = ["b" * 9, "", "c"]
    return bytearray(buffer.getvalue())


def objects(data: bytearray) -> tuple[int, list[tuple[int, int, int]]]:
    """Return where the heap is, and place, number and size of its objects."""
    heap = data.index(b"GCOL")
    (size,) = struct.unpack_from("<Q", data, heap + 8)
    found, at = [], heap + 16
    while at + 16 <= heap + size:
        number, _, _, length = struct.unpack_from("<HHIQ", data, at)
        found.append((at, number, length))
        at += 16 + -(-length // 8) * 8 if number else length
    return heap, found


@pytest.mark.parametrize("before", [0, 1 << 20, (1 << 20) + 3000, 3_000_000])
def test_sound_files_pass(before):
    data = with_texts(before)
    assert objects(data)[1][-1][1] == 0
    check_heaps(io.BytesIO(data))


@pytest.mark.parametrize("length", [0, 8, 10, 1 << 20, (1 << 64) - 16])
@pytest.mark.parametrize("before", [0, 3_000_000])
def test_objects_with_sizes_that_hold_hdf5_in_a_loop_are_refused(length, before):
    data = with_texts(before)
    at, number, _ = objects(data)[1][-1]
    assert number == 0
    struct.pack_into("<Q", data, at + 8, length)
    with pytest.raises(DamagedBankError, match="places in it are damaged"):
        check_heaps(io.BytesIO(data))


def test_a_text_that_ends_behind_its_heap_is_refused():
    data = with_texts()
    struct.pack_into("<Q", data, objects(data)[1][0][0] + 8, 5000)
    with pytest.raises(DamagedBankError):
        check_heaps(io.BytesIO(data))


@pytest.mark.parametrize("size", [0, 1 << 30])
def test_a_heap_larger_than_the_file_or_empty_is_refused(size):
    data = with_texts()
    struct.pack_into("<Q", data, objects(data)[0] + 8, size)
    with pytest.raises(DamagedBankError):
        check_heaps(io.BytesIO(data))


def test_heaps_in_one_place_are_refused():
    one = struct.pack("<4sB3xQ", b"GCOL", 1, 1 << 16) + struct.pack("<HHIQ", 0, 0, 0, (1 << 16) - 16)
    nested = one * 2000
    with pytest.raises(DamagedBankError):
        check_heaps(io.BytesIO(nested + bytes(1 << 16)))


def test_packed_images_whose_texts_have_a_heap_are_read_and_refused_if_it_is_damaged(tmp_path):
    path = tmp_path / "old.h5"
    with h5py.File(path, "w") as f:
        f.attrs["format"] = "mkfa.domain"  # as h5py writes a text by default
    with open_file(path) as f:
        assert get_text(f, "format") == "mkfa.domain"
    data = bytearray(path.read_bytes())
    at, number, _ = objects(data)[1][-1]
    assert number == 0
    struct.pack_into("<Q", data, at + 8, 0)
    path.write_bytes(data)
    with pytest.raises(DamagedBankError, match="places in it are damaged"), open_file(path) as f:
        get_text(f, "format")


def test_a_mark_across_the_border_of_two_blocks_is_seen():
    bad = struct.pack("<4sB3xQ", b"GCOL", 1, 64) + struct.pack("<HHIQ", 0, 0, 0, 0) + bytes(32)
    for before in range((1 << 20) - 6, (1 << 20) + 2):
        with pytest.raises(DamagedBankError):
            check_heaps(io.BytesIO(bytes(before) + bad + bytes(100)))
