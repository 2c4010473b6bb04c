"""A request to stop, and the exception of a run that stops."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType


def stop_signals() -> tuple[signal.Signals, ...]:
    """Return SIGINT, SIGTERM and, unless the process ignores it, as below nohup, SIGHUP."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    if not hasattr(signal, "SIGHUP") or signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
        return numbers
    return (*numbers, signal.SIGHUP)


class Stopped(KeyboardInterrupt):
    """Stopped by SIGINT, SIGTERM or SIGHUP; the progress is in the checkpoint."""


class Stop:
    """Records whether a stop was requested; the current run then saves its state after the step."""

    def __init__(self) -> None:
        self.requested = False
        self.echo = 0.0
        """Seconds in which further signals are taken for the first: torchrun passes on what a terminal sent to all."""
        self.asked_at = 0.0

    def _ask(self, number: int, _frame: FrameType | None) -> None:
        if self.requested:  # second request: stop immediately and resume from the last checkpoint
            if time.monotonic() - self.asked_at < self.echo:
                return
            raise Stopped
        self.requested, self.asked_at = True, time.monotonic()
        name = signal.Signals(number).name
        text = f"\nmkfa: {name} received, saving the current run; repeat to stop immediately"
        with contextlib.suppress(RuntimeError, OSError):  # the signal may come while the same stream is written to
            print(text, file=sys.stderr)

    @contextlib.contextmanager
    def listening(self) -> Iterator[Stop]:
        """Turn SIGINT, SIGTERM and SIGHUP into a stop request while the body runs (in the main thread only)."""
        if threading.current_thread() is not threading.main_thread():
            yield self
            return
        former = {number: signal.signal(number, self._ask) for number in stop_signals()}
        try:
            yield self
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)
