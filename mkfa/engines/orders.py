"""The engine that writes orders and trains nothing: `mkfa work FOLDER` carries them out, alone or under torchrun."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from mkfa.engines.engine import End, Place, Queued
from mkfa.engines.worker import Task
from mkfa.images.opened import Domains
from mkfa.training.device import Execution
from mkfa.training.folder import RunFolder, is_locked
from mkfa.training.planned import PlannedRun
from mkfa.training.run import Report
from mkfa.training.stopping import Stop


def open_engine(execution: Execution, plan: Sequence[PlannedRun], *, domains: Domains, root: Path) -> Orders:
    """Return the engine."""
    return Orders(execution, domains, root)


class Orders:
    """Orders in the folders of the runs: an `mkfa.engines.engine.Engine`."""

    def __init__(self, execution: Execution, domains: Domains, root: Path) -> None:
        self.execution = replace(execution, engine="local", jobs=1)
        self.domains, self.root = domains, root.resolve()
        self.taken: list[PlannedRun] = []

    def __enter__(self) -> Orders:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def check(self, plan: Sequence[PlannedRun]) -> None:
        """Do nothing: whoever carries an order out checks what it needs."""

    def places(self) -> list[Place]:
        """Return one place, since nobody knows how many orders are carried out at a time."""
        return [Place(self.execution)]

    def submit(self, planned: PlannedRun) -> bool:
        """Take any run."""
        self.taken.append(planned)
        return True

    def events(self, tell: Callable[[PlannedRun, Report], None], stop: Stop) -> list[tuple[PlannedRun, End]]:
        """Write the orders of what was taken; every run ends as `Queued`."""
        taken, self.taken = self.taken, []
        return [(planned, self._order(planned)) for planned in taken]

    def _order(self, planned: PlannedRun) -> Queued:
        if is_locked(RunFolder(self.root, planned.spec).path):
            return Queued("in progress already")
        Task.of(planned, self.domains, self.execution).write(self.root)
        return Queued(f"written as orders below {self.root}, for 'mkfa work FOLDER', which torchrun may start")

    def stop(self) -> None:
        """Do nothing: no run is in progress here."""
