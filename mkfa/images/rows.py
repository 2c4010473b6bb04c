"""Decode images into rows of a file: in this process, or in others where there are many (Pillow).

Workers write their rows directly into the file's memory map.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import sys
import threading
import warnings
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from mkfa.array_types import I64, U8
from mkfa.errors import MkfaError
from mkfa.images.decode import MAX_PIXELS, USUAL, Decoding, is_turned, open_image, to_rgb
from mkfa.images.listing import Side
from mkfa.images.sizes import Sizes, fit_size
from mkfa.threads import cores

FEW_IMAGES, FEW_BYTES = 256, 1 << 23
"""Images, and bytes of their files, up to which no process is started. Measured on two busy cores, at 64 px: 54
photographs of 500x375 pixels take 0.8 s here and 1.3 s in two processes, 256 (9 MB) 1.7 and 1.8 s, 512 3.3 and 2.9."""
_BATCH = 32
Place = tuple[str, int, tuple[int, ...]]
"""An array in a file: path, offset, shape."""


@dataclass(frozen=True, slots=True)
class Request:
    """Some images of a side, and how they are decoded: see `decode_rows`."""

    part: str
    side: Side
    rows: list[int]
    place: Place
    sizes: Sizes
    decoding: Decoding
    extents: Place | None

    @property
    def images(self) -> list[Any]:
        """The images: paths of files, or pixels."""
        there: Any = self.side.pixels if self.side.pixels is not None else self.side.files
        return [there[row] for row in self.rows]

    @property
    def options(self) -> dict[str, Any]:
        """The keywords of `decode_rows`."""
        return {"rows": self.rows, "sizes": self.sizes, "decoding": self.decoding, "extents": self.extents}


Decoded = tuple[Request, list[str], int]


def decoded(todo: Sequence[Request], workers: int) -> Generator[Decoded, None, None]:
    """Yield each request with a problem for each image, "" if there is none, and how many have an EXIF orientation.

    Parameters
    ----------
    workers : number of processes; 0: one for each core, and none for a few small images.

    Raises BrokenExecutor or MemoryError: memory is short.
    """
    return _in_processes(todo, workers or cores()) if workers or not _few(todo) else _here(todo)


def _few(todo: Sequence[Request]) -> bool:
    """True for so few images that processes would take longer to start than this one takes to decode them."""
    if sum(len(request.rows) for request in todo) > FEW_IMAGES:
        return False
    total = 0
    for image in (image for request in todo for image in request.images):
        with contextlib.suppress(OSError):  # said when it is decoded
            total += image.stat().st_size if isinstance(image, Path) else image.nbytes
    return total <= FEW_BYTES


def _here(todo: Sequence[Request]) -> Generator[Decoded, None, None]:
    """Decode in this process."""
    with _silent_pillow():
        for request in todo:
            yield (request, *decode_rows(request.images, request.place, **request.options))


def _in_processes(todo: Sequence[Request], workers: int) -> Generator[Decoded, None, None]:
    """Decode in processes; results come in any order."""
    context = multiprocessing.get_context("spawn")
    with _children_ignore_sigint():  # its semaphores start a process of their own
        executor = ProcessPoolExecutor(min(workers, len(todo)), mp_context=context, initializer=end_with_parent)
    with executor as pool:
        waiting: dict[Future[tuple[list[str], int]], Request] = {}
        ahead = iter(todo)
        try:
            while True:
                for request in ahead:  # keep the queue short: CIFAR-10's pixels are sent with the request
                    with _children_ignore_sigint(), _without_script():
                        waiting[pool.submit(decode_rows, request.images, request.place, **request.options)] = request
                    if len(waiting) >= 2 * workers:
                        break
                if not waiting:
                    break
                for future in wait(waiting, return_when=FIRST_COMPLETED)[0]:
                    yield (waiting.pop(future), *future.result())
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


@contextlib.contextmanager
def _silent_pillow() -> Iterator[None]:
    """Silence Pillow's log in the body: what is wrong with an image is said once, with its path."""
    log = logging.getLogger("PIL")
    former, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = former


def batches(rows: I64) -> list[list[int]]:
    """Split rows into those of one request each."""
    return [rows[i : i + _BATCH].tolist() for i in range(0, len(rows), _BATCH)]


@contextlib.contextmanager
def _without_script() -> Iterator[None]:
    """Start workers in the body without the caller's script.

    A worker that is spawned runs the main script again, up to its `if __name__ == "__main__":`; a script that has none
    would pack its images once more in every worker, and none would ever decode. Workers need nothing of it.
    """
    former = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = former


