"""What runs next, and what becomes of those that fail: the rules of a sweep, whatever engine carries them out.

- A run that borrows from another run of the plan waits for it.
- A run that another process is training is waited for, and its result taken over.
- A run whose process died, or for which memory was short, is tried twice more; the other runs go on.
- A run that failed is reported, and the other runs go on.
- A base run leaves its bank in the library, also if it ended while nobody was there to store it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, runtime_checkable

from mkfa.engines.unit import Outcome, keep_bank, taken_over
from mkfa.errors import DeviceMemoryError, MkfaError, WorkError
from mkfa.images.opened import Domains
from mkfa.training.device import Execution
from mkfa.training.folder import RunFolder, is_locked
from mkfa.training.planned import PlannedRun
from mkfa.training.run import Report
from mkfa.training.stopping import Stop, Stopped

TRIES = 3
"""How often a run is started whose process dies."""
_LOOK = 1.0
"""Seconds between looks at runs that other processes are training."""


class EngineError(WorkError):
    """The engine cannot start any run."""


@dataclass(frozen=True, slots=True)
class Died:
    """A run ended without an outcome: its process is gone, was stopped by another, or had too little memory."""

    how: str
    memory: bool = False


class HandedOver(MkfaError):
    """The runs were handed over to a queue; the same command gives the result once they are done."""

    exit_code = 0


End = Outcome | Died | MkfaError | Stopped
"""How a run ended for the engine."""


class Engine(Protocol):
    """Carries out runs; it knows nothing of what depends on what.

    Attributes
    ----------
    executions : one for each run that may be in progress at a time.
    domains, root : the runs' images, and the folder that contains their folders.
    """

    executions: tuple[Execution, ...]
    domains: Domains
    root: Path

    @property
    def free(self) -> int:
        """Return how many further runs can be started now."""

    @property
    def busy(self) -> bool:
        """Return whether runs are in progress."""

    def submit(self, planned: PlannedRun) -> None:
        """Start a run. Raises EngineError if no run can be started, MkfaError if this one cannot."""

    def ends(self, tell: Callable[[PlannedRun, Report], None], stop: Stop) -> list[tuple[PlannedRun, End]]:
        """Wait a moment, tell the progress of the runs, and return those that are no longer in progress."""

    def request_stop(self) -> None:
        """Make the runs in progress save their state and end with `Stopped`."""

    def halve(self) -> bool:
        """Use half as many places from now on; False if there is only one."""


@runtime_checkable
class Detached(Protocol):
    """Hands runs over to a queue that outlives this process.

    Attributes
    ----------
    executions : the one of every run, as a tuple.
    domains, root : as of `Engine`.
    """

    executions: tuple[Execution, ...]
    domains: Domains
    root: Path

    def hand_over(self, plan: Sequence[PlannedRun]) -> str:
        """Queue the runs that are not queued yet; return a sentence about all of them."""


def carry_out(
    plan: Sequence[PlannedRun],
    engine: Engine | Detached,
    *,
    stop: Stop,
    tell: Callable[[PlannedRun, Report], None] = lambda *_: None,
    ended: Callable[[Outcome], None] = lambda _: None,
    notify: Callable[[str], None] = lambda _: None,
) -> tuple[Outcome, ...]:
    """Train the runs of a plan in its order, as many at a time as the engine takes; finished runs are reused.

    Parameters
    ----------
    tell : called with active runs and their progress.
    ended : called after each run, in the order in which they end.
    notify : called with sentences: what is waited for, what is tried again.

    Returns
    -------
    The outcomes in the order of the plan; `failed` and `lost` ones say why in their note.

    Raises
    ------
    Stopped
        `stop` was requested; the runs in progress saved their state.
    MkfaError
        No run of the plan ended with a result; the error of the first one that failed.
    EngineError
        The engine cannot start any run.
    HandedOver
        The engine is detached, and runs are left.
    """
    once = {planned.spec.hash: planned for planned in plan}
    if isinstance(engine, Detached):
        return _hand_over(plan, once, engine, ended, notify)
    sweep = _Sweep(engine, ended, notify)
    for planned in once.values():
        sweep.add(planned)
    stopping = False
    while sweep.waiting or sweep.elsewhere or engine.busy:
        if stop.requested and not stopping:
            stopping = True
            engine.request_stop()
        if stopping and not engine.busy:
            break
        if not stopping:
            sweep.look_elsewhere()
            sweep.start()
        if engine.busy:
            for planned, end in engine.ends(tell, stop):
                if not (isinstance(end, Stopped) and stop.requested):
                    sweep.take(planned, end)
        elif sweep.elsewhere and not sweep.ready():
            time.sleep(_LOOK / 5)
    if len(sweep.outcomes) < len(once):
        raise Stopped
    return sweep.results(plan)


def _hand_over(
    plan: Sequence[PlannedRun],
    once: Mapping[str, PlannedRun],
    engine: Detached,
    ended: Callable[[Outcome], None],
    notify: Callable[[str], None],
) -> tuple[Outcome, ...]:
    """Take finished runs over; hand the others over to the engine's queue."""
    taken = _Taken(engine, ended, notify)
    left = [planned for planned in once.values() if not taken.take_over(planned)]
    if left:
        done = f"{len(once) - len(left)} of {len(once)} runs are done"
        raise HandedOver(done, engine.hand_over(left), "see 'mkfa runs', and give the same command again later")
    return taken.results(plan)


