"""Parts shared by the readers of graph files (ONNX, TFLite): opening, errors, layers and their tally.

Graph files do not record whether a batch normalisation was folded into a convolution, so `bn_folded` is inferred. A
layer with a bias counts as folded if a rectifying or gating activation follows it, after nothing but changes of type,
quantisation, and scaling or shifting by constants, and no normalisation follows the activation; or if its weight has a
name like "onnx::Conv_541", which PyTorch's exporter gives only to computed weights. If more than half of a network's
layers with bias are folded by this rule, so are the others with bias, except those followed by a normalisation (linear
blocks have no activation). False also means "unknown".
"""

from __future__ import annotations

import importlib
import mmap
from collections import Counter
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from types import ModuleType

import numpy as np

from mkfa.array_types import F32, AnyArray
from mkfa.errors import MkfaError, SourceError
from mkfa.frozen import FrozenDict
from mkfa.readers.reading import DepthwiseLayer, Reading, Why, is_fixed
from mkfa.storage.files import open_file
from mkfa.words import counted

LARGEST_STEP = 1 << 15
"""Largest stride or dilation; a larger one is damage (the bank's layer table has 32-bit integers)."""

LARGEST_SPARSE = 1 << 24
"""Most taps of a sparse weight, whose dense size the file's size does not limit."""


class Sign(Enum):
    """Evidence for a normalisation folded into a convolution with bias."""

    FOLDED = "an activation follows, or the exporter named the weight"
    SEPARATE = "a normalisation follows"
    NONE = "neither"


class DamagedError(ValueError):
    """Contradictory content; the reader turns it into a `SourceError` that names the file."""


class LeftOutError(Exception):
    """A weight that is skipped; `args[0]` is the reason."""


def load_package(name: str, extra: str, path: Path) -> ModuleType:
    """Import an optional package; raises MkfaError if it is not installed."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        problem = f"reading it needs the package {(error.name or name).split('.')[0]}, which is not installed"
        raise MkfaError(path, problem, f"pip install 'mkfa[{extra}]'") from None


def map_file(path: Path) -> mmap.mmap:
    """Map a file for reading; raises SourceError."""
    try:
        with open_file(path) as f:
            return mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError) as error:
        problem = f"cannot be read ({getattr(error, 'strerror', None) or error})"
        raise SourceError(path, problem, "check the file and its permissions") from error


def damaged(path: Path, error: object) -> SourceError:
    """Return the error for a file with contradictory content."""
    detail = str(error) or type(error).__name__
    return SourceError(path, f"is damaged or not what it claims to be ({detail[:200]})", "fetch the file again")


def make_layer(
    key: str,
    weight: AnyArray,
    bias: AnyArray | None,
    *,
    dtype: str,
    channels: int,
    stride: tuple[int, ...],
    dilation: tuple[int, ...],
) -> DepthwiseLayer:
    """Return a depthwise layer in float32; raises DamagedError for contradictory numbers.

    `weight` is (out, kh, kw), `bias` has out values of any shape; `channels` counts those of the input.
    """
    out = len(weight)
    if not out or out % channels:
        raise DamagedError(f"{counted(out, 'filter')} for {counted(channels, 'channel')} at {key}")
    if bias is not None and bias.size != out:
        raise DamagedError(f"{counted(bias.size, 'bias', 'biases')} for {counted(out, 'filter')} at {key}")
    return DepthwiseLayer(
        key=key,
        weight=to_float32(weight),
        bias=None if bias is None else to_float32(bias.reshape(-1)),
        dtype=dtype,
        stride=_steps(stride, "stride"),
        dilation=_steps(dilation, "dilation"),
        multiplier=out // channels,
    )


def to_float32(values: AnyArray) -> F32:
    """Return values of any real type as float32; those beyond its range become infinite."""
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(values, np.float32)


def _steps(values: tuple[int, ...], name: str) -> tuple[int, int]:
    if len(values) != 2 or not all(1 <= v <= LARGEST_STEP for v in values):
        raise DamagedError(f"a {name} of {list(values)}")
    return int(values[0]), int(values[1])


@dataclass(slots=True)
class Tally:
    """Layers in order of execution, and counts of skipped convolutions.

    `convolutions` counts all convolutions, for the message if none is depthwise.
    """

    layers: list[DepthwiseLayer] = field(default_factory=list)
    signs: list[Sign] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    convolutions: int = 0
    _roots: set[object] = field(default_factory=set)

    def is_new(self, root: object) -> bool:
        """True for the first use of a weight; later uses are counted."""
        if root in self._roots:
            self.left_out[Why.SHARED] += 1
            return False
        self._roots.add(root)
        return True

    def take(self, layer: DepthwiseLayer, sign: Sign) -> None:
        """Add a layer; `bn_folded` is set when all layers are known."""
        self.layers.append(layer)
        self.signs.append(sign)

    def _leave_out_fixed(self) -> None:
        """Leave out smoothings and edge detectors, which a graph has as constants, beside layers that were learned."""
        learned = [not is_fixed(layer.weight) for layer in self.layers]
        if any(learned):
            self.left_out.update([Why.FIXED] * learned.count(False))
            self.layers = [layer for layer, keep in zip(self.layers, learned, strict=True) if keep]
            self.signs = [sign for sign, keep in zip(self.signs, learned, strict=True) if keep]

    def _folded(self) -> list[DepthwiseLayer]:
        """Return the layers with `bn_folded` as the module's docstring says."""
        biased = [sign for layer, sign in zip(self.layers, self.signs, strict=True) if layer.bias is not None]
        usual = 2 * biased.count(Sign.FOLDED) > len(biased)
        folded = {Sign.FOLDED, Sign.NONE} if usual else {Sign.FOLDED}
        return [
            replace(layer, bn_folded=layer.bias is not None and sign in folded)
            for layer, sign in zip(self.layers, self.signs, strict=True)
        ]

    def reading(self, architecture: str, sha256: str) -> Reading:
        """Return the result of reading a file with that digest; fixed kernels beside other layers are left out."""
        self._leave_out_fixed()
        notes = list(self.notes)
        if shared := self.left_out[Why.SHARED]:
            use = counted(shared, "convolution uses", "convolutions use")
            notes.append(f"{use} weights of another layer; such weights are counted once.")
        layers = self._folded()
        if folded := sum(layer.bn_folded for layer in layers):
            notes.append(
                f"Batch normalisation is taken to be folded into {counted(folded, 'layer')}; the file does not say so."
            )
        several = counted(self.convolutions, "convolution")
        listed = ", ".join(f"{reason} ({n})" for reason, n in sorted(self.left_out.items()))
        contents = f"{several}, none taken; left out: {listed}" if listed else f"{several}, none depthwise"
        skipped = FrozenDict({str(reason): n for reason, n in sorted(self.left_out.items())})
        return Reading(
            tuple(layers),
            "graph",
            skipped=skipped,
            notes=tuple(notes),
            architecture=architecture,
            source_sha256=sha256,
            contents=contents,
        )
