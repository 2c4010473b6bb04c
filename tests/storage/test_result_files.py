"""Bank files: what is written is read back, and what cannot be read says why in one sentence."""

from __future__ import annotations

import os
from dataclasses import replace
from types import MappingProxyType

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mkfa.banks.bank import Layer, Provenance, make_bank
from mkfa.banks.bank_file import Analysis, read_analyses, read_bank, write_analysis, write_bank
from mkfa.errors import BankError
from mkfa.storage.result_files import read_arrays, write_arrays


def assert_same(a, b):
    assert a.name == b.name
    assert a.layers == b.layers
    assert dict(a.provenance.skipped) == dict(b.provenance.skipped)
    assert replace(a.provenance, skipped={}) == replace(b.provenance, skipped={})
    assert set(a.groups) == set(b.groups)
    for size in a.groups:
        for key in ("weight", "layer", "channel", "bias"):
            left, right = getattr(a.groups[size], key), getattr(b.groups[size], key)
            assert (left is None) == (right is None)
            if left is not None:
                assert left.dtype == right.dtype
                assert np.array_equal(left, right, equal_nan=True)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 9), st.sampled_from([(3, 3), (1, 11), (5, 5)])), min_size=1, max_size=6),
    st.text(max_size=20).filter(lambda s: "\0" not in s and s.isprintable()),
    st.integers(0, 2**31),
)
def test_round_trip(tmp_path_factory, sizes, text, seed):
    rng = np.random.default_rng(seed)
    layers = []
    for i, (n, (kh, kw)) in enumerate(sizes):
        weight = rng.standard_normal((n, kh, kw)).astype(np.float32)
        weight[0, 0, 0] = rng.choice([0, np.nan, np.inf, 1e-38])
        layer = Layer(0, f"{text}.{i}", i - 1, 0.0, n, kh, kw, (2, 1), (1, -1), 2, dtype="bfloat16")
        layer = replace(layer, bn_folded=bool(i % 2))
        layers.append((layer, weight, weight[:, 0, 0] if i % 3 else None))
    provenance = Provenance(
        text,
        "ab",
        "cd",
        text,
        "imagenet",
        "t",
        "l",
        "graph",
        "0",
        "now",
        MappingProxyType({"1x1 depthwise": 3}),
        ("a note",),
    )
    bank = make_bank(text, layers, provenance)
    path = tmp_path_factory.mktemp("store") / "b.h5"
    assert_same(read_bank(write_bank(bank, path)), bank)


def test_the_file_is_plain_hdf5(tmp_path, bank_maker):
    bank = bank_maker()
    write_bank(bank, tmp_path / "b.h5")
    with h5py.File(tmp_path / "b.h5") as f:
        assert f.attrs["format"].decode() == "mkfa.filterbank"
        assert f.attrs["format_version"] == 1
        assert f["filters/3x3/weight"].shape == (12, 3, 3)
        assert f["filters/3x3/weight"].chunks is None  # contiguous: a million filters are one read
        assert f["filters/5x5/layer"].dtype == np.int32
        assert f["layers"][1]["name"].decode() == "blocks.1.conv.weight"
        assert f["layers"].dtype.names[:4] == ("index", "name", "stage", "depth")


def test_the_same_bank_gives_the_same_bytes(tmp_path, bank_maker):
    write_bank(bank_maker(), tmp_path / "a.h5")
    write_bank(bank_maker(), tmp_path / "b.h5")
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_an_analysis_is_stored_replaced_and_read(tmp_path, bank_maker):
    path = write_bank(bank_maker(), tmp_path / "b.h5")
    for seed in (0, 1):
        arrays = {"5x5/r2": np.arange(12, dtype=np.float32) + seed, "label": np.array(["a", "ü"])}
        write_analysis(path, Analysis("assign", arrays, {"seed": seed, "basis": "all"}))
    write_analysis(path, Analysis("other", {"x": np.zeros(2)}, {}))
    found = read_analyses(path)
    assert set(found) == {"assign", "other"}
    assert found["assign"].parameters == {"seed": 1, "basis": "all"}
    assert np.array_equal(found["assign"].arrays["5x5/r2"], np.arange(12) + 1)
    assert found["assign"].arrays["label"].tolist() == ["a", "ü"]
    assert_same(read_bank(path), bank_maker())


