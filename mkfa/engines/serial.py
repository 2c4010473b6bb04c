"""The engine that trains one run after the other in this process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from mkfa.engines.estimate import Estimate, estimate
from mkfa.engines.sweep import Died, End
from mkfa.engines.unit import train_planned
from mkfa.errors import MkfaError
from mkfa.images.opened import Domains
from mkfa.training.device import Execution
from mkfa.training.planned import PlannedRun
from mkfa.training.run import Report
from mkfa.training.stopping import Stop, Stopped


class Serial:
    """One run after the other in this process: an `mkfa.engines.sweep.Engine`."""

    def __init__(self, execution: Execution, domains: Domains, root: Path) -> None:
        self.executions: tuple[Execution, ...] = (execution,)
        self.domains, self.root = domains, root
        self.planned: PlannedRun | None = None

    def __enter__(self) -> Serial:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    @property
    def free(self) -> int:
        return int(self.planned is None)

    @property
    def busy(self) -> bool:
        return self.planned is not None

    def submit(self, planned: PlannedRun) -> None:
        self.planned = planned

    def ends(self, tell: Callable[[PlannedRun, Report], None], stop: Stop) -> list[tuple[PlannedRun, End]]:
        """Train the submitted run to its end."""
        planned = self.planned
        if planned is None:
            return []
        end: End
        try:
            end = train_planned(
                planned, self.domains, root=self.root, execution=self.executions[0], stop=stop, tell=tell
            )
        except (MkfaError, Stopped) as error:
            end = error
        except MemoryError:
            end = Died("it ran out of memory", memory=True)
        finally:
            self.planned = None
        return [(planned, end)]

    def request_stop(self) -> None:
        """Do nothing: the run in progress looks at `stop` itself."""

    def halve(self) -> bool:
        return False

    def estimate(self, plan: Sequence[PlannedRun]) -> Estimate:
        """Return how long a plan takes."""
        return estimate(plan, self.domains, root=self.root, executions=self.executions)
