"""What a Keras configuration says of its layers, and depthwise filters from a layer's weights (without Keras).

Keras stores a depthwise kernel as (kh, kw, C, m); output channel c * m + j reads input channel c. A SeparableConv2D is
a depthwise convolution without bias, followed by a 1x1 one. Sources: base_depthwise_conv.py and base_separable_conv.py
in keras/src/layers/convolutional (Keras 3).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mkfa.array_types import AnyArray
from mkfa.banks.bank import UNKNOWN
from mkfa.readers.graphs.graph_file import LARGEST_STEP, DamagedError, Sign, Tally, to_float32
from mkfa.readers.reading import DepthwiseLayer, Why
from mkfa.storage.budget import Budget
from mkfa.words import counted

UNCLEAR = "convolution whose kind the file does not state"
_DEEPEST = 32


@dataclass(frozen=True, slots=True)
class Weight:
    """A stored weight; `load` reads its numbers."""

    key: str
    shape: tuple[int, ...]
    dtype: str
    load: Callable[[], AnyArray]


@dataclass(frozen=True, slots=True)
class StoredLayer:
    """The weights of a layer, by their names ("kernel", "bias") or in their order ("0", "1").

    `config` is the layer's node in the configuration, None if there is none. `names` are other names of the layer.
    """

    weights: Mapping[str, Weight]
    config: Mapping[str, Any] | None = None
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Convolution:
    """A convolution's kind ("depthwise", "separable", "dense", "transposed"), steps and groups."""

    kind: str
    axes: int
    stride: tuple[int, int] = (UNKNOWN, UNKNOWN)
    dilation: tuple[int, int] = (UNKNOWN, UNKNOWN)
    groups: int = UNKNOWN


def class_of(node: Mapping[str, Any]) -> str:
    """Return the class of a layer, without the package that registered it."""
    name = node.get("class_name")
    return name.rpartition(">")[2] if isinstance(name, str) else ""


