"""A run's metrics as TensorBoard events (the package tensorboard is an extra, imported inside functions).

One file below the run's `events/`, written whole from the metrics after each epoch: it never disagrees with them,
whatever was killed in between, and a TensorBoard that reads along finds what it has read at the same place.
"""

from __future__ import annotations

import io
import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mkfa.errors import MkfaError
from mkfa.storage.atomic import atomic_write

EVENTS = "events"
"""Folder below a run's."""
FILE = "events.out.tfevents.0.mkfa"
TAGS = (("loss_train", "loss/train"), ("loss_test", "loss/test"), ("top1", "top-1"), ("lr", "lr"))
"""Fields of the metrics, and what they are called in TensorBoard."""
RATE = "images/s"

Mark = Sequence[float]
"""Of an epoch: when it ended (seconds since 1970) and its images a second."""


def check_tensorboard() -> None:
    """Refuse, before any training, to write events without the package for it.

    Raises
    ------
    MkfaError
        It is not installed; the message has the command.
    """
    try:
        import tensorboard  # noqa: F401
    except ImportError:
        problem = "needs the package tensorboard, which is not installed"
        raise MkfaError("--tensorboard", problem, "pip install 'mkfa[tensorboard]'") from None


def write_events(folder: Path, rows: Sequence[Mapping[str, Any]], marks: Sequence[Mark | None]) -> None:
    """Write the scalars of all epochs, by optimiser step.

    Parameters
    ----------
    folder : the run's.
    rows : the metrics, one an epoch.
    marks : one an epoch; None where its time was not kept: the rate is then left out.

    Raises
    ------
    WorkError
        The disk is full or failed.
    """
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.record_writer import RecordWriter

    buffer = io.BytesIO()
    writer: Any = RecordWriter(buffer)
    began = next((mark[0] for mark in marks if mark), 0.0)
    writer.write(Event(wall_time=began, file_version="brain.Event:2").SerializeToString())
    for row, mark in zip(rows, marks, strict=True):
        values = {tag: row[key] for key, tag in TAGS if row.get(key) is not None}
        if mark is not None and math.isfinite(mark[1]):
            values[RATE] = mark[1]
        summary = Summary(value=[Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()])
        event = Event(wall_time=mark[0] if mark else began, step=row["step"], summary=summary)
        writer.write(event.SerializeToString())
    (folder / EVENTS).mkdir(exist_ok=True)
    atomic_write(folder / EVENTS / FILE, buffer.getbuffer())


def write_missing(metrics: Path) -> None:
    """Give a run that is over its events, from its metrics.jsonl; how fast its epochs were is not known any more."""
    import json

    if (metrics.parent / EVENTS / FILE).exists() or not metrics.exists():
        return
    rows = [json.loads(line) for line in metrics.read_text("utf-8").splitlines()]
    write_events(metrics.parent, rows, [(metrics.stat().st_mtime, math.nan)] * len(rows))


def remove_events(folder: Path) -> None:
    """Remove what an earlier call wrote, before a run continues without events."""
    shutil.rmtree(folder / EVENTS, ignore_errors=True)
