"""Batches read from disk by a thread that runs ahead of the training.

The order of the images is known in advance, so that the next batches are read while the network works on this one: at
most `DEPTH` of them. For a CUDA device they are read into pinned memory and copied on a stream of their own, one batch
ahead. The thread reads and does nothing else: no call of CUDA's, nothing random.
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
"""Batches that wait at most."""
_END = "end"
"""In a queue: nothing comes any more."""


def read_rows(images: U8 | Rows, rows: I64, out: U8) -> None:
    """Read images, (B,) row numbers, into `out`, (B, H, W, C); raises `ReadError` of `file_rows` where a file fails."""
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
        Row numbers, batch by batch; gone through in the thread.
    largest : int
        Images of the largest batch.
    device : where the batches are wanted.
    """

    def __init__(self, images: U8 | Rows, batches: Iterable[I64], *, largest: int, device: torch.device) -> None:
        import torch

        self.images, self.batches, self.device = images, batches, device
        self.ready: SimpleQueue[Any] = SimpleQueue()
        self.free: SimpleQueue[Any] = SimpleQueue()
        cuda = device.type == "cuda"
        self.side: Any = torch.cuda.Stream(device) if cuda else None  # type: ignore[no-untyped-call]
        for _ in range(DEPTH):  # a permit to read one batch: the memory to read it into, or None to take new memory
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
        except BaseException as error:  # whatever it is, the training raises it
            self.ready.put(error)

    def take(self, rows: NDArray[np.int64]) -> torch.Tensor:
        """Return the next batch on the device, (B, H, W, C) uint8; it must be the one of these rows.

        Raises
        ------
        ReadError
            The file failed; every further call raises it again.
        """
        if self.side is None:
            arrived, pixels, memory = self._accept(self.ready.get())
            self.free.put(memory)
            batch: torch.Tensor = pixels.to(self.device)
        else:
            arrived, batch = self._arrived()
        if not np.array_equal(arrived, rows):
            raise RuntimeError("training asks for another batch than the one that was announced")
        return batch

    def _accept(self, item: Any) -> Any:
        if isinstance(item, BaseException):
            self.ready.put(item)
            raise item
        if item is _END:
            self.ready.put(item)
            raise RuntimeError("training asks for more batches than were announced")
        return item

    def _arrived(self) -> tuple[I64, torch.Tensor]:
        """Return the next batch, copied to the GPU, and begin to copy the one after it if it was read."""
        import torch

        if self.next is None:
            try:
                item = self.ready.get_nowait()
            except Empty:  # nothing was read yet: the host has nothing better to do than to wait for the copies
                self._recycle(wait=True)
                item = self.ready.get()
            self.next = self._send(item)
        rows, batch, event = self.next
        self.next = None
        here = torch.cuda.current_stream(self.device)
        here.wait_event(event)
        batch.record_stream(here)  # its memory is not given away before this stream is through with it
        self._recycle(wait=False)
        try:
            item = self.ready.get_nowait()
        except Empty:
            return rows, batch
        if isinstance(item, tuple):
            self.next = self._send(item)
        else:
            self.ready.put(item)  # the end or an error: of the next call
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
        """Let pinned memory be read into again once it was copied."""
        while self.flying and (wait or self.flying[0][1].query()):
            memory, event = self.flying.popleft()
            if wait:
                event.synchronize()
            self.free.put(memory)

    def close(self) -> None:
        """End the thread; returns when the batch that it is reading, if any, is read."""
        self.ended.set()
        self.free.put(None)
        self.thread.join()
