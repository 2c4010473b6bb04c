"""One run carried out from the order in its folder, on whatever machine reads the folder: what clusters start.

The order is the `task.json` that a sweep wrote. Progress goes into a file beside it, since what a scheduler starts has
no pipe to the process that submitted the work; a request to stop is a file too.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import signal
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from mkfa.errors import MkfaError, WorkError
from mkfa.storage.atomic import atomic_write
from mkfa.training.folder import read_json
from mkfa.training.ranks import ALONE, Ranks
from mkfa.training.stopping import Stop, Stopped

if TYPE_CHECKING:
    from mkfa.engines.engine import End
    from mkfa.engines.unit import Outcome
    from mkfa.training.run import Report

OVER, FAILED, SAVED = 0, 1, 75
"""Exit codes: the run is over; it failed; its state is saved and it can go on (EX_TEMPFAIL of sysexits.h)."""
PROGRESS = "progress.json"
"""Step, number of steps, host and process of the run in progress; it is removed when the run is over."""
STOP_FILE = "stop"
"""Its presence in the folder of the run folders makes all runs that look for it save their state and end."""
_LOOK = 1.0
"""Seconds between looks at the stop file, and between writes of progress."""
SIGNAL_ECHO = 5.0
"""Seconds in which torchrun's processes may get one request to stop several times."""
_PATIENCE = 60.0
"""Seconds to wait until the process that trained the run before is gone."""


def work(folder: Path, *, stop: Stop, ranks: Ranks = ALONE) -> End:
    """Train the run of a folder's task; return how it ended, without raising.

    Parameters
    ----------
    folder : Path
        A run folder with `task.json`.
    stop : Stop
        A request to save the run's state and end. The file `STOP_FILE` beside the run folders is one too.
    ranks : Ranks
        The processes that share the run (`mkfa.training.ranks.joined`); each calls this function.

    Returns
    -------
    End
        As of any engine. The outcome lacks the bank that provided the filters, so that it is small.
    """
    from mkfa.engines.engine import Died, unexpected
    from mkfa.engines.worker import train_task

    beside = _Beside(folder, stop, writes=ranks.leads)
    try:
        return _small(_patiently(lambda: train_task(folder, stop=stop, tell=beside.tell, ranks=ranks), stop, ranks))
    except (MkfaError, Stopped) as error:
        return error
    except MemoryError:
        return Died("it ran out of memory", memory=True)
    except Exception as error:
        return ranks.lost_one(folder.name) if ranks.is_loss(error) else unexpected(error)
    finally:
        beside.clear()


def exit_code(end: End) -> int:
    """Return the exit code of a process whose run ended in this way.

    Examples
    --------
    >>> exit_code(Stopped()), exit_code(MkfaError("a run", "has no task.json", "start the command"))
    (75, 1)
    """
    from mkfa.engines.unit import Outcome

    if isinstance(end, Outcome):
        return {"running": SAVED, "impossible": FAILED}.get(end.state, OVER)
    return SAVED if isinstance(end, Stopped) else FAILED


def describe(end: End) -> str:
    """Return a sentence about how a run ended."""
    from mkfa.engines.engine import Died
    from mkfa.engines.unit import Outcome

    if isinstance(end, Outcome):
        return f"{end.planned.spec.label}: {end.note or end.state}"
    if isinstance(end, Stopped):
        return "stopped; its state is saved, and the same command goes on from there"
    return end.how if isinstance(end, Died) else str(end)


def read_progress(folder: Path) -> Report | None:
    """Return the progress of a run in progress, whoever trains it; None if there is none."""
    from mkfa.training.run import Report

    with contextlib.suppress(WorkError, TypeError, KeyError):
        if record := read_json(folder / PROGRESS):
            return Report(**{key: record[key] for key in Report.__dataclass_fields__})
    return None


def versions() -> dict[str, str]:
    """Return the versions that must agree on all nodes: results depend on them."""
    from importlib.metadata import version

    from mkfa.version import VERSION

    return {"mkfa": VERSION, "torch": version("torch"), "timm": version("timm"), "python": platform.python_version()}


def other_versions(host: str, found: Mapping[str, str], expected: Mapping[str, str]) -> MkfaError | None:
    """Return the refusal of a node that has other versions than expected, None if they agree."""
    odd = [f"{name} {found.get(name)} instead of {this}" for name, this in expected.items() if found.get(name) != this]
    return MkfaError(host, f"has {', '.join(odd)}", "install the same versions on all nodes") if odd else None


class TimedStop(Stop):
    """A request to stop that also knows whether it came because the time of a cluster's job is over."""

    def __init__(self) -> None:
        super().__init__()
        self.time_over = False


@contextlib.contextmanager
def listening() -> Iterator[TimedStop]:
    """Return a stop request that SIGINT, SIGTERM, SIGHUP and SIGUSR1 make; Slurm sends the last before a job's end."""
    stop = TimedStop()

    def ask(_number: int, _frame: FrameType | None) -> None:
        stop.requested = stop.time_over = True

    with stop.listening():
        former = signal.signal(signal.SIGUSR1, ask) if hasattr(signal, "SIGUSR1") else None
        try:
            yield stop
        finally:
            if former is not None:
                signal.signal(signal.SIGUSR1, former)


def _patiently(train: Any, stop: Stop, ranks: Ranks) -> Outcome:
    """Train; wait a while if the process that trained the run before is not gone yet, as after a requeue."""
    patience = time.monotonic() + _PATIENCE
    while True:
        outcome: Outcome = train()
        if outcome.state != "running" or any(ranks.in_any(time.monotonic() > patience, stop.requested)):
            return outcome
        time.sleep(_LOOK)


def _small(outcome: Outcome) -> Outcome:
    return replace(outcome, planned=replace(outcome.planned, bank=None))


class _Beside:
    """The files beside a run: progress is written, and a stop file looked for, about once a second."""

    def __init__(self, folder: Path, stop: Stop, *, writes: bool) -> None:
        self.writes = writes
        self.path, self.stop_file, self.stop = folder / PROGRESS, folder.parent / STOP_FILE, stop
        self.at = -_LOOK

    def tell(self, report: Report) -> None:
        now = time.monotonic()
        if not self.writes or now - self.at < _LOOK:
            return
        self.at = now
        record: dict[str, Any] = asdict(report) | {"host": platform.node(), "pid": os.getpid()}
        with contextlib.suppress(MkfaError, OSError):  # a run goes on even if its progress cannot be written
            atomic_write(self.path, json.dumps(record).encode())
        self.stop.requested |= self.stop_file.exists()

    def clear(self) -> None:
        if self.writes:
            with contextlib.suppress(OSError):
                self.path.unlink(missing_ok=True)
