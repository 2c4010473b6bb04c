"""Leases: the lock of file systems that have none."""

from __future__ import annotations

import errno
import json
import os
import platform
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mkfa.errors import WorkError
from mkfa.storage import lease as lease_module
from mkfa.storage.lease import Lease, LeaseLostError
from mkfa.storage.locks import LockHeldError, hold, is_held


@pytest.fixture(params=[errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def lockless(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make `flock` answer as on a file system without locks."""
    import fcntl

    def refuse(*_: object) -> None:
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr(fcntl, "flock", refuse)


def write(path: Path, *, age: float = 0.0, **holder: object) -> None:
    path.write_text(json.dumps({"host": platform.node(), "pid": os.getpid(), "token": "theirs", **holder}))
    then = time.time() - age
    os.utime(path, (then, then))


def ended_process() -> int:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


def test_without_locks_a_lease_excludes_others_and_ends(lockless, tmp_path):
    path = tmp_path / "lock"
    with hold(path) as check:
        check()
        assert is_held(path)
        with pytest.raises(LockHeldError, match="held by another process"), hold(path, wait=0.05):
            pass
    assert not is_held(path)
    with hold(path):
        pass
    assert sorted(p.name for p in tmp_path.iterdir()) == ["lock"]


@pytest.mark.parametrize("number", [errno.EIO, errno.EINTR])
def test_other_errors_are_not_taken_for_a_lack_of_locks(monkeypatch, tmp_path, number):
    import fcntl

    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", fail)
    with pytest.raises(WorkError, match="cannot be opened"), hold(tmp_path / "lock"):
        pass
    assert not is_held(tmp_path / "lock")


def test_a_lease_of_a_dead_process_of_this_host_is_free_at_once(tmp_path):
    lease = Lease(tmp_path / "lock")
    write(lease.path, pid=ended_process())
    assert not lease.is_held()
    assert lease.acquire()
    lease.release()


def test_a_lease_of_another_host_is_free_once_it_is_not_renewed(tmp_path):
    lease = Lease(tmp_path / "lock")
    write(lease.path, host="elsewhere", age=lease_module.DURATION - 5)
    assert lease.is_held()
    assert not lease.acquire()
    write(lease.path, host="elsewhere", age=lease_module.DURATION + 5)
    assert not lease.is_held()
    assert lease.acquire()
    assert json.loads(lease.path.read_text())["token"] == lease.token
    lease.release()
    assert not list(tmp_path.iterdir())


def test_a_holder_renews_its_lease(tmp_path, monkeypatch):
    monkeypatch.setattr(lease_module, "RENEWAL", 0.02)
    lease = Lease(tmp_path / "lock")
    assert lease.acquire()
    os.utime(lease.path, (0, 0))
    until = time.monotonic() + 10
    while lease.path.stat().st_mtime < 1 and time.monotonic() < until:
        time.sleep(0.01)
    assert time.time() - lease.path.stat().st_mtime < 10
    lease.release()


@pytest.mark.parametrize("how", ["taken over", "removed"])
def test_a_holder_that_lost_its_lease_is_told_and_leaves_the_others(tmp_path, how):
    lease = Lease(tmp_path / "lock")
    assert lease.acquire()
    lease.check()
    if how == "removed":
        lease.path.unlink()
    else:
        write(lease.path, host="elsewhere", pid=7)
    with pytest.raises(LeaseLostError, match="was taken over by process"):
        lease.check()
    lease.release()
    assert lease.path.exists() == (how == "taken over")


def test_of_many_that_find_a_stale_lease_one_gets_it(tmp_path):
    for _ in range(20):
        write(tmp_path / "lock.lease", host="elsewhere", age=1000)
        with ThreadPoolExecutor(6) as pool:
            leases = [Lease(tmp_path / "lock") for _ in range(6)]
            got = [lease for lease, taken in zip(leases, pool.map(Lease.acquire, leases), strict=True) if taken]
        holding = [lease for lease in got if holds(lease)]
        assert len(holding) <= 1
        for lease in got:
            lease.release()
        (tmp_path / "lock.lease").unlink(missing_ok=True)


def test_a_fresh_lease_that_is_still_empty_is_not_taken_for_the_stale_one(tmp_path, monkeypatch):
    """Two processes find an empty lease of long ago; the quicker one has made its own, which is empty for a moment."""
    slow, path = Lease(tmp_path / "lock"), tmp_path / "lock.lease"
    path.touch()
    os.utime(path, (1, 1))
    look = slow.is_held

    def looked() -> bool:
        held = look()
        path.unlink()  # the quicker process, between a look and what follows from it
        path.touch()
        return held

    monkeypatch.setattr(slow, "is_held", looked)
    assert not slow.acquire()
    assert path.read_text() == ""
    assert [p.name for p in tmp_path.iterdir()] == ["lock.lease"]


@pytest.mark.parametrize("links", [True, False])
def test_nobody_sees_a_lease_without_its_holder(tmp_path, monkeypatch, links):
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "no hard links here")

    if not links:
        monkeypatch.setattr(os, "link", refuse)
    first, second = Lease(tmp_path / "lock"), Lease(tmp_path / "lock")
    assert first.acquire()
    assert not second.acquire()
    first.check()
    first.release()
    assert not list(tmp_path.iterdir())


def holds(lease: Lease) -> bool:
    try:
        lease.check()
    except LeaseLostError:
        return False
    return True


def test_a_run_whose_lease_was_taken_over_writes_nothing_more(lockless, tmp_path):
    from mkfa.training.folder import CHECKPOINT, RESULT, RunFolder
    from mkfa.training.spec import RunSpec

    folder = RunFolder(tmp_path, RunSpec("convmixer_8_2", "letters", "x", "smoke", {}, 0))
    with folder.lock():
        folder.save(CHECKPOINT, {"step": 1})
        before = (folder.path / CHECKPOINT).read_bytes()
        write(folder.path / "lock.lease", host="elsewhere", pid=7)
        for late in (lambda: folder.save(CHECKPOINT, {"step": 2}), lambda: folder.finish({"state": "done"})):
            with pytest.raises(LeaseLostError):
                late()
    assert (folder.path / CHECKPOINT).read_bytes() == before
    assert not (folder.path / RESULT).exists()
