"""A request to stop, and the exception of a run that stops."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType


class Stopped(KeyboardInterrupt):
    """Stopped by SIGINT or SIGTERM; the progress is in the checkpoint."""


class Stop:
    """Records whether a stop was requested; the current run then saves its state after the step."""

    def __init__(self) -> None:
        self.requested = False

    def _ask(self, number: int, _frame: FrameType | None) -> None:
        if self.requested:  # second request: stop immediately and resume from the last checkpoint
            raise Stopped
        self.requested = True
        name = signal.Signals(number).name
        print(f"\nmkfa: {name} received, saving the current run; repeat to stop immediately", file=sys.stderr)

    @contextlib.contextmanager
    def listening(self) -> Iterator[Stop]:
        """Turn SIGINT and SIGTERM into a stop request while the body runs (in the main thread only)."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        former = {number: signal.signal(number, self._ask) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield self
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)
