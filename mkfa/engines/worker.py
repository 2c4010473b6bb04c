"""A process that trains one run after another for a sweep: what it is told and what it answers.

Messages are JSON objects, one a line, over a socket that the parent opened. To the worker: "begin" (once: recipe of
the domains, root, execution), "place" (build a run to be timed), "time", "train", "stop". From it: "ready", "placed",
"timed", "step" (at most `RATE` a second), "over", "stopped", "failed". When the socket ends the parent is gone: the run
in progress saves itself and the process ends, so that nothing trains on unseen.
"""

from __future__ import annotations

import contextlib
import json
import queue
import signal
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any

from mkfa.errors import MkfaError, WorkError
from mkfa.training.device import Execution
from mkfa.training.stopping import Stop, Stopped

RATE = 5
"""Reports of steps a second."""


class Line:
    """One end of the socket: messages out, messages in."""

    def __init__(self, end: socket.socket) -> None:
        self.end = end
        self._rest = b""

    def send(self, **message: Any) -> bool:
        """Send a message; False where the other end is gone."""
        try:
            self.end.sendall(json.dumps(message).encode() + b"\n")
        except OSError:
            return False
        return True

    def receive(self) -> list[dict[str, Any]] | None:
        """Wait for data and return the messages that are whole; None where the other end is gone."""
        try:
            data = self.end.recv(1 << 16)
        except OSError:
            return None
        if not data:
            return None
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [json.loads(line) for line in lines]


class Worker:
    """The worker's side: a thread listens, the main thread trains."""

    def __init__(self, line: Line) -> None:
        self.line, self.stop = line, Stop()
        self.orders: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self.root, self.execution = Path(), Execution()
        self.domains: Any = None
        self.specimen: Any = None

    def listen(self) -> None:
        """Take messages as they come; "stop" and the parent's end are heeded while a run is trained."""
        while (messages := self.line.receive()) is not None:
            for message in messages:
                if message["do"] == "stop":
                    self.stop.requested = True
                else:
                    self.orders.put(message)
        self.leave()

    def leave(self, *_: int | FrameType | None) -> None:
        """Save what is in progress and end (also the handler of SIGTERM)."""
        self.stop.requested = True
        self.orders.put(None)

    def work(self) -> None:
        """Carry out orders until there are no more."""
        act: dict[str, Callable[[dict[str, Any]], None]] = {
            "begin": self._begin,
            "place": self._place,
            "time": self._time,
            "train": self._train,
        }
        while (order := self.orders.get()) is not None:
            try:
                act[order["do"]](order)
            except Stopped:
                self.line.send(say="stopped")
            except Exception as error:
                self.line.send(say="failed", **told(error))

    def _begin(self, order: dict[str, Any]) -> None:
        import torch

        from mkfa.images.opened import Domains

        self.root, self.execution = Path(order["root"]), Execution(**order["execution"])
        torch.set_num_threads(self.execution.threads)
        self.domains = Domains(order["size"], order["max_size"])
        self.line.send(say="ready")

    def _place(self, order: dict[str, Any]) -> None:
        from mkfa.engines.estimate import Specimen

        planned = self._planned(order)
        self.specimen = Specimen(planned.spec, self.domains, self.execution)
        self.line.send(say="placed")

    def _time(self, _: dict[str, Any]) -> None:
        found, self.specimen = self.specimen.time(), None
        self.line.send(say="timed", **asdict(found))

    def _train(self, order: dict[str, Any]) -> None:
        from mkfa.engines.serial import train_planned

        told_at = 0.0

        def tell(_: Any, report: Any) -> None:
            nonlocal told_at
            now = time.monotonic()
            if now - told_at >= 1 / RATE or report.step == report.steps:
                told_at = now
                if not self.line.send(say="step", report=asdict(report)):
                    self.leave()

        done = train_planned(
            self._planned(order), self.domains, root=self.root, execution=self.execution, stop=self.stop, tell=tell
        )
        self.line.send(say="over", state=done.state, trained=done.trained, note=done.note)

    def _planned(self, order: dict[str, Any]) -> Any:
        """Return the run that an order names; its domains are read under the names that the parent read them by."""
        from mkfa.banks.bank_file import read_bank
        from mkfa.training.planned import PlannedRun
        from mkfa.training.spec import RunSpec

        spec, needs = RunSpec(**order["spec"]), RunSpec(**order["needs"]) if order["needs"] else None
        for name, asked in order["domains"].items():
            digest = spec.domain_digest if name == spec.domain else needs.domain_digest if needs else ""
            if self.domains[asked].digest != digest:
                raise WorkError(asked, "has changed since the plan was made", "run the command again")
        bank = read_bank(order["bank"]) if order["bank"] else None
        return PlannedRun(spec, order["source"], needs, bank)


def order_of(planned: Any, domains: Any, bank: Path | None) -> dict[str, Any]:
    """Return what a worker is told of a planned run; `bank` is the file that its bank was written to."""

    def record(spec: Any) -> dict[str, Any]:
        return {**spec.identity, "recipe_name": spec.recipe_name}

    names = {spec.domain for spec in (planned.spec, planned.needs) if spec is not None}
    return {
        "spec": record(planned.spec),
        "source": planned.source,
        "bank": str(bank) if bank else "",
        "needs": record(planned.needs) if planned.needs else None,
        "domains": {name: domains.asked_as(name) for name in sorted(names)},
    }


def told(error: Exception) -> dict[str, Any]:
    """Return an error as a message."""
    if isinstance(error, MkfaError):
        return {
            "kind": "MkfaError",
            "exit": error.exit_code,
            "thing": error.thing,
            "problem": error.problem,
            "remedy": error.remedy,
        }
    return {"kind": type(error).__name__, "text": str(error), "trace": "".join(traceback.format_exception(error))}


def heard(message: Mapping[str, Any], label: str) -> Exception:
    """Return the error that a message tells of, as the parent raises it; `label` names the run."""
    if message["kind"] == "MkfaError":
        kind = WorkError if message["exit"] == WorkError.exit_code else MkfaError
        return kind(message["thing"], message["problem"], message["remedy"])
    if message["kind"] == "MemoryError":
        return MemoryError(message["text"])
    problem = f"failed with an unexpected {message['kind']}: {message['text'][:300]}"
    error = WorkError(label, problem, "run again as 'mkfa --debug ...' with --jobs 1 and report it")
    error.add_note(message["trace"])
    return error


@contextlib.contextmanager
def no_signals() -> Iterator[None]:
    """Hold SIGINT and SIGTERM back while a worker is started: it inherits that, and lets them in when it is ready."""
    former = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)


def main(number: int) -> None:
    """Work over the socket of this file descriptor until it ends."""
    end = socket.socket(fileno=number)
    end.set_inheritable(False)
    worker = Worker(Line(end))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes of the terminal: the parent decides
    signal.signal(signal.SIGTERM, worker.leave)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})
    threading.Thread(target=worker.listen, daemon=True).start()
    worker.work()
