"""Slots: as many runs at a time as devices and cores are worth, each in a process of its own.

Every worker takes one run after another. An arm that borrows from a base run of the plan waits for it; everything that
several runs would write, the banks of the library, is written by this process alone. A run's result is the same as when
the runs are trained one after the other with the same number of threads.
"""

from __future__ import annotations

import json
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from types import TracebackType
from typing import Any

from mkfa.engines.estimate import Estimate, Timing, estimate, time_run
from mkfa.engines.serial import Outcome, carry_out, keep_bank, taken_over
from mkfa.engines.worker import Line, heard, no_signals, order_of
from mkfa.errors import MkfaError, WorkError
from mkfa.images.opened import Domains
from mkfa.training.device import Execution
from mkfa.training.planned import PlannedRun
from mkfa.training.run import Report
from mkfa.training.spec import RunSpec
from mkfa.training.stopping import Stop, Stopped

_LOOK = 0.2
"""Seconds between looks at processes that say nothing."""
_PATIENCE = 10.0
"""Seconds that a worker without work gets to end by itself."""
_COMMAND = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[2]); from mkfa.engines.worker import main;"
    " main(int(sys.argv[1]))"
)


def divide(execution: Execution, plan: Sequence[PlannedRun]) -> tuple[Execution, ...]:
    """Return how each of the runs at a time is computed: device and threads.

    Runs at a time, where `jobs` does not say: one for each GPU; on the CPU as many as cores, with one thread each, if
    neither `threads` is given nor too few runs are independent of each other, else one. "auto" and "cuda" stand for
    all GPUs, "cuda:1" for that one. Threads, where they are not given: the cores divided by the runs at a time.

    The whole plan counts, not what is left of it: a plan that was stopped goes on as it began.

    Raises
    ------
    MkfaError
        The device is not there.
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
    share = 1 / -(-jobs // len(places))  # of the device that has most runs
    return tuple(
        replace(execution, device=places[i % len(places)], threads=threads, share=share, jobs=1) for i in range(jobs)
    )


def _independent(plan: Sequence[PlannedRun]) -> int:
    """Return how many runs can be in progress at once: base runs and their like, or those that wait for them."""
    waiting = sum(p.needs is not None for p in plan)
    return max(waiting, len(plan) - waiting)


def open_slots(execution: Execution, plan: Sequence[PlannedRun], *, domains: Domains, root: Path) -> Serial | Slots:
    """Return what carries a plan out, to be used in a `with`; processes are started when there is work for them."""
    left = sum(taken_over(planned, root, Execution()) is None for planned in plan)
    executions = divide(execution, plan)[: max(1, left)]
    if len(executions) == 1:
        return Serial(executions[0], domains, root)
    return Slots(executions, domains, root)


class Serial:
    """One run after the other in this process."""

    def __init__(self, execution: Execution, domains: Domains, root: Path) -> None:
        self.execution, self.domains, self.root = execution, domains, root

    def __enter__(self) -> Serial:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def estimate(self, plan: Sequence[PlannedRun]) -> Estimate:
        """Return how long a plan takes."""
        return estimate(
            plan,
            self.domains,
            root=self.root,
            slots=(self.execution,),
            timer=lambda spec: time_run(spec, self.domains, execution=self.execution),
        )

    def carry_out(
        self,
        plan: Sequence[PlannedRun],
        *,
        stop: Stop,
        tell: Callable[[PlannedRun, Report], None] = lambda *_: None,
        ended: Callable[[Outcome], None] = lambda _: None,
    ) -> tuple[Outcome, ...]:
        """Train a plan, see `mkfa.engines.serial.carry_out`."""
        return carry_out(
            plan, self.domains, root=self.root, execution=self.execution, stop=stop, tell=tell, ended=ended
        )


class _Process:
    """A worker as its parent sees it."""

    def __init__(self, execution: Execution, domains: Domains, root: Path) -> None:
        ours, theirs = socket.socketpair()
        words = [sys.executable, "-P", "-c", _COMMAND, str(theirs.fileno()), json.dumps(sys.path)]
        try:
            with theirs, no_signals():
                self.child = subprocess.Popen(
                    words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, pass_fds=[theirs.fileno()]
                )
        except OSError as error:
            ours.close()
            problem = f"cannot be started ({error.strerror or error})"
            raise WorkError("a training process", problem, "pass fewer --jobs, or --jobs 1") from error
        self.line, self.execution = Line(ours), execution
        self.planned: PlannedRun | None = None
        self.begun = False
        self.line.send(
            do="begin", size=domains.size, max_size=domains.max_size, root=str(root), execution=asdict(execution)
        )

    @property
    def end(self) -> str:
        """How the process ended, in words."""
        code = self.child.wait()
        return f"was killed ({signal.Signals(-code).name})" if code < 0 else f"ended with exit code {code}"

    def close(self, *, kill: bool) -> None:
        """End the process: at once, or once it has done what it is doing."""
        self.line.end.close()
        try:
            if kill:
                self.child.kill()
            self.child.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()


class Slots:
    """Several processes, each with a run of the plan in progress."""

    def __init__(self, executions: Sequence[Execution], domains: Domains, root: Path) -> None:
        self.executions, self.domains, self.root = tuple(executions), domains, root
        self.processes: dict[int, _Process] = {}
        self.selector = selectors.DefaultSelector()
        self.asked = False
        self._banks = tempfile.TemporaryDirectory(prefix="mkfa-banks-")

    def __enter__(self) -> Slots:
        return self

    def __exit__(self, kind: type[BaseException] | None, _: object, __: TracebackType | None) -> None:
        for slot in list(self.processes):
            self._drop(slot, kill=kind is not None)
        self.selector.close()
        self._banks.cleanup()

    def estimate(self, plan: Sequence[PlannedRun]) -> Estimate:
        """Return how long a plan takes; steps are timed in all processes at once."""
        return estimate(plan, self.domains, root=self.root, slots=self.executions, timer=self._time)

    def _time(self, spec: RunSpec) -> Timing:
        order = order_of(PlannedRun(spec, ""), self.domains, None)
        for slot in range(len(self.executions)):
            self._start(slot).line.send(do="place", **order)
        self._gather("placed", spec)
        for process in self.processes.values():
            process.line.send(do="time")
        found = self._gather("timed", spec)
        return Timing(*(sum(m[key] for m in found) / len(found) for key in ("step", "image")))

    def _gather(self, say: str, spec: RunSpec) -> list[dict[str, Any]]:
        """Wait until every process has answered so."""
        found: list[dict[str, Any]] = []
        while len(found) < len(self.processes):
            for slot, message in self._listen():
                if message["say"] == "failed":
                    raise heard(message, spec.label)
                if message["say"] == "gone":
                    raise self._broken(self.processes[slot])
                if message["say"] == say:
                    found.append(message)
        return found

    def carry_out(
        self,
        plan: Sequence[PlannedRun],
        *,
        stop: Stop,
        tell: Callable[[PlannedRun, Report], None] = lambda *_: None,
        ended: Callable[[Outcome], None] = lambda _: None,
    ) -> tuple[Outcome, ...]:
        """Train the runs of a plan, several at a time, in its order as far as they wait for each other.

        Parameters
        ----------
        tell : called a few times a second with each run in progress and where it is.
        ended : called after each run, in the order in which they end.

        Raises
        ------
        Stopped
            `stop` was requested; the runs in progress saved themselves.
        MkfaError
            A run failed; the others in progress saved themselves, those that were over are kept.
        """
        found: dict[str, Outcome] = {}
        waiting: list[PlannedRun] = []
        for planned in plan:
            before = taken_over(planned, self.root, self.executions[0])
            if before is None:
                waiting.append(planned)
            else:
                found[planned.spec.hash] = before
                ended(before)
        error: Exception | None = None
        self.asked = False
        while waiting or self._busy():
            if (stop.requested or error) and not self.asked:
                self.asked = True
                for process in self.processes.values():
                    process.line.send(do="stop")
            if self.asked and not self._busy():
                break
            if not self.asked:
                self._hand_out(waiting)
            for slot, message in self._listen():
                outcome, failed = self._hear(slot, message, tell)
                error = error or failed
                if outcome is not None:
                    found[outcome.planned.spec.hash] = outcome
                    ended(outcome)
        if error:
            raise error
        if len(found) < len({p.spec.hash for p in plan}):
            raise Stopped
        return tuple(found[p.spec.hash] for p in plan)

    def _busy(self) -> list[_Process]:
        return [process for process in self.processes.values() if process.planned is not None]

    def _hand_out(self, waiting: list[PlannedRun]) -> None:
        """Give every slot without a run the first one that waits for nothing."""
        for slot in range(len(self.executions)):
            if slot in self.processes and self.processes[slot].planned is not None:
                continue
            open_ = {p.spec.hash for p in waiting} | {p.planned.spec.hash for p in self._busy() if p.planned}
            ready = next((p for p in waiting if p.needs is None or p.needs.hash not in open_), None)
            if ready is None:
                return
            waiting.remove(ready)
            process = self._start(slot)
            process.planned = ready
            process.line.send(do="train", **order_of(ready, self.domains, self._bank_file(ready)))

    def _hear(
        self, slot: int, message: dict[str, Any], tell: Callable[[PlannedRun, Report], None]
    ) -> tuple[Outcome | None, Exception | None]:
        """Return what became of a run, or the error that ends the sweep."""
        process = self.processes[slot]
        planned, said = process.planned, message["say"]
        if said == "gone":
            self._drop(slot)
            if not process.begun:
                return None, self._broken(process)
            return (_lost(planned, f"its process {process.end}") if planned else None), None
        elif planned is None:
            return None, None
        elif said == "step":
            tell(planned, Report(**message["report"]))
        elif said == "failed":
            process.planned = None
            return None, heard(message, planned.spec.label)
        elif said == "stopped":
            self._drop(slot)
            if not self.asked:
                return _lost(planned, "its process was asked to end and saved it"), None
        elif said == "over":
            process.planned = None
            return self._over(planned, message)
        return None, None

    def _over(self, planned: PlannedRun, message: dict[str, Any]) -> tuple[Outcome | None, Exception | None]:
        done = taken_over(planned, self.root, Execution())
        if done is None:  # impossible, or another process trains it
            return Outcome(planned, message["state"], False, note=message["note"]), None
        try:
            return keep_bank(replace(done, trained=message["trained"]), self.domains, self.root), None
        except MkfaError as error:
            return None, error

    def _start(self, slot: int) -> _Process:
        """Return the process of a slot, started where there is none."""
        if slot not in self.processes:
            process = _Process(self.executions[slot], self.domains, self.root)
            self.processes[slot] = process
            self.selector.register(process.line.end, selectors.EVENT_READ, slot)
        return self.processes[slot]

    def _listen(self) -> list[tuple[int, dict[str, Any]]]:
        """Return what processes say within a moment; "gone" of one that has ended."""
        found: list[tuple[int, dict[str, Any]]] = []
        for key, _ in self.selector.select(_LOOK):
            messages = self.processes[key.data].line.receive()
            found += [(key.data, m) for m in messages] if messages is not None else [(key.data, {"say": "gone"})]
        heard_of = {slot for slot, _ in found}
        for slot, message in found:
            self.processes[slot].begun |= message["say"] == "ready"
        for slot, process in self.processes.items():  # what a dead process started may hold its socket open
            if slot not in heard_of and process.child.poll() is not None:
                found.append((slot, {"say": "gone"}))
        return found

    def _drop(self, slot: int, *, kill: bool = False) -> None:
        process = self.processes.pop(slot)
        self.selector.unregister(process.line.end)
        process.close(kill=kill)

    def _broken(self, process: _Process) -> WorkError:
        return WorkError("a training process", f"{process.end} before it took up a run", "pass --jobs 1")

    def _bank_file(self, planned: PlannedRun) -> Path | None:
        """Return the file through which a worker gets a run's bank; None where it needs none."""
        from mkfa.banks.bank_file import write_bank
        from mkfa.training.planned import bank_digest

        if planned.bank is None:
            return None
        path = Path(self._banks.name) / f"{bank_digest(planned.bank)}.h5"
        if not path.exists():
            write_bank(planned.bank, path)
        return path


def _lost(planned: PlannedRun, how: str) -> Outcome:
    remedy = "run the command again: it goes on from its checkpoint (with fewer --jobs if memory was short)"
    return Outcome(planned, "lost", False, note=str(WorkError(planned.spec.label, how, remedy)))
