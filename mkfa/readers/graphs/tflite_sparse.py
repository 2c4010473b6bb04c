"""Decode the sparse tensors of TFLite into dense ones.

A sparse tensor of rank n is stored as a tree of n + k levels: its n dimensions, k of which are split into blocks, in a
traversal order that names the n block-grid dimensions first and the k inner ones after them. A level is dense (every
index is there) or compressed (segments and indices, as in the CSR format). Source: schema.fbs of TensorFlow Lite,
SparsityParameters; the format is that of Chou, Kjolstad and Amarasinghe, Format Abstraction for Sparse Tensor Algebra
Compilers (OOPSLA 2018).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mkfa.array_types import AnyArray
from mkfa.readers.graphs.graph_file import LARGEST_SPARSE, DamagedError
from mkfa.words import counted


@dataclass(frozen=True, slots=True)
class Level:
    """One level of the tree.

    A dense level has `size` indices under every node of the level above. A compressed one has `segments`, (nodes above
    + 1,), and `indices`: node i of the level above owns indices[segments[i] : segments[i + 1]].
    """

    size: int = 0
    segments: AnyArray | None = None
    indices: AnyArray | None = None


def densify(
    values: AnyArray,
    shape: tuple[int, ...],
    *,
    traversal: Sequence[int],
    block_map: Sequence[int],
    levels: Sequence[Level],
) -> AnyArray:
    """Return the dense tensor.

    Parameters
    ----------
    values : (stored,) array, in the order of the tree's leaves
    shape : of the dense tensor
    traversal : permutation of 0 .. n + k - 1; numbers from n on are the inner dimensions of blocks
    block_map : (k,) the dimension that each block splits
    levels : n + k levels, outermost first

    Raises DamagedError: the parts do not fit each other.
    """
    rank = len(shape)
    grid, blocks = _extents(shape, traversal, block_map, levels)
    coordinates: list[AnyArray] = []
    nodes = 1
    for place, (dimension, level) in enumerate(zip(traversal, levels, strict=True)):
        extent = grid[dimension] if place < rank else blocks[dimension - rank]
        parent, index = _expand(level, nodes, extent)
        coordinates = [c[parent] for c in coordinates] + [index]
        nodes = index.size
    if nodes != values.size:
        raise DamagedError(f"{counted(values.size, 'stored value')} of a sparse tensor with {counted(nodes, 'place')}")
    place_of = {dimension: place for place, dimension in enumerate(traversal)}
    full = [coordinates[place_of[dimension]] for dimension in range(rank)]
    for dimension in traversal[rank:]:
        block = dimension - rank
        at = block_map[block]
        full[at] = full[at] * blocks[block] + coordinates[place_of[dimension]]
    out = np.zeros(shape, values.dtype)
    out[tuple(full)] = values
    return out


def _extents(
    shape: tuple[int, ...], traversal: Sequence[int], block_map: Sequence[int], levels: Sequence[Level]
) -> tuple[list[int], list[int]]:
    """Return the block-grid extent of each dimension and the size of each block, all checked."""
    rank, total = len(shape), len(shape) + len(block_map)
    if not 0 < rank <= total <= 2 * rank or math.prod(shape) > LARGEST_SPARSE or min(shape) < 1:
        raise DamagedError(
            f"a sparse tensor of shape {list(shape)} with {counted(len(block_map), 'blocked dimension')}"
        )
    fits = len(levels) == len(traversal) == total and sorted(traversal) == list(range(total))
    if not fits or any(d >= rank for d in traversal[:rank]) or not all(0 <= d < rank for d in block_map):
        raise DamagedError(f"a sparse tensor with traversal order {list(traversal)} and blocks {list(block_map)}")
    blocks = [0] * len(block_map)
    for dimension, level in zip(traversal[rank:], levels[rank:], strict=True):
        blocks[dimension - rank] = level.size  # inner dimensions are dense
    grid = list(shape)
    for dimension, size in zip(block_map, blocks, strict=True):
        if size < 1 or grid[dimension] % size:
            raise DamagedError(f"a sparse tensor of shape {list(shape)} in blocks of {size}")
        grid[dimension] //= size
    return grid, blocks


def _expand(level: Level, nodes: int, extent: int) -> tuple[AnyArray, AnyArray]:
    """Return, for each node of this level, its node in the level above and its index along this level's dimension."""
    if level.segments is None or level.indices is None:
        if level.size != extent or nodes * extent > LARGEST_SPARSE:
            raise DamagedError(f"a dense level of {level.size} where the shape has {extent}")
        return np.repeat(np.arange(nodes), extent), np.tile(np.arange(extent), nodes)
    segments, indices = level.segments.astype(np.int64), level.indices.astype(np.int64)
    counts = np.diff(segments)
    whole = segments.size == nodes + 1 and segments[0] == 0 and segments[-1] == indices.size
    if not whole or (counts < 0).any() or (indices < 0).any() or (indices >= extent).any():
        raise DamagedError("segments and indices of a sparse tensor that do not fit its shape")
    return np.repeat(np.arange(nodes), counts), indices
