"""What is wrong with a file that should be HDF5, in one sentence (layer 1)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from mkfa.errors import BankError, MkfaError, one_line


@contextlib.contextmanager
def as_bank_error(path: Path) -> Iterator[None]:
    """Turn what h5py raises on a damaged file into one sentence, a BankError."""
    try:
        yield
    except MkfaError:
        raise
    except (OSError, KeyError, RuntimeError, ValueError, TypeError, AttributeError, OverflowError, IndexError,
            MemoryError, NotImplementedError) as error:  # fmt: skip
        problem = f"is damaged or truncated ({one_line(str(error))[:120]})"
        raise BankError(path, problem, "harvest the network again or fetch the file again") from error


def looks_like(head: bytes) -> str:
    """Return what a file is instead, by its first bytes: " but a web page", or "" where that is not known."""
    text = head.lstrip()[:20].lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml")):
        return " but a web page"
    if head.startswith(b"version https://git-lfs"):
        return " but a Git LFS pointer"
    return ""
