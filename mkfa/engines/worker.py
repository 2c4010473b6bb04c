"""A worker: a process that trains the run described by a folder's `task.json`.

The workers of `mkfa.engines.processes` get folders through a pipe and train one after another, so that libraries are
imported and images are read only once. `mkfa work FOLDER` trains one (`mkfa.engines.work`).
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mkfa.errors import MkfaError, WorkError
from mkfa.images.opened import Domains
from mkfa.training.device import Execution
from mkfa.training.folder import TASK, RunFolder, read_json
from mkfa.training.planned import PlannedRun
from mkfa.training.ranks import ALONE, Ranks
from mkfa.training.spec import RunSpec
from mkfa.training.stopping import Stop, Stopped

if TYPE_CHECKING:
    from mkfa.engines.unit import Outcome
    from mkfa.training.run import Report

SOURCE_BANK = "source.h5"
"""The bank that provides the run's filters, beside its task."""
RATE = 5
"""Progress reports per second."""


@dataclass(frozen=True, slots=True)
class Task:
    """Everything that a worker needs to train a run.

    `names` maps each domain's own name to the name or path from which it is opened; the sizes are those of
    `mkfa.images.opened.Domains`.
    """

    planned: PlannedRun
    names: Mapping[str, str]
    size: int
    max_size: int
    execution: Execution
    crop_from: int = 0
    eval_size: int = 0

    @classmethod
    def of(cls, planned: PlannedRun, domains: Domains, execution: Execution) -> Task:
        """Return the task of a planned run."""
        specs = [spec for spec in (planned.spec, planned.source_run) if spec is not None]
        names = {spec.domain: _reachable(domains.asked_as(spec.domain)) for spec in specs}
        sizes = domains.size, domains.max_size
        return cls(planned, names, *sizes, execution, domains.crop_from, domains.eval_size)

    @property
    def record(self) -> dict[str, Any]:
        """The task as JSON; a bank is a file beside it."""
        planned = self.planned
        return {
            "spec": planned.spec.record,
            "source": planned.source,
            "source_run": planned.source_run.record if planned.source_run else None,
            "source_bank": SOURCE_BANK if planned.bank is not None else "",
            "domains": dict(self.names),
            "size": self.size,
            "max_size": self.max_size,
            "crop_from": self.crop_from,
            "eval_size": self.eval_size,
            "execution": asdict(self.execution),
        }

    def write(self, root: Path) -> Path:
        """Write the task into the run's folder below `root`; return the folder."""
        from mkfa.banks.bank_file import write_bank

        planned, folder = self.planned, RunFolder(root, self.planned.spec)
        folder.prepare()
        if planned.bank is not None:
            write_bank(planned.bank, folder.path / SOURCE_BANK)
        folder.write_json(TASK, self.record)
        return folder.path

    @classmethod
    def read(cls, folder: Path) -> Task:
        """Read the task of a run's folder.

        Raises
        ------
        MkfaError
            The folder has no task.
        WorkError
            The task is damaged.
        """
        record = read_json(folder / TASK)
        if record is None:
            raise MkfaError(folder, f"has no {TASK}", "start the command that trains the run")
        try:
            return cls.from_record(record, folder)
        except (KeyError, TypeError) as error:
            raise WorkError(folder / TASK, f"is damaged ({error})", "start the command that trains the run") from None

    @classmethod
    def from_record(cls, record: Mapping[str, Any], folder: Path) -> Task:
        """Return the task of a `record`, whose bank is in `folder`; raises KeyError or TypeError for bad fields."""
        from mkfa.banks.bank_file import read_bank

        run = record["source_run"]
        bank = read_bank(folder / record["source_bank"]) if record["source_bank"] else None
        planned = PlannedRun(RunSpec.of(record["spec"]), record["source"], RunSpec.of(run) if run else None, bank)
        execution = Execution(**record["execution"])
        more = (int(record.get(key, 0)) for key in ("crop_from", "eval_size"))
        return cls(planned, record["domains"], record["size"], record["max_size"], execution, *more)

    def open_domains(self) -> Domains:
        """Open the domains that the run needs.

        Raises
        ------
        WorkError
            The images have changed since the task was written.
        """
        sizes = self.size, self.max_size, self.crop_from, self.eval_size
        domains = _domains(*sizes)
        if any(domains.asked_as(own) not in (own, name) for own, name in self.names.items()):
            _domains.cache_clear()  # this process trained on other images of the same name before
            domains = _domains(*sizes)
        for spec in (self.planned.spec, self.planned.source_run):
            if spec is not None and domains[self.names[spec.domain]].digest != spec.domain_digest:
                raise WorkError(self.names[spec.domain], "has changed since the plan was made", "run the command again")
        return domains


def _reachable(domain: str) -> str:
    """Return a domain's name, or its absolute path, which holds on all machines that share the file system."""
    from mkfa.images.load import list_domains

    named = {info.name for info in list_domains()}
    return domain if domain in named or not Path(domain).exists() else str(Path(domain).resolve())


@lru_cache(maxsize=2)
def _domains(size: int, max_size: int, crop_from: int, eval_size: int) -> Domains:
    """Return the domains of this process, which opens each once for all of its runs."""
    return Domains(size, max_size, crop_from=crop_from, eval_size=eval_size)


def train_task(
    folder: Path, *, stop: Stop, tell: Callable[[Report], None] = lambda _: None, ranks: Ranks = ALONE
) -> Outcome:
    """Train the run described by a folder's task, with other processes if `ranks` are several.

    Raises as `mkfa.engines.unit.train_planned`.
    """
    import torch

    from mkfa.engines.unit import train_planned
    from mkfa.training.run import compute_alone

    task = ranks.together(lambda: Task.read(folder))
    if task.execution.threads and ranks.world == 1:
        torch.set_num_threads(task.execution.threads)
    work = train_planned(
        task.planned,
        ranks.together(task.open_domains),
        root=folder.parent,
        execution=task.execution,
        stop=stop,
        tell=lambda _, report: tell(report),
        ranks=ranks,
    )
    outcome = compute_alone(work)
    if outcome.result is not None and ranks.leads:
        clear_task(folder)
    return outcome


