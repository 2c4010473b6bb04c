"""What the parts of the trainer hand to each other (numpy only)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mkfa.storage.file_rows import Rows

U8 = NDArray[np.uint8]
I64 = NDArray[np.int64]


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


@dataclass(frozen=True, slots=True)
class ArmSpec:
    """Which filters a network gets before training, and whether they stay.

    Attributes
    ----------
    arm : str
        A name of `mkfa.arms.plant.ARMS`.
    layers : int
        The first n layers are set; the others are initialised by the seed and trained.
    what : str
        "depthwise", "pointwise" or "conv".
    with_bias : bool
        Copy (and freeze) biases too.
    fit_kernel : str
        "pad" or "crop": how a source's kernels of another size are fitted; "" refuses them.
    """

    arm: str
    layers: int
    what: str = "depthwise"
    with_bias: bool = False
    fit_kernel: str = ""
