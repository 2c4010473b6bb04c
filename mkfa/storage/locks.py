"""Locks between processes; the operating system releases them when the holder ends, even if it is killed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from mkfa.errors import WorkError

WAIT = 0.2
"""Seconds to wait for a lock, since `is_held` takes the lock for a moment in another process."""
_POLL = 0.005
_LOOK = 0.02
"""Seconds that `is_held` tries for."""


class LockHeldError(WorkError):
    """Another process holds the lock."""


@contextlib.contextmanager
def hold(path: Path, *, wait: float = WAIT) -> Iterator[None]:
    """Hold the lock file `path`, which is created if needed, while the body runs.

    The file stays afterwards: if it were removed, two other processes could lock two files of that name.

    Parameters
    ----------
    wait : float
        Seconds to wait for another process to release the lock.

    Raises
    ------
    LockHeldError
        Another process holds it for longer than `wait`.
    WorkError
        The file cannot be opened.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with hold(Path(folder, "lock")):
    ...         is_held(Path(folder, "lock"))
    ...     is_held(Path(folder, "lock"))
    True
    False
    """
    if not path.parent.is_dir():  # FileLock would create it
        raise WorkError(path, f"the folder {path.parent} does not exist", "create it or choose another --out")
    lock = FileLock(path)
    try:
        lock.acquire(timeout=wait, poll_interval=_POLL)
    except Timeout:
        raise LockHeldError(path, "is held by another process", "wait for it to end") from None
    except OSError as error:
        problem = f"cannot be opened ({error.strerror or error})"
        raise WorkError(path, problem, "choose another --out, or check the folder's permissions") from error
    try:
        yield
    finally:
        lock.release()


def is_held(path: Path) -> bool:
    """True while a process holds the lock file `path`; False if the file is missing or cannot be opened."""
    if not path.is_file():
        return False
    lock = FileLock(path)
    try:
        lock.acquire(timeout=_LOOK, poll_interval=_POLL)
    except Timeout:
        return True
    except OSError:
        return False
    lock.release()
    return False
