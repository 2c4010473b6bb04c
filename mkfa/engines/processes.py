"""Engines: runs one after the other in this process, or several at a time in separate processes.

Each worker trains one run folder after another. An arm that borrows from a base run in the plan waits for it. Only this
process writes shared files, i.e. the banks in the library. Results are the same as when the runs are trained one after
the other with the same number of threads.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from multiprocessing.connection import wait
from pathlib import Path
from types import TracebackType
from typing import Any

from mkfa.engines.estimate import Estimate, Timing, estimate, time_run
from mkfa.engines.serial import Outcome, carry_out, keep_bank, taken_over
from mkfa.engines.worker import Task, Worker, no_signals
from mkfa.errors import MkfaError, WorkError
from mkfa.images.opened import Domains
from mkfa.training.device import Execution
from mkfa.training.planned import PlannedRun
from mkfa.training.run import Report
from mkfa.training.spec import RunSpec
from mkfa.training.stopping import Stop, Stopped

_LOOK = 0.2
"""Seconds between checks on silent processes."""
_PATIENCE = 10.0
"""Seconds that an idle worker gets to exit by itself."""
_COMMAND = ("-P", "-m", "mkfa.engines.worker", "--pipe")


def divide(execution: Execution, plan: Sequence[PlannedRun]) -> tuple[Execution, ...]:
    """Return the device and threads of each concurrent run.

    If `jobs` is 0, there is one run per GPU ("auto" and "cuda" mean all GPUs, "cuda:1" only that one). On a CPU there
    is one single-threaded run per core if `threads` is 0 and enough runs are independent; otherwise one run at a time.
    If `threads` is 0, the concurrent runs share the cores equally.

    The whole plan counts, not only its unfinished runs, so a stopped plan continues with the same settings.

    Raises
    ------
    MkfaError
        The device is not available.
    """
    import torch

    kind = execution.resolved().device.type
    cores = torch.get_num_threads()
    places = [execution.device]
    if kind == "cuda" and execution.device in ("auto", "cuda"):
        places = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    jobs = execution.jobs or min(len(places), max(1, _independent(plan)))
    if not execution.jobs and kind == "cpu" and not execution.threads and _independent(plan) >= cores:
        jobs = cores
    threads = execution.threads or max(1, cores // jobs)
    share = 1 / -(-jobs // len(places))  # on the device with the most runs
    return tuple(
        replace(execution, device=places[i % len(places)], threads=threads, share=share, jobs=1) for i in range(jobs)
    )


def _independent(plan: Sequence[PlannedRun]) -> int:
    """Return how many runs can run concurrently: those without a source run, or those that wait for one."""
    waiting = sum(p.source_run is not None for p in plan)
    return max(waiting, len(plan) - waiting)


def open_engine(execution: Execution, plan: Sequence[PlannedRun], *, domains: Domains, root: Path) -> Serial | Workers:
    """Return the engine for a plan, as a context manager; processes are started only when there is work."""
    left = sum(taken_over(planned, root, Execution()) is None for planned in plan)
    executions = divide(execution, plan)[: max(1, left)]
    if len(executions) == 1:
        return Serial(executions[0], domains, root)
    return Workers(executions, domains, root)


class Serial:
    """One run after the other in this process."""

    def __init__(self, execution: Execution, domains: Domains, root: Path) -> None:
        self.executions, self.domains, self.root = (execution,), domains, root

    def __enter__(self) -> Serial:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def estimate(self, plan: Sequence[PlannedRun]) -> Estimate:
        """Return how long a plan takes."""

        def timer(spec: RunSpec) -> Timing:
            return time_run(spec, self.domains, execution=self.executions[0])

        return estimate(plan, self.domains, root=self.root, executions=self.executions, timer=timer)

    def carry_out(self, plan: Sequence[PlannedRun], **more: Any) -> tuple[Outcome, ...]:
        """Train a plan; `more` and errors as in `mkfa.engines.serial.carry_out`."""
        return carry_out(plan, self.domains, root=self.root, execution=self.executions[0], **more)


class _Process:
    """A worker process, seen from its parent."""

    def __init__(self, execution: Execution) -> None:
        self.pipe, other_end = multiprocessing.Pipe()
        number = other_end.fileno()
        path = os.pathsep.join(folder or str(Path.cwd()) for folder in sys.path)
        try:
            with other_end, no_signals():
                self.child = subprocess.Popen(
                    [sys.executable, *_COMMAND, str(number)],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    pass_fds=[number],
                    env={**os.environ, "PYTHONPATH": path},
                )
        except OSError as error:
            self.pipe.close()
            problem = f"cannot be started ({error.strerror or error})"
            raise WorkError("a training process", problem, "pass fewer --jobs, or --jobs 1") from error
        self.execution = execution
        self.planned: PlannedRun | None = None
        self.ready = False

    def send(self, order: Any) -> None:
        """Send an order; a dead process is detected elsewhere."""
        with contextlib.suppress(OSError):
            self.pipe.send(order)

    @property
    def end(self) -> str:
        """A description of how the process ended."""
        code = self.child.wait()
        return f"was killed ({signal.Signals(-code).name})" if code < 0 else f"ended with exit code {code}"

    def close(self, *, kill: bool) -> None:
        """End the process: immediately, or after its current work."""
        self.pipe.close()
        try:
            if kill:
                self.child.kill()
            self.child.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()


class Workers:
    """Several processes, each training a run of the plan."""

    def __init__(self, executions: Sequence[Execution], domains: Domains, root: Path) -> None:
        self.executions, self.domains, self.root = tuple(executions), domains, root
        self.processes: dict[int, _Process] = {}
        """By the number of their `executions`."""
        self.stopping = False

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, kind: type[BaseException] | None, _: object, __: TracebackType | None) -> None:
        for process in list(self.processes.values()):
            self._drop(process, kill=kind is not None)

    def estimate(self, plan: Sequence[PlannedRun]) -> Estimate:
        """Return how long a plan takes; steps are timed in all processes simultaneously."""
        return estimate(plan, self.domains, root=self.root, executions=self.executions, timer=self._time)

    def _time(self, spec: RunSpec) -> Timing:
        for number, execution in enumerate(self.executions):
            self._process(number).send(Task.of(PlannedRun(spec, ""), self.domains, execution))
        self._gather(spec)
        for process in self.processes.values():
            process.send(Worker.TIME)
        timings = self._gather(spec)
        return Timing(*(sum(getattr(t, key) for t in timings) / len(timings) for key in ("step", "image")))

    def _gather(self, spec: RunSpec) -> list[Any]:
        """Return one answer from each process."""
        answers: list[Any] = []
        while len(answers) < len(self.processes):
            for process, message in self._listen():
                if message is None:
                    raise self._broken(process)
                if isinstance(message, BaseException):
                    raise _named(message, spec.label)
                answers.append(message)
        return answers

    def carry_out(
        self,
        plan: Sequence[PlannedRun],
        *,
        stop: Stop,
        tell: Callable[[PlannedRun, Report], None] = lambda *_: None,
        ended: Callable[[Outcome], None] = lambda _: None,
    ) -> tuple[Outcome, ...]:
        """Train the runs of a plan, several at a time, in order, respecting their dependencies.

        Parameters
        ----------
        tell : called a few times per second with each active run and its progress.
        ended : called after each run, in the order in which they finish.

        Raises
        ------
        Stopped
            `stop` was requested; the runs in progress saved themselves.
        MkfaError
            A run failed; the other active runs saved their state, and finished runs are kept.
        """
        outcomes: dict[str, Outcome] = {}
        waiting: list[PlannedRun] = []

        def end(outcome: Outcome) -> None:
            outcomes[outcome.planned.spec.hash] = outcome
            ended(outcome)

        for planned in plan:
            before = taken_over(planned, self.root, self.executions[0])
            if before is None:
                waiting.append(planned)
            else:
                end(before)
        error: BaseException | None = None
        self.stopping = False
        while waiting or self._busy():
            if (stop.requested or error) and not self.stopping:
                self.stopping = True
                for process in self.processes.values():
                    process.send(Worker.STOP)
            if self.stopping and not self._busy():
                break
            if not self.stopping:
                self._hand_out(waiting)
            for process, message in self._listen():
                try:
                    if outcome := self._take(process, message, tell):
                        end(outcome)
                except (MkfaError, MemoryError) as failed:
                    error = error or failed
        if error:
            raise error
        if len(outcomes) < len({p.spec.hash for p in plan}):
            raise Stopped
        return tuple(outcomes[p.spec.hash] for p in plan)

    def _busy(self) -> list[_Process]:
        return [process for process in self.processes.values() if process.planned is not None]

    def _hand_out(self, waiting: list[PlannedRun]) -> None:
        """Give each idle process the first run that is not waiting for another."""
        for number, execution in enumerate(self.executions):
            if number in self.processes and self.processes[number].planned is not None:
                continue
            unfinished = {p.spec.hash for p in waiting} | {p.planned.spec.hash for p in self._busy() if p.planned}
            ready = next((p for p in waiting if p.source_run is None or p.source_run.hash not in unfinished), None)
            if ready is None:
                return
            waiting.remove(ready)
            process = self._process(number)
            process.planned = ready
            process.send(Task.of(ready, self.domains, execution).write(self.root))

    def _take(self, process: _Process, message: Any, tell: Callable[[PlannedRun, Report], None]) -> Outcome | None:
        """Return the outcome of a run, None while it is in progress; raise the error that ends the sweep."""
        planned = process.planned
        if message is None:
            self._drop(process)
            if not process.ready:
                raise self._broken(process)
            return _lost(planned, f"its process {process.end}") if planned else None
        if planned is None:
            return None
        if isinstance(message, Report):
            tell(planned, message)
            return None
        process.planned = None
        if isinstance(message, Stopped):
            self._drop(process)
            return None if self.stopping else _lost(planned, "its process was asked to stop and saved its state")
        if isinstance(message, BaseException):
            raise _named(message, planned.spec.label)
        return keep_bank(replace(message, planned=planned), self.domains, self.root)

    def _process(self, number: int) -> _Process:
        if number not in self.processes:
            self.processes[number] = _Process(self.executions[number])
        return self.processes[number]

    def _listen(self) -> list[tuple[_Process, Any]]:
        """Return the messages that arrive within a moment; None from a process that has ended."""
        answering = wait([process.pipe for process in self.processes.values()], _LOOK)
        messages: list[tuple[_Process, Any]] = []
        for process in self.processes.values():
            if process.pipe in answering:
                try:
                    message = process.pipe.recv()
                except (EOFError, OSError):
                    message = None
                if message == Worker.READY:
                    process.ready = True
                else:
                    messages.append((process, message))
            elif process.child.poll() is not None:  # what a dead process started may hold its end of the pipe open
                messages.append((process, None))
        return messages

    def _drop(self, process: _Process, *, kill: bool = False) -> None:
        self.processes = {number: kept for number, kept in self.processes.items() if kept is not process}
        process.close(kill=kill)

    def _broken(self, process: _Process) -> WorkError:
        return WorkError("a training process", f"{process.end} before it started a run", "pass --jobs 1")


def _named(error: BaseException, label: str) -> BaseException:
    """Return a worker's error with the run's label inserted."""
    if isinstance(error, WorkError) and error.thing == "a run":
        named = WorkError(label, error.problem, error.remedy)
        for note in error.__notes__:
            named.add_note(note)
        return named
    return error


def _lost(planned: PlannedRun, how: str) -> Outcome:
    remedy = "run the command again: it continues from its checkpoint (with fewer --jobs if memory was short)"
    return Outcome(planned, "lost", False, note=str(WorkError(planned.spec.label, how, remedy)))
