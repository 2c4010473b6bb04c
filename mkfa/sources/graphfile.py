"""What the readers of graph files (ONNX, TFLite) share: what can go wrong, the tally, quantised values (layer 2).

Whether a batch normalisation was folded into a convolution is not written in such a file; `bn_folded` is an inference.
A layer counts as folded when it has a bias and a sign of it: behind nothing but changes of type, quantisation, and
scaling or shifting by constants, comes a rectifying or gating activation (what exporters leave of convolution,
normalisation, activation; networks that use a bias without normalisation mostly put a normalisation, a sum or a GELU
there, or a normalisation behind the activation), or the weight has a name like "onnx::Conv_541", which PyTorch's
exporter gives only to what it computed. Where more than half of a network's layers with bias are folded by this rule,
so are its others with bias, except those with a normalisation behind them (linear blocks have no activation). False
also stands for "cannot be told".
"""

from __future__ import annotations

import importlib
import mmap
from collections import Counter
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mkfa.bank import F32
from mkfa.errors import MkfaError, SourceError
from mkfa.sources.found import FoundLayer, Reading

AnyArray = NDArray[Any]

RUN_TIME = "weights computed at run time"
TRANSPOSED = "transposed convolution"
STEM = "one-channel stem"
ONE_BY_ONE = "1x1 depthwise convolution"
ONE_D = "1-D convolution"
THREE_D = "3-D convolution"
GROUPED = "grouped convolution with several channels a group"
SHARED = "further use of weights that are listed already"

LARGEST_STEP = 1 << 15
"""No stride or dilation is larger; a larger one is damage (the bank's layer table has 32-bit integers)."""

LARGEST_SPARSE = 1 << 24
"""Most taps of a sparse weight: its dense size is not bounded by the size of the file."""


class Sign(Enum):
    """What the graph shows of a normalisation folded into a convolution that has a bias."""

    FOLDED = "an activation behind it, or a name that the exporter gave"
    SEPARATE = "a normalisation behind it"
    NONE = "neither"


class DamagedError(ValueError):
    """Content that contradicts itself; the reader turns it into a `SourceError` that names the file."""


class LeftOutError(Exception):
    """A weight that cannot be taken; `args[0]` is the reason to count it under."""


