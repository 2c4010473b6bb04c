"""A damaged ONNX model is read or refused in one sentence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from onnx_models import ONE, C, W, conv, model, reader, stored, whole_model

from mkfa.errors import MkfaError, SourceError
from mkfa.readers.graphs import onnx_wire
from mkfa.readers.reading import Reading


@pytest.fixture
def read(tmp_path: Path) -> Callable[[Any], Reading]:
    return reader(tmp_path)


def lying(**change: Any) -> Any:
    tensor = stored("w", W)
    for key, value in change.items():
        tensor.ClearField(key)
        getattr(tensor, key).extend(value) if isinstance(value, list) else setattr(tensor, key, value)
    return model([conv("w")], [tensor])


@pytest.mark.parametrize(
    "proto",
    [
        b"\x08",
        b"no model at all" * 20,
        b"\x12" * 4096,
        model([], []).SerializeToString(),
        lying(dims=[C, 1, 3, 4]),
        lying(dims=[C, 1, 3, 1 << 60]),
        lying(dims=[-C, 1, -3, 3]),
        lying(raw_data=b"\0" * 143),
        lying(data_type=TensorProto.FLOAT16),
        lying(dims=[2, 1, 6, 3]),
        lying(dims=[0, 1, 3, 3], raw_data=b""),
        model([conv("w", kernel_shape=[5, 5])], [stored("w", W)]),
        model([conv("w", strides=[0, 1])], [stored("w", W)]),
        model([conv("w", strides=[1])], [stored("w", W)]),
        model([conv("w", dilations=[1, 1 << 40])], [stored("w", W)]),
        model([conv("w", group=-4)], [stored("w", W)]),
        model([conv("w", bias="b")], [stored("w", W), stored("b", ONE)]),
        model([helper.make_node("Transpose", ["t"], ["w"], perm=[0, 1, 2, 2]), conv("w")], [stored("t", W)]),
        model(
            [helper.make_node("Reshape", ["t", "s"], ["w"]), conv("w")],
            [stored("t", W), stored("s", np.array([C, 1, 3, 4]))],
        ),
        model([helper.make_node("Reshape", ["t"], ["w"]), conv("w")], [stored("t", W)]),
        model(
            [helper.make_node("DequantizeLinear", ["q", "s"], ["w"], axis=0), conv("w")],
            [stored("q", W.astype(np.int8)), stored("s", np.ones(3, np.float32))],
        ),
    ],
)
def test_damage_is_one_sentence(read, proto):
    with pytest.raises(SourceError) as caught:
        read(proto)
    assert str(caught.value).count("\n") == 0 and "m.onnx" in str(caught.value)


WHOLE = whole_model()


def test_the_model_to_damage_is_read_whole(read):
    assert [layer.key for layer in read(WHOLE).layers] == ["q", "v", "own", "sp"]


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kept=st.sampled_from([8, 1 << 16]),
    edits=st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255)), max_size=6),
    cut=st.integers(0, len(WHOLE)) | st.just(len(WHOLE)),
    insert=st.binary(max_size=8),
    place=st.integers(0, len(WHOLE)),
)
def test_damaged_bytes_are_read_or_refused(read, kept, edits, cut, insert, place):
    data = bytearray(WHOLE)
    for at, value in edits:
        data[at] = value
    data[place:place] = insert
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(onnx_wire, "KEPT", kept)
            reading = read(bytes(data[:cut]))
    except MkfaError:
        return
    for layer in reading.layers:
        assert layer.weight.dtype == np.float32 and layer.weight.ndim == 3
