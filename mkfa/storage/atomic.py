"""Write a file so that a reader sees either the old file or the whole new one."""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import re
import secrets
from pathlib import Path

from mkfa.errors import MkfaError, OutputExistsError, WorkError

_LONGEST = 220
"""Longest file name, bytes: file systems allow 255, and the temporary file's name is longer."""


def atomic_write(path: Path, data: bytes | memoryview, *, overwrite: bool = True) -> None:
    """Write `data` to `path` so that a reader sees either the old file or the whole new one.

    Raises MkfaError: the folder is missing or read-only, `path` is a folder, or `path` exists and `overwrite` is False.
    Raises WorkError: the disk is full or failed; no temporary file is left.
    """
    check_target(path, overwrite=overwrite)
    _remove_stale(path)
    temporary = _temporary(path)
    try:
        try:
            with temporary.open("xb") as f:
                f.write(data)
                f.flush()
                os.fsync(f.fileno())
            if overwrite:
                temporary.replace(path)
            else:  # link refuses an existing target, so only one of two writers succeeds
                os.link(temporary, path)
                temporary.unlink()
            _sync_folder(path.parent)
        except FileExistsError:
            raise _exists(path) from None
        except OSError as error:
            raise _write_error(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def check_target(path: Path, *, overwrite: bool = False) -> None:
    """Refuse a path that cannot be written; raises as `atomic_write`."""
    if len(os.fsencode(path.name)) > _LONGEST:
        raise MkfaError(path.name, "is too long for a file name", "choose a shorter --out")
    if "\0" in str(path):
        raise MkfaError(repr(str(path)), "has a zero byte, which no file name may have", "choose another --out")
    if path.is_dir():
        raise MkfaError(path, "is a folder, but should be a file", "name a file in it")
    if path.exists() and not path.is_file():
        raise MkfaError(path, "is a pipe, socket or device and was not replaced", "choose another --out")
    if not path.parent.is_dir():
        raise MkfaError(path, f"the folder {path.parent} does not exist", "create it or choose another --out")
    if not overwrite and (path.exists() or path.is_symlink()):
        raise _exists(path)
    if not os.access(path.parent, os.W_OK):
        raise MkfaError(path, f"the folder {path.parent} may not be written to", "choose another --out")
    trial = _temporary(path)  # permissions do not tell of file systems that take no files, such as /proc
    try:
        trial.touch(exist_ok=False)
        trial.unlink()
    except OSError as error:
        raise _write_error(path, error) from error


def _temporary(path: Path) -> Path:
    return path.with_name(f".{path.name}.tmp-{os.getpid()}-{secrets.token_hex(4)}")


def _exists(path: Path) -> MkfaError:
    remedy = "choose another name or pass --force (in Python: overwrite=True)"
    return OutputExistsError(path, "exists already and was not changed", remedy)


def _write_error(path: Path, error: OSError) -> MkfaError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return WorkError(path, "the disk is full and nothing was written", "free some space or choose another --out")
    problem = f"could not be written ({error.strerror or error})"
    return WorkError(path, problem, "check the disk or choose another --out")


def _sync_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):  # some file systems cannot sync a folder; the rename is atomic anyway
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _remove_stale(path: Path) -> None:
    """Remove temporary files of `path` that a killed process left."""
    pattern = re.compile(rf"\.{re.escape(path.name)}\.tmp-(\d+)-[0-9a-f]{{8}}")
    for candidate in path.parent.glob(f".{glob.escape(path.name)}.tmp-*"):
        match = pattern.fullmatch(candidate.name)
        if match and not _alive(int(match[1])):
            with contextlib.suppress(OSError):
                candidate.unlink()


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        pass
    return True