def load_package(name: str, extra: str, path: Path) -> ModuleType:
    """Import an optional package, or say how to install it.

    Raises
    ------
    MkfaError
        The package is not installed.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        problem = f"reading it needs the package {(error.name or name).split('.')[0]}, which is not installed"
        raise MkfaError(path, problem, f"pip install 'mkfa[{extra}]'") from None


def map_file(path: Path) -> mmap.mmap:
    """Map a file for reading; the map lives as long as views of it. Raises SourceError."""
    try:
        with path.open("rb") as f:
            return mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        problem = f"cannot be read ({getattr(error, 'strerror', None) or error})"
        raise SourceError(path, problem, "check the file and its permissions") from error


def damaged(path: Path, error: object) -> SourceError:
    """Return the error for a file whose content contradicts itself."""
    detail = str(error) or type(error).__name__
    return SourceError(path, f"is damaged or not what it claims to be ({detail[:200]})", "fetch the file again")


def check_steps(values: tuple[int, ...], what: str) -> tuple[int, int]:
    """Return a stride or dilation as (vertical, horizontal); refuses what no network has."""
    if len(values) != 2 or not all(1 <= v <= LARGEST_STEP for v in values):
        raise DamagedError(f"a {what} of {list(values)}")
    return int(values[0]), int(values[1])


def unpack_nibbles(data: AnyArray, count: int, *, signed: bool) -> AnyArray:
    """Return `count` 4-bit integers, two a byte and the low half first, as int8 or uint8; data is (n,) uint8."""
    if data.size != (count + 1) // 2:
        raise DamagedError(f"{data.size} bytes for {count} values of 4 bits")
    both = np.empty(data.size * 2, np.uint8)
    both[0::2], both[1::2] = data & 15, data >> 4
    values = both[:count]
    return ((values ^ 8).astype(np.int8) - np.int8(8)) if signed else values


def spread(part: AnyArray, shape: tuple[int, ...], *, axis: int, block: int = 0) -> AnyArray:
    """Return a scale or zero point in a form that broadcasts against `shape`.

    Parameters
    ----------
    part : one element for all, one for each index along `axis`, or (with `block` > 0) one for each run of `block`
        indices along it, then of the same rank as `shape`
    """
    if part.size == 1:
        return part.reshape(())
    if not -len(shape) <= axis < len(shape):
        raise DamagedError(f"quantisation along axis {axis} of shape {list(shape)}")
    axis %= len(shape)
    if block > 0:
        blocks = [-(-n // block) if i == axis else n for i, n in enumerate(shape)]
        if list(part.shape) != blocks:
            raise DamagedError(f"scales of shape {list(part.shape)} for blocks of {block} in {list(shape)}")
        return np.take(part, np.arange(shape[axis]) // block, axis=axis)
    if part.size != shape[axis]:
        raise DamagedError(f"{part.size} scales along axis {axis} of shape {list(shape)}")
    return part.reshape([-1 if i == axis else 1 for i in range(len(shape))])


def dequantise(values: AnyArray, scale: AnyArray, zero: AnyArray | None, *, axis: int, block: int = 0) -> F32:
    """Return (values - zero) * scale in float32; scale and zero as `spread` takes them."""
    shape = values.shape
    centred = values.astype(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        if zero is not None:
            centred = centred - spread(zero, shape, axis=axis, block=block).astype(np.float32)
        return np.asarray(centred * spread(scale, shape, axis=axis, block=block).astype(np.float32), np.float32)


def to_float32(values: AnyArray) -> F32:
    """Return values of any real type as float32; what float32 cannot hold becomes infinite."""
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(values, np.float32)


@dataclass(slots=True)
class Tally:
    """Layers taken in order of execution, and what was left out.

    `convolutions` counts every 2-D convolution met, for the message when none is depthwise.
    """

    layers: list[FoundLayer] = field(default_factory=list)
    signs: list[Sign] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    convolutions: int = 0
    _roots: set[object] = field(default_factory=set)

    def is_new(self, root: object) -> bool:
        """True the first time that a weight is met; later uses are counted and not listed again."""
        if root in self._roots:
            self.left_out[SHARED] += 1
            return False
        self._roots.add(root)
        return True

    def take(self, layer: FoundLayer, sign: Sign) -> None:
        """Add a layer; `bn_folded` is set when all layers are known."""
        self.layers.append(layer)
        self.signs.append(sign)

    def _folded(self) -> list[FoundLayer]:
        """Return the layers with `bn_folded` as the module's docstring says."""
        biased = [sign for layer, sign in zip(self.layers, self.signs, strict=True) if layer.bias is not None]
        usual = 2 * biased.count(Sign.FOLDED) > len(biased)
        folded = {Sign.FOLDED, Sign.NONE} if usual else {Sign.FOLDED}
        return [
            replace(layer, bn_folded=layer.bias is not None and sign in folded)
            for layer, sign in zip(self.layers, self.signs, strict=True)
        ]

    def reading(self, base: Reading) -> Reading:
        """Return `base` with the layers, counts and notes of this tally."""
        notes = list(self.notes)
        if shared := self.left_out[SHARED]:
            notes.append(f"{shared} convolutions use weights of another layer; such weights are counted once.")
        layers = self._folded()
        if folded := sum(layer.bn_folded for layer in layers):
            notes.append(f"Batch normalisation is taken to be folded into {folded} layers; the file does not say so.")
        several = f"{self.convolutions} convolution{'s' * (self.convolutions != 1)}"
        listed = ", ".join(f"{reason} ({n})" for reason, n in sorted(self.left_out.items()))
        contents = f"{several}, none taken; left out: {listed}" if listed else f"{several}, none depthwise"
        skipped = MappingProxyType(dict(sorted(self.left_out.items())))
        return replace(
            base, layers=tuple(layers), skipped=skipped, notes=(*base.notes, *notes), contents=contents
        )
