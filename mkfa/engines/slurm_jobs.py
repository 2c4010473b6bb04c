"""The jobs of Slurm that train runs: their script, and what the queue says about them.

**A node that lacks something.** Only Slurm can tell what happens on a node that does not see the folder of the runs.
The script therefore needs nothing of that folder in order to start. If the array's list or the Python is missing, the
script trains nothing: it names the node in the job's comment, keeps the rest of the array off the node, which would
otherwise take one run after the other, and puts the job back into the queue, held. There the job stays until somebody
asks for it, even without Slurm's accounting.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mkfa.errors import MkfaError, WorkError, one_line
from mkfa.storage.atomic import atomic_write
from mkfa.training.folder import RunFolder, read_json, read_spec

ARRAYS = "slurm"
"""Folder beside the run folders: one file per job array, which lists its run folders, and the jobs' output."""
LACKING = 77
"""Exit code of a job whose node lacks something, if Slurm lets it end."""
_COMPARED = ".versions"
"""Ends the name of the file, beside a job's output, that says that it has compared versions."""
_SAYS, _LACKS = "mkfa: node ", " lacks "
"""Words of the comment of such a job: "mkfa: node a lacks /path"."""
_SCRIPT = """\
for needed in {listed} {python}; do
  for again in 1 2 3; do [ -r "$needed" ] && continue 2; sleep 1; done
  without=$(squeue --noheader --jobs="$SLURM_JOB_ID" --format=%x)
  scontrol update JobId="$SLURM_JOB_ID" Comment="{says}$SLURMD_NODENAME{lacks}$needed"
  scontrol update JobId="$SLURM_ARRAY_JOB_ID" ExcNodeList="${{without:+$without,}}$SLURMD_NODENAME"
  scontrol requeuehold State=SpecialExit "$SLURM_JOB_ID" && sleep 60
  exit {lacking}
done
output={output}/"$SLURM_ARRAY_JOB_ID"_"$SLURM_ARRAY_TASK_ID".txt
: >>"$output"
[ /dev/stdout -ef /dev/null ] && exec >>"$output" 2>&1
export PYTHONPATH={path}
exec {python} -P -m mkfa.engines.slurm_queue {listed} "$SLURM_ARRAY_TASK_ID"
"""


@dataclass(frozen=True, slots=True)
class Job:
    """A job of an array in the queue: its array, its number in it, its state, why it waits, and its comment."""

    array: str
    index: str
    state: str = "PENDING"
    reason: str = ""
    comment: str = ""

    @property
    def number(self) -> str:
        """What Slurm's commands call it."""
        return f"{self.array}_{self.index}"

    @property
    def begun(self) -> bool:
        """Whether it has come to a node."""
        return self.state not in ("PENDING", "CONFIGURING")

    def lacking(self, root: Path) -> MkfaError | None:
        """Return the error of a node that lacks something, None if it lacks nothing or was not reached yet."""
        node, _, path = self.comment.removeprefix(_SAYS).partition(_LACKS)
        if self.state != "SPECIAL_EXIT" or not path or not self.comment.startswith(_SAYS):
            return None
        otherwise = f"or leave the node out: --sbatch='--exclude={node}'"
        if Path(path).is_relative_to(root):
            remedy = f"choose an --out on a file system that all nodes share, {otherwise}"
            return MkfaError(root, f"is not the same folder on node {node}", remedy)
        return MkfaError(path, f"is missing on node {node}", f"install the same mkfa there, {otherwise}")


def ask(command: Sequence[str], *, timeout: float = 120) -> str:
    """Return what a command of Slurm prints. Raises WorkError if it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise WorkError(command[0], f"does not answer ({error})"[:300], "see 'sinfo'") from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines() or [f"exit code {done.returncode}"]
        problem = f"failed: {one_line(said[-1])[:300]}"
        raise WorkError(command[0], problem, "see 'sinfo', or pass options for sbatch with --sbatch")
    return done.stdout.strip()


def script(listed: Path) -> str:
    """Return the script of the jobs of an array whose runs a file lists."""
    return _SCRIPT.format(
        listed=shlex.quote(str(listed)),
        python=shlex.quote(sys.executable),
        output=shlex.quote(str(listed.parent / "output")),
        path=shlex.quote(os.pathsep.join(folder or str(Path.cwd()) for folder in sys.path)),
        says=_SAYS,
        lacks=_LACKS,
        lacking=LACKING,
    )


def queued(root: Path, *, timeout: float = 120) -> dict[str, Job]:
    """Return the job of every run of a folder that is in the queue, by the run's hash. Raises WorkError as `ask`."""
    fields = ["--noheader", "--array", "--format=%F|%K|%T|%r|%k", f"--user={os.getuid()}"]
    lines = [line.split("|", 4) for line in ask(["squeue", *fields], timeout=timeout).splitlines()]
    alive = {(array, index): Job(array, index, *more) for array, index, *more in lines}
    found = {}
    for listed in sorted((root / ARRAYS).glob("*.json")):
        record = read_json(listed) or {}
        for index, folder in enumerate(record.get("folders", ())):
            if job := alive.get((str(record.get("job", "")), str(index))):
                found[Path(folder).name] = job
    return found


def stuck(jobs: dict[str, Job], root: Path) -> Iterator[tuple[str, MkfaError]]:
    """Yield the runs whose jobs are stuck, and why: their node lacks something, or no node is left that does not."""
    why = {job.array: error for job in jobs.values() if (error := job.lacking(root))}
    for name, job in jobs.items():
        if error := job.lacking(root):
            yield name, error
        elif job.array in why and job.reason == "BadConstraints":
            yield name, why[job.array]


def tell_compared(root: Path, number: str, error: MkfaError | None) -> None:
    """Write, on a node, that a job has compared versions, and the error if they are others than they have to be."""
    record = {} if error is None else {"thing": error.thing, "problem": error.problem, "remedy": error.remedy}
    with contextlib.suppress(MkfaError, OSError):  # as with all notes: what matters is the run
        atomic_write(_compared_file(root, number), json.dumps(record).encode())


def compared(root: Path, array: str) -> dict[str, MkfaError | None]:
    """Return what the jobs of an array that have compared versions found, by the job's number."""
    found = {path.stem: read_json(path) for path in _compared_file(root, "").parent.glob(f"{array}_*{_COMPARED}")}
    return {number: MkfaError(**record) if record else None for number, record in found.items()}


def _compared_file(root: Path, number: str) -> Path:
    return root / ARRAYS / "output" / f"{number}{_COMPARED}"


def note(root: Path, why: Mapping[str, MkfaError]) -> None:
    """Write into the folders of runs why their jobs are stuck, which their nodes could not do."""
    for name, error in why.items():
        if spec := read_spec(root / name):
            RunFolder(root, spec).fail(error)


def note_stuck(root: Path) -> None:
    """Note why jobs in the queue are stuck; do nothing if there is no Slurm, or none that answers."""
    root = root.resolve()
    if (root / ARRAYS).is_dir() and shutil.which("squeue") is not None:
        with contextlib.suppress(WorkError):
            note(root, dict(stuck(queued(root, timeout=10), root)))
