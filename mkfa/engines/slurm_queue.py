"""The engine that puts runs into the queue of Slurm: one job array for base runs, one for the runs that borrow.

**Detached.** The command ends when the jobs are submitted. Given again, it takes finished runs over, submits what is
neither finished nor in the queue, and prints the result once all runs are done.

**Order.** Runs that borrow wait with `afterany` for the base runs of their plan and look for their results when they
start, so that one failed base run stops only the runs that need it.

**Interrupted jobs.** A job that is requeued, or whose time ends (`--signal=USR1`), saves its run and continues from the
checkpoint when it starts again. All it needs is the folder of the runs on a file system that the nodes share, and mkfa
in the same environment.

**Nodes.** Which nodes an array gets is known only when it gets them. The command watches the first array for some
seconds: if the first jobs find a node that lacks the folder or the Python, or has other versions, it takes back what it
submitted and refuses. `mkfa.engines.slurm_jobs` reports nodes that come later.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import re
import secrets
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from mkfa.engines import slurm_jobs
from mkfa.engines.engine import End, Place, Queued
from mkfa.engines.slurm_jobs import ARRAYS, stuck
from mkfa.engines.work import FAILED, SAVED, describe, exit_code, listening, other_versions, versions, work
from mkfa.engines.worker import Task
from mkfa.errors import MkfaError, WorkError, one_line
from mkfa.images.opened import Domains
from mkfa.storage.atomic import atomic_write
from mkfa.training.device import Execution
from mkfa.training.folder import FAILURE, RunFolder, is_locked, read_json, read_spec
from mkfa.training.planned import PlannedRun
from mkfa.training.run import Report
from mkfa.training.stopping import Stop, Stopped

LARGEST_ARRAY = 1000
"""Number of runs per array: the default MaxArraySize of Slurm is 1001."""
NOTICE = 60
"""Seconds before the end of a job's time at which it is told to save its run."""
WATCH = 15.0
"""Seconds for which the first array is watched; in a busy queue no job of it begins within them."""
_LOOK = 0.5
"""Seconds between looks at it."""


def open_engine(execution: Execution, plan: Sequence[PlannedRun], *, domains: Domains, root: Path) -> Slurm:
    """Return the engine."""
    return Slurm(execution, domains, root)


