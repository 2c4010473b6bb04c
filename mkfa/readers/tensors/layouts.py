"""Weights with channels last, as MLX (O, kh, kw, I) and Flax or TensorFlow (kh, kw, I, O) store them.

The layout is that of the whole file: what its metadata say, or the one in which every kernel is square or a strip.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from mkfa.array_types import F32
from mkfa.readers.reading import TensorInfo
from mkfa.readers.tensors.dtypes import FLOATS
from mkfa.readers.tensors.roles import is_optimiser, is_weight_name
from mkfa.readers.tensors.view import Made

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
    weights = {
        key: info
        for key, info in infos.items()
        if len(info.shape) == 4 and is_weight_name(key) and info.dtype in FLOATS and not is_optimiser(key)
    }
    layout = layout_of(weights, metadata)
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


def layout_of(weights: Mapping[str, TensorInfo], metadata: Mapping[str, str]) -> str:
    """Return the layout of a file's four-dimensional weights.

    A layout is judged by the two sides that it takes for the kernel's: square is likely, a strip (1, k) of odd length
    less, another odd rectangle still less, and any other shape hardly. Another layout than PyTorch's has to be much
    likelier, with no unlikely kernel, and one in PyTorch's or nothing but square ones; or stated by the metadata.

    Examples
    --------
    >>> shapes = [(16, 4, 4, 3), (4, 11, 1, 1), (64, 1, 1, 16)]
    >>> layout_of({str(shape): TensorInfo("", shape, "float32", 0) for shape in shapes}, {})
    '(O, kh, kw, I)'
    """
    if not weights:
        return PYTORCH
    if any(key.rsplit(".", 1)[-1] in ("depthwise_kernel", "depthwise_weights") for key in weights):
        return FLAX
    cost = {layout: sum(_cost(info.shape, layout) for info in weights.values()) for layout in _TO_PYTORCH}
    if metadata.get("format") == "mlx" and cost[MLX] <= cost[PYTORCH]:
        return MLX
    kernels = sum(key.rsplit(".", 1)[-1] == "kernel" for key in weights)
    if 2 * kernels > len(weights) and cost[FLAX] <= cost[PYTORCH]:
        return FLAX
    best = min(_TO_PYTORCH, key=lambda layout: cost[layout])
    wrong = any(_cost(info.shape, PYTORCH) >= 1 for info in weights.values())
    square = [1 < info.shape[_TO_PYTORCH[best][2]] == info.shape[_TO_PYTORCH[best][3]] for info in weights.values()]
    possible = all(_cost(info.shape, best) < 1 for info in weights.values())
    certain = cost[best] == 0 and 2 * sum(square) >= len(square)
    return best if possible and (wrong or certain) and 2 * cost[best] < cost[PYTORCH] else PYTORCH


def _cost(shape: tuple[int, ...], layout: str) -> float:
    high, wide = (shape[axis] for axis in _TO_PYTORCH[layout][2:])
    if high == wide and high <= LARGEST:
        return 0.0
    if high % 2 and wide % 2 and max(high, wide) <= LARGEST:
        return 0.3 if min(high, wide) == 1 else 0.5
    return 1.0


def _as_pytorch(key: str, info: TensorInfo, layout: str) -> tuple[TensorInfo, Made]:
    """Return a weight in PyTorch's layout.

    Flax stores a depthwise weight as (kh, kw, 1, C), Keras as (kh, kw, C, m), named `depthwise_kernel`, whose output
    channel c * m + j is filter j of channel c.
    """
    leaf = key.rsplit(".", 1)[-1]
    if layout == FLAX and leaf.startswith("depthwise"):
        high, wide, channels, multiplier = info.shape

        def compute(parts: Sequence[F32]) -> F32:
            return parts[0].transpose(2, 3, 0, 1).reshape(channels * multiplier, 1, high, wide)

        return replace(info, shape=(channels * multiplier, 1, high, wide)), Made((key,), compute)
    axes = _TO_PYTORCH[layout]

    def transpose(parts: Sequence[F32]) -> F32:
        return np.transpose(parts[0], axes)

    return replace(info, shape=tuple(info.shape[axis] for axis in axes)), Made((key,), transpose)
