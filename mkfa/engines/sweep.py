"""What runs next, and what becomes of those that fail: the rules of a sweep, whatever engine carries them out.

- Runs that others wait for go first, then the longest (`mkfa.engines.schedule`).
- A run that borrows from another run of the plan waits for it.
- A run that another process is training is waited for, and its result taken over.
- A run whose process died, or for which memory was short, is tried twice more; the other runs go on.
- A run that failed is reported, and the other runs go on.
- A base run leaves its bank in the library, even if the process that trained it did not store the bank.
- Runs that an engine has put into a queue are left to it; the same command takes their results over.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

from mkfa.engines.engine import Choosy, Died, End, Engine, EngineError, HandedOver, Queued
from mkfa.engines.schedule import in_order
from mkfa.engines.unit import Outcome, keep_bank, taken_over
from mkfa.errors import DeviceMemoryError, MkfaError, WorkError
from mkfa.training.folder import RunFolder, is_locked
from mkfa.training.planned import PlannedRun
from mkfa.training.run import Report
from mkfa.training.stopping import Stop, Stopped
from mkfa.words import counted

TRIES = 3
"""How often a run whose process dies is started."""
_LOOK = 1.0
"""Seconds between looks at runs that other processes are training."""


def carry_out(
    plan: Sequence[PlannedRun],
    engine: Engine,
    *,
    stop: Stop,
    tell: Callable[[PlannedRun, Report], None] = lambda *_: None,
    ended: Callable[[Outcome], None] = lambda _: None,
    notify: Callable[[str], None] = lambda _: None,
) -> tuple[Outcome, ...]:
    """Train the runs of a plan, as many at a time as the engine takes; finished runs are reused.

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
        Runs were put into a queue that outlives this process.
    """
    sweep = _Sweep(engine, ended, notify)
    sweep.add(plan)
    stopping = False
    while sweep.waiting or sweep.elsewhere or sweep.running:
        if stop.requested and not stopping:
            stopping = True
            engine.stop()
        if stopping and not sweep.running:
            break
        if not stopping:
            sweep.look_elsewhere()
            sweep.start()
        if sweep.running:
            for planned, end in engine.events(tell, stop):
                sweep.running.discard(planned.spec.hash)
                if not (isinstance(end, Stopped) and stop.requested):
                    sweep.take(planned, end)
        elif sweep.elsewhere and not sweep.ready():
            time.sleep(_LOOK / 5)
    if sweep.queued and not stopping:
        raise sweep.handed_over()
    if len(sweep.outcomes) < len({planned.spec.hash for planned in plan}):
        raise Stopped
    return sweep.results(plan)


class _Sweep:
    """The state of a sweep: outcomes of ended runs, by hash, and the runs that wait, are in progress, are trained by
    others or queued."""

    def __init__(self, engine: Engine, ended: Callable[[Outcome], None], notify: Callable[[str], None]) -> None:
        self.engine, self.domains, self.root = engine, engine.domains, engine.root
        self.execution = engine.places()[0].execution
        self.ended, self.notify = ended, notify
        self.outcomes: dict[str, Outcome] = {}
        self.errors: list[MkfaError] = []
        self.waiting: list[PlannedRun] = []
        self.elsewhere: list[PlannedRun] = []
        self.running: set[str] = set()
        self.queued: dict[str, Queued] = {}
        self.tries: dict[str, int] = {}
        self.limit: int | None = None
        """Runs at a time, once memory was short; until then as many as the engine takes."""
        self.looked = 0.0

    def add(self, plan: Sequence[PlannedRun]) -> None:
        """Take over the runs that have ended; let the others wait, in the order in which they should start."""
        once = {planned.spec.hash: planned for planned in plan}
        left = [planned for planned in once.values() if not self.take_over(planned)]
        self.waiting += in_order(left, self.domains, self.root)

    def take_over(self, planned: PlannedRun) -> bool:
        """End a run that has a result, whoever trained it; its bank may be missing from the library."""
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
        """Record that a run failed, and why."""
        self.errors.append(error)
        self.end(Outcome(planned, "failed", False, note=_labelled(planned, error)))

    def results(self, plan: Sequence[PlannedRun]) -> tuple[Outcome, ...]:
        """Return the outcomes in the order of the plan; raise the first error if no run has a result."""
        if self.errors and not any(outcome.state == "done" for outcome in self.outcomes.values()):
            raise self.errors[0]
        return tuple(self.outcomes[planned.spec.hash] for planned in plan)

    def ready(self) -> list[PlannedRun]:
        """Return the waiting runs that wait for no other run of the plan."""
        unended = {p.spec.hash for p in (*self.waiting, *self.elsewhere)} | self.running
        return [p for p in self.waiting if p.source_run is None or p.source_run.hash not in unended]

    def start(self) -> None:
        """Start as many runs as the engine takes."""
        for planned in self.ready():
            if self.limit is not None and len(self.running) >= self.limit:
                return
            if isinstance(self.engine, Choosy) and not self.engine.takes(planned):
                continue
            try:
                if not self.engine.submit(planned):
                    return
            except EngineError:
                raise
            except MkfaError as error:
                self.waiting.remove(planned)
                self.fail(planned, error)
                continue
            self.waiting.remove(planned)
            self.running.add(planned.spec.hash)
            self.tries[planned.spec.hash] = self.tries.get(planned.spec.hash, 0) + 1

    def take(self, planned: PlannedRun, end: End) -> None:
        """Decide what becomes of a run that is no longer in progress."""
        if isinstance(end, Queued):
            self.queued[planned.spec.hash] = end
            return
        if isinstance(end, Outcome):
            if end.state != "running":
                self.end(end)
                return
            self.tries[planned.spec.hash] -= 1
            self.elsewhere.append(planned)
            self.notify(f"{planned.spec.label} is being trained by another process, whose result is awaited")
            return
        if isinstance(end, DeviceMemoryError) and self.at_a_time > 1:
            end = Died(end.problem, memory=True)
        if isinstance(end, MkfaError):
            self.fail(planned, end)
            return
        died = Died("its process was asked to stop and saved its state") if isinstance(end, Stopped) else end
        RunFolder(self.root, planned.spec).note_attempt(event=died.how)
        if self.tries[planned.spec.hash] < TRIES:
            fewer = died.memory and self.halve()
            how = f"with {counted(self.at_a_time, 'run')} at a time" if fewer else "from its checkpoint"
            self.notify(f"{planned.spec.label}: {died.how}; it is tried again {how}")
            self.waiting.insert(0, planned)
            return
        remedy = "run the command again: it continues from its checkpoint (with fewer --jobs if memory was short)"
        error = WorkError(planned.spec.label, f"{died.how}, {TRIES} times", remedy)
        self.errors.append(error)
        self.end(Outcome(planned, "lost", False, note=str(error)))

    @property
    def at_a_time(self) -> int:
        return self.limit or len(self.engine.places())

    def halve(self) -> bool:
        """Train half as many runs at a time from now on; False if it is only one."""
        if self.at_a_time == 1:
            return False
        self.limit = self.at_a_time // 2
        return True

    def handed_over(self) -> HandedOver:
        """Return the message about runs that an engine has put into a queue."""
        total = len(self.outcomes) + len(self.queued)
        how = Counter(queued.how for queued in self.queued.values())
        told = "; ".join(f"{count} {said}" for said, count in how.items())
        remedy = "see 'mkfa runs', and give the same command again later"
        return HandedOver(f"{len(self.outcomes)} of {counted(total, 'run')} are done", told, remedy)

    def look_elsewhere(self) -> None:
        """Take over the runs that other processes have finished, and take up those that they left."""
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
