"""Locks between processes.

The operating system releases them when the holder ends, even if it is killed. On file systems without locks a lease
(`mkfa.storage.lease`) takes their place.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from mkfa.errors import WorkError
from mkfa.storage.lease import Lease

WAIT = 0.2
"""Seconds to wait for a lock, since `is_held` takes the lock for a moment in another process."""
_POLL = 0.005
_LOOK = 0.02
"""Seconds that `is_held` tries for."""


_WITHOUT = frozenset([errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP])
"""What `flock` answers on file systems that have no locks; other errors than these say nothing about that."""


class LockHeldError(WorkError):
    """Another process holds the lock."""


@contextlib.contextmanager
def hold(path: Path, *, wait: float = WAIT) -> Iterator[Callable[[], None]]:
    """Hold the lock file `path`, which is created if needed, while the body runs.

    Gives the body a function that raises `LeaseLostError` if the lock is lost, which only a lease can be. The file
    stays afterwards: if it were removed, two other processes could lock two files of that name.

    Parameters
    ----------
    wait : seconds to wait for another process to release the lock.

    Raises LockHeldError: another process holds it for longer than `wait`. Raises WorkError: the file cannot be opened.

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
    try:
        check, release = _take_lease(path, wait) if lacks_locks(path) else _take_lock(path, wait)
    except Timeout:
        raise LockHeldError(path, "is held by another process", "wait for it to end") from None
    except OSError as error:
        problem = f"cannot be opened ({error.strerror or error})"
        raise WorkError(path, problem, "choose another --out, or check the folder's permissions") from error
    try:
        yield check
    finally:
        release()


def lacks_locks(path: Path) -> bool:
    """Return whether the file system of a lock file has no locks. Raises OSError if the file cannot be opened."""
    try:
        import fcntl
    except ImportError:  # Windows, where filelock has other means
        return False
    number = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(number, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in _WITHOUT
    finally:
        os.close(number)
    return False


def _take_lock(path: Path, wait: float) -> tuple[Callable[[], None], Callable[[], None]]:
    lock = FileLock(path)

    def acquire() -> bool:
        with contextlib.suppress(Timeout):
            lock.acquire(blocking=False)
        return lock.is_locked

    _try(acquire, path, wait)
    return (lambda: None), lock.release


def _take_lease(path: Path, wait: float) -> tuple[Callable[[], None], Callable[[], None]]:
    lease = Lease(path)
    _try(lease.acquire, path, wait)
    return lease.check, lease.release


def _try(acquire: Callable[[], bool], path: Path, wait: float) -> None:
    """Try for `wait` seconds, and as often as an idle machine does in them: a busy one may run us less often."""
    until, tries = time.monotonic() + wait, round(wait / _POLL)
    while not acquire():
        tries -= 1
        if tries <= 0 and time.monotonic() >= until:
            raise Timeout(str(path))
        time.sleep(_POLL)


def is_held(path: Path) -> bool:
    """True while a process holds the lock file `path`; False if the file is missing or cannot be opened."""
    if not path.is_file():
        return False
    try:
        if lacks_locks(path):
            return Lease(path).is_held()
        _, release = _take_lock(path, _LOOK)
    except Timeout:
        return True
    except OSError:
        return False
    release()
    return False
