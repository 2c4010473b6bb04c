"""Rows read from a file are the array that was written, in any order; a file that changed is named, never mapped."""

from __future__ import annotations

import os

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mkfa.storage import file_rows as module
from mkfa.storage.file_rows import ReadError, Rows, find_rows, stamp_of
from mkfa.storage.result_files import open_arrays, write_arrays


def write(path, images, *, chunk=0, **options):
    with h5py.File(path, "w") as f:
        f["before"] = np.arange(7)
        if chunk:
            options = {"chunks": (chunk, *images.shape[1:]), "compression": "gzip"} | options
        f.create_dataset("x", data=images, **options)
    with h5py.File(path, "r") as f:
        return find_rows(path, f["x"])


@pytest.fixture(scope="module", params=[0, 1, 4, 23], ids=["plain", "single", "pieces", "whole"])
def made(request, tmp_path_factory):
    images = np.random.default_rng(request.param).integers(0, 256, (23, 3, 3, 2), dtype=np.uint8)
    found = write(tmp_path_factory.mktemp("rows") / "x.h5", images, chunk=request.param)
    return found, images


@given(wanted=st.lists(st.integers(0, 22), max_size=60))
def test_any_rows_in_any_order_are_the_arrays(made, wanted):
    found, images = made
    out = np.zeros((len(wanted), 3, 3, 2), np.uint8)
    assert found.read(np.array(wanted, np.int64), out) is out
    assert np.array_equal(out, images[wanted])


@given(start=st.integers(-25, 25), stop=st.integers(-25, 25), step=st.sampled_from([1, 2, -1, 5]))
def test_slices_are_numpys(made, start, stop, step):
    found, images = made
    assert np.array_equal(found[start:stop:step], images[start:stop:step])


def test_it_is_read_as_an_array_is(made):
    found, images = made
    assert (found.shape, found.ndim, found.nbytes, len(found)) == (images.shape, 4, images.nbytes, 23)
    assert found.dtype == np.uint8
    assert np.array_equal(np.asarray(found), images)
    assert np.array_equal(found[-1], images[-1]) and np.array_equal(found[:, 0, 1], images[:, 0, 1])
    assert np.array_equal(np.stack(list(found)), images)
    assert np.array_equal(found.first(5), images[:5]) and found.first(99).shape == images.shape
    assert [start for start, _ in found.slabs(1)] == list(range(0, 23, max(1, found.piece)))
    assert np.array_equal(np.concatenate([part for _, part in found.slabs(40)]), images)
    for outside in (23, -24):
        with pytest.raises(IndexError):
            found[outside]
    with pytest.raises(IndexError):
        found.first(5).read(np.array([5]))


def test_a_system_that_gives_less_than_asked_for_is_asked_again(made, monkeypatch):
    found, images = made
    real = os.preadv
    monkeypatch.setattr(
        module.os,
        "preadv",
        lambda handle, views, at: real(handle, [memoryview(views[0])[:1]], at) if memoryview(views[0]).ndim == 1 else 0,
    )
    assert np.array_equal(found.read(np.array([7, 2, 8, 3])), images[[7, 2, 8, 3]])


def find_again(path):
    with h5py.File(path, "r") as f:
        return find_rows(path, f["x"])


def test_what_lies_otherwise_is_left_to_hdf5(tmp_path, monkeypatch):
    images = np.zeros((6, 2, 2, 1), np.uint8)
    assert write(tmp_path / "a.h5", images, chunk=2, shuffle=True) is None
    assert write(tmp_path / "b.h5", images, chunk=2, compression="lzf") is None
    assert write(tmp_path / "c.h5", images, chunks=(2, 1, 2, 1), compression="gzip") is None
    assert write(tmp_path / "d.h5", images.astype(np.int16)) is None
    with h5py.File(tmp_path / "e.h5", "w") as f:
        f.create_dataset("x", (6, 2, 2, 1), np.uint8, chunks=(2, 2, 2, 1), compression="gzip")[:2] = 1
    with h5py.File(tmp_path / "e.h5", "r") as f:  # pieces that were never written
        assert find_rows(tmp_path / "e.h5", f["x"]) is None
    many = np.zeros((60_000, 8, 8, 3), np.uint8)
    assert np.array_equal(write(tmp_path / "g.h5", many, chunk=60_000), many)  # as dense as deflate can be
    monkeypatch.setattr(module, "_DEFLATE", 500)
    assert find_again(tmp_path / "g.h5") is None  # claims more than its bytes can hold
    images[1] = 5
    with h5py.File(tmp_path / "other.h5", "w") as f:
        f["x"] = images
    path = write_arrays(tmp_path / "f.h5", kind="thing", arrays={"x": images, "y": np.arange(6)}, attributes={"a": 1})
    arrays, facts = open_arrays(path, kind="thing")
    assert isinstance(arrays["x"], Rows) and np.array_equal(arrays["x"], images)
    assert isinstance(arrays["y"], np.ndarray) and facts == {"a": 1}


@pytest.mark.parametrize("chunk", [0, 4])
@pytest.mark.parametrize("fault", ["gone", "replaced", "cut", "folder", "damaged"])
def test_a_file_that_changed_is_named_in_one_sentence(tmp_path, chunk, fault):
    images = np.random.default_rng(0).integers(0, 256, (23, 8, 8, 3), dtype=np.uint8)
    path = tmp_path / "x.h5"
    found = write(path, images, chunk=chunk)
    told = {
        "gone": "is gone",
        "replaced": "was changed",
        "cut": "ends before",
        "damaged": "is damaged",
        "folder": "cannot be read|was changed",
    }[fault]
    if fault == "gone":
        path.unlink()
    elif fault == "replaced":
        path.write_bytes(path.read_bytes() + b"0")
    elif fault == "folder":
        path.unlink()
        path.mkdir()
    else:
        if fault == "damaged" and not chunk:
            pytest.skip("plain bytes carry no checksum")
        data = bytearray(path.read_bytes())
        if fault == "cut":
            data = data[: len(data) - images.nbytes // 2]
        else:
            at, count = found.pieces[5]
            data[at : at + count] = bytes(count)
        path.write_bytes(data)
        found = Rows(path, found.shape, stamp_of(path), found.offset, found.piece, found.pieces)
    with pytest.raises(ReadError, match=told) as caught:
        found.read(np.arange(23))
    assert str(path) in str(caught.value) and str(caught.value).count("\n") == 0
    assert caught.value.exit_code == 1
