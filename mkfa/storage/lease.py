"""Leases: locks for file systems that have none.

A file next to the lock names its holder (host, process, token) and is renewed by it. Another process takes it over once
the holder is dead or has not renewed it for `DURATION`. A holder that was suspended for longer may lose its lease
without noticing, so it has to `check` before it writes what another process could be writing too.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import platform
import secrets
import threading
from pathlib import Path

from mkfa.errors import WorkError

DURATION = 60.0
"""Seconds after which a lease that was not renewed is free."""
RENEWAL = 10.0
"""Seconds between renewals."""
_WITHOUT_LINKS = frozenset([errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EMLINK])


class LeaseLostError(WorkError):
    """Another process has taken the lease over."""


class Lease:
    """The lease of a lock file; use from one thread.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     first, second = Lease(Path(folder, "lock")), Lease(Path(folder, "lock"))
    ...     first.acquire(), second.acquire(), second.is_held()
    ...     first.release()
    ...     second.is_held()
    (True, False, True)
    False
    """

    def __init__(self, lock: Path) -> None:
        self.path = lock.with_name(f"{lock.name}.lease")
        self.token = secrets.token_hex(8)
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def acquire(self) -> bool:
        """Take the lease if it is free. Raises OSError if the folder cannot be written."""
        for _ in range(2):
            if self._create():
                self._thread = threading.Thread(target=self._renew, name="mkfa-lease", daemon=True)
                self._thread.start()
                return True
            seen = self._identity()
            if self.is_held() or not self._remove(seen):
                return False
        return False

    def _create(self) -> bool:
        """Make the file with its content, so that nobody sees it empty; False if there is one."""
        holder = {"host": platform.node(), "pid": os.getpid(), "token": self.token}
        made = self.path.with_name(f"{self.path.name}.{self.token}.new")
        try:
            made.write_text(json.dumps(holder), encoding="utf-8")
            os.link(made, self.path)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in _WITHOUT_LINKS:
                raise
            with contextlib.suppress(FileExistsError), self.path.open("x", encoding="utf-8") as file:
                file.write(json.dumps(holder))
                return True
            return False
        finally:
            made.unlink(missing_ok=True)
        return True

    def release(self) -> None:
        """Give the lease back, if it is still ours."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
        if _read(self.path).get("token") == self.token:
            self.path.unlink(missing_ok=True)

    def check(self) -> None:
        """Raise LeaseLostError if another process holds the lease now, or none does."""
        holder = _read(self.path)
        if holder.get("token") != self.token:
            who = f"process {holder.get('pid', '?')} on {holder.get('host', 'another host')}"
            problem = f"was taken over by {who}, since this one did not renew it for {DURATION:.0f} s"
            raise LeaseLostError(self.path, problem, "let that one go on; nothing of this one's was written since")

    def is_held(self) -> bool:
        """Return whether a process holds the lease that lives and renews it."""
        try:
            renewed = self.path.stat().st_mtime
        except FileNotFoundError:
            return False
        holder = _read(self.path)
        if holder.get("host") == platform.node() and not _is_alive(holder.get("pid")):
            return False
        return self._now() - renewed < DURATION

    def _now(self) -> float:
        """Return the time by the file system's clock, which hosts may disagree with."""
        probe = self.path.with_name(f"{self.path.name}.{self.token}.now")
        try:
            probe.touch()
            return probe.stat().st_mtime
        finally:
            probe.unlink(missing_ok=True)

    def _identity(self, path: Path | None = None) -> tuple[object, ...]:
        """Return what tells a lease from every other, also while it is empty; () if there is none."""
        path = self.path if path is None else path
        try:
            found = path.stat()
        except FileNotFoundError:
            return ()
        return found.st_ino, found.st_mtime_ns, _read(path).get("token")

    def _remove(self, stale: tuple[object, ...]) -> bool:
        """Move the stale lease out of the way; False if another process was quicker."""
        aside = self.path.with_name(f"{self.path.name}.{self.token}.stale")
        try:
            self.path.rename(aside)
        except FileNotFoundError:
            return True
        try:
            if self._identity(aside) == stale:
                return True
            with contextlib.suppress(OSError):  # it was a fresh lease of a quicker process: put it back
                os.link(aside, self.path)
            return False
        finally:
            aside.unlink(missing_ok=True)

    def _renew(self) -> None:
        while not self._ended.wait(RENEWAL):
            if _read(self.path).get("token") != self.token:
                return
            with contextlib.suppress(OSError):
                os.utime(self.path)


def _read(path: Path) -> dict[str, object]:
    """Return who holds a lease; empty if nobody does, or while the file is being written."""
    try:
        holder = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return holder if isinstance(holder, dict) else {}


def _is_alive(pid: object) -> bool:
    if not isinstance(pid, int) or pid <= 0 or os.name == "nt":  # os.kill ends processes on Windows
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
