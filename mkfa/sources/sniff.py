"""Tell a file's format by its first bytes and choose its reader (layer 3)."""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Callable
from pathlib import Path

from mkfa.errors import SourceError
from mkfa.sources.found import Reading

FORMATS = "safetensors, PyTorch (.pth .pt .ckpt .bin), TorchScript, ONNX or TFLite"


def reader_for(path: Path) -> Callable[[Path, str], Reading]:
    """Return the reader `(path, architecture) -> Reading` for a local file or folder.

    Raises
    ------
    SourceError
        Missing, unreadable, empty, not a regular file, a web page, an LFS pointer, or of an unknown format.
    """
    if path.is_dir():
        from mkfa.sources.shards import read_folder

        return read_folder
    head = read_head(path)
    if path.suffix == ".json":
        from mkfa.sources.shards import read_index

        return read_index
    if looks_like_safetensors(head, path):
        from mkfa.sources.safetensors import read_safetensors

        return read_safetensors
    if head[4:8] == b"TFL3" or path.suffix == ".tflite":
        from mkfa.sources.tflite import read_tflite

        return read_tflite
    if path.suffix == ".onnx":
        from mkfa.sources.onnx import read_onnx

        return read_onnx
    if head[:4] == b"PK\x03\x04" or head[:1] == b"\x80":
        from mkfa.sources.torchfile import read_torch

        return read_torch
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        raise SourceError(path, "is an HDF5 file, not a checkpoint", "use a bank by its path in compare, assign or show")
    raise SourceError(path, "is of a format that is not known", f"give a {FORMATS} file")


def read_head(path: Path, size: int = 64) -> bytes:
    """Return the first bytes of a regular file, refusing what cannot be a checkpoint; raises as `reader_for`."""
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            raise SourceError(path, "is not a regular file", f"give a {FORMATS} file")
        with path.open("rb") as f:
            head = f.read(size)
    except FileNotFoundError:
        problem = "is a link to a file that is gone" if path.is_symlink() else "does not exist"
        raise SourceError(path, problem, "check the path") from None
    except OSError as error:
        raise SourceError(path, f"cannot be read ({error.strerror})", "check the file's permissions") from error
    if not head:
        raise SourceError(path, "is empty", "fetch the file again")
    if head.startswith(b"version https://git-lfs"):
        raise SourceError(path, "is a Git LFS pointer, not the file itself", "run 'git lfs pull' in its repository")
    if head.lstrip()[:14].lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        raise SourceError(path, "is a web page, not a checkpoint", "fetch the file itself, not the page about it")
    return head


def looks_like_safetensors(head: bytes, path: Path) -> bool:
    """True for a name ending in .safetensors, or 8 bytes of a header length that fits, then '{'."""
    if path.suffix == ".safetensors":
        return True
    if len(head) < 9 or head[8:9] != b"{":
        return False
    length = int(struct.unpack("<Q", head[:8])[0])
    return length < os.stat(path).st_size  # noqa: PTH116 (path was opened just before)
