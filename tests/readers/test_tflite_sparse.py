"""Sparse tensors of TFLite, against an encoder that works by single elements."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tflite_models import HALF, KIND, OP, RNG, Op, T, W, X, Y, build, depthwise, encode, reader

from mkfa.readers.graphs.graph_file import DamagedError
from mkfa.readers.graphs.tflite_sparse import Level, densify
from mkfa.readers.reading import Reading


@pytest.fixture
def read(tmp_path: Path) -> Callable[[bytes], Reading]:
    return reader(tmp_path)


def test_sparse_example_worked_by_hand():
    dense = np.array([[1, 0, 2, 3], [0, 4, 0, 0], [0, 0, 5, 0], [0, 0, 0, 6]], np.float32)
    values = np.array([1, 0, 0, 4, 2, 3, 0, 0, 5, 0, 0, 6], np.float32)
    levels = [
        Level(size=2),
        Level(segments=np.array([0, 2, 3]), indices=np.array([0, 1, 1])),
        Level(size=2),
        Level(size=2),
    ]
    np.testing.assert_array_equal(
        densify(values, (4, 4), traversal=[0, 1, 2, 3], block_map=[0, 1], levels=levels), dense
    )


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    order=st.permutations(range(3)),
    blocked=st.lists(st.integers(0, 2), unique=True, max_size=2),
    compressed=st.lists(st.booleans(), min_size=3, max_size=3),
)
def test_sparse_round_trip(seed, order, blocked, compressed):
    rng = np.random.default_rng(seed)
    dense = (rng.integers(1, 9, (4, 2, 6)) * (rng.random((4, 2, 6)) < 0.3)).astype(np.float32)
    traversal = [*order, *range(3, 3 + len(blocked))]
    values, levels = encode(dense, traversal, blocked, [2] * len(blocked), [*compressed, *[False] * len(blocked)])
    np.testing.assert_array_equal(
        densify(values, dense.shape, traversal=traversal, block_map=blocked, levels=levels), dense
    )


@pytest.mark.parametrize("direct", [False, True])
def test_sparse_filters_behind_densify(read, direct):
    dense = np.where(RNG.random(W.shape) < 0.6, 0, W).astype(np.float32)
    traversal, block_map = [0, 3, 1, 2, 4], [3]
    values, levels = encode(dense, traversal, block_map, [2], [False, True, False, True, False])
    sparse = T(W.shape, values, sparse=(traversal, block_map, levels), name="sparse")
    if direct:
        graph = [X, sparse, Y], [depthwise([0, 1], 2)]
    else:
        graph = [X, T(W.shape), Y, sparse], [Op(OP.DENSIFY, [3], [1], "DensifyOptions"), depthwise([0, 1], 2)]
    (layer,) = read(build(graph)).layers
    np.testing.assert_array_equal(layer.weight, dense[0].transpose(2, 0, 1))


def test_sparse_float16_behind_densify_and_dequantize(read):
    values, levels = encode(HALF, [0, 1, 2, 3], [], [], [False, True, True, True])
    tensors = [
        X,
        T(W.shape),
        Y,
        T(W.shape, kind=KIND.FLOAT16),
        T(W.shape, values, KIND.FLOAT16, sparse=([0, 1, 2, 3], [], levels)),
    ]
    ops = [Op(OP.DENSIFY, [4], [3]), Op(OP.DEQUANTIZE, [3], [1]), depthwise([0, 1], 2)]
    (layer,) = read(build((tensors, ops))).layers
    np.testing.assert_array_equal(layer.weight, W[0].transpose(2, 0, 1))
    assert layer.dtype == "float16"


@pytest.mark.parametrize(
    ("shape", "traversal", "block_map", "levels"),
    [
        ((4, 4), [0, 1], [], [Level(size=4), Level(size=3)]),
        ((4, 4), [0, 0], [], [Level(size=4), Level(size=4)]),
        ((4, 4), [0, 1, 2], [5], [Level(size=4), Level(size=4), Level(size=1)]),
        ((4, 4), [2, 1, 0], [0], [Level(size=2), Level(size=4), Level(size=2)]),
        ((4, 4), [0, 1, 2], [0], [Level(size=4), Level(size=4), Level(size=0)]),
        ((4, 4), [0, 1], [], [Level(size=4)]),
        ((), [], [], []),
        ((1 << 20, 1 << 20), [0, 1], [], [Level(size=1 << 20), Level(size=1 << 20)]),
        ((4, 4), [0, 1], [], [Level(size=4), Level(segments=np.array([0, 1, 2, 3]), indices=np.arange(3))]),
        ((4, 4), [0, 1], [], [Level(size=4), Level(segments=np.array([0, 5, 2, 3, 3]), indices=np.arange(3))]),
        ((4, 4), [0, 1], [], [Level(size=4), Level(segments=np.array([0, 1, 2, 3, 9]), indices=np.arange(3))]),
        (
            (4, 4),
            [0, 1],
            [],
            [Level(size=4), Level(segments=np.array([0, 1, 2, 3, 4]), indices=np.array([0, 1, 2, 4]))],
        ),
        (
            (4, 4),
            [0, 1],
            [],
            [Level(size=4), Level(segments=np.array([0, 1, 2, 3, 4]), indices=np.array([0, 1, -2, 3]))],
        ),
        ((4, 4), [0, 1], [], [Level(size=4), Level(segments=np.array([0, 1, 1, 1, 1]), indices=np.array([0]))]),
    ],
)
def test_sparse_tables_that_contradict_themselves(shape, traversal, block_map, levels):
    with pytest.raises(DamagedError):
        densify(np.ones(4, np.float32), shape, traversal=traversal, block_map=block_map, levels=levels)
