"""A damaged TFLite model is read or refused in one sentence."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tflite_models import EACH, KIND, OP, Op, Q, T, W, X, Y, build, depthwise, reader, taps, whole_model

from mkfa.errors import MkfaError, SourceError
from mkfa.readers.reading import Reading


@pytest.fixture
def read(tmp_path: Path) -> Callable[[bytes], Reading]:
    return reader(tmp_path)


@pytest.mark.parametrize(
    "graph",
    [
        ([X, T([1, 3, 3, 5], W), Y], [depthwise([0, 1], 2)]),
        ([X, T([1, 3, 3, 4], b"\0" * 143), Y], [depthwise([0, 1], 2)]),
        ([X, T([1, 3, 3, 1 << 30], W), Y], [depthwise([0, 1], 2)]),
        ([X, T([1, -3, -3, 4], W), Y], [depthwise([0, 1], 2)]),
        ([X, T([2, 3, 3, 2], W), Y], [depthwise([0, 1], 2)]),
        ([X, T([1] * 9, W), Y], [depthwise([0, 1], 2)]),
        ([T([1, 9, 9, 3]), T(W.shape, W), Y], [depthwise([0, 1], 2)]),
        ([T([]), T(W.shape, W), Y], [depthwise([0, 1], 2, DepthMultiplier=0)]),
        ([X, T(W.shape, W), Y], [depthwise([0, 9], 2)]),
        ([X, T(W.shape, W), Y], [depthwise([0], 2)]),
        ([X, T(W.shape, W), Y], [depthwise([0, -1], 2)]),
        ([X, T(W.shape, W), Y], [depthwise([0, 1], 2, StrideW=0)]),
        ([X, T(W.shape, W), Y], [depthwise([0, 1], 2, DilationHFactor=1 << 20)]),
        ([X, T(W.shape, W), Y], [Op(OP.DEPTHWISE_CONV_2D, [0, 1], [2])]),
        ([X, T(W.shape, W), Y], [Op(OP.DEPTHWISE_CONV_2D, [0, 1], [2], "Conv2DOptions", {})]),
        ([X, T(Q.shape, Q, KIND.INT8, [1, 2, 3], [0] * 3, 3), Y], [depthwise([0, 1], 2)]),
        ([X, T(Q.shape, Q, KIND.INT8, EACH, [0] * 4, 9), Y], [depthwise([0, 1], 2)]),
        ([X, T(W.shape, W), T([3], taps(3)), Y], [depthwise([0, 1, 2], 3)]),
        ([X, T(W.shape, buffer=99), Y], [depthwise([0, 1], 2)]),
    ],
)
def test_damage_is_one_sentence(read, graph):
    with pytest.raises(SourceError) as caught:
        read(build(graph))
    assert str(caught.value).count("\n") == 0 and "m.tflite" in str(caught.value)


@pytest.mark.parametrize(
    "data", [b"", b"TFL3", b"\0\0\0\0TFL3", b"\xff\xff\xff\xffTFL3" + b"\0" * 64, b"no model at all"]
)
def test_what_is_no_model_is_refused(read, data):
    with pytest.raises(SourceError):
        read(data)


def test_tables_listed_over_and_over_are_refused(read, monkeypatch):
    many = build(([X, T(W.shape, W), Y], [depthwise([0, 1], 2)] * 60))
    assert len(read(many).layers) == 1
    monkeypatch.setattr("mkfa.storage.budget.FREE_STEPS", 600)
    with pytest.raises(SourceError, match="more than 664 steps"):
        read(many)


WHOLE = whole_model()


def test_the_model_to_damage_is_read_whole(read):
    assert [layer.dtype for layer in read(WHOLE).layers] == ["int8", "float16", "float32", "float32"]
    assert math.prod(read(WHOLE).layers[2].weight.shape) == 36


@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    edits=st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255)), max_size=6),
    cut=st.integers(0, len(WHOLE)) | st.just(len(WHOLE)),
    insert=st.binary(max_size=8),
    place=st.integers(8, len(WHOLE)),
)
def test_damaged_bytes_are_read_or_refused(read, edits, cut, insert, place):
    data = bytearray(WHOLE)
    for at, value in edits:
        data[at] = value
    data[place:place] = insert
    try:
        reading = read(bytes(data[:cut]))
    except MkfaError:
        return
    for layer in reading.layers:
        assert layer.weight.dtype == np.float32 and layer.weight.ndim == 3
