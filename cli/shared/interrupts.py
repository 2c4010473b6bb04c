"""Ctrl-C, SIGTERM and SIGHUP: one line and an exit code, whenever they come.

The first signal raises `Interrupted` in the main thread, so that the work can close what it has open. Since every file
is written whole or not at all, the process may also end at once. It does so where an exception would be lost or would
come too late: while modules are imported or compiled, after a second signal, and when the work does not end by itself.
"""

from __future__ import annotations

import _thread
import atexit
import contextlib
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

PATIENCE = 10.0
"""Seconds that the work gets to end after the first signal."""
GRACE = 1.0
"""Seconds that it gets after the second one."""
_AGAIN = 0.05
"""Seconds until an interrupt that was lost in a callback is raised again."""
_BELOW_BAR = "\r\x1b[K\x1b[?25h"
"""Erases the line of a progress bar and shows the cursor, which it had hidden."""
_COMPILER = re.compile(r"[/\\\\](numba|llvmlite)[/\\\\]")
"""Files of the compiler that UMAP uses: a process that was interrupted in it once ended with a segmentation fault."""
_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class Interrupted(KeyboardInterrupt):
    """A signal asked the command to stop."""


class Interrupts:
    """How this process answers signals."""

    def __init__(self) -> None:
        self.first: int | None = None
        """The first signal that was answered."""
        self.arrived: int | None = None
        """The first signal that arrived; compiled code may keep it waiting."""
        self.raised = False
        """True once `Interrupted` was raised: whatever the work makes of it, the command was stopped."""
        self.told = False
        self.repeats, self.repeating = 0, False
        """Number of signals that this process sent to itself, and whether the next one is one of them."""
        self.code: int | None = None
        """The exit code, once the work is over and only the interpreter has to end."""
        self.installed = False
        self.former: Callable[[Any], object] = sys.__unraisablehook__

    def install(self) -> None:
        """Answer signals from now on; a hang-up that nohup makes the process ignore stays ignored."""
        self.first, self.arrived, self.raised, self.told, self.code = None, None, False, False, None
        if threading.current_thread() is not threading.main_thread():
            return
        for number in _SIGNALS:
            if number == signal.SIGINT or signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._answer)
        if self.installed:
            return
        self.installed = True
        self.former, sys.unraisablehook = sys.unraisablehook, self._lost
        atexit.register(_ignore)
        if os.name != "nt":  # Windows has no pipes that a signal could write to
            reader, writer = os.pipe()
            os.set_blocking(writer, False)
            signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
            threading.Thread(target=self._watch, args=(reader,), name="mkfa-signals", daemon=True).start()

    def stopped(self) -> int:
        """Print that the command was stopped; return its exit code, 128 and the signal's number, as shells have it."""
        from mkfa.cli.shared.streams import emit

        number = self.first or self.arrived or signal.SIGINT
        if not self.told:
            self.told = True
            emit(_sentence(number), err=True)
        return 128 + number

    def leave(self) -> None:
        """End the process at once."""
        number = self.first or self.arrived or signal.SIGINT
        if not self.told:
            self.told = True
            with contextlib.suppress(OSError):  # not through `sys.stderr`, which the work may be writing to
                bar = os.isatty(2) and os.environ.get("TERM") != "dumb"
                os.write(2, f"{_BELOW_BAR if bar else ''}{_sentence(number)}\n".encode())
        os._exit(128 + number)

    def _answer(self, number: int, frame: FrameType | None) -> None:
        second, self.first = self.first is not None and not self.repeating, self.first or number
        self.repeating = False
        if self.code:  # an error was reported already
            os._exit(self.code)
        if second or self.code is not None or _loads(frame):
            self.leave()
        self.raised = True
        raise Interrupted

    def _watch(self, reader: int) -> None:
        """End the process where the main thread does not: compiled code keeps Python's handlers waiting."""
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)  # where the main thread blocks them, they have to wait
        arrived = 0
        while read := os.read(reader, 64):
            numbers = [number for number in read if number in _SIGNALS]
            if not numbers:
                continue
            self.arrived = self.arrived or numbers[0]
            arrived += len(numbers)
            if arrived - self.repeats > 1:
                time.sleep(GRACE)
                self.leave()
            if self._is_ours(numbers[0]):
                timer = threading.Timer(PATIENCE, self.leave)
                timer.daemon = True
                timer.start()

    def _is_ours(self, number: int) -> bool:
        return signal.getsignal(number) == self._answer  # training answers by itself: it saves the run first

    def _lost(self, lost: Any) -> None:
        """Raise an interrupt again that came in a callback, out of which no exception gets."""
        if isinstance(lost.exc_value, Interrupted):
            timer = threading.Timer(_AGAIN, self._repeat)
            timer.daemon = True
            timer.start()
        else:
            self.former(lost)

    def _repeat(self) -> None:
        self.repeats, self.repeating = self.repeats + 1, True
        if hasattr(signal, "pthread_kill"):  # it wakes the main thread where it waits
            signal.pthread_kill(threading.main_thread().ident or 0, self.first or signal.SIGINT)
        else:
            _thread.interrupt_main()


def _sentence(number: int) -> str:
    by = "" if number == signal.SIGINT else f" by {signal.Signals(number).name}"
    return f"mkfa: stopped{by}; what was finished is kept."


def _ignore() -> None:
    """Let the interpreter end undisturbed: it forgets handlers some time before it ends."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _loads(frame: FrameType | None) -> bool:
    """True while a module is imported or compiled: libraries turn an exception into errors of their own, or crash."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib") or _COMPILER.search(frame.f_code.co_filename):
            return True
        frame = frame.f_back
    return False


INTERRUPTS = Interrupts()
"""Of this process."""
