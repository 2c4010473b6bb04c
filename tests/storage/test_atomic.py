"""A write leaves the old file or the whole new one, whatever happens."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mkfa.errors import MkfaError, WorkError
from mkfa.storage.atomic import atomic_write, check_target


def test_writes_replaces_and_leaves_no_other_file(tmp_path):
    path = tmp_path / "a.bin"
    atomic_write(path, b"one")
    atomic_write(path, b"two")
    assert path.read_bytes() == b"two"
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]


def test_an_existing_file_is_left_alone_unless_asked(tmp_path):
    path = tmp_path / "a.bin"
    atomic_write(path, b"one", overwrite=False)
    with pytest.raises(MkfaError, match=r"was not changed; choose another name or pass --force \(in Python: overwrite"):
        atomic_write(path, b"two", overwrite=False)
    assert path.read_bytes() == b"one"


def test_a_file_that_appears_meanwhile_is_not_overwritten(tmp_path, monkeypatch):
    path = tmp_path / "a.bin"
    monkeypatch.setattr("mkfa.storage.atomic.check_target", lambda path, overwrite: None)
    path.write_bytes(b"theirs")
    with pytest.raises(MkfaError, match="exists already"):
        atomic_write(path, b"ours", overwrite=False)
    assert path.read_bytes() == b"theirs"
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]


def test_targets_that_cannot_be_written(tmp_path, monkeypatch):
    for path, words in (
        (tmp_path, "is a folder"),
        (tmp_path / "none" / "a.bin", "does not exist; create it"),
        (tmp_path / ("x" * 230), "too long"),
    ):
        with pytest.raises(MkfaError, match=words) as caught:
            atomic_write(path, b"data")
        assert caught.value.exit_code == 2
    monkeypatch.setattr(os, "access", lambda *a, **k: False)
    with pytest.raises(MkfaError, match="may not be written to"):
        check_target(tmp_path / "a.bin")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="Linux only")
def test_a_folder_that_takes_no_files_is_refused_before_the_work():
    with pytest.raises(WorkError, match=r"/proc/x\.json: could not be written"):
        check_target(Path("/proc/x.json"))


def test_a_check_leaves_nothing(tmp_path):
    check_target(tmp_path / "a.bin")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("code", "words"), [(errno.ENOSPC, "disk is full"), (errno.EIO, "could not be written")])
def test_a_failing_disk_leaves_the_old_file_and_no_other(tmp_path, monkeypatch, code, words):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")

    def fail(handle):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(WorkError, match=words) as caught:
        atomic_write(path, b"new")
    assert caught.value.exit_code == 1
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]


def test_what_a_killed_writer_left_is_removed_and_what_a_living_one_writes_is_not(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    stale = tmp_path / f".a.bin.tmp-{dead.pid}-0123abcd"
    live = tmp_path / f".a.bin.tmp-{os.getpid()}-0123abcd"
    other = tmp_path / f".b.bin.tmp-{dead.pid}-0123abcd"
    for path in (stale, live, other):
        path.write_bytes(b"part")
    atomic_write(tmp_path / "a.bin", b"data")
    assert not stale.exists()
    assert live.exists()
    assert other.exists()
