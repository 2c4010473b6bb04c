"""Write a file so that a reader sees the old one or the whole new one (standard library only)."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
from pathlib import Path

from mkfa.errors import MkfaError, WorkError

_LONGEST = 220
"""Bytes in a file name; file systems take 255, and the temporary file's name is longer by the rest."""


def atomic_write(path: Path, data: bytes | memoryview, *, overwrite: bool = True) -> None:
    """Write `data` to `path` so that a reader sees the old file or the whole new one.

    Raises
    ------
    MkfaError
        The folder is missing or may not be written to, `path` is a folder, or exists and `overwrite` is False.
    WorkError
        The disk is full or failed; nothing is left behind.
    """
    check_target(path, overwrite=overwrite)
    _remove_stale(path)
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}-{secrets.token_hex(4)}")
    try:
        try:
            with temporary.open("xb") as f:
                f.write(data)
                f.flush()
                os.fsync(f.fileno())
            if overwrite:
                temporary.replace(path)
            else:  # link refuses an existing target, so that two writers cannot both win
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
    """Refuse a path that cannot be written, before any work is done for it; raises as `atomic_write`."""
    if len(os.fsencode(path.name)) > _LONGEST:
        raise MkfaError(path.name, "is too long for a file name", "choose a shorter --out")
    if path.is_dir():
        raise MkfaError(path, "is a folder, where a file is to be written", "name a file in it")
    if not path.parent.is_dir():
        raise MkfaError(path, f"the folder {path.parent} does not exist", "create it or choose another --out")
    if not overwrite and (path.exists() or path.is_symlink()):
        raise _exists(path)
    if not os.access(path.parent, os.W_OK):
        raise MkfaError(path, f"the folder {path.parent} may not be written to", "choose another --out")


def _exists(path: Path) -> MkfaError:
    return MkfaError(path, "exists already and was left as it is", "choose another name or pass --force")


def _write_error(path: Path, error: OSError) -> MkfaError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return WorkError(path, "the disk is full and nothing was written", "free some space or choose another --out")
    problem = f"could not be written ({error.strerror or error})"
    return WorkError(path, problem, "check the disk or choose another --out")


def _sync_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):  # some file systems cannot sync a folder; the rename is atomic all the same
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _remove_stale(path: Path) -> None:
    """Remove temporary files for `path` that a killed process left behind."""
    pattern = re.compile(rf"\.{re.escape(path.name)}\.tmp-(\d+)-[0-9a-f]{{8}}")
    for candidate in path.parent.glob(f".{_glob_escape(path.name)}.tmp-*"):
        match = pattern.fullmatch(candidate.name)
        if match and not _alive(int(match[1])):
            with contextlib.suppress(OSError):
                candidate.unlink()


def _glob_escape(name: str) -> str:
    return re.sub(r"([*?[])", r"[\1]", name)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True
