"""A record of a PyTorch file that differs from its checksum is found; files without checksums are read."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest
import torch

from mkfa.errors import SourceError
from mkfa.readers.harvesting import harvest
from mkfa.storage.files import open_file
from mkfa.storage.zip_records import check_span, damaged_record


@pytest.fixture(params=[True, False], ids=["crc", "no crc"])
def saved(request, tmp_path):
    torch.manual_seed(0)
    torch.serialization.set_crc32_options(request.param)
    try:
        weights = {"blocks.0.conv_dw.weight": torch.randn(16, 1, 3, 3), "blocks.0.pw.weight": torch.randn(8, 16, 1, 1)}
        torch.save(weights, tmp_path / "net.pt")
    finally:
        torch.serialization.set_crc32_options(True)
    return tmp_path / "net.pt", request.param


def change(path, record, offset):
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo(f"net/{record}")
    data = bytearray(path.read_bytes())
    name, extra = data[info.header_offset + 26], int.from_bytes(data[info.header_offset + 28 :][:2], "little")
    data[info.header_offset + 30 + name + extra + offset] ^= 2
    path.write_bytes(data)


def test_a_changed_record_is_named(saved):
    path, checked = saved
    with path.open("rb") as file:
        assert damaged_record(file, most_bytes=path.stat().st_size) == ""
    sound = harvest(str(path))
    change(path, "data/0", 5)
    with path.open("rb") as file:
        assert damaged_record(file, most_bytes=path.stat().st_size) == ("net/data/0" if checked else "")
    if checked:
        with pytest.raises(SourceError, match=r"net\.pt: is damaged: the bytes of its record 'data/0' differ"):
            harvest(str(path))
    else:
        assert not np.array_equal(harvest(str(path)).groups[3, 3].weight, sound.groups[3, 3].weight)


def test_a_change_in_tensors_that_are_not_harvested_does_no_harm(saved):
    path, _ = saved
    sound = harvest(str(path))
    change(path, "data/1", 5)
    assert np.array_equal(harvest(str(path)).groups[3, 3].weight, sound.groups[3, 3].weight)


def test_records_larger_than_the_file_are_refused_unread(tmp_path):
    with zipfile.ZipFile(tmp_path / "z", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", bytes(1 << 20))
    with (tmp_path / "z").open("rb") as file, pytest.raises(zipfile.BadZipFile):
        damaged_record(file, most_bytes=1 << 16)


def test_a_span_is_compared(tmp_path):
    (tmp_path / "f").write_bytes(b"xxabcxx")
    with open_file(tmp_path / "f") as f:
        check_span(f, (2, 5, 0x352441C2), name="r", thing="f")  # CRC-32 of "abc", from the definition of zip
        check_span(f, (2, 5, 0), name="r", thing="f")
        with pytest.raises(SourceError, match="f: is damaged: the bytes of its record 'r'"):
            check_span(f, (2, 6, 0x352441C2), name="r", thing="f")
