"""Weights with channels last, as MLX (O, kh, kw, I) and Flax or TensorFlow (kh, kw, I, O) store them.

The layout is that of the whole file: what its metadata say, or the one in which every kernel is square or a strip.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from mkfa.array_types import F32
from mkfa.readers.reading import TensorInfo
from mkfa.readers.tensors.depthwise import is_named_depthwise
from mkfa.readers.tensors.dtypes import FLOATS
from mkfa.readers.tensors.roles import is_optimiser, is_weight_name
from mkfa.readers.tensors.view import Made
from mkfa.words import counted

PYTORCH = "(O, I, kh, kw)"
MLX = "(O, kh, kw, I)"
FLAX = "(kh, kw, I, O)"

_TO_PYTORCH = {PYTORCH: (0, 1, 2, 3), MLX: (0, 3, 1, 2), FLAX: (3, 2, 0, 1)}
LARGEST = 63
"""Largest kernel: a longer side is a number of channels."""


def transposed(
    infos: Mapping[str, TensorInfo], metadata: Mapping[str, str]
) -> tuple[dict[str, TensorInfo], dict[str, Made], tuple[str, ...]]:
    """Return the tensors in PyTorch's layout, how to transpose those that are not, and a note that says so."""
    weights = _weights(infos)
    layout = layout_of(weights, metadata, _counts(infos))
    if layout == PYTORCH:
        return dict(infos), {}, ()
    out: dict[str, TensorInfo] = {}
    made: dict[str, Made] = {}
    for key, info in infos.items():
        if key in weights:
            out[key], made[key] = _as_pytorch(key, info, layout)
        elif layout == FLAX and len(info.shape) == 2 and key.rsplit(".", 1)[-1] == "kernel":
            out[key] = replace(info, shape=info.shape[::-1])
            made[key] = Made((key,), lambda parts: parts[0].T)
        else:
            out[key] = info
    return out, made, (f"weights are stored as {layout}, with channels last; they were transposed",)


def doubtful_layers(infos: Mapping[str, TensorInfo], metadata: Mapping[str, str]) -> dict[str, str]:
    """Return the depthwise layers, by the layout that is taken, that have other filters in a layout no less likely.

    That can be so where a side of the kernel equals a count of channels, and no other tensor of the file decides.
    """
    weights, counts = _weights(infos), _counts(infos)
    layout = layout_of(weights, metadata, counts)
    if not weights or _stated(weights, metadata):
        return {}
    costs, strange = _costs(weights), _strangers(weights, counts)
    doubts: dict[str, str] = {}
    for other in _TO_PYTORCH:
        less_likely = strange[other] > strange[layout] or (other != PYTORCH and costs[other] > costs[layout])
        if other == layout or less_likely or not _is_possible(weights, other):
            continue
        for key, info in weights.items():
            (out, inside, high, wide), rival = (_in_pytorch(info.shape, each) for each in (layout, other))
            if inside == 1 and out > 1 and high * wide > 1 and rival != (out, inside, high, wide):
                taken = f"taken as {high}x{wide} filters of {counted(out, 'channel')}, stored as {layout}"
                doubts.setdefault(key, f"{taken}, but it may be a weight of shape {rival} that is stored as {other}")
    return doubts


def layout_of(
    weights: Mapping[str, TensorInfo], metadata: Mapping[str, str], counts: frozenset[int] = frozenset()
) -> str:
    """Return the layout of a file's four-dimensional weights.

    A layout is judged by the two sides that it takes for the kernel's: square is likely, a strip (1, k) of odd length
    less, another odd rectangle still less, and any other shape hardly. Another layout than PyTorch's has to be much
    likelier, with no unlikely kernel, and one in PyTorch's or nothing but square ones; or stated by the metadata. Where
    that does not decide, the counts of input channels do: `counts` are those of the file's vectors (biases, norms), and
    a layout in which each count is known is right if PyTorch's has strange ones.

    Examples
    --------
    >>> shapes = [(16, 4, 4, 3), (4, 11, 1, 1), (64, 1, 1, 16)]
    >>> layout_of({str(shape): TensorInfo("", shape, "float32", 0) for shape in shapes}, {})
    '(O, kh, kw, I)'
    """
    if not weights:
        return PYTORCH
    if stated := _stated(weights, metadata):
        return stated
    cost, strange = _costs(weights), _strangers(weights, counts)
    best = min(_TO_PYTORCH, key=lambda layout: cost[layout])
    wrong = any(_cost(info.shape, PYTORCH) >= 1 for info in weights.values())
    square = [1 < info.shape[_TO_PYTORCH[best][2]] == info.shape[_TO_PYTORCH[best][3]] for info in weights.values()]
    certain = cost[best] == 0 and 2 * sum(square) >= len(square)
    if _is_possible(weights, best) and (wrong or certain) and 2 * cost[best] < cost[PYTORCH]:
        return best
    fitting = [
        layout
        for layout in _TO_PYTORCH
        if not strange[layout] and cost[layout] <= cost[PYTORCH] and _is_possible(weights, layout)
    ]
    return min([PYTORCH] if not strange[PYTORCH] else fitting, key=lambda layout: cost[layout], default=PYTORCH)


