"""A run's images as bytes, accessed by index: on the device or streamed to it from disk. No loader, no workers.

Both give a training step bit-identical input, so the choice is not part of a run's identity. `auto` keeps a domain on
the device if it fits in memory (`mkfa.training.memory`) and streams it otherwise.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mkfa.array_types import I64, U8
from mkfa.errors import MkfaError
from mkfa.images.domain import Domain
from mkfa.images.upload import to_device
from mkfa.storage.file_rows import Rows
from mkfa.training.memory import free_bytes, memory_for_images
from mkfa.training.read_ahead import ReadAhead, read_rows
from mkfa.training.recipe import Recipe

if TYPE_CHECKING:
    import torch

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_SLAB = 1 << 22
"""Bytes counted or copied at a time."""
_COUNTS: dict[Rows, NDArray[np.float64]] = {}
"""Per-channel histograms of the files that this process has already scanned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One side of a domain, ready for training; `Resident` or `Streamed`.

    Attributes
    ----------
    labels : (N,) int64
    mean, scale : (1, C, 1, 1) float32 on the device, in units of the stored bytes.
    side : size that the images are scaled to: their own or the recipe's.
    channels_last : bool
    extents : (N, 3) int64 or None
        On the device of the labels; see `mkfa.images.domain.Domain`.
    eval_size : shorter side that images are scaled to before their centre is cut out; 0: they are scaled to `side`.
    """

    kind: ClassVar[str] = ""

    images: Any
    labels: torch.Tensor
    mean: torch.Tensor
    scale: torch.Tensor
    side: int
    channels_last: bool
    extents: torch.Tensor | None = None
    eval_size: int = 0

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def device(self) -> torch.device:
        """The device that batches are delivered to."""
        return self.mean.device

    def index(self, rows: I64) -> torch.Tensor:
        """Return row numbers, (B,) int64, on the device of the labels, so that indexing does not synchronise."""
        return to_device(rows, self.labels)

    def first(self, count: int) -> Side:
        """Return this side cut down to its first `count` images."""
        return replace(self, images=self.images[:count], labels=self.labels[:count])

    def normalise(self, x: torch.Tensor) -> torch.Tensor:
        """Return images as float32 with zero mean and unit standard deviation, in the chosen memory format."""
        import torch

        x = (x.float() - self.mean) * self.scale
        return x.contiguous(memory_format=torch.channels_last if self.channels_last else torch.contiguous_format)

    def take(self, index: torch.Tensor) -> torch.Tensor:
        """Return the images of these rows (on the device), 0-255; (B, C, side, side), uint8 or float32 if scaled."""
        import torch
        import torch.nn.functional as functional

        x = self.whole(index)
        wanted = self.eval_size or self.side
        if x.shape[-1] != wanted:
            x = functional.interpolate(x.float(), (wanted, wanted), mode="bicubic", antialias=True)
            x = x.clamp_(0, 255)
        if wanted != self.side:
            start = round((wanted - self.side) / 2)
            x = x[:, :, start : start + self.side, start : start + self.side]
        return x.contiguous(memory_format=torch.channels_last)

    def whole(self, index: torch.Tensor) -> torch.Tensor:
        """Return the images of these rows as they are stored; (B, C, H, W) uint8, channels last in memory."""
        return self._bytes(index).permute(0, 3, 1, 2)

    def extents_of(self, index: torch.Tensor) -> torch.Tensor | None:
        """Return the extents of these rows, (B, 3) int64 on the device; None if images fill their rows."""
        if self.extents is None:
            return None
        chosen = self.extents.index_select(0, index.to(self.extents.device))
        return chosen if chosen.device == self.device else to_device(chosen.numpy(), self.mean)

    def _bytes(self, index: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    def labels_of(self, index: torch.Tensor) -> torch.Tensor:
        """Return the labels of these rows, (B,) int64 on the device."""
        raise NotImplementedError

    @contextlib.contextmanager
    def read_ahead(self, batches: Iterable[I64], largest: int) -> Iterator[None]:
        """Announce, in order, the batches that the body takes; `largest` is the number of images in the largest."""
        yield


@dataclass(frozen=True, slots=True, kw_only=True)
class Resident(Side):
    """Images and labels on the device; `images` is (N, H, W, C) uint8."""

    kind: ClassVar[str] = "resident"

    def _bytes(self, index: torch.Tensor) -> torch.Tensor:
        selected: torch.Tensor = self.images.index_select(0, index)
        return selected

    def labels_of(self, index: torch.Tensor) -> torch.Tensor:
        """Return the labels of these rows, (B,) int64 on the device."""
        return self.labels.index_select(0, index)


@dataclass(frozen=True, slots=True, kw_only=True)
class Streamed(Side):
    """Images in a file (`Rows`) or in the host's memory, labels on the host.

    Announced batches are read ahead; others are read on demand.
    """

    kind: ClassVar[str] = "streamed"
    reading: list[ReadAhead] = field(default_factory=list, init=False)

    def _bytes(self, index: torch.Tensor) -> torch.Tensor:
        rows: I64 = index.cpu().numpy()
        if self.reading:
            return self.reading[-1].take(rows)
        pixels = np.empty((len(rows), *self.images.shape[1:]), np.uint8)
        read_rows(self.images, rows, pixels)
        return to_device(pixels, self.mean)

    def labels_of(self, index: torch.Tensor) -> torch.Tensor:
        """Return the labels of these rows, (B,) int64 on the device."""
        return to_device(self.labels.index_select(0, index.cpu()).numpy(), self.mean)

    @contextlib.contextmanager
    def read_ahead(self, batches: Iterable[I64], largest: int) -> Iterator[None]:
        """Read ahead, in order, the batches that the body takes; the thread ends with the body."""
        reader = ReadAhead(self.images, batches, largest=largest, device=self.device)
        self.reading.append(reader)
        try:
            yield
        finally:
            self.reading.remove(reader)
            reader.close()


def place(
    domain: Domain,
    recipe: Recipe,
    *,
    device: torch.device,
    channels_last: bool,
    data: str = "auto",
    share: float = 1.0,
    reserve: int = 0,
) -> tuple[Side, Side]:
    """Return the training and the test side of a domain, on the device or streamed to it.

    Parameters
    ----------
    data, share
        As in `mkfa.training.device.Execution`.
    reserve : bytes on the device that training itself needs besides the images.

    Raises MkfaError: "resident" was requested, but the device has too little free memory; or the domain was packed for
    training crops and the recipe takes whole images. Raises ReadError: the domain's file can no longer be read.
    """
    import torch

    if domain.extents is not None and recipe.crop != "resized":
        problem = f"is packed for training crops, and recipe {recipe.name} takes whole images"
        raise MkfaError(domain.name, problem, "pack it without --crop-from, or choose recipe paper")
    stays = _stays(domain, device, data, share=share, reserve=reserve)
    sides: list[Any] = [_load(x, device) if stays else x for x in (domain.x_train, domain.x_test)]
    at_hand = sides[0].numpy() if stays and device.type == "cpu" else domain.x_train  # avoids a second read
    file = domain.x_train if isinstance(domain.x_train, Rows) else None
    mean, std = channel_statistics(at_hand, recipe, file=file)

    labels_on = device if stays else torch.device("cpu")
    eval_size = 0 if domain.eval_size else recipe.eval_size  # packing has cut the centre already

    def side(images: Any, y: I64, extents: I64 | None, eval_size: int) -> Side:
        labels = torch.from_numpy(np.array(y, np.int64))
        sizes = None if extents is None else torch.from_numpy(np.array(extents, np.int64))
        return (Resident if stays else Streamed)(
            images=images,
            labels=labels.to(labels_on),
            mean=_column(mean * 255, device),
            scale=_column(1 / (std * 255), device),
            side=recipe.size or domain.size,
            channels_last=channels_last,
            extents=sizes.to(labels_on) if sizes is not None else None,
            eval_size=eval_size,
        )

    return side(sides[0], domain.y_train, domain.extents, 0), side(sides[1], domain.y_test, None, eval_size)


def _stays(domain: Domain, device: torch.device, data: str, *, share: float, reserve: int) -> bool:
    """Return whether all images of a domain are kept on the device."""
    need = domain.x_train.nbytes + domain.x_test.nbytes
    if data == "resident":
        if need > (free := free_bytes(device)) and _is_moved(domain, device):
            problem = f"needs {need / 1e9:.1f} GB for {domain.name}, and {free / 1e9:.1f} GB are free on {device}"
            raise MkfaError("--data resident", problem, "leave it out, so that images are streamed")
        return True
    if data == "stream":
        return False
    if not _is_moved(domain, device):
        return True
    return need <= share * memory_for_images(device) and need + reserve <= share * free_bytes(device)


def _is_moved(domain: Domain, device: torch.device) -> bool:
    """True if the images need extra memory on the device: always, except for host arrays used on a CPU."""
    return device.type != "cpu" or any(isinstance(x, Rows) for x in (domain.x_train, domain.x_test))


def _load(images: U8 | Rows, device: torch.device) -> torch.Tensor:
    """Return images as a tensor on the device, without a second copy in memory; a CPU array is not copied at all."""
    import torch

    if device.type == "cpu" and isinstance(images, np.ndarray):
        return torch.from_numpy(images if images.flags.writeable else images.copy())
    held = torch.empty(images.shape, dtype=torch.uint8, device=device)
    if device.type == "cpu" and isinstance(images, Rows):
        images.load(held.numpy())
        return held
    for start, part in _slabs(images):
        held[start : start + len(part)].copy_(torch.from_numpy(np.ascontiguousarray(part)))
    return held


def _slabs(images: U8 | Rows) -> Iterator[tuple[int, U8]]:
    """Iterate over images in order, a few megabytes at a time: yields (index of the first, images)."""
    if isinstance(images, Rows):
        yield from images.slabs(_SLAB)
        return
    step = max(1, _SLAB // max(1, int(np.prod(images.shape[1:]))))
    for start in range(0, len(images), step):
        yield start, images[start : start + step]


def channel_statistics(
    images: U8 | Rows, recipe: Recipe, *, file: Rows | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the per-channel mean and standard deviation of the training images, in units of full scale; (C,), (C,).

    For gray images, ImageNet's statistics are averaged over its three channels. The sums are over integers, so they are
    exact on any machine. The images of a `file` are counted once per process.
    """
    if recipe.normalise == "imagenet":
        mean, std = np.array(IMAGENET_MEAN), np.array(IMAGENET_STD)
        return (mean, std) if images.shape[3] == 3 else (mean.mean(keepdims=True), std.mean(keepdims=True))
    counts = _COUNTS.get(file) if file is not None else None
    if counts is None:
        counts = _counted(images)
        if file is not None:
            _COUNTS[file] = counts
    share, value = counts / counts.sum(1, keepdims=True), np.arange(256) / 255
    mean = share @ value
    std = np.sqrt(np.maximum(share @ value**2 - mean**2, 0))
    return mean, np.maximum(std, 1 / 255)


def _counted(images: U8 | Rows) -> NDArray[np.float64]:
    """Return a histogram of the values of each channel, (C, 256)."""
    counts = np.zeros((images.shape[3], 256))
    for _, part in _slabs(images):
        for c in range(images.shape[3]):
            counts[c] += np.bincount(part[..., c].ravel(), minlength=256)
    return counts


def _column(values: NDArray[np.float64], device: torch.device) -> torch.Tensor:
    import torch

    return torch.tensor(values, dtype=torch.float32).view(1, -1, 1, 1).to(device)
