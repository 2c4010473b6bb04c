"""Nodes of Slurm that lack the folder of the runs or the Python, by stand-ins for Slurm's commands.

The real ones are in `test_clusters.py`.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from mkfa.engines import slurm_jobs, slurm_queue
from mkfa.engines.engine import HandedOver
from mkfa.errors import MkfaError, WorkError
from mkfa.experiments.planning import Plan, plan_curve
from mkfa.results.runs import read_runs

SMALL = {"arch": "resmixer_8_2", "equal_steps": 2, "set": {"batch": 8}, "device": "cpu", "threads": 1, "seeds": 1}
HELD = "SPECIAL_EXIT|job requeued in held state"


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder with commands of a node, which note what they were asked, and answer that "a" is left out."""
    folder = tmp_path / "node"
    folder.mkdir()
    for name, answer in (("scontrol", ""), ("squeue", "echo a"), ("sleep", ""), ("python", "")):
        noted = "" if name == "sleep" else f'echo {name} "$@" >>{folder}/asked\n'
        (folder / name).write_text(f"#!/bin/sh\n{noted}{answer}\necho {name} speaks >&2\n")
        (folder / name).chmod(0o755)
    (folder / "runs" / "slurm" / "output").mkdir(parents=True)
    (folder / "runs" / "slurm" / "base-1.json").touch()
    monkeypatch.setattr(slurm_jobs.sys, "executable", str(folder / "python"))
    return folder