def config_of(node: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the arguments of a layer; Keras 1 gives those of a Sequential as a list of its layers."""
    config = node.get("config")
    return {"layers": config} if isinstance(config, list) else config if isinstance(config, dict) else {}


def name_of(node: Mapping[str, Any]) -> str:
    """Return the name of a layer."""
    name = config_of(node).get("name") or node.get("name")
    return name if isinstance(name, str) else ""


def members(node: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the layers of a model, in order; [] if the node is a layer."""
    layers = config_of(node).get("layers")
    return [part for part in layers if isinstance(part, dict)] if isinstance(layers, list) else []


def has_members(node: Mapping[str, Any]) -> bool:
    """True for a model, False for a layer."""
    return isinstance(config_of(node).get("layers"), list)


def inner(node: Mapping[str, Any], key: str) -> Mapping[str, Any] | None:
    """Return the layer that a wrapper (TimeDistributed, quantisation wrappers) has under a name."""
    part = config_of(node).get(key)
    return part if isinstance(part, dict) and "class_name" in part else None


@dataclass(slots=True)
class Finder:
    """Finds layers by name; each model is looked through once."""

    budget: Budget
    _known: dict[int, dict[str, Mapping[str, Any]]] = field(default_factory=dict)

    def find(self, node: Mapping[str, Any] | None, name: str) -> Mapping[str, Any] | None:
        """Return a model's layer of that name, one of its nested models and wrappers if it has none itself, or None."""
        if node is None:
            return None
        if id(node) not in self._known:
            self._known[id(node)] = self._by_name(node)
        return self._known[id(node)].get(name)

    def _by_name(self, node: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
        known: dict[str, Mapping[str, Any]] = {}
        level = _below(node)
        for _ in range(_DEEPEST):
            self.budget.step(2 * len(level))
            self.budget.produce(100 * len(level))
            for part in level:
                known.setdefault(name_of(part), part)
            level = [part for outer in level for part in _below(outer)]
        return known


def in_order(node: Mapping[str, Any], depth: int = 0) -> Iterator[Mapping[str, Any]]:
    """Yield the layers of a model and of its nested models in order of execution."""
    for part in _below(node) if depth < _DEEPEST else ():
        yield part
        yield from in_order(part, depth + 1)


def _below(node: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    wrapped = [part for part in config_of(node).values() if isinstance(part, dict) and "class_name" in part]
    return [*members(node), *(part for part in wrapped if isinstance(part.get("config"), dict))]


def snake_case(name: str) -> str:
    """Return a class name as Keras writes it in its weight files: DepthwiseConv2D -> depthwise_conv2d."""
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", name))
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def _convolution(node: Mapping[str, Any] | None) -> _Convolution | None:
    """Return what a configuration says of a convolution; None if the layer is none."""
    if node is None:
        return None
    found = re.search(r"(Depthwise|Separable|)Conv(?:olution)?([123])D(Transpose|)", class_of(node))
    if found is None:
        return None
    config = config_of(node)
    kind = "transposed" if found[3] else found[1].lower() or "dense"
    groups = config.get("groups", 1)
    return _Convolution(
        kind,
        int(found[2]),
        _pair(config.get("strides", config.get("subsample")), "stride"),
        _pair(config.get("dilation_rate", 1), "dilation"),
        groups if type(groups) is int and groups > 0 else 1,
    )


def _pair(value: Any, name: str) -> tuple[int, int]:
    if value is None:
        return UNKNOWN, UNKNOWN
    both = value if isinstance(value, list | tuple) else (value, value)
    if not 1 <= len(both) <= 3 or not all(type(n) is int and 1 <= n <= LARGEST_STEP for n in both):
        raise DamagedError(f"a {name} of {str(value)[:40]}")
    return both[0], both[-1]


def take_layer(layer: StoredLayer, tally: Tally) -> bool:
    """Add a layer's depthwise filters to the tally, or the reason why it has none.

    Returns False if they were added without a configuration that states what the layer is.
    """
    kernel, bias = _parts(layer)
    known = _convolution(layer.config)
    if kernel is None or (known is None and layer.config is not None and not _is_unknown_class(layer.config)):
        return True
    stated = known or _Convolution(_kind(layer, kernel, bias), len(kernel.shape) - 2)
    if stated.kind == "":
        return True
    tally.convolutions += 1
    reason = _why_not(stated, kernel.shape)
    if reason is None and kernel.dtype not in _READABLE:
        reason = f"{kernel.dtype} weight without a scale"
    if reason:
        tally.left_out[reason] += 1
    if reason is not None or not tally.is_new(kernel.key):
        return True
    tally.take(_layer(kernel, bias, stated), Sign.NONE)
    return known is not None


_READABLE = frozenset(["float16", "float32", "float64", "bfloat16", "uint8", "uint16"])
"""Types that are loaded as real numbers; integers are so where the file gives their scale."""


def _is_unknown_class(node: Mapping[str, Any]) -> bool:
    """True for a class of a program's own, of which a configuration says nothing."""
    return node.get("registered_name") is not None or ">" in str(node.get("class_name"))


def _parts(layer: StoredLayer) -> tuple[Weight | None, Weight | None]:
    """Return kernel and bias of a layer; a separable convolution's bias belongs to its 1x1 part."""
    by_role = {re.sub(r":\d+$", "", name.rpartition("/")[2]): weight for name, weight in layer.weights.items()}
    for role in ("depthwise_kernel", "depthwise_weights", "depthwise"):
        if role in by_role:
            separable = any("pointwise" in name for name in by_role)
            return by_role[role], None if separable else by_role.get("bias")
    if "kernel" in by_role:
        return by_role["kernel"], by_role.get("bias")
    kernel = by_role.get("0")
    if kernel is None or len(kernel.shape) not in (3, 4, 5):
        return None, None
    other = by_role.get("1")
    return kernel, other if other is not None and len(other.shape) == 1 else None


def _kind(layer: StoredLayer, kernel: Weight, bias: Weight | None) -> str:
    """Return the kind of a convolution without a configuration: by names, else by the number of its biases."""
    names = [name.lower() for name in (*layer.names, kernel.key.rpartition("/")[2])]
    others = [weight.shape for weight in layer.weights.values() if weight is not kernel]
    shape = kernel.shape
    if len(shape) not in (3, 4, 5):
        return ""
    if any("transpose" in name for name in names):
        return "transposed"
    if any("depthwise" in name or "separable" in name for name in names):
        return "depthwise"
    outputs = shape[-2] * shape[-1]
    if any(len(other) == len(shape) and other[-2] == outputs and set(other[:-2]) == {1} for other in others):
        return "separable"
    if set(shape[:-2]) == {1}:
        return "dense"
    if bias is not None and bias.shape == (outputs,) and shape[-2] > 1:
        return "depthwise"
    grouped = shape[-2] == 1 and shape[-1] > 1  # or one channel
    return "unclear" if grouped or (bias is None and shape[-1] == 1 and shape[-2] > 1) else "dense"


def _why_not(stated: _Convolution, shape: tuple[int, ...]) -> str | None:
    """Return why a convolution is skipped, "" for a depthwise or an ordinary one, None for numbers to check."""
    if len(shape) != stated.axes + 2 or 0 in shape:
        raise DamagedError(
            f"a convolution along {counted(stated.axes, 'axis', 'axes')} with a kernel of shape {list(shape)}"
        )
    grouped = stated.kind in ("depthwise", "separable") or (stated.kind == "dense" and stated.groups > 1)
    if stated.kind == "transposed":
        return Why.TRANSPOSED if shape[-1] == 1 else ""
    if stated.kind == "unclear":
        return UNCLEAR
    if not grouped:
        return ""
    if stated.axes != 2:
        return Why.ONE_D if stated.axes == 1 else Why.THREE_D
    if stated.kind == "dense" and shape[2] != 1:
        return Why.GROUPED
    if shape[:2] == (1, 1):
        return Why.ONE_BY_ONE
    channels = stated.groups if stated.kind == "dense" else shape[2]
    return Why.STEM if channels == 1 else None


def _layer(kernel: Weight, bias: Weight | None, stated: _Convolution) -> DepthwiseLayer:
    values = kernel.load()
    if values.shape != kernel.shape:
        raise DamagedError(f"{kernel.key} of shape {list(values.shape)} where {list(kernel.shape)} was stated")
    high, wide, channels, multiplier = values.shape
    if stated.kind == "dense":
        channels, multiplier = stated.groups, values.shape[3] // stated.groups
    filters = channels * multiplier
    if filters != values.shape[2] * values.shape[3]:
        raise DamagedError(f"{kernel.key} of shape {list(values.shape)} in {counted(channels, 'group')}")
    numbers = None if bias is None or bias.dtype not in _READABLE else to_float32(bias.load()).reshape(-1)
    if numbers is not None and numbers.size != filters:
        raise DamagedError(
            f"{counted(numbers.size, 'bias', 'biases')} for {counted(filters, 'filter')} at {kernel.key}"
        )
    weight = to_float32(values).transpose(2, 3, 0, 1).reshape(filters, high, wide)
    return DepthwiseLayer(
        key=kernel.key,
        weight=to_float32(weight),
        bias=numbers,
        dtype=kernel.dtype,
        stride=stated.stride,
        dilation=stated.dilation,
        multiplier=multiplier,
    )


def ordered_groups(names: Sequence[str]) -> list[str]:
    """Return names with numbers in the order of the numbers: conv, conv_1, conv_2, conv_10."""

    def rank(name: str) -> tuple[str, int]:
        base = name.rstrip("0123456789")
        return (base.removesuffix("_"), int(name[len(base) :][:18])) if base != name else (name, -1)

    return sorted(names, key=rank)
