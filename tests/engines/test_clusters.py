"""Sweeps on a real Ray cluster and a real Slurm, parts of which die: the bits of a local sweep, nothing lost."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.engines.clusters import RAY, Namespace, can_unshare, processes_of, raylets, start_ray, start_slurm, stopped

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not can_unshare(), reason="needs unshare, nsenter, ip and the right to create a namespace"),
]
needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs ray: pip install 'mkfa[ray]'")
needs_slurm = pytest.mark.skipif(
    shutil.which("slurmctld") is None or shutil.which("munged") is None,
    reason="needs Slurm: apt-get install slurm-wlm munge",
)
SMALL = ["--arch", "resmixer_16_2", "--recipe", "smoke", "--set", "batch=16", "--threads", "1", "--device", "cpu"]
CURVE = [
    *("transfer-curve", "--source", "digits", "--target", "fashion", "--layers", "1,2", "--arms", "transfer,random"),
    *SMALL,
]


def what_counts(root: Path) -> dict[str, tuple[str, bytes]]:
    """Return the digest of the final weights and the metrics of every run."""
    return {
        folder.name: (
            json.loads((folder / "result.json").read_text())["weights_sha256"],
            (folder / "metrics.jsonl").read_bytes(),
        )
        for folder in (root / "runs").iterdir()
        if (folder / "spec.json").exists()
    }


def curve(steps: int, seeds: int, out: str) -> list[str]:
    return [*CURVE, "--equal-steps", str(steps), "--seeds", str(seeds), "--out", out]


@contextmanager
def machine(name: str) -> Iterator[Namespace]:
    """Open a namespace for a Ray cluster in a folder that is removed afterwards.

    Its path is short: those of Ray's sockets have 107 characters at most.
    """
    folder = Path(f"/tmp/mkfa-ray-{os.getpid()}{name}")
    with Namespace(folder, RAY_USAGE_STATS_ENABLED="0", RAY_worker_niceness="0") as inside:
        try:
            yield inside
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@needs_ray
def test_a_ray_cluster_that_loses_a_node_gives_the_bits_of_this_machine():
    words = ["train", "digits", "--seeds", "4", *SMALL, "--equal-steps", "800"]
    with machine("") as inside:
        start_ray(inside)
        guess = inside.mkfa(*words, "--out", "ray", "--engine", "ray", "--address", RAY, "--estimate").stdout
        assert "2 runs at a time on 2 nodes, 1 thread each, timed so" in _joined(guess)
        sweep = inside.start([*mkfa(), *words, "--out", "ray", "--engine", "ray", "--address", RAY])

        while not list(inside.folder.glob("ray/runs/*/result.json")) or not lose_node_at_work(inside):
            assert sweep.poll() is None, sweep.communicate()[0][-3000:]
            time.sleep(0.2)
        said, _ = sweep.communicate(timeout=900)
        assert sweep.returncode == 0, said[-3000:]
        assert len(raylets(inside)) == 2  # mkfa neither started nor stopped any
        inside.mkfa(*words, "--out", "local")
        local, cluster = what_counts(inside.folder / "local"), what_counts(inside.folder / "ray")
        attempts = "".join(path.read_text() for path in inside.folder.glob("ray/runs/*/attempts.jsonl"))
    assert cluster == local and len(local) == 4
    assert "was lost" in attempts
    assert "it is tried again" in said


def lose_node_at_work(inside: Namespace) -> bool:
    """Kill a node in the middle of a run; False, and nothing is killed, if no node trains.

    A node's processes stand still while this looks: a run would otherwise end between the look and the kill.
    """
    for node in raylets(inside):
        with stopped(processes_of(node)) as workers:
            attempts = [path.read_text().splitlines() for path in inside.folder.glob("ray/runs/*/attempts.jsonl")]
            last = [json.loads(lines[-1]) for lines in attempts if lines]
            if any(record["event"] == "started" and record["pid"] in workers for record in last):
                for pid in (node, *workers):
                    os.kill(pid, signal.SIGKILL)
                return True
    return False


@needs_ray
def test_a_driver_that_is_killed_on_a_ray_cluster_costs_nothing():
    words = ["train", "digits", "--seeds", "2", *SMALL, "--equal-steps", "800"]
    with machine("-d") as inside:
        start_ray(inside, nodes=1)
        on_ray = [*words, "--out", "ray", "--engine", "ray", "--address", RAY]
        driver = inside.start([*mkfa(), *on_ray])
        while not list(inside.folder.glob("ray/runs/*/progress.json")):
            assert driver.poll() is None, driver.communicate()[0][-3000:]
            time.sleep(0.2)
        driver.kill()
        driver.communicate()
        inside.mkfa(*on_ray)
        inside.mkfa(*words, "--out", "local")
        local, cluster = what_counts(inside.folder / "local"), what_counts(inside.folder / "ray")
    assert cluster == local and len(local) == 2


@needs_ray
@pytest.mark.parametrize("odd", ["version", "folder"])
def test_a_node_with_another_version_or_another_folder_is_refused_and_nothing_is_written(odd):
    """The node's Python changes the version as it starts; or an empty file system hides the folder from the node."""
    with machine(f"-{odd}") as inside:
        folder = inside.folder
        (folder / "odd").mkdir()
        (folder / "apart").mkdir()
        (folder / "odd" / "sitecustomize.py").write_text("import mkfa.version\nmkfa.version.VERSION = '0.0.1'\n")
        before = {
            "version": f"export PYTHONPATH={folder / 'odd'};",
            "folder": f"mount -t tmpfs none {folder / 'apart'} &&",
        }
        start_ray(inside, nodes=1, before=before[odd])
        words = ["train", "digits", "--seeds", "1", *SMALL, "--equal-steps", "3", "--out", "apart"]
        done = inside.mkfa(*words, "--engine", "ray", "--address", RAY, check=False)
        left = list((folder / "apart").iterdir())
    said = _joined(done.stderr)
    expected = {"version": "has mkfa 0.0.1 instead of", "folder": "apart/runs: is not the same folder on node"}
    assert done.returncode == 2 and expected[odd] in said, said
    assert "Traceback" not in said and not left