def test_result_arrays_round_trip_and_refuse_another_kind(tmp_path):
    path = write_arrays(tmp_path / "r.h5", kind="comparison", arrays={"a/b": np.eye(2)}, attributes={"seed": 3})
    arrays, attributes = read_arrays(path, kind="comparison")
    assert np.array_equal(arrays["a/b"], np.eye(2))
    assert attributes == {"seed": 3}
    with pytest.raises(BankError, match=r"has format 'mkfa.comparison', not 'mkfa.atlas'"):
        read_arrays(path, kind="atlas")
    with pytest.raises(BankError, match=r"not 'mkfa.filterbank'"):
        read_bank(path)


@pytest.fixture
def bank_path(tmp_path, bank_maker):
    return write_bank(bank_maker(), tmp_path / "b.h5")


def rewrite(path, change):
    with h5py.File(path, "r+") as f:
        change(f)


def swap(f, name, data):
    del f[name]
    f[name] = data


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: f.attrs.__setitem__("format", "other"), "has format 'other'"),
        (lambda f: f.attrs.__delitem__("format"), "no format attribute"),
        (lambda f: f.attrs.__setitem__("format_version", 2), "version 2, this mkfa reads version 1; upgrade mkfa"),
        (lambda f: f.attrs.__setitem__("format_version", 0), "version 0"),
        (lambda f: f.__delitem__("layers"), "has no /layers"),
        (lambda f: f.__delitem__("filters"), "has no /filters"),
        (lambda f: f.__delitem__("filters/5x5"), "kernel sizes"),
        (lambda f: f.__delitem__("filters/5x5/layer"), "damaged"),
        (lambda f: f["filters"].create_group("nonsense"), "is not a kernel size"),
        (lambda f: swap(f, "filters/5x5/weight", np.zeros((11, 5, 5), "f4")), "11 weights"),
        (lambda f: swap(f, "filters/5x5/weight", np.zeros((12, 3, 3), "f4")), "shape"),
        (lambda f: swap(f, "filters/5x5/layer", np.zeros(12, "i4")), "differs from its channels"),
        (lambda f: swap(f, "filters/5x5/bias", np.zeros(3, "f4")), "biases"),
        (lambda f: swap(f, "layers", np.zeros(3)), "damaged"),
        (lambda f: swap(f, "filters/5x5/layer", h5py.ExternalLink("/etc/hostname", "/x")), "damaged|outside"),
        (lambda f: f.attrs.__setitem__("skipped", "{"), "damaged"),
    ],
)
def test_a_file_that_does_not_fit_together_is_refused_by_name(bank_path, change, words):
    rewrite(bank_path, change)
    with pytest.raises(BankError, match=words) as caught:
        read_bank(bank_path)
    assert str(bank_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_dataset_in_another_file_is_refused(tmp_path, bank_path):
    secret = tmp_path / "secret.bin"
    secret.write_bytes(b"x" * 48)

    def change(f):
        del f["filters/5x5/channel"]
        f.create_dataset("filters/5x5/channel", shape=(12,), dtype="i4", external=[(str(secret), 0, 48)])

    rewrite(bank_path, change)
    with pytest.raises(BankError, match="outside the file"):
        read_bank(bank_path)


@pytest.mark.parametrize("keep", [0, 1, 100, 1000, 4000])
def test_a_truncated_file_is_refused(bank_path, keep):
    data = bank_path.read_bytes()
    assert keep < len(data)
    bank_path.write_bytes(data[:keep])
    with pytest.raises(BankError, match=r"is empty|damaged|not an HDF5 file"):
        read_bank(bank_path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"<!DOCTYPE html><html>", "a web page, not a bank"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (b"PK\x03\x04 something", "not an HDF5 file"),
    ],
)
def test_what_is_no_hdf5_is_told(tmp_path, content, words):
    (tmp_path / "b.h5").write_bytes(content)
    with pytest.raises(BankError, match=words):
        read_bank(tmp_path / "b.h5")


