"""The engine that trains several runs at a time, each in a process of its own; and the choice of an engine.

Each worker trains one run folder after another. The results are the same as in one process with the same number of
threads. On several devices, the worker of each device may train a group of runs at a time.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from multiprocessing.connection import wait
from pathlib import Path
from types import TracebackType
from typing import Any, cast

from mkfa.engines.engine import Died, End, EngineError, Place, Timing
from mkfa.engines.estimate import is_left, time_group
from mkfa.engines.fastest import Timer, check_networks, check_strategy, choose, of_group
from mkfa.engines.group import Together, kind_of
from mkfa.engines.serial import Serial
from mkfa.engines.unit import Outcome
from mkfa.engines.worker import Task, Worker, no_signals
from mkfa.errors import WorkError
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
_IDLE = 20.0
"""Seconds after which an idle worker is ended, so that it keeps no memory from those that train."""
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
    places = _devices(execution)
    jobs = execution.jobs or min(len(places), max(1, _independent(plan)))
    if not execution.jobs and kind == "cpu" and not execution.threads and _independent(plan) >= cores:
        jobs = cores
    threads = execution.threads or max(1, cores // jobs)
    share = 1 / -(-jobs // len(places))  # on the device with the most runs
    return tuple(
        replace(execution, device=places[i % len(places)], threads=threads, share=share, jobs=1) for i in range(jobs)
    )


def _independent(plan: Sequence[PlannedRun]) -> int:
    """Return how many runs can be trained concurrently: those without a source run, or those that wait for one."""
    waiting = sum(p.source_run is not None for p in plan)
    return max(waiting, len(plan) - waiting)


def open_engine(
    execution: Execution, plan: Sequence[PlannedRun], *, domains: Domains, root: Path
) -> Serial | Workers | Together:
    """Return the engine for a plan, as a context manager; processes are started only when there is work.

    Raises
    ------
    MkfaError
        The strategy is not for this device, or not for a network of the plan.
    """
    check_strategy(execution)
    check_networks(execution, plan, domains)
    left = [planned for planned in plan if is_left(planned, root)]
    devices = _devices(execution)
    timer = timer_of(domains, replace(execution, device=devices[0]))
    choice = choose(execution, left, domains, devices=len(devices), timer=timer)
    if choice.strategy in ("graph", "stacked"):
        runs = max(1, min(execution.jobs or choice.count * len(devices), len(left)))
        group = replace(of_group(execution, choice.strategy), strategy=choice.strategy, chosen=choice.record)
        groups = _divide_group(group, devices[:runs], runs)
        if len(groups) == 1:
            return Together(groups[0], choice.strategy, choice.count, domains, root)
        return Workers(groups, domains, root)
    each = 1 if execution.strategy == "alone" else len(devices)
    executions = divide(replace(execution, jobs=choice.count * each or execution.jobs), plan)[: max(1, len(left))]
    record = replace(choice, count=len(executions)).record
    executions = tuple(replace(one, chosen=record) for one in executions)
    if len(executions) == 1:
        return Serial(executions[0], domains, root)
    return Workers(executions, domains, root)


def _divide_group(group: Execution, devices: Sequence[str], runs: int) -> list[Execution]:
    """Return the executions of the groups, one on each device, that together train `runs` runs at a time."""
    import torch

    count = len(devices)
    threads = group.threads if count == 1 else group.threads or max(1, torch.get_num_threads() // count)
    sizes = [len(range(number, runs, count)) for number in range(count)]
    return [
        replace(group, device=device, threads=threads, jobs=size, share=1 / size)
        for device, size in zip(devices, sizes, strict=True)
    ]


def _devices(execution: Execution) -> list[str]:
    """Return the names of the devices that runs are spread over: all GPUs, unless one is named."""
    import torch

    if execution.device in ("auto", "cuda") and execution.resolved().device.type == "cuda":
        return [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    return [execution.device]


def timer_of(domains: Domains, execution: Execution) -> Timer:
    """Return what times runs under any strategy on this machine."""

    def time(strategy: str, spec: RunSpec, count: int) -> tuple[float, int]:
        if strategy == "processes":
            executions = divide(replace(execution, jobs=count), [PlannedRun(spec, "")] * count)
            with Workers(executions, domains, Path()) as workers:
                return workers.time(spec).step, 0
        timing, size = time_group(strategy, spec, domains, execution=of_group(execution, strategy), count=count)
        return timing.step, size

    return time


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
            raise EngineError("a training process", problem, "pass fewer --jobs, or --jobs 1") from error
        self.execution = execution
        self.runs: dict[str, PlannedRun] = {}
        """The runs that it trains, by their hashes."""
        self.ready = False
        self.idle_since = time.monotonic()

    def send(self, order: Any) -> None:
        """Send an order; a dead process is detected elsewhere."""
        with contextlib.suppress(OSError):
            self.pipe.send(order)

    @property
    def was_killed(self) -> bool:
        """True if SIGKILL ended the process, which is what a machine short of memory sends."""
        return self.child.wait() == -signal.SIGKILL

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
    """Several processes, each training one run at a time, or a group: an `mkfa.engines.engine.Engine`."""

    def __init__(self, executions: Sequence[Execution], domains: Domains, root: Path) -> None:
        self.executions, self.domains, self.root = tuple(executions), domains, root
        self.processes: dict[int, _Process] = {}
        """The processes, by the index of their execution."""
        self.unbegun: list[PlannedRun] = []
        """Runs of processes that were ended before they could begin."""

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, kind: type[BaseException] | None, _: object, __: TracebackType | None) -> None:
        for process in list(self.processes.values()):
            self._drop(process, kill=kind is not None)

    def check(self, plan: Sequence[PlannedRun]) -> None:
        """Refuse devices that this machine lacks, and options that they cannot use."""
        for execution in self.executions:
            execution.resolved()

    def places(self) -> tuple[Place, ...]:
        return tuple(Place(execution) for execution in self.executions for _ in range(_room(execution)))

    def time(self, spec: RunSpec) -> Timing:
        """Time steps in all processes simultaneously."""
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

    def takes(self, planned: PlannedRun) -> bool:
        return bool(self._fitting(planned))

    def submit(self, planned: PlannedRun) -> bool:
        """Give a run to the process that has the fewest."""
        fitting = self._fitting(planned)
        if not fitting:
            return False
        number = min(fitting, key=lambda number: len(self._runs(number)))
        folder = Task.of(planned, self.domains, self.executions[number]).write(self.root)
        process = self._process(number)
        process.runs[planned.spec.hash] = planned
        process.send(folder)
        return True

    def _fitting(self, planned: PlannedRun) -> list[int]:
        """Return the indices of the processes that have room for a run and train no run of another kind."""

        def fits(number: int, how: Execution) -> bool:
            runs = self._runs(number)
            other = next(iter(runs.values()), planned)
            free = len(runs) < _room(how)
            return free and (
                other is planned or kind_of(other.spec, self.domains) == kind_of(planned.spec, self.domains)
            )

        return [number for number, how in enumerate(self.executions) if fits(number, how)]

    def _runs(self, number: int) -> dict[str, PlannedRun]:
        return self.processes[number].runs if number in self.processes else {}

    def events(self, tell: Callable[[PlannedRun, Report], None], stop: Stop) -> list[tuple[PlannedRun, End]]:
        """Pass on the progress that the processes report within a moment, and return the runs that ended.

        Raises
        ------
        EngineError
            A process ended before it could start a run.
        """
        ends: list[tuple[PlannedRun, End]] = [(planned, Stopped()) for planned in self.unbegun]
        self.unbegun = []
        self._drop_idle()
        for process, message in self._listen():
            if message is None:
                self._drop(process)
                if not process.ready:
                    raise self._broken(process)
                for planned in process.runs.values():
                    first = planned is next(iter(process.runs.values()))  # one killed process halves the runs once
                    ends.append((planned, Died(f"its process {process.end}", memory=first and process.was_killed)))
                continue
            name, message = message
            if isinstance(message, Report):
                tell(process.runs[name], message)
                continue
            planned = process.runs.pop(name)
            process.idle_since = time.monotonic()
            if isinstance(message, Stopped) and not process.runs:
                self._drop(process)
            ends.append((planned, _end(message, planned)))
        return ends

    def stop(self) -> None:
        for process in list(self.processes.values()):
            if process.ready:
                process.send(Worker.STOP)
            else:  # it still imports and has trained nothing
                self.unbegun += process.runs.values()
                self._drop(process, kill=True)

    def _drop_idle(self) -> None:
        for process in list(self.processes.values()):
            if not process.runs and time.monotonic() - process.idle_since > _IDLE:
                self._drop(process)

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

    def _broken(self, process: _Process) -> EngineError:
        return EngineError("a training process", f"{process.end} before it started a run", "pass --jobs 1")


def _room(execution: Execution) -> int:
    """Return how many runs a process trains at a time."""
    return execution.jobs if execution.is_group else 1


def _named(error: BaseException, label: str) -> BaseException:
    """Return a worker's error with the run's label inserted."""
    if isinstance(error, WorkError) and error.thing == "a run":
        named = WorkError(label, error.problem, error.remedy)
        for note in error.__notes__:
            named.add_note(note)
        return named
    return error


def _end(message: Any, planned: PlannedRun) -> End:
    """Return what a worker's last message about a run means to the sweep."""
    if isinstance(message, Outcome):
        return replace(message, planned=planned)
    if isinstance(message, MemoryError):
        return Died("its process ran out of memory", memory=True)
    end: Any = _named(message, planned.spec.label)
    return cast("End", end)