@needs_ray
def test_a_cluster_that_is_not_there_is_refused(tmp_path):
    with Namespace(tmp_path / "n") as inside:
        done = inside.mkfa(*curve(3, 1, "x"), "--engine", "ray", "--address", "127.0.0.1:6399", check=False)
    assert done.returncode == 2
    assert "no Ray cluster answers there" in done.stderr and "Traceback" not in done.stderr


@needs_slurm
def test_slurm_arrays_one_of_them_requeued_give_the_bits_of_this_machine(tmp_path):
    words = [*curve(800, 1, "slurm"), "--engine", "slurm"]
    with Namespace(tmp_path / "n") as inside:
        start_slurm(inside)
        first = inside.mkfa(*words)
        said = _joined(first.stderr + first.stdout)
        assert "0 of 6 runs are done: 4 submitted as job" in said and "2 submitted as job" in said
        assert "runs at a time" in said
        while not end_time_of_a_job(inside):
            assert inside.run(["squeue", "--noheader"]).stdout.strip(), _queue(inside)
            time.sleep(0.2)
        while "the job was requeued" not in _outputs(inside):
            assert inside.run(["squeue", "--noheader"]).stdout.strip(), _queue(inside)
            time.sleep(0.2)
        again = inside.mkfa(*words)
        assert "in the queue or in progress already" in _joined(again.stderr + again.stdout)
        states = inside.mkfa("runs", "--from", "slurm", "--csv").stdout
        assert states.count("waiting") >= 2, states  # those that borrow
        partition(inside, "UP")
        until = time.monotonic() + 1500
        while inside.run(["squeue", "--noheader"]).stdout.strip():
            assert time.monotonic() < until, _queue(inside)
            time.sleep(1)
        last = inside.mkfa(*words)
        inside.mkfa(*curve(800, 1, "local"))
        resumed = [json.loads(path.read_text())["resumed"] for path in inside.folder.glob("slurm/runs/*/result.json")]
        local, queue = what_counts(inside.folder / "local"), what_counts(inside.folder / "slurm")
    assert queue == local and len(local) == 6
    assert sum(resumed) == 1
    assert "random" in last.stdout


