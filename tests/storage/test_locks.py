"""Locks between processes."""

import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest
from filelock import FileLock, Timeout

from mkfa.errors import WorkError
from mkfa.storage import locks
from mkfa.storage.locks import LockHeldError, hold, is_held

HOLDER = (
    "import sys, time\nfrom pathlib import Path\nfrom mkfa.storage.locks import hold\n"
    "with hold(Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(60)"
)


def test_the_lock_of_a_killed_process_is_free(tmp_path):
    path = tmp_path / "lock"
    other = subprocess.Popen([sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout is not None
        assert other.stdout.readline().strip() == "held"
        assert is_held(path)
        with pytest.raises(LockHeldError, match="held by another process"), hold(path):
            pass
    finally:
        other.kill()
        other.wait()
        other.stdout.close()
    assert not is_held(path)
    with hold(path):
        assert is_held(path)
    assert not is_held(path)


def test_a_second_hold_in_the_same_process_is_refused(tmp_path):
    path = tmp_path / "lock"
    with hold(path), pytest.raises(LockHeldError), hold(path, wait=0):
        pass
    assert path.exists()


def test_looking_does_not_make_a_hold_fail(tmp_path):
    path, stop = tmp_path / "lock", threading.Event()
    path.touch()

    def look():
        while not stop.is_set():
            is_held(path)

    lookers = [threading.Thread(target=look) for _ in range(3)]
    for looker in lookers:
        looker.start()
    try:
        for _ in range(50):
            with hold(path):
                time.sleep(0.0005)
    finally:
        stop.set()
        for looker in lookers:
            looker.join()


def test_a_lock_that_is_let_go_between_two_looks_is_not_missed_on_a_busy_machine(tmp_path, monkeypatch):
    """After a process was not run for a second, a hold tries again before it gives up."""
    path, clock = tmp_path / "lock", iter(range(1000))
    monkeypatch.setattr(locks, "time", SimpleNamespace(monotonic=lambda: float(next(clock)), sleep=lambda _: None))
    taken = iter([False] * 30)
    real = FileLock.acquire

    def acquire(self, **options):
        if not next(taken, True):
            raise Timeout(str(path))
        return real(self, **options)

    monkeypatch.setattr(FileLock, "acquire", acquire)
    with hold(path):
        pass
    taken = iter([False] * 1000)
    with pytest.raises(LockHeldError), hold(path):
        pass


def test_looking_makes_no_file(tmp_path):
    assert not is_held(tmp_path / "lock")
    assert not (tmp_path / "lock").exists()


def test_a_folder_that_is_missing_is_one_sentence(tmp_path):
    with pytest.raises(WorkError, match="does not exist"), hold(tmp_path / "none" / "lock"):
        pass
