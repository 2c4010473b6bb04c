"""What an engine is: it carries orders out, and knows nothing of experiments or of which runs depend on which.

To add an engine, write a module with `open_engine` and a row of `mkfa.engines.choice.ENGINES`.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from mkfa.engines.unit import Outcome
from mkfa.errors import MkfaError, WorkError
from mkfa.images.opened import Domains
from mkfa.training.device import Execution
from mkfa.training.folder import RESULT, RunFolder
from mkfa.training.planned import PlannedRun
from mkfa.training.run import Report
from mkfa.training.spec import RunSpec
from mkfa.training.stopping import Stop, Stopped


@dataclass(frozen=True, slots=True)
class Place:
    """Where one run at a time can be trained: how it is computed there, and on which node ("": this machine)."""

    execution: Execution
    node: str = ""


@dataclass(frozen=True, slots=True)
class Timing:
    """Mean seconds per training step and per evaluated image."""

    step: float
    image: float


@dataclass(frozen=True, slots=True)
class Died:
    """A run ended without an outcome: its process is gone, was stopped by another, or had too little memory."""

    how: str
    memory: bool = False


@dataclass(frozen=True, slots=True)
class Queued:
    """A run is in a queue that outlives this process; `how` ends a sentence that begins with a number of runs, such as
    "submitted as job 7"."""

    how: str


class EngineError(WorkError):
    """The engine cannot start any run."""


class HandedOver(MkfaError):
    """The runs were handed over to a queue; the same command gives the result once they are done."""

    exit_code = 0


End = Outcome | Died | Queued | MkfaError | Stopped
"""How a run ended, as the engine sees it."""


class Engine(Protocol):
    """Carries runs out.

    Attributes
    ----------
    domains, root : the runs' images, and the folder that contains their folders.
    """

    domains: Domains
    root: Path

    def check(self, plan: Sequence[PlannedRun]) -> None:
        """Raise MkfaError if runs cannot be trained here; called before any other method, and leaves nothing behind."""

    def places(self) -> Sequence[Place]:
        """Return the places where runs can be trained, one run in each at a time."""

    def submit(self, planned: PlannedRun) -> bool:
        """Start a run; False if every place is taken.

        Raises EngineError if no run can be started, MkfaError if this one cannot.
        """

    def events(self, tell: Callable[[PlannedRun, Report], None], stop: Stop) -> list[tuple[PlannedRun, End]]:
        """Wait a moment, report the progress of the runs to `tell`, and return those that are no longer in progress.

        An engine that trains in this process looks at `stop` while it waits.
        """

    def stop(self) -> None:
        """Make the runs in progress save their state and end with `Stopped`."""


def check_devices(plan: Sequence[PlannedRun], engine: Engine) -> None:
    """Refuse to continue runs on another kind of device than they were started on.

    Raises
    ------
    MkfaError
        Names the first run, both kinds and what to do.
    """
    kinds = {place.execution.kind for place in engine.places()}
    for planned in plan:
        folder = RunFolder(engine.root, planned.spec)
        begun = folder.begun_on()
        if begun and begun not in kinds and not (folder.path / RESULT).exists():
            problem = f"was started on {begun} and cannot continue on {' or '.join(sorted(kinds))}"
            raise MkfaError(planned.spec.label, problem, f"pass --device {begun}, or remove {folder.path}")


def unexpected(error: Exception) -> WorkError:
    """Convert any error to one that can be sent to another process; a note has the traceback."""
    problem = f"failed with an unexpected {type(error).__name__}: {str(error)[:300]}"
    made = WorkError("a run", problem, "run again as 'mkfa --debug ...' with --jobs 1 and report it")
    made.add_note("".join(traceback.format_exception(error)))
    return made


@runtime_checkable
class Timer(Protocol):
    """An engine that times steps where it trains; for others they are timed on this machine."""

    def time(self, spec: RunSpec) -> Timing:
        """Return how long steps of a run without a source take while all places are busy."""


@runtime_checkable
class Choosy(Protocol):
    """An engine that trains runs together only if they are of one kind."""

    def takes(self, planned: PlannedRun) -> bool:
        """Return whether a run can join those in progress; if there are none, every run can."""
