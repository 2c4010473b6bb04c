"""The filter bank: all depthwise filters of one network, with layer table and provenance.

Shape letters used throughout mkfa: N filters, K = kh * kw taps, L layers, A atoms, M models.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np

from mkfa.array_types import F32, I32
from mkfa.errors import BankError, MkfaError
from mkfa.frozen import ByContent, FrozenDict
from mkfa.storage.records import Shown
from mkfa.words import counted

T = TypeVar("T")

UNKNOWN = -1
"""Stride, dilation, stage or multiplier that the checkpoint does not record."""


@dataclass(frozen=True, slots=True, order=True)
class Kind:
    """Kernel size and dilation; filters are comparable if they have the same kind.

    An unknown dilation counts as 1; `FilterBank.unknown_dilation` says if a bank has one.
    """

    kh: int
    kw: int
    dh: int = 1
    dw: int = 1

    def __str__(self) -> str:
        plain = f"{self.kh}x{self.kw}"
        return plain if (self.dh, self.dw) == (1, 1) else f"{plain} dilated {self.dh}x{self.dw}"

    @classmethod
    def parse(cls, text: str | Kind) -> Kind:
        """Return the kind for a text such as "5x5" or "7x7 dilated 3x3"; a kind is returned unchanged.

        Raises MkfaError: the text is not a kernel size.

        Examples
        --------
        >>> Kind.parse("7x7 dilated 3x3")
        Kind(kh=7, kw=7, dh=3, dw=3)
        """
        if isinstance(text, Kind):
            return text
        match = re.fullmatch(r"(\d+)x(\d+)(?:\s+dilated\s+(\d+)x(\d+))?", text.strip().lower())
        if not match:
            raise MkfaError(f"kernel size {text}", "cannot be read", "write height x width, e.g. 5x5")
        return cls(*(int(part) for part in match.groups(default="1")))


@dataclass(frozen=True, slots=True)
class Layer:
    """One depthwise convolution: a row of the layer table, in order of execution.

    Attributes
    ----------
    index : row in the layer table, 0 for the layer executed first.
    name : key of the weight in the checkpoint.
    stage : stage of the network that the layer belongs to, `UNKNOWN` if the checkpoint does not record it.
    depth : 0 for the first layer to 1 for the last.
    channels : number of filters (output channels).
    kh, kw : kernel height and width.
    stride, dilation : vertical, horizontal; `UNKNOWN` if the checkpoint does not record it.
    multiplier : filters per input channel; filter i reads input channel i // multiplier. `UNKNOWN` as above.
    has_bias : bool
    dtype : type as stored in the checkpoint, e.g. "float16" (weights in the bank are float32).
    bn_folded : True if a batch normalisation was folded into the weights.
    """

    index: int
    name: str
    stage: int
    depth: float
    channels: int
    kh: int
    kw: int
    stride: tuple[int, int] = (UNKNOWN, UNKNOWN)
    dilation: tuple[int, int] = (UNKNOWN, UNKNOWN)
    multiplier: int = UNKNOWN
    has_bias: bool = False
    dtype: str = "float32"
    bn_folded: bool = False

    @property
    def kind(self) -> Kind:
        """Kernel size and dilation; an unknown dilation counts as 1."""
        return Kind(self.kh, self.kw, max(self.dilation[0], 1), max(self.dilation[1], 1))


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class FilterGroup(ByContent):
    """All filters of one kernel size.

    Attributes
    ----------
    weight : (N, kh, kw) float32, as harvested, not normalised.
    layer : (N,) int32, row in the layer table; ascending.
    channel : (N,) int32, output channel within the layer.
    bias : (N,) float32, NaN for layers without bias; None if no layer of this size has a bias.
    """

    weight: F32
    layer: I32
    channel: I32
    bias: F32 | None = None

    @property
    def size(self) -> tuple[int, int]:
        return int(self.weight.shape[1]), int(self.weight.shape[2])

    def __len__(self) -> int:
        return int(self.weight.shape[0])


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Provenance(ByContent):
    """The provenance of a bank. Unknown strings are empty.

    `rule` says how the depthwise layers were identified: "graph" (module or data-flow graph), "catalogue" (timm's
    module graph, recorded), "renamed" (graph through the family's key filter) or "shape" (weight shapes alone).
    `skipped` maps a reason to the number of tensors skipped for it; `notes` are sentences for the user. `weights` is
    "raw" or "ema" if the source had, or was, one of several copies. `doubtful` maps the names of layers, taken or not,
    whose case the source did not settle to the reason. `stood_in` maps the name of a class or function in a pickle to
    the number of objects that inert data stood for, most first.
    """

    source: str = ""
    source_sha256: str = ""
    hub_commit: str = ""
    architecture: str = ""
    training_set: str = ""
    task: str = ""
    licence: str = ""
    rule: str = ""
    mkfa_version: str = ""
    created: str = ""
    skipped: Mapping[str, int] = field(default_factory=lambda: FrozenDict({}))
    notes: tuple[str, ...] = ()
    weights: str = ""
    doubtful: Mapping[str, str] = field(default_factory=lambda: FrozenDict({}))
    stood_in: Mapping[str, int] = field(default_factory=lambda: FrozenDict({}))


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class FilterBank(Shown):
    """All depthwise filters of one trained network. Banks are equal if all their content is.

    Raises `BankError` if layer table and filters disagree.

    Examples
    --------
    >>> import mkfa
    >>> bank = mkfa.load_bank("efficientnet_lite0")
    >>> bank
    <FilterBank: efficientnet_lite0, 16 depthwise layers, 6,336 filters of 5x5, 2,624 of 3x3>
    >>> bank.of_kind("5x5").weight.shape
    (6336, 5, 5)
    """

    name: str
    layers: tuple[Layer, ...]
    groups: Mapping[tuple[int, int], FilterGroup]
    provenance: Provenance = field(default_factory=Provenance)
    _remembered: dict[Hashable, Any] = field(default_factory=dict, init=False, compare=False)

    def __post_init__(self) -> None:
        problem = _inconsistency(self.layers, self.groups)
        if problem:
            raise BankError(self.name or "bank", problem, "harvest the network again")
        object.__setattr__(self, "groups", FrozenDict(self.groups))

    def __reduce__(self) -> tuple[type[FilterBank], tuple[Any, ...]]:
        return FilterBank, (self.name, self.layers, self.groups, self.provenance)  # without cached values

    def __len__(self) -> int:
        return sum(len(g) for g in self.groups.values())

    def headline(self) -> str:
        """Return name, number of layers and filters of each kind."""
        filters = ", ".join(f"{self.count(k):,}{' filters' * (not i)} of {k}" for i, k in enumerate(self.kinds))
        return f"{self.name}, {counted(len(self.layers), 'depthwise layer')}, {filters}"

    def rows(self) -> list[dict[str, Any]]:
        """Return the layer table, one row a layer, numbered from 1; None for values that are not recorded."""
        return [
            {
                "layer": layer.index + 1,
                "name": layer.name,
                "kernel": f"{layer.kh}x{layer.kw}",
                "filters": layer.channels,
                "depth": layer.depth,
                "stage": _known(layer.stage),
                "stride": _known(*layer.stride),
                "dilation": _known(*layer.dilation),
                "multiplier": _known(layer.multiplier),
                "bias": layer.has_bias,
                "bn_folded": layer.bn_folded,
                "dtype": layer.dtype,
            }
            for layer in self.layers
        ]

    def remember(self, key: Hashable, compute: Callable[[], T]) -> T:
        """Return the value cached under a key; the first call computes it. The cache lives as long as the bank."""
        if key not in self._remembered:
            self._remembered[key] = compute()
        value: T = self._remembered[key]
        return value

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """Kernel sizes with dilations, most filters first."""
        kinds = {layer.kind for layer in self.layers}
        return tuple(sorted(kinds, key=lambda kind: (-self.count(kind), kind)))

    def count(self, kind: Kind) -> int:
        """Return the number of filters of a kind."""
        return sum(layer.channels for layer in self.layers if layer.kind == kind)

    @property
    def unknown_dilation(self) -> bool:
        """True if the dilation of some layer is unknown (and counts as 1)."""
        return any(UNKNOWN in layer.dilation for layer in self.layers)

    def of_kind(self, kind: Kind | str) -> FilterGroup:
        """Return the filters of one kernel size and dilation, such as "5x5", in order of layers; may be empty."""
        kind = Kind.parse(kind)
        group = self.groups.get((kind.kh, kind.kw))
        if group is None:
            none = np.zeros(0, np.int32)
            return FilterGroup(np.zeros((0, kind.kh, kind.kw), np.float32), none, none)
        wanted = np.array([layer.kind == kind for layer in self.layers], dtype=bool)
        if all(layer.kind == kind for layer in self.layers if (layer.kh, layer.kw) == (kind.kh, kind.kw)):
            return group
        keep = wanted[group.layer]
        bias = None if group.bias is None else group.bias[keep]
        return FilterGroup(group.weight[keep], group.layer[keep], group.channel[keep], bias)

    def of_layer(self, index: int) -> FilterGroup:
        """Return the filters of one layer, counted from 0; raises IndexError."""
        layer = self.layers[index]
        group = self.groups[layer.kh, layer.kw]
        start = int(np.searchsorted(group.layer, index))
        rows = slice(start, start + layer.channels)
        bias = None if group.bias is None else group.bias[rows]
        return FilterGroup(group.weight[rows], group.layer[rows], group.channel[rows], bias)

    def iter_layers(self) -> Iterator[tuple[Layer, F32]]:
        """Yield each layer with its filters, (channels, kh, kw) float32, in order of execution."""
        for layer in self.layers:
            yield layer, self.of_layer(layer.index).weight


def _known(*numbers: int) -> int | str | None:
    if UNKNOWN in numbers:
        return None
    return numbers[0] if len(numbers) == 1 else "x".join(map(str, numbers))


def make_bank(name: str, layers: Sequence[tuple[Layer, F32, F32 | None]], provenance: Provenance) -> FilterBank:
    """Build a bank from layers in order of execution.

    Parameters
    ----------
    layers : sequence of (Layer, (channels, kh, kw) float32, (channels,) float32 or None)
        `index`, `depth`, sizes and `has_bias` of each Layer are set here.
    """
    table: list[Layer] = []
    parts: dict[tuple[int, int], list[tuple[F32, I32, I32, F32 | None]]] = {}
    for index, (layer, weight, bias) in enumerate(layers):
        n = len(weight)
        table.append(
            replace(
                layer,
                index=index,
                depth=index / max(len(layers) - 1, 1),
                channels=n,
                kh=int(weight.shape[1]),
                kw=int(weight.shape[2]),
                has_bias=bias is not None,
            )
        )
        rows, channel = np.full(n, index, np.int32), np.arange(n, dtype=np.int32)
        parts.setdefault((int(weight.shape[1]), int(weight.shape[2])), []).append((weight, rows, channel, bias))
    groups = {size: _stack(part) for size, part in sorted(parts.items())}
    return FilterBank(name, tuple(table), groups, provenance)


def _stack(parts: list[tuple[F32, I32, I32, F32 | None]]) -> FilterGroup:
    weight = np.concatenate([np.asarray(p[0], np.float32) for p in parts])
    bias = None
    if any(p[3] is not None for p in parts):
        none = np.float32(np.nan)
        bias = np.concatenate([np.full(len(p[0]), none) if p[3] is None else p[3].astype(np.float32) for p in parts])
    return FilterGroup(weight, np.concatenate([p[1] for p in parts]), np.concatenate([p[2] for p in parts]), bias)


def _inconsistency(layers: tuple[Layer, ...], groups: Mapping[tuple[int, int], FilterGroup]) -> str:
    """Return the first inconsistency between layer table and filters, or ""."""
    if [layer.index for layer in layers] != list(range(len(layers))):
        return "the layer table is not numbered 0, 1, 2, ..."
    expected: dict[tuple[int, int], dict[int, int]] = {}
    for layer in layers:
        if layer.channels < 1 or layer.kh < 1 or layer.kw < 1:
            return f"layer {layer.index} has {counted(layer.channels, 'filter')} of {layer.kh}x{layer.kw}"
        expected.setdefault((layer.kh, layer.kw), {})[layer.index] = layer.channels
    if set(expected) != set(groups):
        return f"the layer table has kernel sizes {sorted(expected)} but the filters have {sorted(groups)}"
    for size, group in groups.items():
        n, here = len(group), f"filters {size[0]}x{size[1]}"
        if group.weight.ndim != 3 or group.size != size:
            return f"{here}: weights of shape {group.weight.shape}"
        if group.layer.shape != (n,) or group.channel.shape != (n,):
            return (
                f"{here}: {counted(n, 'weight')}, {counted(len(group.layer), 'layer row')}, "
                f"{counted(len(group.channel), 'channel')}"
            )
        if group.bias is not None and group.bias.shape != (n,):
            return f"{here}: {counted(n, 'weight')} but {counted(len(group.bias), 'bias', 'biases')}"
        if n and (np.diff(group.layer) < 0).any():
            return f"{here}: the layer rows are not in ascending order"
        rows, counts = np.unique(group.layer, return_counts=True)
        if dict(zip(rows.tolist(), counts.tolist(), strict=True)) != expected[size]:
            return f"{here}: the number of filters of a layer differs from its channels in the layer table"
    return ""