def _is_possible(weights: Mapping[str, TensorInfo], layout: str) -> bool:
    return all(_cost(info.shape, layout) < 1 for info in weights.values())


def _stated(weights: Mapping[str, TensorInfo], metadata: Mapping[str, str]) -> str:
    """Return the layout that names or metadata state, "" if they state none."""
    cost = _costs(weights)
    leaves = [key.rsplit(".", 1)[-1] for key in weights]
    if any(leaf in ("depthwise_kernel", "depthwise_weights") for leaf in leaves):
        return FLAX
    if metadata.get("format") == "mlx" and cost[MLX] <= cost[PYTORCH]:
        return MLX
    return FLAX if 2 * leaves.count("kernel") > len(weights) and cost[FLAX] <= cost[PYTORCH] else ""


def _weights(infos: Mapping[str, TensorInfo]) -> dict[str, TensorInfo]:
    return {
        key: info
        for key, info in infos.items()
        if len(info.shape) == 4 and is_weight_name(key) and info.dtype in FLOATS and not is_optimiser(key)
    }


def _counts(infos: Mapping[str, TensorInfo]) -> frozenset[int]:
    return frozenset(info.shape[0] for key, info in infos.items() if len(info.shape) == 1 and not is_optimiser(key))


def _costs(weights: Mapping[str, TensorInfo]) -> dict[str, float]:
    return {layout: sum(_cost(info.shape, layout) for info in weights.values()) for layout in _TO_PYTORCH}


def _strangers(weights: Mapping[str, TensorInfo], counts: frozenset[int]) -> dict[str, int]:
    """Return how many weights have a count of input channels that nothing else in the file has, by layout."""
    out = {}
    for layout in _TO_PYTORCH:
        shapes = [_in_pytorch(info.shape, layout) for info in weights.values()]
        known = counts | {1, 3, 4} | {shape[0] for shape in shapes}
        out[layout] = sum(shape[1] not in known for shape in shapes)
    return out


def _in_pytorch(shape: tuple[int, ...], layout: str) -> tuple[int, ...]:
    return tuple(shape[axis] for axis in _TO_PYTORCH[layout])


def _cost(shape: tuple[int, ...], layout: str) -> float:
    high, wide = (shape[axis] for axis in _TO_PYTORCH[layout][2:])
    if high == wide and high <= LARGEST:
        return 0.0
    if high % 2 and wide % 2 and max(high, wide) <= LARGEST:
        return 0.3 if min(high, wide) == 1 else 0.5
    return 1.0


def _as_pytorch(key: str, info: TensorInfo, layout: str) -> tuple[TensorInfo, Made]:
    """Return a weight in PyTorch's layout.

    Flax stores a depthwise weight as (kh, kw, 1, C), Keras as (kh, kw, C, m), named `depthwise_kernel` or since Keras 3
    `kernel`, whose output channel c * m + j is filter j of channel c.
    """
    leaf = key.rsplit(".", 1)[-1]
    named = leaf == "kernel" and info.shape[3] == 1 < info.shape[2] and is_named_depthwise(key)  # Keras 3
    if layout == FLAX and (named or leaf.startswith("depthwise")):
        high, wide, channels, multiplier = info.shape

        def compute(parts: Sequence[F32]) -> F32:
            return parts[0].transpose(2, 3, 0, 1).reshape(channels * multiplier, 1, high, wide)

        return replace(info, shape=(channels * multiplier, 1, high, wide)), Made((key,), compute)
    axes = _TO_PYTORCH[layout]

    def transpose(parts: Sequence[F32]) -> F32:
        return np.transpose(parts[0], axes)

    return replace(info, shape=_in_pytorch(info.shape, layout)), Made((key,), transpose)
