"""Formats by first bytes, and everything that is no checkpoint."""

import os
import struct
from pathlib import Path

import pytest

from mkfa.errors import MkfaError, SourceError
from mkfa.readers.formats import reader_for
from mkfa.readers.harvesting import harvest


def named(path: Path) -> str:
    return reader_for(path).__name__


@pytest.mark.parametrize(
    ("name", "data", "reader"),
    [
        ("x.bin", struct.pack("<Q", 2) + b"{}", "read_safetensors"),
        ("x.safetensors", b"anything", "read_safetensors"),
        ("x.safetensors", b"PK\x03\x04....", "read_torch"),
        ("x.safetensors", b"\x80\x02\0\0\0\0\0\0{", "read_safetensors"),
        ("x.pth", b"PK\x03\x04....", "read_torch"),
        ("x", b"\x80\x02\x8a\x0al\xfc", "read_torch"),
        ("x.bin", struct.pack("<I", 28) + b"TFL3....", "read_tflite"),
        ("x.onnx", b"\x08\x07\x12", "read_onnx"),
        ("x.safetensors.index.json", b"{}", "read_index"),
    ],
)
def test_the_first_bytes_choose_the_reader(tmp_path: Path, name: str, data: bytes, reader: str) -> None:
    (tmp_path / name).write_bytes(data)
    assert named(tmp_path / name) == reader


def test_a_folder_has_its_own_reader(tmp_path: Path) -> None:
    assert named(tmp_path) == "read_folder"


@pytest.mark.parametrize("name", ["x.safetensors", "x.pth", "x.onnx", "x.tflite", "x.json"])
@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "Git LFS pointer.*git lfs pull"),
        (b"<!DOCTYPE html><html>", "is a web page"),
        (b"\n  <html lang=en>", "is a web page"),
        (b'<?xml version="1.0"?><Error>', "is a web page"),
    ],
)
def test_what_is_no_checkpoint_is_said_in_one_sentence(tmp_path: Path, name: str, data: bytes, problem: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(SourceError, match=problem) as error:
        harvest(str(tmp_path / name))
    assert str(error.value).startswith(str(tmp_path / name)) and "\n" not in str(error.value)
    assert error.value.exit_code == 2


def test_other_bytes_are_of_an_unknown_format(tmp_path: Path) -> None:
    (tmp_path / "x.pth").write_bytes(b"GIF89a" + bytes(100))
    with pytest.raises(SourceError, match=r"unknown format; give a safetensors, PyTorch"):
        harvest(str(tmp_path / "x.pth"))
    (tmp_path / "x.pth").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    with pytest.raises(MkfaError):
        harvest(str(tmp_path / "x.pth"))


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("flax_model.msgpack", b"\x81\xa6params\x80", "is by its name a Flax file, which is not read; pass what flax"),
        ("x.npz", b"PK\x03\x04", r"a NumPy archive, which is not read; pass dict\(numpy.load"),
        ("x.xml", b'<?xml version="1.0"?><net name="m">', "an OpenVINO model, which is not read; export"),
        ("x.gguf", b"GGUF\x03", "a GGUF file, which is not read"),
        ("inference.pdiparams", bytes(64), "give the .pdparams"),
    ],
)
def test_formats_that_are_not_read_are_named(tmp_path: Path, name: str, data: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(SourceError, match=words):
        harvest(str(tmp_path / name))


def test_missing_files_dangling_links_and_pipes(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="does not exist"):
        harvest(str(tmp_path / "x.pth"))
    (tmp_path / "link.pth").symlink_to(tmp_path / "gone")
    with pytest.raises(SourceError, match="a link to a missing file"):
        harvest(str(tmp_path / "link.pth"))
    os.mkfifo(tmp_path / "pipe.pth")
    with pytest.raises(SourceError, match="not a regular file"):
        harvest(str(tmp_path / "pipe.pth"))
    (tmp_path / "loop.pth").symlink_to(tmp_path / "loop.pth")
    with pytest.raises(SourceError):
        harvest(str(tmp_path / "loop.pth"))


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.pth"
    path.write_bytes(b"PK\x03\x04")
    opened = Path.open

    def refuse(self: Path, *args: object, **options: object) -> object:
        if self == path:
            raise PermissionError(13, "Permission denied")
        return opened(self, *args, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(SourceError, match=r"cannot be read \(Permission denied\); check the file's permissions"):
        harvest(str(path))


def test_a_folder_that_may_not_be_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path) -> object:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(SourceError, match=r"cannot be read \(Permission denied\)"):
        harvest(str(tmp_path))


@pytest.mark.parametrize("packed", ["gzip", "bz2", "lzma"])
def test_packed_files_are_called_that(tmp_path, packed):
    import importlib

    path = tmp_path / "net.pth.packed"
    path.write_bytes(importlib.import_module(packed).compress(b"content"))
    name = {"gzip": "gzip", "bz2": "bzip2", "lzma": "xz"}[packed]
    with pytest.raises(SourceError, match=f"is packed by {name}; unpack it"):
        harvest(path)


def test_zstandard_is_no_damaged_pickle(tmp_path):
    (tmp_path / "net.pth").write_bytes(b"\x28\xb5\x2f\xfd" + bytes(60))
    with pytest.raises(SourceError, match="is packed by zstd; unpack it"):
        harvest(str(tmp_path / "net.pth"))
