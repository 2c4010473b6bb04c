"""Read files, and refuse those that are not what they should be."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from io import FileIO
from pathlib import Path

from mkfa.errors import MkfaError, SourceError


def readable(path: object) -> str:
    """Return a path or name as text that can be printed and stored: bytes that are not UTF-8 are written as \\xNN.

    Examples
    --------
    >>> readable(os.fsdecode(b"caf\\xe9.png"))
    'caf\\\\xe9.png'
    """
    text = str(path)
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # half a character in a name on Windows
        return text.encode("utf-8", "backslashreplace").decode("utf-8")


def read_head(
    path: Path, size: int = 64, *, error: type[MkfaError], kind: str, give: str, find: str = "check the path"
) -> bytes:
    """Return the first bytes of a regular file.

    Parameters
    ----------
    error : class of the error that is raised
    kind : what the file should be, "a checkpoint"
    give, find : remedies for a path that is not a file and for a path that does not exist

    Raises MkfaError: `error`: the file is missing, unreadable, empty, not a regular file, a web page or a Git LFS
    pointer.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait for a writer
            raise error(path, "is not a regular file", give)
        with path.open("rb") as f:
            head = f.read(size)
    except FileNotFoundError:
        raise error(path, "is a link to a missing file" if path.is_symlink() else "does not exist", find) from None
    except OSError as problem:
        raise error(path, f"cannot be read ({problem.strerror})", "check the file's permissions") from problem
    except ValueError:
        raise error(repr(str(path)), "has a zero byte, which no file name has", find) from None
    if not head:
        raise error(path, "is empty", "fetch the file again")
    if head.startswith(b"version https://git-lfs"):
        raise error(path, "is a Git LFS pointer, not the file itself", "run 'git lfs pull' in its repository")
    if head.lstrip()[:14].lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        raise error(path, f"is a web page, not {kind}", "fetch the file itself, not the page about it")
    return head


def open_file(path: Path) -> FileIO:
    """Open a file for reading, unbuffered; raises SourceError."""
    try:
        return FileIO(_open_regular(path), "rb")
    except OSError as error:
        problem = f"cannot be read ({error.strerror or error})"
        raise SourceError(path, problem, "check the path and its permissions") from error


def _open_regular(path: Path) -> int:
    """Open a regular file and return its descriptor; raises OSError for any other, without waiting for a writer."""
    refused = OSError(errno.EINVAL, "it is not a regular file", str(path))
    try:
        handle = os.open(
            path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        )
    except ValueError:
        raise OSError(errno.EINVAL, "its name has a zero byte", str(path)) from None
    except OSError as error:
        raise refused if error.errno == errno.ENXIO else error from None  # a socket
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise refused
    return handle


def read_regular(path: Path, *, most_bytes: int = 1 << 28) -> bytes:
    """Return the content of a regular file; for a pipe, socket or device, whose opening could wait, it raises.

    Raises OSError: the file is missing, unreadable, not a regular file, longer than `most_bytes`, or its name is
    impossible; `strerror` says which.
    """
    with os.fdopen(_open_regular(path), "rb") as f:
        data = f.read(most_bytes + 1)
    if len(data) > most_bytes:
        raise OSError(errno.EFBIG, f"it has more than {most_bytes >> 20} MiB", str(path))
    return data


def read_span(f: FileIO, first: int, last: int, *, thing: object) -> bytes:
    """Return the bytes from `first` up to `last`; raises SourceError if the file is shorter or cannot be read."""
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
