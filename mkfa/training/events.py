"""A run's metrics as TensorBoard events (the package tensorboard is an extra, imported inside functions).

One file in the run's `events/` folder is rewritten from the metrics after each epoch, so the two never disagree, even
after a kill. Earlier events keep their byte offsets, so a running TensorBoard can follow the file.
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
"""Subfolder of a run folder."""
FILE = "events.out.tfevents.0.mkfa"
TAGS = (("loss_train", "loss/train"), ("loss_test", "loss/test"), ("top1", "top-1"), ("lr", "lr"))
"""Metrics fields and their TensorBoard tags."""
RATE = "images/s"

Mark = Sequence[float]
"""End time of an epoch (seconds since 1970) and its images per second."""


def check_tensorboard() -> None:
    """Fail before training starts if tensorboard is not installed.

    Raises MkfaError: it is not installed; the message gives the install command.
    """
    try:
        import tensorboard  # noqa: F401
    except ImportError:
        problem = "needs the package tensorboard, which is not installed"
        raise MkfaError("--tensorboard", problem, "pip install 'mkfa[tensorboard]'") from None


def write_events(folder: Path, rows: Sequence[Mapping[str, Any]], marks: Sequence[Mark | None]) -> None:
    """Write the scalars of all epochs, indexed by optimiser step.

    Parameters
    ----------
    folder : the run folder.
    rows : the metrics, one row per epoch.
    marks : one per epoch; None if its time was not recorded, in which case the rate is omitted.

    Raises WorkError: the disk is full or has failed.
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
    """Write the missing events of a finished run from its metrics.jsonl; images per second are not recoverable."""
    from mkfa.training.folder import read_metrics

    if (metrics.parent / EVENTS / FILE).exists() or not metrics.exists():
        return
    rows = read_metrics(metrics)
    write_events(metrics.parent, rows, [(metrics.stat().st_mtime, math.nan)] * len(rows))


def remove_events(folder: Path) -> None:
    """Remove the events of an earlier call before a run continues without events."""
    shutil.rmtree(folder / EVENTS, ignore_errors=True)
