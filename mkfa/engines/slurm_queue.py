"""The engine that hands runs over to Slurm: one job array for base runs, one for the runs that borrow from them.

**Detached.** The command ends when the jobs are submitted. Given again, it takes finished runs over, submits what is
neither finished nor in the queue, and prints the result once all runs are done.

**Order.** Runs that borrow wait with `afterany` for the base runs of their plan and look at them when they start, so
that one failed base run stops only the runs that need it.

**Interrupted jobs.** A job that is requeued, or whose time ends (`--signal=USR1`), saves its run and continues from the
checkpoint in its next life. All it needs is the folder of the runs on a file system that the nodes share, and mkfa in
the same environment.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from mkfa.engines.estimate import Estimate, estimate
from mkfa.engines.work import SAVED, describe, exit_code, listening, work
from mkfa.engines.worker import Task
from mkfa.errors import MkfaError, WorkError, one_line
from mkfa.images.opened import Domains
from mkfa.storage.atomic import atomic_write
from mkfa.training.device import Execution
from mkfa.training.folder import FAILURE, RunFolder, is_locked, read_json
from mkfa.training.planned import PlannedRun
from mkfa.training.stopping import Stopped

ARRAYS = "slurm"
"""Folder beside the run folders: one file per job array, which lists its run folders, and the jobs' output."""
LARGEST_ARRAY = 1000
"""Number of runs per array: the default MaxArraySize of Slurm is 1001."""
NOTICE = 60
"""Seconds before the end of a job's time at which it is told to save its run."""


def open_engine(execution: Execution, plan: Sequence[PlannedRun], *, domains: Domains, root: Path) -> Slurm:
    """Return the engine.

    Raises
    ------
    MkfaError
        This machine has no Slurm.
    WorkError
        Slurm does not answer.
    """
    for command in ("sbatch", "squeue"):
        if shutil.which(command) is None:
            remedy = "give the command on a machine that submits jobs, or leave out --engine"
            raise MkfaError("--engine slurm", f"needs Slurm's {command}, which this machine does not have", remedy)
    return Slurm(execution, domains, root)


