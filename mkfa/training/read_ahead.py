"""Batches read from disk by a thread that runs ahead of training.

The order of the images is known in advance, so the next batches, up to `DEPTH`, are read while the network works on the
current one. For a CUDA device they are read into pinned memory and copied on a separate stream, one batch ahead. The
thread only reads: it makes no CUDA calls and draws no random numbers.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mkfa.array_types import I64, U8
from mkfa.storage.file_rows import Rows

if TYPE_CHECKING:
    import torch

DEPTH = 4
"""Maximum number of batches waiting."""
_END = "end"
"""Marks the end of a queue."""


def read_rows(images: U8 | Rows, rows: I64, out: U8) -> None:
    """Read the images of (B,) row numbers into `out`, (B, H, W, C); raises `file_rows.ReadError` if a file fails."""
    if isinstance(images, Rows):
        images.read(rows, out)
    else:
        np.take(images, rows, axis=0, out=out, mode="clip")


class ReadAhead:
    """Reads batches in a given order; `close` ends the thread.

    Parameters
    ----------
    images : (N, H, W, C) uint8
    batches : iterable of (B,) int64
        Row numbers, batch by batch; iterated in the thread.
    largest : number of images in the largest batch.
    device : where batches are delivered.
    """

    def __init__(self, images: U8 | Rows, batches: Iterable[I64], *, largest: int, device: torch.device) -> None:
        import torch

        self.images, self.batches, self.device = images, batches, device
        self.ready: SimpleQueue[Any] = SimpleQueue()
        self.free: SimpleQueue[Any] = SimpleQueue()
        cuda = device.type == "cuda"
        self.side: Any = torch.cuda.Stream(device) if cuda else None  # type: ignore[no-untyped-call]
        for _ in range(DEPTH):  # a permit to read one batch: the buffer to read into, or None to allocate one
            shape = (largest, *images.shape[1:])
            self.free.put(torch.empty(shape, dtype=torch.uint8, pin_memory=True) if cuda else None)
        self.flying: deque[tuple[Any, Any]] = deque()
        self.next: Any = None
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._work, name="mkfa-read-ahead", daemon=True)
        self.thread.start()

    def _work(self) -> None:
        import torch

        try:
            for rows in self.batches:
                memory = self.free.get()
                if self.ended.is_set():
                    return
                shape = (len(rows), *self.images.shape[1:])
                pixels = torch.empty(shape, dtype=torch.uint8) if memory is None else memory[: len(rows)]
                read_rows(self.images, rows, pixels.numpy())
                self.ready.put((rows, pixels, memory))
            self.ready.put(_END)
        except BaseException as error:  # re-raised by the training thread
            self.ready.put(error)

    def take(self, rows: NDArray[np.int64]) -> torch.Tensor:
        """Return the next batch on the device, (B, H, W, C) uint8; it must be the batch with these rows.

        Raises ReadError: reading the file failed; every further call raises this again.
        """
        if self.side is None:
            arrived, pixels, memory = self._accept(self.ready.get())
            self.free.put(memory)
            batch: torch.Tensor = pixels.to(self.device)
        else:
            arrived, batch = self._arrived()
        if not np.array_equal(arrived, rows):
            raise RuntimeError("training requested a different batch from the one announced")
        return batch

    def _accept(self, item: Any) -> Any:
        if isinstance(item, BaseException):
            self.ready.put(item)
            raise item
        if item is _END:
            self.ready.put(item)
            raise RuntimeError("training requested more batches than were announced")
        return item

    def _arrived(self) -> tuple[I64, torch.Tensor]:
        """Return the next batch on the GPU and, if the batch after it has been read, start copying that."""
        import torch

        if self.next is None:
            try:
                item = self.ready.get_nowait()
            except Empty:  # nothing read yet: the host may as well wait for the copies
                self._recycle(wait=True)
                item = self.ready.get()
            self.next = self._send(item)
        rows, batch, event = self.next
        self.next = None
        here = torch.cuda.current_stream(self.device)
        here.wait_event(event)
        batch.record_stream(here)  # keeps its memory from being reused before this stream is done with it
        self._recycle(wait=False)
        try:
            item = self.ready.get_nowait()
        except Empty:
            return rows, batch
        if isinstance(item, tuple):
            self.next = self._send(item)
        else:
            self.ready.put(item)  # the end or an error: left for the next call
        return rows, batch

    def _send(self, item: Any) -> tuple[I64, torch.Tensor, Any]:
        import torch

        rows, pixels, memory = self._accept(item)
        with torch.cuda.stream(self.side):
            batch = torch.empty(pixels.shape, dtype=torch.uint8, device=self.device)
            batch.copy_(pixels, non_blocking=True)
            event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            event.record(self.side)
        self.flying.append((memory, event))
        return rows, batch, event

    def _recycle(self, *, wait: bool) -> None:
        """Release pinned buffers whose copy has finished."""
        while self.flying and (wait or self.flying[0][1].query()):
            memory, event = self.flying.popleft()
            if wait:
                event.synchronize()
            self.free.put(memory)

    def close(self) -> None:
        """Stop the thread; returns once any read in progress has finished."""
        self.ended.set()
        self.free.put(None)
        self.thread.join()
