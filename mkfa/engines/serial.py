"""The engine that trains one run after the other in this process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from mkfa.engines.engine import Died, End, Place
from mkfa.engines.unit import train_planned
from mkfa.errors import MkfaError
from mkfa.images.opened import Domains
from mkfa.training.device import Execution
from mkfa.training.planned import PlannedRun
from mkfa.training.run import Report, compute_alone
from mkfa.training.stopping import Stop, Stopped


class Serial:
    """One run after the other in this process: an `mkfa.engines.engine.Engine`."""

    def __init__(self, execution: Execution, domains: Domains, root: Path) -> None:
        self.execution, self.domains, self.root = execution, domains, root
        self.planned: PlannedRun | None = None

    def __enter__(self) -> Serial:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def check(self, plan: Sequence[PlannedRun]) -> None:
        """Refuse a device that this machine lacks, and options that it cannot use."""
        self.execution.resolved()

    def places(self) -> tuple[Place, ...]:
        return (Place(self.execution),)

    def submit(self, planned: PlannedRun) -> bool:
        if self.planned is not None:
            return False
        self.planned = planned
        return True

    def events(self, tell: Callable[[PlannedRun, Report], None], stop: Stop) -> list[tuple[PlannedRun, End]]:
        """Train the submitted run to its end."""
        planned = self.planned
        if planned is None:
            return []
        end: End
        try:
            work = train_planned(planned, self.domains, root=self.root, execution=self.execution, stop=stop, tell=tell)
            end = compute_alone(work)
        except (MkfaError, Stopped) as error:
            end = error
        except MemoryError:
            end = Died("it ran out of memory", memory=True)
        finally:
            self.planned = None
        return [(planned, end)]

    def stop(self) -> None:
        """Do nothing: the run in progress looks at `stop` itself."""
