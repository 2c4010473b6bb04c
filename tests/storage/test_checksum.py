"""The checksum finds every change that stays within 32 KB, and is what its description says."""

from __future__ import annotations

import hashlib
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mkfa.storage.hdf5 import WORDS, checksum


def by_hand(data: bytes) -> str:
    """The description in plain Python: word i into sum i mod 4093."""
    data += b"\0" * (-len(data) % 8)
    sums = [0] * 4093
    for i, (word,) in enumerate(struct.iter_unpack("<Q", data)):
        sums[i % 4093] = (sums[i % 4093] + word) % 2**64
    return hashlib.sha256(b"".join(total.to_bytes(8, "little") for total in sums)).hexdigest()


@pytest.mark.parametrize("length", [0, 1, 7, 8, 8 * WORDS - 1, 8 * WORDS, 8 * WORDS + 1, 5 * 8 * WORDS + 4099])
def test_it_is_what_its_description_says(length):
    data = np.random.default_rng(length).integers(0, 256, length, np.uint8)
    assert checksum(data) == by_hand(data.tobytes())


@pytest.mark.parametrize("dtype", ["<f4", "<i4", "<f8", "?", "S5", "<u2", [("a", "<i4"), ("b", "S3"), ("c", "?")]])
def test_any_type_and_shape_counts_by_its_bytes(dtype):
    array = np.frombuffer(np.random.default_rng(0).bytes(8 * 600), dtype, count=600).reshape(20, 30)
    assert checksum(array) == by_hand(array.tobytes())
    assert checksum(array[::2, ::3]) == by_hand(array[::2, ::3].tobytes())  # in C order, whatever lies in memory


DATA = np.random.default_rng(1).integers(0, 256, 100_003, np.uint8)
WHOLE = checksum(DATA)


@given(st.integers(0, len(DATA) - 1), st.integers(1, 8 * WORDS - 8), st.integers(0, 2**32), st.booleans())
def test_a_change_within_32_kb_is_always_found(start, length, seed, cleared):
    changed = DATA.copy()
    part = changed[start : start + length]
    if cleared:
        part[:] = 0
    else:
        part ^= np.random.default_rng(seed).integers(0, 256, len(part), np.uint8)
    assert (checksum(changed) == WHOLE) == np.array_equal(changed, DATA)


def test_a_flipped_bit_is_found_wherever_it_is():
    rng = np.random.default_rng(2)
    for at in rng.integers(0, len(DATA), 300):
        changed = DATA.copy()
        changed[at] ^= 1 << rng.integers(8)
        assert checksum(changed) != WHOLE


def test_blocks_of_a_disk_that_change_places_are_found():
    for size in (512, 4096, 65536):
        data = np.random.default_rng(size).integers(0, 256, 4 * size, np.uint8)
        swapped = np.concatenate([data[2 * size :], data[: 2 * size]])
        assert checksum(swapped) != checksum(data)
