"""Integers of few bits and their dequantisation."""

from __future__ import annotations

import numpy as np

from mkfa.array_types import F32, AnyArray
from mkfa.readers.graphs.graph_file import DamagedError
from mkfa.words import counted


def unpack_nibbles(data: AnyArray, count: int, *, signed: bool) -> AnyArray:
    """Return `count` 4-bit integers, two a byte and the low half first, as int8 or uint8; data is (n,) uint8."""
    if data.size != (count + 1) // 2:
        raise DamagedError(f"{counted(data.size, 'byte')} for {counted(count, 'value')} of 4 bits")
    both = np.empty(data.size * 2, np.uint8)
    both[0::2], both[1::2] = data & 15, data >> 4
    values = both[:count]
    return ((values ^ 8).astype(np.int8) - np.int8(8)) if signed else values


def spread(part: AnyArray, shape: tuple[int, ...], *, axis: int, block: int = 0) -> AnyArray:
    """Reshape a scale or zero point to broadcast against `shape`.

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
        raise DamagedError(f"{counted(part.size, 'scale')} along axis {axis} of shape {list(shape)}")
    return part.reshape([-1 if i == axis else 1 for i in range(len(shape))])


def dequantise(values: AnyArray, scale: AnyArray, zero: AnyArray | None, *, axis: int, block: int = 0) -> F32:
    """Return (values - zero) * scale in float32; scale and zero as `spread` takes them."""
    shape = values.shape
    centred = values.astype(np.float32)
    with np.errstate(over="ignore", invalid="ignore"):
        if zero is not None:
            centred = centred - spread(zero, shape, axis=axis, block=block).astype(np.float32)
        return np.asarray(centred * spread(scale, shape, axis=axis, block=block).astype(np.float32), np.float32)
