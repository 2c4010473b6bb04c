"""A labelled image set, decoded."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mkfa.array_types import I64, U8
from mkfa.storage.file_rows import Rows
from mkfa.storage.records import Shown
from mkfa.words import counted


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Domain(Shown):
    """A labelled image set, decoded. Two domains are equal if their names, classes and digests are.

    Attributes
    ----------
    name : str
    classes : tuple of str
    x_train, x_test : (N, H, W, C) uint8, C = 1 (gray) or 3; `Rows` stay in their file until they are indexed.
    y_train, y_test : (N,) int64
    digest : SHA-256 over pixels, labels and classes; part of a run's identity.
    licence : str
    extents : (N, 3) int64 or None
        Of a domain packed for training crops: height and width of each training image, which lies in the upper left of
        its row (the rest repeats its border), and 1 if its rows and columns were exchanged, so that its longer side is
        horizontal; None: images fill their rows.
    eval_size : shorter side that test images were scaled to before their centre was cut out, if they were packed for a
        recipe with this `eval_size`; else 0.
    """

    name: str
    classes: tuple[str, ...]
    x_train: U8 | Rows = field(compare=False)
    y_train: I64 = field(compare=False)
    x_test: U8 | Rows = field(compare=False)
    y_test: I64 = field(compare=False)
    digest: str
    licence: str = ""
    extents: I64 | None = field(default=None, compare=False)
    eval_size: int = 0

    @property
    def size(self) -> int:
        """Height (= width) of the images, pixels; of the test images if training crops are cut from larger ones."""
        return int((self.x_train if self.extents is None else self.x_test).shape[1])

    @property
    def channels(self) -> int:
        """1 for gray images, else 3."""
        return int(self.x_train.shape[3])

    def picture(self, row: int) -> U8:
        """Return a training image in its own shape, (H, W, C) uint8, without the padding of its row."""
        pixels = np.asarray(self.x_train[row])
        if self.extents is None:
            return pixels
        height, width, exchanged = (int(n) for n in self.extents[row])
        pixels = pixels[:height, :width]
        return pixels.transpose(1, 0, 2) if exchanged else pixels

    def headline(self) -> str:
        """Return a one-line description."""
        count = f"{len(self.x_train):,} train and {counted(len(self.x_test), 'test image')}"
        colours = "gray" if self.channels == 1 else "in colour"
        larger = (
            ""
            if self.extents is None
            else f", training crops from up to {counted(max(self.x_train.shape[1:3]), 'pixel')}"
        )
        size = f"{self.size}x{self.size} pixels"
        return f"{self.name}, {counted(len(self.classes), 'class', 'classes')}, {count} of {size}{larger}, {colours}"

    def rows(self) -> list[dict[str, Any]]:
        """Return the number of images of each class."""
        train, test = (np.bincount(y, minlength=len(self.classes)) for y in (self.y_train, self.y_test))
        return [
            {"class": name, "train": int(a), "test": int(b)}
            for name, a, b in zip(self.classes, train, test, strict=True)
        ]
