"""A request to stop, and what a run that heeds it raises."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType


class Stopped(KeyboardInterrupt):
    """Asked to stop by SIGINT or SIGTERM; what was reached is in the checkpoint."""


class Stop:
    """Whether the process was asked to stop: the run in progress then saves itself after its step."""

    def __init__(self) -> None:
        self.requested = False

    def _ask(self, number: int, _frame: FrameType | None) -> None:
        if self.requested:  # asked twice: at once, from the last checkpoint on
            raise Stopped
        self.requested = True
        name = signal.Signals(number).name
        print(f"\nmkfa: saving what is being trained ({name}); again stops at once", file=sys.stderr)

    @contextlib.contextmanager
    def listening(self) -> Iterator[Stop]:
        """Turn SIGINT and SIGTERM into a request while the body runs (in the main thread)."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        former = {number: signal.signal(number, self._ask) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield self
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)