@contextlib.contextmanager
def _children_ignore_sigint() -> Iterator[None]:
    """Make workers started in the body ignore SIGINT and SIGHUP from the start.

    Ctrl-C and the end of a terminal reach all its processes; the parent decides how to handle it.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    former = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)


def end_with_parent() -> None:
    """Make a worker exit when its parent process dies; otherwise it would wait for work forever.

    Pillow's log is silenced: what is wrong with an image is said once, with its path.
    """
    logging.getLogger("PIL").disabled = True
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})  # blocked only while the process started
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def place_of(array: Any) -> Place:
    """Return where a memory-mapped array is, so that another process can map it."""
    return array.filename, array.offset, array.shape


def decode_rows(
    images: Sequence[Path | U8],
    place: Place,
    *,
    rows: Sequence[int],
    sizes: Sizes,
    decoding: Decoding,
    extents: Place | None = None,
) -> tuple[list[str], int]:
    """Decode images into rows of a memory-mapped file; with `extents`, whole images, whose sizes are written there.

    Returns a problem for each image, "" if there is none, and the number of images with an EXIF orientation.
    """
    filename, offset, shape = place
    pixels: Any = np.memmap(filename, np.uint8, "r+", offset, shape)
    table: Any = None if extents is None else np.memmap(extents[0], "<i8", "r+", extents[1], extents[2])
    problems, turned = [], 0
    for image, row in zip(images, rows, strict=True):
        try:
            picture, with_orientation = _rgb(image, decoding)
            if table is None:
                pixels[row] = _square(picture, sizes)
            else:
                pixels[row], table[row] = _whole(picture, sizes.crop_from, shape[1:3])
            turned += with_orientation
            problems.append("")
        except MemoryError:
            raise
        except MkfaError as error:
            problems.append(error.problem)
        except OSError as error:
            problems.append(f"cannot be read ({error.strerror or error})"[:200])
        except Exception as error:  # a decoder may raise anything on a damaged file
            problems.append(f"is damaged ({error or type(error).__name__})"[:200])
    return problems, turned


def scaled(image: Path | U8, size: int, decoding: Decoding = USUAL) -> U8:
    """Return an image as (size, size, 3) uint8: shorter side scaled to `size` (bicubic), then centre-cropped.

    Raises as `mkfa.images.decode.open_image` and `to_rgb`.
    """
    return _square(_rgb(image, decoding)[0], Sizes(size))


def _rgb(image: Path | U8, decoding: Decoding) -> tuple[Any, bool]:
    """Return an image as a picture of Pillow's in mode RGB, and whether its EXIF orientation is not applied."""
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # warnings concern odd metadata; an undecodable image raises
        if isinstance(image, np.ndarray):
            return Image.fromarray(image).convert("RGB"), False
        with open_image(image) as opened:
            return to_rgb(opened, decoding), is_turned(opened)


def _square(picture: Any, sizes: Sizes) -> U8:
    """Return the centre of a picture as (size, size, 3) uint8.

    With `eval_size`, sizes are rounded as by torchvision's Resize and CenterCrop.
    """
    from PIL import Image

    size = sizes.size
    picture = _middle(picture, sizes.eval_size or size)
    width, height = picture.size
    short = min(width, height)
    if sizes.eval_size:
        wide, high = sizes.eval_size * width // short, sizes.eval_size * height // short
        left, top = round((wide - size) / 2), round((high - size) / 2)
    else:
        scale = size / short
        wide, high = max(size, round(width * scale)), max(size, round(height * scale))
        left, top = (wide - size) // 2, (high - size) // 2
    if (wide, high) != (width, height):
        picture = picture.resize((wide, high), Image.Resampling.BICUBIC)
    return np.asarray(picture.crop((left, top, left + size, top + size)), np.uint8)


def _whole(picture: Any, crop_from: int, row: Sequence[int]) -> tuple[U8, tuple[int, int, int]]:
    """Return a whole picture in a row of (height, width), and its extent as in `mkfa.images.domain.Domain`.

    Raises ValueError if it does not fit.
    """
    from PIL import Image

    size = fit_size(picture.width, picture.height, crop_from)
    if size != picture.size:
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    pixels = np.asarray(picture, np.uint8)
    exchanged = size[1] > size[0]
    if exchanged:
        pixels = pixels.transpose(1, 0, 2)
    height, width = pixels.shape[:2]
    if height > row[0] or width > row[1]:
        raise ValueError(f"it has {size[0]}x{size[1]} pixels, more than its header said")
    filled = np.pad(pixels, ((0, row[0] - height), (0, row[1] - width), (0, 0)), mode="edge")
    return filled, (height, width, int(exchanged))


def _middle(picture: Any, size: int) -> Any:
    """Cut the middle out of an image so long that it would not fit into memory once its shorter side is scaled."""
    short, long = sorted(picture.size)
    if size * size * long <= MAX_PIXELS * short:
        return picture
    keep = min(long, 3 * short + (long - 3 * short) % 2)  # an even number is cut off, so that the centre stays
    cut = (long - keep) // 2
    width, height = picture.size
    return picture.crop((cut, 0, width - cut, height) if width > height else (0, cut, width, height - cut))
