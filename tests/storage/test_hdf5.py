"""Files that another program has open: in use, not damaged."""

from __future__ import annotations

import errno
import struct
import tracemalloc
from dataclasses import replace

import h5py
import numpy as np
import pytest

from mkfa.banks.bank_file import Analysis, read_analyses, read_bank, write_analysis, write_bank
from mkfa.errors import BankError, InUseError, MkfaError
from mkfa.images.domain_file import make_domain, read_domain, write_domain
from mkfa.storage.result_files import read_arrays, write_arrays


@pytest.fixture
def bank_file(bank_maker, tmp_path):
    return write_bank(bank_maker(), tmp_path / "bank.h5")


def test_a_bank_open_for_writing_elsewhere_is_in_use_and_not_damaged(bank_file, opened_elsewhere):
    before = bank_file.read_bytes()
    with opened_elsewhere(bank_file):
        opened = bank_file.read_bytes()  # HDF5 marks the file
        for action in (read_bank, read_analyses, lambda path: write_analysis(path, Analysis("a", {}, {}))):
            with pytest.raises(InUseError, match=r"is in use: another program.*close it there") as error:
                action(bank_file)
            assert "damaged" not in str(error.value) and "harvest" not in str(error.value)
            assert str(error.value).startswith(str(bank_file))
        assert bank_file.read_bytes() == opened != before


def test_other_readers_do_not_disturb(bank_file, bank_maker, opened_elsewhere):
    with opened_elsewhere(bank_file, "r"):
        assert read_bank(bank_file) == bank_maker()


@pytest.mark.parametrize("options", [{}, {"libver": "latest"}])
def test_a_bank_that_a_killed_program_had_open_is_read_and_mended_by_the_next_write(
    bank_file, bank_maker, options, opened_elsewhere
):
    with opened_elsewhere(bank_file, **options):
        pass
    with pytest.raises(OSError, match="already open for write"):
        h5py.File(bank_file, "r")
    assert read_bank(bank_file) == bank_maker()
    write_analysis(bank_file, Analysis("a", {"x": np.arange(3)}, {}))
    with h5py.File(bank_file, "r") as f:
        assert list(f["analysis"]) == ["a"]


def test_a_marked_file_whose_tables_are_half_written_is_in_use(bank_file, opened_elsewhere):
    with opened_elsewhere(bank_file):
        pass
    data = bytearray(bank_file.read_bytes())
    at = data.index(b"OHDR")
    data[at + 8 : at + 40] = bytes(32)
    bank_file.write_bytes(data)
    with pytest.raises(InUseError, match=r"marked as open for writing.*incomplete; close it there"):
        read_bank(bank_file)


def test_results_and_domains_in_use_are_said_to_be(tmp_path, opened_elsewhere):
    result = write_arrays(tmp_path / "r.h5", kind="atlas", arrays={"x": np.arange(3)}, attributes={})
    with opened_elsewhere(result), pytest.raises(InUseError, match="is in use"):
        read_arrays(result, kind="atlas")
    side = (np.zeros((2, 8, 8, 1), np.uint8), np.array([0, 1]))
    domain = write_domain(make_domain("d", ["a", "b"], train=side, test=side), tmp_path / "d.h5", facts={})
    with opened_elsewhere(domain), pytest.raises(MkfaError, match=r"is in use.*close it there") as error:
        read_domain(domain)
    assert "pack the data set again" not in str(error.value)
    assert len(read_domain(domain).x_train) == 2  # the other program was killed


def test_a_file_system_without_locks_names_the_setting(bank_file, monkeypatch):
    def refuse(*_args, **_options):
        raise OSError(errno.ENOLCK, "Unable to open file (unable to lock file, errno = 37, error message = 'No locks')")

    monkeypatch.setattr(h5py, "File", refuse)
    with pytest.raises(BankError, match=r"cannot be locked.*No locks available.*HDF5_USE_FILE_LOCKING=FALSE"):
        read_bank(bank_file)


def _rebuild(path, change):
    """Change a bank file as another program would."""
    with h5py.File(path, "r+", libver=("v110", "v110")) as f:
        change(f)


def _elsewhere(path, place, link):
    def change(f):
        with h5py.File(path.with_name("other.h5"), "w") as other:
            f.copy(place, other, "x")
        del f[place]
        f[place] = link

    return change


def _again(place, **options):
    def change(f):
        values = f[place][()]
        del f[place]
        f.create_dataset(place, data=values, **options)

    return change


def _virtual(f):
    values = f["filters/5x5/weight"]
    layout = h5py.VirtualLayout(values.shape, values.dtype)
    layout[:] = h5py.VirtualSource(f.filename, "filters/5x5/weight", shape=values.shape)
    f.create_virtual_dataset("filters/5x5/more", layout)


def _external(f):
    f.create_dataset("analysis/a/y", shape=(4,), dtype="u1", external=[("/etc/hostname", 0, 4)])


def _two_in_one_place(f):
    """Two datasets over the same bytes of the file."""
    f.create_dataset("analysis/a/one", data=np.full(64, 7, "<i8"))
    f.create_dataset("analysis/a/two", data=np.full(64, 9, "<i8"))


SOFT, FAR = h5py.SoftLink("/filters/3x3"), h5py.ExternalLink("other.h5", "/x")
PLACES = ("filters", "filters/5x5", "filters/5x5/weight", "filters/5x5/layer", "layers", "analysis", "analysis/a")


