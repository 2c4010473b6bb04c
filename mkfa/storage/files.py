"""The first bytes of a file, and what it is instead of what it should be (standard library only)."""

from __future__ import annotations

import stat
from pathlib import Path

from mkfa.errors import MkfaError


def read_head(
    path: Path, size: int = 64, *, error: type[MkfaError], kind: str, give: str, find: str = "check the path"
) -> bytes:
    """Return the first bytes of a regular file.

    Parameters
    ----------
    error : what is raised
    kind : what the file should be, "a checkpoint"
    give, find : what to do where the path is no file, and where there is nothing

    Raises
    ------
    MkfaError
        `error`: missing, unreadable, empty, not a regular file, a web page or a Git LFS pointer.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait for a writer
            raise error(path, "is not a regular file", give)
        with path.open("rb") as f:
            head = f.read(size)
    except FileNotFoundError:
        raise error(path, "is a link to a file that is gone" if path.is_symlink() else "does not exist", find) from None
    except OSError as problem:
        raise error(path, f"cannot be read ({problem.strerror})", "check the file's permissions") from problem
    if not head:
        raise error(path, "is empty", "fetch the file again")
    if head.startswith(b"version https://git-lfs"):
        raise error(path, "is a Git LFS pointer, not the file itself", "run 'git lfs pull' in its repository")
    if head.lstrip()[:14].lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        raise error(path, f"is a web page, not {kind}", "fetch the file itself, not the page about it")
    return head
