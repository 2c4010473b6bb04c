"""Choose the reader of a file by its name and first bytes."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from pathlib import Path

from mkfa.errors import SourceError
from mkfa.readers.options import ReadOptions
from mkfa.readers.reading import FORMATS, Reading, read_head


def reader_for(path: Path) -> Callable[[Path, ReadOptions], Reading]:
    """Return the reader `(path, options) -> Reading` for a local file or folder.

    `options.architecture` is the timm architecture that the weights belong to; with "" a reader identifies it. Graph
    files give order, stride and dilation themselves and only record it.

    Raises
    ------
    SourceError
        Missing, unreadable, empty, not a regular file, a web page, an LFS pointer, or of an unknown format. Readers
        raise it for a file that is damaged, unsafe or does not have the layers of `architecture`.
    UnknownNameError
        Raised by readers: timm does not know `architecture`.
    MkfaError
        Raised by readers: the package that reads the format is not installed.
    """
    if path.is_dir():
        from mkfa.readers.tensors.shards import read_folder

        return read_folder
    head = read_head(path, 512)
    if path.suffix == ".json":
        from mkfa.readers.tensors.shards import read_index

        return read_index
    if looks_like_safetensors(head, path):
        from mkfa.readers.tensors.safetensors import read_safetensors

        return read_safetensors
    if head[4:8] == b"TFL3" or path.suffix == ".tflite":
        from mkfa.readers.graphs.tflite import read_tflite

        return read_tflite
    if path.suffix == ".onnx":
        from mkfa.readers.graphs.onnx import read_onnx

        return read_onnx
    if head[:4] == b"PK\x03\x04" or _looks_like_pickle(head, path):
        from mkfa.readers.tensors.pytorch import read_torch

        return read_torch
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        raise SourceError(path, "is an HDF5 file, not a checkpoint", "a bank is compared or assigned by its path")
    raise SourceError(path, "has an unknown format", f"give a {FORMATS} file")


def _looks_like_pickle(head: bytes, path: Path) -> bool:
    """True for a pickle, of protocol 0 and 1 only by its name too, and for a tar file of PyTorch's first year."""
    if head[:1] == b"\x80":
        return True
    named = path.suffix in (".pth", ".pt", ".ckpt", ".bin", ".tar", ".pkl", ".pickle")
    return named and (head[:1] in b"(]}cLI\x8a" or head[257:262] == b"ustar")


def looks_like_safetensors(head: bytes, path: Path) -> bool:
    """True for a name that ends in .safetensors, or a plausible header length followed by '{'."""
    if path.suffix == ".safetensors":
        return True
    if len(head) < 9 or head[8:9] != b"{":
        return False
    length = int(struct.unpack("<Q", head[:8])[0])
    return length < os.stat(path).st_size  # noqa: PTH116 (path was opened just before)