@pytest.mark.parametrize("link", [SOFT, FAR], ids=["soft", "external"])
@pytest.mark.parametrize("place", [*PLACES, "analysis/a/x"])
def test_links_are_not_followed(bank_file, place, link):
    write_analysis(bank_file, Analysis("a", {"x": np.arange(3)}, {}))
    _rebuild(bank_file, _elsewhere(bank_file, place, link))
    before = bank_file.read_bytes()
    write = Analysis("b", {"x": np.arange(3)}, {})
    for action in (read_bank, read_analyses, lambda path: write_analysis(path, write)):
        with pytest.raises(BankError, match=rf"b.*\.h5: keeps /{place} behind a link or outside the file"):
            action(bank_file)
    assert bank_file.read_bytes() == before


@pytest.mark.parametrize(
    "change",
    [
        _virtual,
        _external,
        _again("filters/5x5/weight", chunks=True),
        _again("filters/5x5/weight", compression="gzip"),
        _again("analysis/a/x", chunks=True, fletcher32=True),
        lambda f: f["analysis/a"].create_dataset("huge", shape=(3 << 30,), dtype="u1", chunks=(1 << 20,)),
        lambda f: f["analysis/a"].create_dataset("huge", shape=(3 << 30,), dtype="u1"),
        lambda f: f["analysis/a"].create_dataset("text", data=["a", "b"], dtype=h5py.string_dtype()),
        lambda f: f["analysis/a"].create_dataset("wide", data=np.zeros(1, "S100000")),
        lambda f: f["analysis"].__setitem__("twice", f["analysis/a/x"]),
        lambda f: f["analysis"].__setitem__("round", f["/"]),
        lambda f: f["analysis"].__setitem__("type", np.dtype("i4")),
        lambda f: f["analysis/a"].create_dataset("y", shape=(64, 64, 64, 3), dtype="u1", compression="gzip"),
    ],
)
def test_data_that_mkfa_does_not_write_are_refused_before_they_are_read(bank_file, change):
    write_analysis(bank_file, Analysis("a", {"x": np.arange(3)}, {}))
    _rebuild(bank_file, change)
    assert bank_file.stat().st_size < 1 << 20
    before = tracemalloc.start() or tracemalloc.get_traced_memory()[0]
    for action in (read_bank, read_analyses):
        with pytest.raises(BankError, match=r"b.*\.h5: (has|claims) .*(name a file that mkfa wrote|fetch)"):
            action(bank_file)
    grown = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    assert grown < 20 << 20


def test_data_in_the_same_place_are_refused(bank_file):
    write_analysis(bank_file, Analysis("a", {}, {}))
    _rebuild(bank_file, _two_in_one_place)
    with h5py.File(bank_file) as f:
        one, two = (f[f"analysis/a/{name}"].id.get_offset() for name in ("one", "two"))
    old, new = (struct.pack("<Q", place) for place in (two, one))
    data = bank_file.read_bytes()
    assert data.count(old) == 1
    at = data.index(old)
    start = data.rindex(b"OHDR", 0, at)
    changed = bytearray(data[:at] + new + data[at + 8 :])
    flags = changed[start + 5]
    head = start + 6 + (16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0)
    width = 1 << (flags & 3)
    end = head + width + int.from_bytes(changed[head : head + width], "little")
    changed[end : end + 4] = struct.pack("<I", lookup3(bytes(changed[start:end])))
    bank_file.write_bytes(changed)
    with h5py.File(bank_file) as f:
        assert f["analysis/a/two"][0] == 7
    with pytest.raises(BankError, match="in the same place as another"):
        read_analyses(bank_file)


def lookup3(data):
    """Return Bob Jenkins' hash "lookup3" (hashlittle, initial value 0), the checksum of HDF5's tables."""

    def rot(x, k):
        return ((x << k) | (x >> (32 - k))) & 0xFFFFFFFF

    mask, length = 0xFFFFFFFF, len(data)
    a = b = c = (0xDEADBEEF + length) & mask
    while len(data) > 12:
        x, y, z = struct.unpack("<III", data[:12])
        a, b, c = (a + x) & mask, (b + y) & mask, (c + z) & mask
        for k in ((4, 6, 8), (16, 19, 4)):
            a = ((a - c) & mask) ^ rot(c, k[0])
            c = (c + b) & mask
            b = ((b - a) & mask) ^ rot(a, k[1])
            a = (a + c) & mask
            c = ((c - b) & mask) ^ rot(b, k[2])
            b = (b + a) & mask
        data = data[12:]
    if not data:
        return c
    x, y, z = struct.unpack("<III", data.ljust(12, b"\0"))
    a, b, c = (a + x) & mask, (b + y) & mask, (c + z) & mask
    for first, second, k in (
        ("c", "b", 14),
        ("a", "c", 11),
        ("b", "a", 25),
        ("c", "b", 16),
        ("a", "c", 4),
        ("b", "a", 14),
    ):
        values = {"a": a, "b": b, "c": c}
        values[first] = ((values[first] ^ values[second]) - rot(values[second], k)) & mask
        a, b, c = values["a"], values["b"], values["c"]
    return ((c ^ b) - rot(b, 24)) & mask


def test_a_name_of_a_megabyte_does_not_set_the_width_of_the_table(bank_maker, tmp_path):
    bank = bank_maker()
    layers = (replace(bank.layers[0], name="x" * (1 << 20)), *bank.layers[1:])
    with pytest.raises(BankError, match="a layer whose name has 1,048,576 bytes"):
        write_bank(replace(bank, layers=layers), tmp_path / "b.h5")
    assert not list(tmp_path.iterdir())