def clear_task(folder: Path) -> None:
    """Remove the task of a run that is over."""
    for name in (TASK, SOURCE_BANK):
        (folder / name).unlink(missing_ok=True)


class Worker:
    """Trains run folders received through a pipe: one after another or, if their strategy computes runs together, as a
    group (`mkfa.engines.group`).

    Messages are Python objects. Orders: the folder of a run to train; a `Task` to build for timing; `TIME`; `STOP`.
    Answers: `READY` once; with the name of a run's folder, a `Report` a few times per second, then an `Outcome` or the
    error; `BUILT` and a `Timing`, or the error. `STOP` during training, or the end of the pipe, makes the runs save
    their state and stop, so no run outlives its parent.
    """

    READY, BUILT, TIME, STOP = "ready", "built", "time", "stop"

    def __init__(self, pipe: Connection) -> None:
        self.pipe, self.stop = pipe, Stop()
        self.timer: Any = None
        self.told_at: dict[str, float] = {}
        self.group: Any = None
        self.folders: dict[str, Path] = {}
        """The folders of the group's runs, by their names."""

    def work(self) -> None:
        """Carry out orders until the pipe closes or the process is asked to stop."""
        self.pipe.send(self.READY)
        while self.folders or not self.stop.requested:
            try:
                if not self.stop.requested and self.pipe.poll(0 if self.folders else 1):
                    order = self.pipe.recv()
                    if order == self.STOP:
                        self.stop.requested |= bool(self.folders)
                    elif (answer := self.answer(order)) is not None:
                        self.pipe.send(answer)
                    continue
                if self.folders:
                    self.train_together()
            except (EOFError, OSError):
                self.stop.requested = True

    def answer(self, order: Path | Task | str) -> Any:
        """Return the result of an order, None for a run that joins the group; errors are returned, not raised."""
        from mkfa.engines.engine import unexpected
        from mkfa.engines.estimate import Specimen

        def answer() -> Any:
            if isinstance(order, Path):
                task = Task.read(order)
                if not task.execution.is_group:
                    return train_task(order, stop=self.stop, tell=partial(self.tell, task.planned))
                if self.group is None:
                    self.group = self._group(task, order.parent)
                self.group.domains = task.open_domains()
                if not self.group.submit(task.planned):
                    self.group.aside.append(task.planned)
                self.folders[order.name] = order
                return None
            if isinstance(order, Task):
                if order.execution.is_group:
                    self.timer = partial(self._group(order, Path()).time, order.planned.spec)
                else:
                    self.timer = Specimen(order.planned.spec, order.open_domains(), order.execution).time
                return self.BUILT
            timing, self.timer = self.timer(), None
            return timing

        end: Any
        try:
            end = answer()
        except (Stopped, MkfaError, MemoryError) as error:
            end = error
        except Exception as error:
            end = unexpected(error)
        return (order.name, end) if isinstance(order, Path) and end is not None else end

    def _group(self, task: Task, root: Path) -> Any:
        from mkfa.engines.group import Together

        how = task.execution
        return Together(how, how.strategy, how.jobs, task.open_domains(), root)

    def train_together(self) -> None:
        """Train the group for a moment; send how runs ended. Raises OSError if nobody listens any longer."""
        from mkfa.engines.engine import Died, unexpected
        from mkfa.engines.unit import Outcome

        ends: list[tuple[str, Any]]
        try:
            ends = [(planned.spec.hash, end) for planned, end in self.group.events(self.tell, self.stop)]
        except Exception as error:  # the device may be unusable now
            died = Died(f"its group {unexpected(error).problem}", memory=isinstance(error, MemoryError))
            ends = [(name, died) for name in self.folders]
            self.stop.requested = True
        for name, end in ends:
            folder = self.folders.pop(name)
            if isinstance(end, Outcome) and end.result is not None:
                clear_task(folder)
        for end in ends:
            self.pipe.send(end)

    def tell(self, planned: PlannedRun, report: Report) -> None:
        """Report a step of a run; where it is trained alone, check for a stop request."""
        now, name = time.monotonic(), planned.spec.hash
        if now - self.told_at.get(name, 0.0) < 1 / RATE and report.step < report.steps:
            return
        self.told_at[name] = now
        try:
            self.pipe.send((name, report))
            self.stop.requested |= not self.folders and self.pipe.poll()
        except OSError:
            self.stop.requested = True


@contextlib.contextmanager
def no_signals() -> Iterator[None]:
    """Block SIGINT, SIGTERM and SIGHUP while a worker starts; the worker unblocks them when it is ready."""
    former = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)


def main(words: list[str]) -> int:
    """Train the runs whose folders are received through a file descriptor: "--pipe NUMBER"."""
    if words[:1] == ["--pipe"]:
        os.set_inheritable(int(words[1]), False)
        worker = Worker(Connection(int(words[1])))

        def leave(*_: Any) -> None:
            worker.stop.requested = True

        for number in (signal.SIGINT, signal.SIGHUP):  # these reach all processes of a terminal: the parent decides
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, leave)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
        worker.work()
        return 0
    raise SystemExit("mkfa.engines.worker: is started by mkfa itself; train a run folder with 'mkfa work FOLDER'")


if __name__ == "__main__":
    from mkfa.engines import worker  # pickled classes must be those of the imported module

    sys.exit(worker.main(sys.argv[1:]))
