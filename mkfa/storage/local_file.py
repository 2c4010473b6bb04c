"""Local files as bytes: opening, reading spans, digests, and what is no checkpoint at all."""

from __future__ import annotations

import hashlib
import os
from io import FileIO
from pathlib import Path

from mkfa.errors import SourceError
from mkfa.storage import files as filehead

FORMATS = "safetensors, PyTorch (.pth .pt .ckpt .bin), TorchScript, ONNX or TFLite"


def read_head(path: Path, size: int = 64) -> bytes:
    """Return the first bytes of a regular file, refusing what cannot be a checkpoint; raises as `reader_for`."""
    return filehead.read_head(path, size, error=SourceError, kind="a checkpoint", give=f"give a {FORMATS} file")


def open_file(path: Path) -> FileIO:
    """Open a file for reading, unbuffered; raises SourceError."""
    try:
        return path.open("rb", buffering=0)
    except OSError as error:
        problem = f"cannot be read ({error.strerror or error})"
        raise SourceError(path, problem, "check the path and its permissions") from error


def read_span(f: FileIO, first: int, last: int, *, thing: object) -> bytes:
    """Return the bytes from `first` up to `last`; raises SourceError when the file is shorter or cannot be read."""
    parts: list[bytes] = []
    at = first
    try:
        while at < last:
            part = os.pread(f.fileno(), last - at, at)
            if not part:
                raise SourceError(thing, f"ends at byte {at} where {last} were expected", "fetch the file again")
            parts.append(part)
            at += len(part)
    except OSError as error:
        raise SourceError(thing, f"cannot be read ({error.strerror or error})", "check the disk") from error
    return parts[0] if len(parts) == 1 else b"".join(parts)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal, in constant memory; raises SourceError."""
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(1 << 20))
    with open_file(path) as f:
        try:
            while n := f.readinto(buffer):
                digest.update(buffer[:n])
        except OSError as error:
            raise SourceError(path, f"cannot be read ({error.strerror or error})", "check the disk") from error
    return digest.hexdigest()
