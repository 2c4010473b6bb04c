"""A full disk, whatever the verb: one sentence, exit code 1, no new file, and the old ones are as they were."""

from __future__ import annotations

import errno
import os
import shutil
import sys
from pathlib import Path

import pytest

from mkfa.cli import app as command_line

OLD = Path(__file__).parents[1] / "old_files"


def contents(folder):
    return {
        path.relative_to(folder): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.endswith("lock") and path.name != "attempts.jsonl"
    }


@pytest.fixture
def full(monkeypatch, capsys, tmp_path):
    """Run the command in a folder on a disk that is full; return exit code, stderr and what changed."""
    shutil.copy(OLD / "bank.h5", tmp_path / "bank.h5")
    shutil.copytree(OLD / "sweep", tmp_path / "sweep")
    (tmp_path / "old.json").write_text("old")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MKFA_HOME", str(tmp_path / "home"))

    def fail(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def run(*words):
        before = contents(tmp_path)
        monkeypatch.setattr("mkfa.storage.atomic.os.fsync", fail)
        monkeypatch.setattr(sys, "argv", ["mkfa", *words])
        with pytest.raises(SystemExit) as stopped:
            command_line.main()
        return stopped.value.code or 0, capsys.readouterr().err, contents(tmp_path) != before

    return run


@pytest.mark.slow
@pytest.mark.parametrize(
    "line",
    [
        "harvest {data}/ppocr_cls.safetensors",
        "harvest {data}/ppocr_cls.safetensors --out new.h5",
        "assign bank.h5 --draws 99",
        "assign bank.h5 --draws 99 --no-store --out new.csv",
        "atlas bank.h5 --kernel-size 5x5 --out new.h5",
        "keys bank.h5 --kernel-size 5x5 --out new.json",
        "keys bank.h5 --kernel-size 5x5 --out old.json --force",
        "keys bank.h5 --kernel-size 5x5 --figure new.png",
        "compare --a bank.h5 --b ppocrv4_rec --kernel-size 5x5 --draws 19 --out new.json",
        "compare --a bank.h5 --b ppocrv4_rec --kernel-size 5x5 --draws 19 --figure new.png",
        "banks export ppocrv4_rec new.h5",
        "report bank.h5 bundled --no-compute --out new.html",
        "report bank.h5 bundled --no-compute --no-data --out new.html",
        "runs pack new.json.gz --from sweep",
        "train digits --recipe smoke --out new",
    ],
)
def test_each_verb_says_that_the_disk_is_full(full, line):
    from mkfa.storage.folders import data_file

    data = data_file("ppocr_cls.safetensors").parent
    code, said, changed = full(*line.format(data=data).split())
    assert code == 1
    assert "the disk is full and nothing was written; free some space" in said.splitlines()[-1]
    assert "unexpected" not in said and "Traceback" not in said
    assert not changed