@needs_slurm
def test_a_slurm_node_that_does_not_see_the_folder_trains_nothing_and_is_told_of(tmp_path):
    """An empty file system hides the folder from the node: at first the node is free, then it is not at once."""
    words = [*curve(3, 1, "apart"), "--engine", "slurm"]
    with Namespace(tmp_path / "n") as inside:
        apart = inside.folder / "apart"
        apart.mkdir()
        start_slurm(inside, before=f"mount -t tmpfs none {apart} &&")
        sentence = f"{apart}/runs: is not the same folder on node {os.uname().nodename.split('.')[0]}; choose an --out"

        while (first := inside.mkfa(*words, check=False)).returncode == 0:  # too busy to begin a job within the watch
            assert "4 submitted as job" in _joined(first.stderr)
            inside.run(["scancel", "--user=root"])
        said = _joined(first.stderr)
        assert first.returncode == 2 and sentence in said and "Traceback" not in said, said
        left = set(inside.run(["squeue", "--noheader", "--format=%T"]).stdout.split())
        assert left <= {"COMPLETING"}, _queue(inside)  # the others were taken back

        partition(inside, "DOWN")
        second = inside.mkfa(*words)
        assert "4 submitted as job" in _joined(second.stderr)
        assert "6 waiting" in inside.mkfa("runs", "--from", "apart").stdout
        partition(inside, "UP")
        until = time.monotonic() + 120
        while "4 failed" not in (listed := inside.mkfa("runs", "--from", "apart").stdout):
            assert time.monotonic() < until, listed + _queue(inside)
            time.sleep(1)
        assert sentence in _joined(listed)
        partition(inside, "DOWN")
        third = _joined(inside.mkfa(*words).stderr)
        assert f"again after it failed ({sentence}" in third and "2 submitted as job" in third, third
        states = inside.run(["squeue", "--noheader", "--array", "--format=%T"]).stdout.split()
        assert states.count("PENDING") == 6 and "SPECIAL_EXIT" not in states, states
        assert not list(apart.glob("runs/*/attempts.jsonl")) and not list(apart.glob("runs/slurm/output/*"))


def partition(inside: Namespace, state: str) -> None:
    """Let the node begin jobs (UP) or none (DOWN)."""
    inside.run(["scontrol", "update", "PartitionName=debug", f"State={state}"])


def end_time_of_a_job(inside: Namespace) -> bool:
    """Signal a job in the middle of its run, as Slurm does at the end of its time; False if there is none.

    It stands still while this looks, and the partition then begins no job until it is up again. Slurm's own scancel
    would signal again for 100 seconds, also the job's second life.
    """
    for path in inside.folder.glob("slurm/runs/*/progress.json"):
        with suppress(OSError, ValueError), stopped([json.loads(path.read_text())["pid"]]) as (pid,):
            if json.loads(path.read_text())["step"] < 200:
                partition(inside, "DOWN")
                os.kill(pid, signal.SIGUSR1)
                return True
    return False


def mkfa() -> list[str]:
    return [sys.executable, "-m", "mkfa.cli.app"]


def _joined(text: str) -> str:
    return " ".join(text.split())


def _queue(inside: Namespace) -> str:
    return str(inside.run(["squeue"]).stdout) + _outputs(inside)


def _outputs(inside: Namespace) -> str:
    return "\n".join(path.read_text()[-1000:] for path in inside.folder.glob("slurm/runs/slurm/output/*"))