def test_missing_dangling_folder_and_pipe(tmp_path):
    (tmp_path / "link.h5").symlink_to(tmp_path / "gone.h5")
    os.mkfifo(tmp_path / "pipe.h5")
    cases = (
        ("none.h5", "does not exist"),
        ("link.h5", "link to a missing file"),
        (".", "is a folder"),
        ("pipe.h5", "is not a regular file"),
    )
    for name, words in cases:
        with pytest.raises(BankError, match=words):
            read_bank(tmp_path / name)


def test_an_analysis_on_a_damaged_bank_changes_nothing(bank_path):
    data = bank_path.read_bytes()[:3000]
    bank_path.write_bytes(data)
    with pytest.raises(BankError, match="damaged or truncated"):
        write_analysis(bank_path, Analysis("x", {"a": np.zeros(1)}, {}))
    assert bank_path.read_bytes() == data


def test_flipped_bits_are_refused_or_change_nothing(bank_path, bank_maker, tmp_path):
    data = bytearray(bank_path.read_bytes())
    rng, refused = np.random.default_rng(0), 0
    for _ in range(300):
        copy = bytearray(data)
        for at in rng.integers(0, len(data), rng.integers(1, 4)):
            copy[at] ^= 1 << int(rng.integers(8))
        target = tmp_path / "flipped.h5"
        target.write_bytes(copy)
        try:
            bank = read_bank(target)
        except BankError as error:
            refused += 1
            assert "\n" not in str(error)
        else:
            assert_same(bank, bank_maker())
    assert 100 < refused < 300, "all or next to none refused: the flips do not fall on all parts of the file"


def places(path):
    """Where the data of each dataset lie in the file: name -> (first byte, bytes)."""
    found = {}
    with h5py.File(path) as f:
        f.visititems(
            lambda name, item: (
                found.update({name: (item.id.get_offset(), item.nbytes)}) if isinstance(item, h5py.Dataset) else None
            )
        )
    return found


def test_a_flipped_bit_in_any_data_is_noticed(bank_path):
    write_analysis(bank_path, Analysis("a", {"label": np.array(["delta", "ü"]), "r2": np.arange(5.0)}, {}))
    whole = bank_path.read_bytes()
    tables = places(bank_path)
    assert set(tables) == {
        "layers",
        "analysis/a/label",
        "analysis/a/r2",
        *(f"filters/{size}/{part}" for size in ("3x3", "5x5") for part in ("weight", "layer", "channel", "bias")),
    } - {"filters/3x3/bias"}
    rng = np.random.default_rng(0)
    for name, (start, length) in tables.items():
        reader = read_analyses if name.startswith("analysis") else read_bank
        for at in {0, length - 1, *rng.integers(0, length, 10).tolist()}:
            damaged = bytearray(whole)
            damaged[start + at] ^= 1 << int(rng.integers(8))
            bank_path.write_bytes(damaged)
            with pytest.raises(BankError) as caught:
                reader(bank_path)
            said = f"{bank_path}: is damaged: the values of /{name} differ from those that were written; harvest"
            assert str(caught.value).startswith(said), at
    bank_path.write_bytes(whole)
    assert len(read_bank(bank_path)) == 24


def test_a_bank_from_before_checksums_is_read(bank_path, bank_maker):
    def forget(f):
        f.visititems(lambda _, item: item.attrs.pop("checksum", None) and None)

    rewrite(bank_path, forget)
    with h5py.File(bank_path) as f:
        assert not dict(f["filters/3x3/weight"].attrs)
    assert_same(read_bank(bank_path), bank_maker())
    write_analysis(bank_path, Analysis("a", {"v": np.arange(3)}, {}))
    assert_same(read_bank(bank_path), bank_maker())


def test_a_source_whose_name_is_not_utf8_can_be_stored(bank_maker, tmp_path):
    bank = bank_maker(name="net\udcff")
    bank = replace(bank, provenance=replace(bank.provenance, source="net\udcff.pth"))
    found = read_bank(write_bank(bank, tmp_path / "b.h5"))
    assert (found.name, found.provenance.source) == ("net\\udcff", "net\\udcff.pth")