class Slurm:
    """Job arrays of Slurm: an `mkfa.engines.sweep.Detached` engine."""

    def __init__(self, execution: Execution, domains: Domains, root: Path) -> None:
        self.threads = execution.threads or 1
        self.executions = (replace(execution, engine="local", threads=self.threads, jobs=1),)
        self.more = execution.sbatch
        self.domains, self.root = domains, root.resolve()

    def __enter__(self) -> Slurm:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def estimate(self, plan: Sequence[PlannedRun]) -> Estimate:
        """Return how long a plan takes one run after the other, on this machine."""
        return estimate(plan, self.domains, root=self.root, executions=self.executions)

    def hand_over(self, plan: Sequence[PlannedRun]) -> str:
        """Submit the runs that are not in the queue yet; return a sentence about all of them.

        Raises
        ------
        WorkError
            Slurm does not answer or refuses the jobs; what it says is in the error.
        """
        queued = self._queued()
        left = [p for p in plan if p.spec.hash not in queued and not is_locked(RunFolder(self.root, p.spec).path)]
        failed = [p for p in left if (RunFolder(self.root, p.spec).path / FAILURE).exists()]
        here = {p.spec.hash for p in plan}
        bases = [p for p in left if p.source_run is None or p.source_run.hash not in here]
        first = self._submit(bases, "base", after=())
        others = [p for p in left if p not in bases]
        needed = {p.source_run.hash for p in others if p.source_run is not None}
        before = sorted({job for name, job in queued.items() if name in needed})
        second = self._submit(others, "rest", after=(*first, *before))
        return self._report(len(plan) - len(left), (len(bases), first), (len(others), second), failed)

    def _report(
        self, waiting: int, bases: tuple[int, list[str]], others: tuple[int, list[str]], failed: Sequence[PlannedRun]
    ) -> str:
        parts = []
        if bases[0]:
            parts.append(f"{bases[0]} runs that need no other were submitted (job {', '.join(bases[1])})")
        if others[0]:
            parts.append(f"{others[0]} runs that wait for them were submitted (job {', '.join(others[1])})")
        if waiting:
            parts.append(f"{waiting} runs are queued or in progress already")
        if failed:
            reason = (read_json(RunFolder(self.root, failed[0].spec).path / FAILURE) or {}).get("error", "unknown")
            parts.append(f"{len(failed)} of them failed before ({failed[0].spec.label}: {reason})")
        return "; ".join(parts)

    def _submit(self, plan: Sequence[PlannedRun], what: str, *, after: Sequence[str]) -> list[str]:
        """Submit arrays of runs; return their job numbers."""
        jobs = []
        for start in range(0, len(plan), LARGEST_ARRAY):
            part = plan[start : start + LARGEST_ARRAY]
            folders = [str(Task.of(p, self.domains, self.executions[0]).write(self.root)) for p in part]
            listed = self.root / ARRAYS / f"{what}-{secrets.token_hex(4)}.json"
            (listed.parent / "output").mkdir(parents=True, exist_ok=True)
            atomic_write(listed, json.dumps({"folders": folders}).encode())
            job = self._sbatch(listed, len(part), what, after)
            atomic_write(listed, json.dumps({"job": job, "folders": folders}).encode())
            jobs.append(job)
        return jobs

    def _sbatch(self, listed: Path, count: int, what: str, after: Sequence[str]) -> str:
        path = os.pathsep.join(folder or str(Path.cwd()) for folder in sys.path)
        script = (
            f"export PYTHONPATH={shlex.quote(path)}\n"
            f"exec {shlex.quote(sys.executable)} -P -m mkfa.engines.slurm_queue {shlex.quote(str(listed))} "
            "$SLURM_ARRAY_TASK_ID"
        )
        command = ["sbatch", "--parsable", "--requeue", "--open-mode=append", f"--job-name=mkfa-{what}"]
        command += [f"--array=0-{count - 1}", f"--cpus-per-task={self.threads}", f"--signal=B:USR1@{NOTICE}"]
        command += [f"--chdir={self.root}", f"--output={listed.parent / 'output' / '%A_%a.txt'}"]
        if after:
            command.append("--dependency=afterany:" + ":".join(after))
        said = _ask([*command, *shlex.split(self.more), "--wrap", script])
        found = re.match(r"\d+", said)
        if not found:
            raise WorkError("sbatch", f"did not name a job: {said[:200]}", "see 'squeue --me'")
        return found[0]

    def _queued(self) -> dict[str, str]:
        """Return the job of every run that is in the queue, by the run's hash."""
        lines = _ask(["squeue", "--noheader", "--array", "--format=%F %K", f"--user={os.getuid()}"]).splitlines()
        alive = {tuple(line.split()) for line in lines}
        queued = {}
        for listed in sorted((self.root / ARRAYS).glob("*.json")):
            record = read_json(listed) or {}
            job = str(record.get("job", ""))
            for index, folder in enumerate(record.get("folders", ())):
                if (job, str(index)) in alive:
                    queued[Path(folder).name] = job
        return queued


def _ask(command: Sequence[str]) -> str:
    """Return what a command of Slurm prints. Raises WorkError if it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise WorkError(command[0], f"does not answer ({error})"[:300], "see 'sinfo'") from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines() or [f"exit code {done.returncode}"]
        problem = f"failed: {one_line(said[-1])[:300]}"
        raise WorkError(command[0], problem, "see 'sinfo', or pass options for sbatch by --sbatch")
    return done.stdout.strip()


def main(words: Iterable[str]) -> int:
    """Train the run with a number in an array's list; ask for another life of the job where its time was over."""
    listed, index = words
    folder = Path(json.loads(Path(listed).read_text())["folders"][int(index)])
    with listening() as stop:
        end = work(folder, stop=stop)
    print(describe(end), flush=True)
    code = exit_code(end)
    job = os.environ.get("SLURM_ARRAY_JOB_ID")
    if code == SAVED and isinstance(end, Stopped) and stop.time_over and job:
        asked = subprocess.run(["scontrol", "requeue", f"{job}_{index}"], capture_output=True, text=True, check=False)
        print(one_line(asked.stderr) or "the job was requeued", flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
