"""The result of every reader: depthwise layers in order of execution, and what was skipped and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Protocol, runtime_checkable

from mkfa.array_types import F32
from mkfa.banks.bank import UNKNOWN
from mkfa.errors import SourceError
from mkfa.frozen import FrozenDict
from mkfa.storage import files

FORMATS = "safetensors, PyTorch (.pth .pt .pt2 .ckpt .bin), TorchScript, ONNX, TFLite, Keras or TensorFlow.js"


class Why(StrEnum):
    """Why a convolution is skipped."""

    RUN_TIME = "weights computed at run time"
    LOOP = "weights that change from step to step of a loop"
    OLD_SCAN = "weights handed to a Scan of operator set 8"
    TRANSPOSED = "transposed convolution"
    STEM = "one-channel stem"
    ONE_BY_ONE = "1x1 depthwise convolution"
    ONE_D = "1-D convolution"
    THREE_D = "3-D convolution"
    GROUPED = "grouped convolution with several channels a group"
    TIED = "tied copy"
    FIXED = "fixed kernel, the same in every channel"
    SHARED = "further use of weights that are listed already"


@dataclass(frozen=True, slots=True)
class DepthwiseLayer:
    """One depthwise layer as read.

    Attributes
    ----------
    key : raw name of the weight in the source.
    weight : (m * C, kh, kw) float32
    bias : (m * C,) float32 or None
    dtype : type as stored, e.g. "bfloat16", "int8".
    stride, dilation, multiplier, stage
        As in `mkfa.banks.bank.Layer`; `UNKNOWN` if the source does not record it.
    """

    key: str
    weight: F32
    bias: F32 | None = None
    dtype: str = "float32"
    stride: tuple[int, int] = (UNKNOWN, UNKNOWN)
    dilation: tuple[int, int] = (UNKNOWN, UNKNOWN)
    multiplier: int = UNKNOWN
    stage: int = UNKNOWN
    bn_folded: bool = False


@dataclass(frozen=True, slots=True)
class Reading:
    """The depthwise layers and the provenance that a reader took from one source.

    `layers` is in order of execution. `rule` as in `mkfa.banks.bank.Provenance`. `skipped` maps a reason ("transposed
    convolution", "optimiser state") to the number of tensors skipped for it. `contents` describes the source in a
    clause, for the message when `layers` is empty. `copy` is "raw" or "ema" if the source has, or is known to be, one
    of several copies of the weights. `left_out` maps the name of each skipped tensor to the reason, `doubtful` that of
    a layer, taken or not, whose case the source does not settle. `stood_in` as in `mkfa.banks.bank.Provenance`.
    """

    layers: tuple[DepthwiseLayer, ...]
    rule: str
    architecture: str = ""
    source_sha256: str = ""
    hub_commit: str = ""
    training_set: str = ""
    task: str = ""
    licence: str = ""
    skipped: Mapping[str, int] = field(default_factory=lambda: FrozenDict({}))
    notes: tuple[str, ...] = ()
    contents: str = ""
    copy: str = ""
    left_out: Mapping[str, str] = field(default_factory=lambda: FrozenDict({}))
    doubtful: Mapping[str, str] = field(default_factory=lambda: FrozenDict({}))
    stood_in: Mapping[str, int] = field(default_factory=lambda: FrozenDict({}))


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """A stored tensor: raw key, shape, stored type ("float32", "bfloat16", ...), bytes."""

    key: str
    shape: tuple[int, ...]
    dtype: str
    nbytes: int


class TensorFile(Protocol):
    """A checkpoint whose tensors are listed first and read one by one (local file, hub file, state dict)."""

    @property
    def tensors(self) -> Mapping[str, TensorInfo]:
        """All tensors, in the order of the file."""
        ...

    def read(self, keys: Sequence[str]) -> Iterator[tuple[str, F32]]:
        """Yield (key, tensor as float32) for these keys, in any order; raises SourceError."""
        ...


@runtime_checkable
class ModuleFile(TensorFile, Protocol):
    """A checkpoint that may contain whole modules and other objects, for which inert data stand."""

    @property
    def facts(self) -> Mapping[str, GraphLayer | str]:
        """Weight -> its depthwise layer, or why its module is not one ("" for a dense convolution)."""
        ...

    @property
    def stood_in(self) -> Mapping[str, int]:
        """Name of a class or function -> number of objects that were stood in for, most first."""
        ...

    @property
    def architecture(self) -> str:
        """timm's name of a network that was saved whole, else ""."""
        ...


@dataclass(frozen=True, slots=True)
class GraphLayer:
    """One depthwise module of an architecture.

    `key` is the weight's name in the state dict and `shape` its shape there: (m * C, 1, kh, kw), or two-dimensional for
    a conditional convolution, which has `experts` > 0. `kernel` is (kh, kw); (0, 0) where `shape` contains it.
    """

    key: str
    shape: tuple[int, ...]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    multiplier: int
    has_bias: bool
    stage: int = UNKNOWN
    experts: int = 0
    kernel: tuple[int, int] = (0, 0)


def is_fixed(weight: F32) -> bool:
    """True for (C, kh, kw) filters that are the same in more than two channels and not constant, as of a smoothing.

    Examples
    --------
    >>> import numpy as np
    >>> taps = np.outer([1, 2, 1], [1, 2, 1]).astype(np.float32)
    >>> is_fixed(np.tile(taps, (8, 1, 1))), is_fixed(np.ones((8, 3, 3), np.float32))
    (True, False)
    """
    return len(weight) > 2 and bool((weight == weight[0]).all() and weight[0].min() != weight[0].max())


def read_head(path: Path, size: int = 64) -> bytes:
    """Return the first bytes of a file that may be a checkpoint; raises as `reader_for`."""
    return files.read_head(path, size, error=SourceError, kind="a checkpoint", give=f"give a {FORMATS} file")
