"""Filters of one's own: NumPy files, banks, keys, and what is none of these."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest

import mkfa
from mkfa.banks.filter_array import read_filters
from mkfa.errors import BankError

FILTERS = np.random.default_rng(0).standard_normal((6, 3, 5))


@pytest.mark.parametrize("shape", [(6, 3, 5), (6, 1, 3, 5)])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f8", ">f4", "<f2"])
def test_arrays_of_every_shape_order_and_type(tmp_path, shape, order, dtype):
    array = np.asarray(FILTERS.reshape(shape), dtype, order=order)
    np.save(tmp_path / "mine.npy", array)
    bank = read_filters(tmp_path / "mine.npy")
    assert bank.name == "mine"
    np.testing.assert_array_equal(bank.of_layer(0).weight, array.reshape(6, 3, 5).astype(np.float32))


def test_one_filter_and_several_sizes(tmp_path):
    np.save(tmp_path / "one.npy", FILTERS[0])
    assert read_filters(tmp_path / "one.npy").of_layer(0).weight.shape == (1, 3, 5)
    np.savez_compressed(tmp_path / "two.npz", a=FILTERS, b=np.ones((2, 7, 7)), names=np.array(["x", "y"]), n=3)
    assert {size: len(group) for size, group in read_filters(tmp_path / "two.npz").groups.items()} == {
        (3, 5): 6,
        (7, 7): 2,
    }


def test_banks_and_keys(tmp_path):
    keys = mkfa.find_keys(["ppocrv4_det"], kernel_size="3x3", keys=4, most=6, candidates=8, sample=100)
    keys.save(tmp_path / "keys.h5")
    np.testing.assert_array_equal(
        read_filters(tmp_path / "keys.h5").of_kind("3x3").weight, keys.clusters.prototype.reshape(-1, 3, 3)
    )
    bank = mkfa.load_bank("ppocrv4_det")
    mkfa.write_bank(bank, tmp_path / "bank.h5")
    assert read_filters(tmp_path / "bank.h5").groups.keys() == bank.groups.keys()


def zipped(path, members):
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("none.npy", lambda p: None, "does not exist"),
        ("x.txt", lambda p: p.write_text("1"), "has an unknown ending"),
        ("x.npy", lambda p: p.write_bytes(b"no array"), "is damaged or not a NumPy array"),
        ("x.npy", lambda p: np.save(p, np.array([{}, 1], object)), "has Python objects, which are not read"),
        ("x.npy", lambda p: np.save(p, np.zeros((0, 3, 3))), "has no filters"),
        ("x.npy", lambda p: np.save(p, np.zeros(9)), r"has no filters \(float64 \(9,\)\)"),
        ("x.npy", lambda p: np.save(p, np.zeros((4, 2, 3, 3))), "has no filters"),
        ("x.npy", lambda p: np.save(p, np.array(["a"])), "has no filters"),
        ("x.npy", lambda p: np.save(p, np.where(np.arange(6)[:, None, None] == 2, 0, FILTERS)), "number 2 of 3x5"),
        ("x.npy", lambda p: np.save(p, np.full((2, 3, 3), np.nan)), "has filters that are not finite"),
        ("x.npz", lambda p: p.write_bytes(b"PK\x03\x04 broken"), "is damaged or not a .npz file"),
        ("x.npz", lambda p: np.savez(p, a=FILTERS, b=FILTERS), "has several arrays of 3x5 filters"),
        ("x.npz", lambda p: zipped(p, {"a.npy": b"\x93NUMPY\x01\x00"}), "is damaged or not a NumPy array"),
        ("x.npz", lambda p: zipped(p, {"readme": b""}), r"has no filters \(no array\)"),
        ("x.h5", lambda p: p.write_bytes(b"text"), "is not an HDF5 file"),
    ],
)
def test_what_is_no_filters_gets_a_sentence(tmp_path, name, make, message):
    make(tmp_path / name)
    with pytest.raises(BankError, match=message):
        read_filters(tmp_path / name)


def test_a_header_that_claims_more_than_there_is_reads_nothing(tmp_path):
    np.save(tmp_path / "x.npy", FILTERS)
    data = (tmp_path / "x.npy").read_bytes().replace(b"(6, 3, 5)", b"(9999999999999, 3, 5)"[:21])
    start, rest = data.split(b"{", 1)
    header, body = rest.split(b"\n", 1)
    header = (b"{" + header).rstrip().ljust(128 - len(start) - 1) + b"\n"
    (tmp_path / "x.npy").write_bytes(start + header[: 128 - len(start) - 1] + b"\n" + body)
    with pytest.raises(BankError, match="is damaged"):
        read_filters(tmp_path / "x.npy")