class Slurm:
    """Job arrays of Slurm: an `mkfa.engines.engine.Engine` whose runs end as `Queued`."""

    def __init__(self, execution: Execution, domains: Domains, root: Path) -> None:
        self.more = execution.sbatch
        asks_for_gpu = re.search(r"--(gres|gpus)", self.more) is not None
        device = execution.device if execution.device != "auto" else "cuda" if asks_for_gpu else "cpu"
        threads = execution.threads or 1
        self.execution = replace(execution, engine="local", device=device, threads=threads, jobs=1)
        self.at_a_time = execution.jobs or None
        self.domains, self.root = domains, root.resolve()
        self.jobs: dict[str, str] = {}
        """The job of every run that is in the queue, by the run's hash."""
        self.stuck: list[list[str]] = []
        """The jobs that wait for stuck ones, and the stuck ones, which would stay in the queue for ever."""
        self.submitted: dict[str, list[PlannedRun]] = {}
        """The runs of each array that this command submitted."""
        self.taken: list[PlannedRun] = []
        """Runs to submit together."""

    def __enter__(self) -> Slurm:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def check(self, plan: Sequence[PlannedRun]) -> None:
        """Ask Slurm what is in the queue.

        Raises
        ------
        MkfaError
            This machine has no Slurm, or none that answers.
        """
        for command in ("sbatch", "squeue", "sinfo"):
            if shutil.which(command) is None:
                remedy = "give the command on a machine that submits jobs, or leave out --engine"
                raise MkfaError("--engine slurm", f"needs Slurm's {command}, which this machine does not have", remedy)
        try:
            jobs = slurm_jobs.queued(self.root)
        except WorkError as error:
            problem = f"finds no Slurm that answers ({error.thing} {error.problem})"
            raise MkfaError("--engine slurm", problem, "see 'sinfo', or leave out --engine") from error
        why = dict(stuck(jobs, self.root))
        slurm_jobs.note(self.root, why)
        wanted = {p.spec.hash for p in plan if p.spec.hash in why}
        waiting = {p.spec.hash for p in plan if p.source_run is not None and p.source_run.hash in wanted} & set(jobs)
        self.stuck = [[jobs[name].number for name in sorted(names)] for names in (waiting, wanted)]
        self.jobs = {name: job.array for name, job in jobs.items() if name not in waiting | wanted}

    def places(self) -> list[Place]:
        """Return a place for every run that the nodes have CPUs for; GPUs and the jobs of others may leave fewer.

        Raises
        ------
        WorkError
            Slurm does not answer.
        """
        lines = slurm_jobs.ask(["sinfo", "--noheader", "--Node", "--responding", "--format=%n %c"]).splitlines()
        nodes = {node: int(cpus) for node, _, cpus in (line.partition(" ") for line in lines) if cpus.isdecimal()}
        found = [
            Place(self.execution, node) for node, cpus in nodes.items() for _ in range(cpus // self.execution.threads)
        ]
        return found[: self.at_a_time] or [Place(self.execution, "a node")]

    def submit(self, planned: PlannedRun) -> bool:
        """Take any run; those that are submitted together go into one array."""
        self.taken.append(planned)
        return True

    def events(self, tell: Callable[[PlannedRun, Report], None], stop: Stop) -> list[tuple[PlannedRun, End]]:
        """Submit the runs that were taken; every run ends as `Queued`.

        Raises
        ------
        WorkError
            Slurm does not answer or refuses the jobs; what it says is in the error.
        MkfaError
            A node that the first jobs came to lacks the folder of the runs or the Python, or has other versions; no job
            is left.
        """
        for jobs in self.stuck:  # first those that wait: they would begin otherwise
            self._cancel(jobs)
        self.stuck = []
        taken, self.taken = self.taken, []
        ends: list[tuple[PlannedRun, End]] = []
        new = []
        for planned in taken:
            if planned.spec.hash in self.jobs or is_locked(RunFolder(self.root, planned.spec).path):
                ends.append((planned, Queued("in the queue or in progress already")))
            else:
                new.append(planned)
        needed = {p.source_run.hash for p in new if p.source_run is not None}
        after = sorted({job for name, job in self.jobs.items() if name in needed}, key=int)
        for start in range(0, len(new), LARGEST_ARRAY):
            part = new[start : start + LARGEST_ARRAY]
            before = [_failure(RunFolder(self.root, p.spec)) for p in part]
            for planned in part:
                RunFolder(self.root, planned.spec).forget_failure()
            job = self._submit(part, after=after)
            how = f"submitted as job {job}" + (f", which waits for {', '.join(after)}" if after else "")
            self.submitted[job] = part
            if not after and len(self.submitted) == 1:
                self._watch(job, stop)
            for planned, failure in zip(part, before, strict=True):
                self.jobs[planned.spec.hash] = job
                ends.append((planned, Queued(how + (f", again after it failed ({failure})" if failure else ""))))
        return ends

    def stop(self) -> None:
        """Do nothing: what is in the queue stays there ('scancel' ends jobs)."""

    def _watch(self, array: str, stop: Stop) -> None:
        """Wait until the first jobs of an array train, some seconds at most; refuse nodes that lack something."""
        until = time.monotonic() + WATCH
        while time.monotonic() < until and not stop.requested:
            time.sleep(_LOOK)
            try:
                jobs = {name: job for name, job in slurm_jobs.queued(self.root).items() if job.array == array}
            except WorkError:  # the jobs are in the queue all the same
                return
            compared = slurm_jobs.compared(self.root, array)
            refused = [*stuck(jobs, self.root), *((number, error) for number, error in compared.items() if error)]
            if refused:
                for _ in range(3):  # a job that puts itself back at this moment is there again
                    self._cancel(self.submitted)
                    time.sleep(_LOOK)
                error = refused[0][1]
                slurm_jobs.note(self.root, {p.spec.hash: error for part in self.submitted.values() for p in part})
                raise error
            begun = [job for job in jobs.values() if job.begun]
            if not jobs or (begun and all(job.number in compared for job in begun)):
                return

    def _cancel(self, jobs: Collection[str]) -> None:
        if jobs:
            with contextlib.suppress(WorkError):  # some may have gone meanwhile
                slurm_jobs.ask(["scancel", *jobs])

    def _submit(self, plan: Sequence[PlannedRun], *, after: Sequence[str]) -> str:
        """Submit an array of runs; return its job number."""
        what = "borrowing" if after else "base"
        folders = [str(Task.of(p, self.domains, self.execution).write(self.root)) for p in plan]
        listed = self.root / ARRAYS / f"{what}-{secrets.token_hex(4)}.json"
        (listed.parent / "output").mkdir(parents=True, exist_ok=True)
        record = {"folders": folders, "versions": versions()}
        atomic_write(listed, json.dumps(record).encode())
        job = self._sbatch(listed, len(plan), what, after)
        atomic_write(listed, json.dumps({"job": job, **record}).encode())
        return job

    def _sbatch(self, listed: Path, count: int, what: str, after: Sequence[str]) -> str:
        command = ["sbatch", "--parsable", "--requeue", "--open-mode=append", f"--job-name=mkfa-{what}"]
        most = f"%{self.at_a_time}" if self.at_a_time else ""  # runs of an array at a time
        command += [
            f"--array=0-{count - 1}{most}",
            f"--cpus-per-task={self.execution.threads}",
            f"--signal=B:USR1@{NOTICE}",
        ]
        command += ["--chdir=/", "--output=/dev/null"]  # on any node: the script finds its own output
        if after:
            command.append("--dependency=afterany:" + ":".join(after))
        said = slurm_jobs.ask([*command, *shlex.split(self.more), "--wrap", slurm_jobs.script(listed)])
        found = re.match(r"\d+", said)
        if not found:
            raise WorkError("sbatch", f"did not name a job: {said[:200]}", "see 'squeue --me'")
        return found[0]


def _failure(folder: RunFolder) -> str:
    """Return why a run failed before; "" if it did not."""
    record = read_json(folder.path / FAILURE)
    return str(record.get("error", "unknown")) if record is not None else ""


def main(words: Iterable[str]) -> int:
    """Train the run with a number in an array's list; requeue the job if its time was over.

    A node with other versions than the submitting machine trains nothing: the run fails with a sentence.
    """
    listed, index = words
    record = json.loads(Path(listed).read_text())
    folder = Path(record["folders"][int(index)])
    job = os.environ.get("SLURM_ARRAY_JOB_ID")
    error = other_versions(f"node {platform.node()}", versions(), record.get("versions", {}))
    if job:
        slurm_jobs.tell_compared(folder.parent, f"{job}_{index}", error)
    if error:
        if spec := read_spec(folder):
            RunFolder(folder.parent, spec).fail(error)
        print(error, flush=True)
        return FAILED
    with listening() as stop:
        end = work(folder, stop=stop)
    print(describe(end), flush=True)
    code = exit_code(end)
    if code == SAVED and isinstance(end, Stopped) and stop.time_over and job:
        asked = subprocess.run(["scontrol", "requeue", f"{job}_{index}"], capture_output=True, text=True, check=False)
        print(one_line(asked.stderr) or "the job was requeued", flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
