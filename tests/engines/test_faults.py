"""What is lost when a part dies: the driver, or the space on the disk. Workers and nodes are in test_processes and
test_clusters."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from small import call

from mkfa.engines.serial import Serial
from mkfa.engines.sweep import carry_out
from mkfa.errors import WorkError
from mkfa.experiments.needed_runs import Setting, plan_bases
from mkfa.images.opened import Domains
from mkfa.training.device import Execution
from mkfa.training.folder import ATTEMPTS, CHECKPOINT, METRICS, RunFolder, is_locked
from mkfa.training.planned import PlannedRun
from mkfa.training.recipe import load_recipe
from mkfa.training.stopping import Stop

pytestmark = pytest.mark.slow


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of 2 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    if (
        shutil.which("mount") is None
        or subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(folder)], capture_output=True, check=False
        ).returncode
    ):
        pytest.skip("needs the right to mount a small file system")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def bits(folder: Path) -> tuple[str, bytes]:
    result = json.loads((folder / "result.json").read_text())
    return result["weights_sha256"], (folder / METRICS).read_bytes()


def test_a_file_system_that_fills_up_costs_a_sentence_and_no_step_before_the_checkpoint(small_disk, tmp_path):
    made = Setting("resmixer_16_2", load_recipe("smoke", {"equal_steps": 60, "batch": 8}))
    domains = Domains(made.recipe.size, made.recipe.max_size)
    plan = plan_bases(made, domains, names=["digits"], seeds=1)
    one = Execution(device="cpu", threads=1, checkpoint_seconds=0.0)
    folder, filler = RunFolder(small_disk, plan[0].spec), small_disk / "filler"

    def fill(_: PlannedRun, report: object) -> None:
        if folder.begun() >= 20 and not filler.exists():
            with filler.open("wb", buffering=0) as file, pytest.raises(OSError):
                while True:
                    file.write(bytes(4096))

    with pytest.raises(WorkError, match="the disk is full and nothing was written; free some space"):
        carry_out(plan, Serial(one, domains, small_disk), stop=Stop(), tell=fill)
    reached = folder.begun()
    assert reached >= 20  # the last checkpoint is whole
    filler.unlink()
    [outcome] = carry_out(plan, Serial(one, domains, small_disk), stop=Stop())
    assert outcome.result.record["resumed"] == 1
    attempts = [json.loads(line) for line in (folder.path / ATTEMPTS).read_text().splitlines()]
    assert [line["step"] for line in attempts if line["event"] == "started"] == [0, reached]
    carry_out(plan, Serial(replace(one, checkpoint_seconds=30.0), domains, tmp_path / "calm"), stop=Stop())
    assert bits(folder.path) == bits(RunFolder(tmp_path / "calm", plan[0].spec).path)


def test_a_driver_that_is_killed_costs_nothing(tmp_path):
    words = "train digits --arch resmixer_16_2 --recipe smoke --set batch=16 --threads 1 --device cpu --seeds 2"
    steps = 2000  # some seconds, so that the first run has not ended when the second's process has started
    command = [sys.executable, "-m", "mkfa.cli.app", *words.split(), "--equal-steps", str(steps)]
    driver = subprocess.Popen([*command, "--jobs", "2", "--out", str(tmp_path / "hit")], stderr=subprocess.DEVNULL)
    runs = tmp_path / "hit" / "runs"
    while len(list(runs.glob(f"*/{METRICS}"))) < 2:
        assert driver.poll() is None
        time.sleep(0.1)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    deadline = time.monotonic() + 60
    while any(is_locked(folder) for folder in runs.iterdir()):
        assert time.monotonic() < deadline  # the workers save their runs and end
        time.sleep(0.1)
    assert len(list(runs.glob(f"*/{CHECKPOINT}"))) == 2
    for out, jobs in (("hit", "2"), ("calm", "1")):
        call(*command[3:], "--jobs", jobs, "--out", tmp_path / out)
    found = {folder.name: bits(folder) for folder in runs.iterdir()}
    assert found == {folder.name: bits(folder) for folder in (tmp_path / "calm" / "runs").iterdir()}
    assert sum(json.loads(path.read_text())["resumed"] for path in runs.glob("*/result.json")) == 2
