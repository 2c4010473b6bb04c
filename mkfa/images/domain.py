"""What the parts of the trainer hand to each other (numpy only)."""

from __future__ import annotations

from dataclasses import dataclass

from mkfa.array_types import I64, U8
from mkfa.storage.file_rows import Rows


@dataclass(frozen=True, slots=True)
class Domain:
    """A labelled image set, decoded.

    Attributes
    ----------
    name : str
    classes : tuple of str
    x_train, x_test : (N, H, W, C) uint8, C = 1 (truly gray) or 3; `Rows` stay in their file until they are wanted.
    y_train, y_test : (N,) int64
    digest : str
        sha256 over pixels, labels and classes; part of a run's identity.
    licence : str
    """

    name: str
    classes: tuple[str, ...]
    x_train: U8 | Rows
    y_train: I64
    x_test: U8 | Rows
    y_test: I64
    digest: str
    licence: str = ""

    @property
    def size(self) -> int:
        """Height (= width) of the images, pixels."""
        return int(self.x_train.shape[1])

    @property
    def channels(self) -> int:
        return int(self.x_train.shape[3])