class _Taken:
    """Outcomes of ended runs, by hash, and the errors among them."""

    def __init__(
        self, engine: Engine | Detached, ended: Callable[[Outcome], None], notify: Callable[[str], None]
    ) -> None:
        self.domains, self.root, self.execution = engine.domains, engine.root, engine.executions[0]
        self.ended, self.notify = ended, notify
        self.outcomes: dict[str, Outcome] = {}
        self.errors: list[MkfaError] = []

    def take_over(self, planned: PlannedRun) -> bool:
        """End a run that has a result, whoever trained it; its bank may be missing in the library."""
        try:
            before = taken_over(planned, self.root, self.execution)
        except MkfaError as error:  # its result is damaged
            self.fail(planned, error)
            return True
        if before is None:
            return False
        self.end(before)
        return True

    def end(self, outcome: Outcome) -> None:
        """Store the bank of a base run and keep the outcome."""
        try:
            outcome = keep_bank(outcome, self.domains, self.root)
        except MkfaError as error:
            outcome = replace(outcome, note=f"its bank was not stored: {error}")
            self.notify(outcome.note)
        self.outcomes[outcome.planned.spec.hash] = outcome
        self.ended(outcome)

    def fail(self, planned: PlannedRun, error: MkfaError) -> None:
        """Keep that a run failed, and why."""
        self.errors.append(error)
        self.end(Outcome(planned, "failed", False, note=_labelled(planned, error)))

    def results(self, plan: Sequence[PlannedRun]) -> tuple[Outcome, ...]:
        """Return the outcomes in the order of the plan; raise the first error if no run has a result."""
        if self.errors and not any(outcome.state == "done" for outcome in self.outcomes.values()):
            raise self.errors[0]
        return tuple(self.outcomes[planned.spec.hash] for planned in plan)


class _Sweep(_Taken):
    """The state of a sweep: also the runs that wait, are in progress, or are trained by others."""

    def __init__(self, engine: Engine, ended: Callable[[Outcome], None], notify: Callable[[str], None]) -> None:
        super().__init__(engine, ended, notify)
        self.engine = engine
        self.waiting: list[PlannedRun] = []
        self.elsewhere: list[PlannedRun] = []
        self.running: set[str] = set()
        self.tries: dict[str, int] = {}
        self.looked = 0.0

    def add(self, planned: PlannedRun) -> None:
        """Take a run over that has ended, else let it wait."""
        if not self.take_over(planned):
            self.waiting.append(planned)

    def ready(self) -> list[PlannedRun]:
        """Return the waiting runs that wait for no other run of the plan."""
        unended = {p.spec.hash for p in (*self.waiting, *self.elsewhere)} | self.running
        return [p for p in self.waiting if p.source_run is None or p.source_run.hash not in unended]

    def start(self) -> None:
        """Start as many runs as the engine takes."""
        while self.engine.free and (ready := self.ready()):
            planned = ready[0]
            self.waiting.remove(planned)
            self.running.add(planned.spec.hash)
            self.tries[planned.spec.hash] = self.tries.get(planned.spec.hash, 0) + 1
            try:
                self.engine.submit(planned)
            except EngineError:
                raise
            except MkfaError as error:
                self.take(planned, error)

    def take(self, planned: PlannedRun, end: End) -> None:
        """Decide what becomes of a run that is no longer in progress."""
        self.running.discard(planned.spec.hash)
        if isinstance(end, Outcome):
            if end.state != "running":
                self.end(end)
                return
            self.tries[planned.spec.hash] -= 1
            self.elsewhere.append(planned)
            self.notify(f"{planned.spec.label} is being trained by another process; its result is waited for")
            return
        if isinstance(end, DeviceMemoryError) and len(self.engine.executions) > 1:
            end = Died(end.problem, memory=True)
        if isinstance(end, MkfaError):
            self.fail(planned, end)
            return
        died = Died("its process was asked to stop and saved its state") if isinstance(end, Stopped) else end
        RunFolder(self.root, planned.spec).note_attempt(event=died.how)
        if self.tries[planned.spec.hash] < TRIES:
            fewer = died.memory and self.engine.halve()
            how = f"with {len(self.engine.executions)} at a time" if fewer else "from its checkpoint"
            self.notify(f"{planned.spec.label}: {died.how}; it is tried again {how}")
            self.waiting.insert(0, planned)
            return
        remedy = "run the command again: it continues from its checkpoint (with fewer --jobs if memory was short)"
        error = WorkError(planned.spec.label, f"{died.how}, {TRIES} times", remedy)
        self.errors.append(error)
        self.end(Outcome(planned, "lost", False, note=str(error)))

    def look_elsewhere(self) -> None:
        """Take over what other processes have finished; take up what they left."""
        if not self.elsewhere or time.monotonic() - self.looked < _LOOK:
            return
        self.looked = time.monotonic()
        for planned in list(self.elsewhere):
            if is_locked(RunFolder(self.root, planned.spec).path):
                continue
            self.elsewhere.remove(planned)
            if not self.take_over(planned):
                self.waiting.insert(0, planned)


def _labelled(planned: PlannedRun, error: MkfaError) -> str:
    """Return an error's sentence with the run that it is about."""
    text = str(error)
    return text if planned.spec.label in text else f"{planned.spec.label}: {text}"