def carry_out(node: Path, listed: Path, *, output: Path = Path(os.devnull)) -> tuple[int, list[str]]:
    """Run the script of a job on the node; return its exit code and what its commands were asked."""
    set_by_slurm = {"SLURM_JOB_ID": "8", "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "1", "SLURMD_NODENAME": "b"}
    environment = {"PATH": f"{node}{os.pathsep}{os.environ['PATH']}", **set_by_slurm}
    with output.open("a") as file:
        words = ["sh", "-c", slurm_jobs.script(listed)]
        code = subprocess.run(words, env=environment, stdout=file, stderr=file, check=False).returncode
    return code, (node / "asked").read_text().splitlines()


@pytest.mark.parametrize("lost", ["the list", "the Python"])
def test_a_job_whose_node_lacks_something_says_so_to_slurm_and_keeps_the_others_off(node, lost):
    listed = node / "runs" / "slurm" / "base-1.json"
    missing = listed if lost == "the list" else node / "python"
    missing.unlink()
    code, asked = carry_out(node, listed)
    assert code == slurm_jobs.LACKING
    assert [line for line in asked if line.startswith("scontrol")] == [
        f"scontrol update JobId=8 Comment=mkfa: node b lacks {missing}",
        "scontrol update JobId=7 ExcNodeList=a,b",
        "scontrol requeuehold State=SpecialExit 8",
    ]
    assert not list((listed.parent / "output").iterdir())


def test_a_job_whose_node_has_all_trains_and_writes_beside_the_list_or_where_the_user_asked(node):
    listed, own = node / "runs" / "slurm" / "base-1.json", node / "own.txt"
    code, asked = carry_out(node, listed)
    assert (code, asked) == (0, [f"python -P -m mkfa.engines.slurm_queue {listed} 1"])
    assert (listed.parent / "output" / "7_1.txt").read_text() == "python speaks\n"
    carry_out(node, listed, output=own)
    assert own.read_text() == (listed.parent / "output" / "7_1.txt").read_text()


def test_a_comment_is_a_sentence_only_while_the_job_is_held():
    root = Path("/x/runs")
    folder = slurm_jobs.Job("7", "1", "SPECIAL_EXIT", "", "mkfa: node b lacks /x/runs/slurm/base-1.json")
    assert str(folder.lacking(root)).startswith("/x/runs: is not the same folder on node b; choose an --out")
    python = slurm_jobs.Job("7", "1", "SPECIAL_EXIT", "", "mkfa: node b lacks /venv/bin/python")
    assert str(python.lacking(root)) == (
        "/venv/bin/python: is missing on node b; install the same mkfa there, or leave the node out: "
        "--sbatch='--exclude=b'."
    )
    for state, comment in (("RUNNING", folder.comment), ("SPECIAL_EXIT", "(null)"), ("SPECIAL_EXIT", "a lacks b")):
        assert slurm_jobs.Job("7", "1", state, "", comment).lacking(root) is None


class Queue:
    """Stands for Slurm: keeps what it was asked, and says of its jobs what `tell` returns for an array's number."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.tell = lambda array: ""

    def __call__(self, words: list[str], **_: float) -> str:
        if words[0] == "sinfo":
            return "a 2"
        submitted = [asked for asked in self.asked if asked[0] == "sbatch"]
        if words[0] == "squeue":
            return "\n".join(self.tell(number) for number in range(1, len(submitted) + 1))
        self.asked.append(list(words))
        return str(len(submitted) + 1)

    def words(self, name: str) -> list[list[str]]:
        return [asked[1:] for asked in self.asked if asked[0] == name]


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> Queue:
    made = Queue()
    monkeypatch.setattr(slurm_jobs, "ask", made)
    monkeypatch.setattr(slurm_queue.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(slurm_queue, "_LOOK", 0.01)
    return made


def planned(out: Path) -> Plan:
    """Return a plan of two base runs and two runs that borrow from one of them."""
    return plan_curve(
        {**SMALL, "engine": "slurm", "out": out}, source="digits", target="fashion", layers=[1, 2], arms=["transfer"]
    )


def lacks(out: Path, array: int) -> str:
    return f"mkfa: node b lacks {out.resolve()}/runs/slurm/base-{array}.json"


def test_a_node_that_the_first_jobs_find_without_the_folder_is_refused_and_nothing_is_left(queue, tmp_path, own_home):
    queue.tell = lambda array: f"{array}|0|{HELD}|{lacks(tmp_path, array)}\n{array}|1|PENDING|BadConstraints|(null)"
    sentence = r"runs: is not the same folder on node b; choose an --out on .*, or .*--exclude=b'\."
    with pytest.raises(MkfaError, match=sentence) as refused:
        planned(tmp_path).carry_out()
    assert refused.value.exit_code == 2
    assert queue.words("scancel") == [["1"]] * 3 and len(queue.words("sbatch")) == 1
    told = read_runs(tmp_path)
    assert {run.state for run in told} == {"failed"} and all("on node b" in run.error for run in told)


def test_the_watch_ends_when_the_first_jobs_train(queue, tmp_path, own_home):
    looks: list[int] = []

    def tell(array: int) -> str:
        looks.append(array)
        if len(looks) == 3:
            slurm_jobs.tell_compared(tmp_path / "runs", "1_0", None)
        return f"{array}|0|RUNNING|None|(null)\n{array}|1|PENDING|Resources|(null)" if array == 1 else ""

    queue.tell = tell
    with pytest.raises(HandedOver, match="2 submitted as job 1; 2 submitted as job 2, which waits for 1"):
        planned(tmp_path).carry_out()
    assert looks == [1, 1, 1]


def test_a_node_of_other_versions_that_the_first_jobs_find_is_refused_and_nothing_is_left(queue, tmp_path, own_home):
    def tell(array: int) -> str:
        error = MkfaError("node b", "has mkfa 0.0.1 instead of 0.1.0", "install the same versions on all nodes")
        slurm_jobs.tell_compared(tmp_path / "runs", f"{array}_0", error)
        return ""  # all jobs have gone through the node, and out of the queue

    queue.tell = tell
    with pytest.raises(MkfaError, match=r"node b: has mkfa 0\.0\.1 instead of 0\.1\.0; install the same"):
        planned(tmp_path).carry_out()
    assert queue.words("scancel") == [["1"]] * 3 and len(queue.words("sbatch")) == 1
    told = read_runs(tmp_path)
    assert {run.state for run in told} == {"failed"} and all("node b" in run.error for run in told)


def test_a_slurm_that_falls_silent_while_the_first_jobs_are_watched_has_them_all_the_same(queue, tmp_path, own_home):
    def silent(array: int) -> str:
        raise WorkError("squeue", "does not answer", "see 'sinfo'")

    queue.tell = silent
    with pytest.raises(HandedOver, match="2 submitted as job 1; 2 submitted as job 2"):
        planned(tmp_path).carry_out()


def test_jobs_that_came_to_such_a_node_later_are_told_of_and_submitted_anew(queue, tmp_path, own_home):
    with pytest.raises(HandedOver):
        planned(tmp_path).carry_out()

    def tell(array: int) -> str:
        if array == 1:
            return f"1|0|{HELD}|{lacks(tmp_path, 1)}\n1|1|PENDING|BadConstraints|(null)"
        return "2|0|PENDING|Dependency|(null)\n2|1|PENDING|Dependency|(null)" if array == 2 else ""

    queue.tell = tell
    slurm_jobs.note_stuck(tmp_path / "runs")
    told = {run.arm: (run.state, "is not the same folder on node b" in run.error) for run in read_runs(tmp_path)}
    assert told == {"baseline": ("failed", True), "transfer": ("waiting", False)}
    with pytest.raises(HandedOver, match=r"2 submitted as job 3, again .*on node b.*; 2 submitted as job 4, .* for 3"):
        planned(tmp_path).carry_out()
    assert [sorted(words) for words in queue.words("scancel")] == [["2_0", "2_1"], ["1_0", "1_1"]]  # borrowers first
    assert {run.state for run in read_runs(tmp_path)} == {"waiting"}
