"""The ONNX reader against the reference evaluator: an impulse through each model must reproduce its filters."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from mkfa.bank import UNKNOWN
from mkfa.errors import MkfaError, SourceError
from mkfa.harvest import harvest
from mkfa.sources import onnx_wire
from mkfa.sources.found import Reading
from mkfa.sources.graphfile import Why
from mkfa.sources.onnx import read_onnx

F, C, M = TensorProto.FLOAT, 4, 2
RNG = np.random.default_rng(20260722)


def taps(out: int = C, kh: int = 3, kw: int = 3) -> np.ndarray:
    """Weights (out, 1, kh, kw) that float16 holds exactly, so that every route gives the same bits."""
    return (RNG.integers(-40, 40, (out, 1, kh, kw)) / 16).astype(np.float32)


def conv(
    weight: str, *, x: str = "x", y: str = "y", bias: str = "", group: int = C, **attributes: Any
) -> Any:
    inputs = [x, weight, bias] if bias else [x, weight]
    return helper.make_node("Conv", inputs, [y], name=f"conv_{y}", group=group, **attributes)


def stored(name: str, array: np.ndarray) -> Any:
    return numpy_helper.from_array(np.ascontiguousarray(array), name)


def model(
    nodes: Sequence[Any], initialisers: Sequence[Any] = (), *, functions: Sequence[Any] = (), opset: int = 21,
    sparse: Sequence[Any] = (), rank: int = 4, channels: int = C, outputs: Sequence[str] = ("y",),
) -> Any:  # fmt: skip
    graph = helper.make_graph(
        list(nodes), "g",
        [helper.make_tensor_value_info("x", F, [1, channels, *["n"] * (rank - 2)])],
        [helper.make_tensor_value_info(name, F, None) for name in outputs],
        list(initialisers), sparse_initializer=list(sparse),
    )  # fmt: skip
    opsets = [
        helper.make_opsetid("", opset),
        *(helper.make_opsetid(d, 1) for d in {f.domain for f in functions}),
    ]
    return helper.make_model(graph, functions=list(functions), opset_imports=opsets, ir_version=10)


@pytest.fixture
def read(tmp_path: Path) -> Callable[[Any], Reading]:
    def save_and_read(proto: Any) -> Reading:
        path = tmp_path / "m.onnx"
        path.write_bytes(proto if isinstance(proto, bytes) else proto.SerializeToString())
        return read_onnx(path, "")

    return save_and_read


def impulse(proto: Any, kh: int = 3, kw: int = 3, channels: int = C) -> np.ndarray:
    """Return the filters that the reference evaluator applies, (out, kh, kw): its answer to an impulse, turned."""
    x = np.zeros((1, channels, 2 * kh - 1, 2 * kw - 1), np.float32)
    x[:, :, kh - 1, kw - 1] = 1
    (y,) = ReferenceEvaluator(proto).run(None, {"x": x})
    return np.asarray(y)[0, :, ::-1, ::-1]


@pytest.mark.parametrize(("kh", "kw", "m"), [(3, 3, 1), (1, 11, 1), (7, 5, 2), (2, 4, 3)])
def test_impulse_reproduces_filters_of_any_shape_and_multiplier(read, kh, kw, m):
    weight = taps(C * m, kh, kw)
    proto = model([conv("w")], [stored("w", weight)])
    (layer,) = read(proto).layers
    np.testing.assert_array_equal(layer.weight, impulse(proto, kh, kw))
    np.testing.assert_array_equal(layer.weight, weight[:, 0])
    assert (layer.key, layer.multiplier, layer.dtype, layer.bias) == ("w", m, "float32", None)
    assert (layer.stride, layer.dilation, layer.stage) == ((1, 1), (1, 1), UNKNOWN)


def test_steps_and_bias_are_kept(read):
    bias = np.arange(C, dtype=np.float32)
    node = conv("w", bias="b", strides=[2, 1], dilations=[3, 2], pads=[9, 9, 9, 9])
    (layer,) = read(model([node], [stored("w", taps()), stored("b", bias)])).layers
    assert (layer.stride, layer.dilation) == ((2, 1), (3, 2))
    np.testing.assert_array_equal(layer.bias, bias)


def constant(name: str, **value: Any) -> Any:
    return helper.make_node("Constant", [], [name], **value)


def quantised(weight: np.ndarray, dtype: Any, scale: np.ndarray, zero: np.ndarray) -> np.ndarray:
    steps = np.rint(weight / scale.reshape(-1, 1, 1, 1)) + zero.reshape(-1, 1, 1, 1)
    limits = np.iinfo(dtype)
    return np.clip(steps, limits.min, limits.max).astype(dtype)


W = taps()
ONE = np.array([0.25], np.float32)
EACH = np.array([0.25, 0.5, 0.125, 1.0], np.float32)


def dq(dtype: Any, scale: np.ndarray, zero: Sequence[int], **attributes: Any) -> tuple[list[Any], list[Any]]:
    z = np.array(zero, dtype)
    tensors = [stored("q", quantised(W, dtype, scale, np.array(zero))), stored("s", scale), stored("z", z)]
    if scale.size == 1:
        tensors[1:] = [stored("s", scale.reshape(())), stored("z", z.reshape(()))]
    return [helper.make_node("DequantizeLinear", ["q", "s", "z"], ["w"], **attributes)], tensors


def blocks() -> tuple[list[Any], list[Any]]:
    rows = W.reshape(C, 9)
    scale = np.linspace(0.1, 0.9, C * 3).reshape(C, 3).astype(np.float32)
    q = np.clip(np.rint(rows / np.repeat(scale, 3, 1)), -8, 7).astype(np.int8)
    nodes = [helper.make_node("DequantizeLinear", ["q", "s"], ["d"], axis=1, block_size=3),
             helper.make_node("Reshape", ["d", "t"], ["w"])]  # fmt: skip
    tensor = helper.make_tensor("q", TensorProto.INT4, [C, 9], q.reshape(-1).tolist())
    return nodes, [tensor, stored("s", scale), stored("t", np.array([0, 1, 3, -1], np.int64))]


FORMS: dict[str, tuple[str, tuple[list[Any], list[Any]]]] = {
    "raw float32": ("float32", ([], [stored("w", W)])),
    "typed float32": ("float32", ([], [helper.make_tensor("w", F, W.shape, W.reshape(-1))])),
    "raw float64": ("float64", ([helper.make_node("Cast", ["d"], ["w"], to=F)], [stored("d", W.astype(np.float64))])),
    "typed float64": ("float64", ([helper.make_node("Cast", ["d"], ["w"], to=F)],
                                  [helper.make_tensor("d", TensorProto.DOUBLE, W.shape, W.reshape(-1))])),
    "raw float16": ("float16", ([helper.make_node("Cast", ["h"], ["w"], to=F)], [stored("h", W.astype(np.float16))])),
    "typed float16": ("float16", ([helper.make_node("Cast", ["h"], ["w"], to=F)],
                                  [helper.make_tensor("h", TensorProto.FLOAT16, W.shape, W.reshape(-1))])),
    "raw bfloat16": ("bfloat16", ([helper.make_node("Cast", ["h"], ["w"], to=F)],
                                  [helper.make_tensor("h", TensorProto.BFLOAT16, W.shape,
                                                      (W.reshape(-1).view(np.uint32) >> 16).astype("<u2").tobytes(),
                                                      raw=True)])),
    "typed bfloat16": ("bfloat16", ([helper.make_node("Cast", ["h"], ["w"], to=F)],
                                    [helper.make_tensor("h", TensorProto.BFLOAT16, W.shape, W.reshape(-1))])),
    "constant node": ("float32", ([constant("w", value=stored("other", W))], [])),
    "constant of numbers": ("float32", ([constant("n", value_floats=W.reshape(-1).tolist()),
                                         constant("t", value_ints=list(W.shape)),
                                         helper.make_node("Reshape", ["n", "t"], ["w"])], [])),
    "identity": ("float32", ([helper.make_node("Identity", ["i"], ["w"])], [stored("i", W)])),
    "transpose": ("float32", ([helper.make_node("Transpose", ["t"], ["w"], perm=[3, 2, 0, 1])],
                              [stored("t", W.transpose(2, 3, 1, 0))])),
    "transpose, no order": ("float32", ([helper.make_node("Transpose", ["t"], ["w"])], [stored("t", W.transpose())])),
    "reshape": ("float32", ([helper.make_node("Reshape", ["r", "t"], ["w"])],
                            [stored("r", W.reshape(C, 9)), stored("t", np.array([0, 1, -1, 3], np.int64))])),
    "rounded by a cast": ("float32", ([helper.make_node("Cast", ["o"], ["h"], to=TensorProto.FLOAT16),
                                       helper.make_node("Cast", ["h"], ["w"], to=F)], [stored("o", W / 3)])),
    "int8 per tensor": ("int8", dq(np.int8, ONE, [3])),
    "uint8 per tensor": ("uint8", dq(np.uint8, ONE, [128])),
    "int16 per channel": ("int16", dq(np.int16, EACH, [0, 1, -2, 3], axis=0)),
    "int8 per channel": ("int8", dq(np.int8, EACH, [0, 1, -2, 3], axis=-4)),
    "int4 in blocks": ("int4", blocks()),
    "runtime's own QDQ": ("float32", ([helper.make_node("QuantizeLinear", ["o", "s", "z"], ["q"],
                                                        domain="com.microsoft"),
                                       helper.make_node("DequantizeLinear", ["q", "s", "z"], ["w"],
                                                        domain="com.microsoft")],
                                      [stored("o", W), stored("s", ONE[0]), stored("z", np.int8(0))])),
    "rounded by QDQ": ("float32", ([helper.make_node("QuantizeLinear", ["o", "s", "z"], ["q"], axis=0),
                                    helper.make_node("DequantizeLinear", ["q", "s", "z"], ["w"], axis=0)],
                                   [stored("o", W), stored("s", EACH), stored("z", np.zeros(C, np.int8))])),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_every_stored_form_gives_what_the_evaluator_computes(read, form):
    dtype, (nodes, tensors) = FORMS[form]
    (layer,) = read(model([*nodes, conv("w")], tensors)).layers
    for node in nodes:
        node.domain = ""  # the evaluator knows the standard operators of the same meaning
    known = ReferenceEvaluator(model([*nodes, helper.make_node("Identity", ["w"], ["y"])], tensors))
    (expected,) = known.run(None, {"x": np.zeros((1, C, 1, 1), np.float32)})
    np.testing.assert_array_equal(layer.weight, np.asarray(expected, np.float32)[:, 0])
    np.testing.assert_array_equal(layer.weight, impulse(model([*nodes, conv("w")], tensors)))
    assert layer.dtype == dtype


@pytest.mark.parametrize("coordinates", [False, True])
def test_sparse_initialisers_are_filled_in(read, coordinates):
    weight = np.where(RNG.random(W.shape) < 0.7, 0, W).astype(np.float32)
    places = np.argwhere(weight) if coordinates else np.flatnonzero(weight)
    sparse = helper.make_sparse_tensor(
        stored("w", weight[weight != 0]), stored("", places.astype(np.int64)), list(weight.shape)
    )
    (layer,) = read(model([conv("w")], sparse=[sparse])).layers
    np.testing.assert_array_equal(layer.weight, weight[:, 0])


def test_integer_convolution_is_read_in_steps(read):
    q, zero = RNG.integers(0, 255, (C, 1, 3, 3)).astype(np.uint8), np.array(7, np.uint8)
    node = helper.make_node("ConvInteger", ["x", "w", "", "z"], ["y"], group=C)
    proto = model([node], [stored("w", q), stored("z", zero)])
    proto.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    reading = read(proto)
    (y,) = ReferenceEvaluator(proto).run(
        None, {"x": np.pad(np.ones((1, C, 1, 1), np.uint8), [(0, 0)] * 2 + [(2, 2)] * 2)}
    )
    np.testing.assert_array_equal(reading.layers[0].weight, y[0, :, ::-1, ::-1])
    assert any("quantisation steps" in note for note in reading.notes)


def test_qlinearconv_weights_and_bias_are_dequantised(read):
    q = RNG.integers(-9, 9, (C, 1, 3, 3)).astype(np.int8)
    tensors = [stored("xs", np.float32(0.5)), stored("xz", np.uint8(0)), stored("w", q), stored("s", EACH),
               stored("z", np.zeros(C, np.int8)), stored("ys", np.float32(1)), stored("yz", np.uint8(0)),
               stored("b", np.array([8, -8, 16, 4], np.int32))]  # fmt: skip
    node = helper.make_node("QLinearConv", ["x", "xs", "xz", "w", "s", "z", "ys", "yz", "b"], ["y"], group=C)
    (layer,) = read(model([node], tensors)).layers
    np.testing.assert_array_equal(layer.weight, q[:, 0] * EACH[:, None, None])
    np.testing.assert_array_equal(layer.bias, np.array([8, -8, 16, 4]) * 0.5 * EACH)
    assert layer.dtype == "int8"


def test_what_is_not_taken_is_counted(read):
    tensors = [
        stored("one_d", np.ones((C, 1, 3), np.float32)), stored("three_d", np.ones((C, 1, 3, 3, 3), np.float32)),
        stored("point", np.ones((C, 1, 1, 1), np.float32)), stored("grouped", np.ones((C, 2, 3, 3), np.float32)),
        stored("dense", np.ones((C, C, 3, 3), np.float32)), stored("stem", np.ones((8, 1, 3, 3), np.float32)),
        stored("w", W),
    ]  # fmt: skip
    nodes = [
        conv("one_d", y="a"), conv("three_d", y="b"), conv("point", y="c"), conv("grouped", y="d", group=2),
        conv("dense", y="e", group=1), conv("stem", y="f", group=1), conv("x", y="g"), conv("w", y="h"),
        conv("w", y="i"), helper.make_node("ConvTranspose", ["x", "w"], ["j"], group=C),
        helper.make_node("DeformConv", ["x", "w", "x"], ["k"], group=C),
    ]  # fmt: skip
    reading = read(model(nodes, tensors))
    assert [layer.key for layer in reading.layers] == ["w"]
    assert reading.skipped == {
        Why.ONE_D: 1, Why.THREE_D: 1, Why.ONE_BY_ONE: 1, Why.GROUPED: 1, Why.STEM: 1,
        Why.RUN_TIME: 1, Why.SHARED: 1, Why.TRANSPOSED: 1, "convolution of kind ONNX DeformConv": 1,
    }  # fmt: skip
    assert any("counted once" in note for note in reading.notes)


def test_network_without_depthwise_layers_says_what_it_has(tmp_path):
    path = tmp_path / "m.onnx"
    nodes = [conv("w", y="a", group=1), conv("w", y="b", group=1), conv("v", y="c")]
    tensors = [stored("w", np.ones((C, C, 3, 3), np.float32)), stored("v", np.ones((C, 1, 1, 1), np.float32))]
    path.write_bytes(model(nodes, tensors).SerializeToString())
    with pytest.raises(SourceError, match=r"no depthwise layer: it holds 3 convolutions.*1x1 depthwise"):
        harvest(str(path))


def branch(name: str, weight: str, tensors: Sequence[Any] = ()) -> Any:
    return helper.make_graph(
        [conv(weight, y=name)], name, [], [helper.make_tensor_value_info(name, F, None)], list(tensors)
    )


def test_branches_and_loops_are_walked_in_order_and_shared_weights_counted_once(read):
    first, inner, last = taps(), taps(), taps()
    body = helper.make_graph(
        [conv("inner", x="carried", y="out"), helper.make_node("Identity", ["go"], ["go_on"])], "body",
        [helper.make_tensor_value_info("i", TensorProto.INT64, []),
         helper.make_tensor_value_info("go", TensorProto.BOOL, []),
         helper.make_tensor_value_info("carried", F, None)],
        [helper.make_tensor_value_info("go_on", TensorProto.BOOL, []), helper.make_tensor_value_info("out", F, None)],
        [stored("inner", inner)],
    )  # fmt: skip
    nodes = [
        conv("first", y="a"),
        helper.make_node("If", ["flag"], ["b"], then_branch=branch("t", "own", [stored("own", W)]),
                         else_branch=branch("e", "first")),
        helper.make_node("Loop", ["n", "flag", "b"], ["c"], body=body),
        conv("last", x="c", y="y"),
    ]  # fmt: skip
    tensors = [
        stored("first", first),
        stored("last", last),
        stored("flag", np.array(True)),
        stored("n", np.array(2)),
    ]
    reading = read(model(nodes, tensors))
    assert [layer.key for layer in reading.layers] == ["first", "own", "inner", "last"]
    np.testing.assert_array_equal(reading.layers[2].weight, inner[:, 0])
    assert reading.skipped == {Why.SHARED: 1}


def test_weights_given_to_a_loop_body_are_known_at_run_time_only(read):
    body = helper.make_graph([conv("w", x="x", y="out")], "body", [helper.make_tensor_value_info("w", F, None)],
                             [helper.make_tensor_value_info("out", F, None)])  # fmt: skip
    # the outer graph has a tensor of the same name, which the body's input hides
    reading = read(
        model([helper.make_node("Scan", ["v"], ["y"], body=body, num_scan_inputs=1)], [stored("w", W)])
    )
    assert not reading.layers and reading.skipped == {Why.RUN_TIME: 1}


def test_functions_are_unrolled_with_their_arguments(read):
    group = onnx.AttributeProto(name="group", ref_attr_name="g", type=onnx.AttributeProto.INT)
    steps = onnx.AttributeProto(name="strides", ref_attr_name="s", type=onnx.AttributeProto.INTS)
    inside = conv("fw", x="fx", y="fy")
    inside.ClearField("attribute")
    inside.attribute.extend([group, steps])
    hidden = [constant("k", value=stored("k", W)), conv("k", x="fy", y="fz")]
    block = helper.make_function("own", "Block", ["fx", "fw"], ["fz"], [inside, *hidden],
                                 [helper.make_opsetid("", 21)], ["g", "s"])  # fmt: skip
    outer = helper.make_function(
        "own", "Twice", ["tx", "ta", "tb"], ["tz"],
        [helper.make_node("Block", ["tx", "ta"], ["th"], domain="own", g=C, s=[2, 2]),
         helper.make_node("Block", ["th", "tb"], ["tz"], domain="own", g=C, s=[1, 3])],
        [helper.make_opsetid("", 21), helper.make_opsetid("own", 1)],
    )  # fmt: skip
    a, b = taps(), taps(2 * C, 5, 5)
    reading = read(model([helper.make_node("Twice", ["x", "a", "b"], ["y"], domain="own")],
                         [stored("a", a), stored("b", b)], functions=[block, outer]))  # fmt: skip
    assert [(layer.key, layer.stride, layer.multiplier) for layer in reading.layers] == [
        ("a", (2, 2), 1), ("k", (1, 1), 1), ("b", (1, 3), 2),
    ]  # fmt: skip
    np.testing.assert_array_equal(reading.layers[2].weight, b[:, 0])
    assert reading.skipped == {
        Why.SHARED: 1
    }  # the constant in the function is one weight, used in both calls


def test_functions_that_unroll_without_bound_are_refused_soon(read):
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("own", 1)]
    doubling = [
        helper.make_function("own", f"f{i}", ["a"], ["b"], [
            helper.make_node(f"f{i - 1}" if i else "Relu", ["a"], ["c"], domain="own" if i else ""),
            helper.make_node(f"f{i - 1}" if i else "Relu", ["c"], ["b"], domain="own" if i else "")], opsets)
        for i in range(40)
    ]  # fmt: skip
    start = time.perf_counter()
    with pytest.raises(SourceError, match="without end"):
        read(model([helper.make_node("f39", ["x"], ["y"], domain="own")], functions=doubling))
    circle = helper.make_function(
        "own", "f", ["a"], ["b"], [helper.make_node("f", ["a"], ["b"], domain="own")], opsets
    )
    with pytest.raises(SourceError, match="without end"):
        read(model([helper.make_node("f", ["x"], ["y"], domain="own")], functions=[circle]))
    assert time.perf_counter() - start < 20


def test_nodes_out_of_order_are_sorted_and_said(read):
    tensors = [stored(name, taps()) for name in ("w1", "w2", "w3")]
    chain = [conv("w1", x="x", y="a"), conv("w2", x="a", y="b"), conv("w3", x="b", y="y")]
    reading = read(model(chain[::-1], tensors))
    assert [layer.key for layer in reading.layers] == ["w1", "w2", "w3"]
    assert any("were sorted" in note for note in reading.notes)
    assert not read(model(chain, tensors)).notes
    circle = [conv("w1", x="b", y="a"), conv("w2", x="a", y="b")]
    with pytest.raises(SourceError, match="circle"):
        read(model(circle, tensors))


def test_order_counts_what_branches_capture(read):
    tensors = [stored("w1", taps()), stored("w2", taps()), stored("flag", np.array(True))]
    late = helper.make_node(
        "If", ["flag"], ["y"], then_branch=branch("t", "w2"), else_branch=branch("e", "w2")
    )
    late.attribute[0].g.node[0].input[0] = "a"
    assert [layer.key for layer in read(model([late, conv("w1", y="a")], tensors)).layers] == ["w1", "w2"]


BN = [stored(name, np.ones(C, np.float32)) for name in ("g", "b0", "mean", "var")]
BN += [stored("space", np.array([2, 3])), stored("channel", np.array([1]))]


@pytest.mark.parametrize(
    ("behind", "bias", "folded"),
    [
        ([helper.make_node("Relu", ["c"], ["y"])], True, True),
        ([helper.make_node("Relu", ["c"], ["y"])], False, False),
        ([helper.make_node("BatchNormalization", ["c", "g", "b0", "mean", "var"], ["n"]),
          helper.make_node("Relu", ["n"], ["y"])], True, False),
        ([helper.make_node("Mul", ["c", "g"], ["m"]), helper.make_node("Add", ["m", "b0"], ["a"]),
          helper.make_node("HardSwish", ["a"], ["y"])], True, True),
        ([helper.make_node("Add", ["c", "x"], ["a"]), helper.make_node("Relu", ["a"], ["y"])], True, False),
        ([helper.make_node("Transpose", ["c"], ["t"]), helper.make_node("ReduceMean", ["t"], ["u"], axes=[-1]),
          helper.make_node("Sub", ["t", "u"], ["y"])], True, False),
        ([helper.make_node("Relu", ["c"], ["r"]),
          helper.make_node("BatchNormalization", ["r", "g", "b0", "mean", "var"], ["y"])], True, False),
        ([helper.make_node("ReduceMean", ["c", "space"], ["u"]), helper.make_node("Relu", ["u"], ["v"]),
          helper.make_node("Relu", ["c"], ["r"]), helper.make_node("Mul", ["r", "v"], ["y"])], True, True),
        ([helper.make_node("ReduceMean", ["c", "channel"], ["u"]),
          helper.make_node("Relu", ["c"], ["r"])], True, False),
        ([helper.make_node("Gelu", ["c"], ["y"])], True, False),
    ],
)  # fmt: skip
def test_folding_is_inferred_from_bias_and_activation(read, behind, bias, folded):
    first = conv("w", y="c", bias="b" if bias else "")
    (layer,) = read(
        model([first, *behind], [stored("w", W), stored("b", np.ones(C, np.float32)), *BN])
    ).layers
    assert layer.bn_folded is folded


@pytest.mark.parametrize(("name", "folded"), [("onnx::Conv_541", True), ("blocks.0.weight", False)])
def test_a_name_that_the_exporter_gave_is_a_sign_of_folding(read, name, folded):
    (layer,) = read(model([conv(name, bias="b")], [stored(name, W), stored("b", np.ones(C, np.float32))])).layers
    assert layer.bn_folded is folded


def test_linear_layers_follow_the_rest_of_a_folded_network(read):
    bias = stored("b", np.ones(C, np.float32))
    tensors = [bias, *(stored(f"w{i}", taps()) for i in range(4)), *BN]
    nodes = [
        conv("w0", y="c0", bias="b"), helper.make_node("Relu", ["c0"], ["a0"]),
        conv("w1", x="a0", y="c1", bias="b"), helper.make_node("Clip", ["c1"], ["a1"]),
        conv("w2", x="a1", y="c2", bias="b"), helper.make_node("MaxPool", ["c2"], ["p2"], kernel_shape=[2, 2]),
        conv("w3", x="p2", y="c3"), helper.make_node("BatchNormalization", ["c3", "g", "b0", "mean", "var"], ["y"]),
    ]  # fmt: skip
    assert [layer.bn_folded for layer in read(model(nodes, tensors)).layers] == [True, True, True, False]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of PyTorch's about its own exporter
def test_what_pytorch_exports(tmp_path):
    import torch
    from torch import nn

    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 5, stride=2, padding=2, groups=8, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 16, (3, 1), dilation=2, groups=8), nn.GELU(), nn.ConvTranspose2d(16, 16, 3, groups=16),
    ).eval()  # fmt: skip
    net[2].running_var.uniform_(0.5, 2)
    path = tmp_path / "net.onnx"
    torch.onnx.export(net, (torch.zeros(1, 3, 32, 32),), str(path), dynamo=False, opset_version=17)
    folded, plain = read_onnx(path, "").layers
    gain = (net[2].weight / torch.sqrt(net[2].running_var + net[2].eps)).detach()
    np.testing.assert_allclose(folded.weight, (net[1].weight[:, 0] * gain[:, None, None]).detach(), rtol=1e-5)
    np.testing.assert_array_equal(plain.weight, net[4].weight[:, 0].detach())
    np.testing.assert_array_equal(plain.bias, net[4].bias.detach())
    assert (folded.stride, folded.dilation, folded.multiplier, folded.bn_folded) == ((2, 2), (1, 1), 1, True)
    assert (plain.key, plain.stride, plain.dilation, plain.multiplier, plain.bn_folded) == (
        "4.weight", (1, 1), (2, 2), 2, False,
    )  # fmt: skip
    assert read_onnx(path, "").skipped == {Why.TRANSPOSED: 1}


# External data


def external(name: str, shape: Sequence[int], **where: str) -> Any:
    tensor = TensorProto(name=name, data_type=F, dims=shape, data_location=TensorProto.EXTERNAL)
    for key, value in where.items():
        tensor.external_data.add(key=key, value=value)
    return tensor


def test_external_data_in_the_folder_is_read_at_its_offset(read, tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "w.bin").write_bytes(b"\0" * 12 + W.tobytes())
    (tmp_path / "link.bin").symlink_to("sub/w.bin")
    for place in ("sub/w.bin", "./sub/w.bin", "link.bin"):
        reading = read(
            model([conv("w")], [external("w", W.shape, location=place, offset="12", length="144")])
        )
        np.testing.assert_array_equal(reading.layers[0].weight, W[:, 0])
        assert any(place in note and "SHA-256" in note for note in reading.notes)


@pytest.mark.parametrize(
    "place", ["../w.bin", "sub/../../w.bin", "/etc/passwd", "", ".", "sub", "..\\w.bin", "C:\\w.bin", "w\0.bin",
              "gone.bin", "out.bin", "pipe", "a" * 5000, "loop"]
)  # fmt: skip
def test_external_data_elsewhere_is_refused(tmp_path, place):
    (tmp_path / "w.bin").write_bytes(W.tobytes())
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    (folder / "out.bin").symlink_to(tmp_path / "w.bin")
    (folder / "loop").symlink_to("loop")
    os.mkfifo(folder / "pipe")
    path = folder / "m.onnx"
    path.write_bytes(model([conv("w")], [external("w", W.shape, location=place)]).SerializeToString())
    with pytest.raises(SourceError):
        read_onnx(path, "")


def test_external_data_is_refused_by_the_form_of_its_path_too(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "w.bin").write_bytes(W.tobytes())
    path = tmp_path / "m.onnx"
    for place in ("sub/../w.bin", str(tmp_path / "w.bin")):  # both lead to a file of the folder
        path.write_bytes(model([conv("w")], [external("w", W.shape, location=place)]).SerializeToString())
        with pytest.raises(SourceError, match="outside its folder"):
            read_onnx(path, "")


@pytest.mark.parametrize("where", [{"offset": "1"}, {"offset": "-4"}, {"length": "143"}, {"length": "9" * 30},
                                   {"offset": "9" * 18}, {"offset": "one"}])  # fmt: skip
def test_external_sizes_are_checked(read, tmp_path, where):
    (tmp_path / "w.bin").write_bytes(W.tobytes())
    with pytest.raises(SourceError):
        read(model([conv("w")], [external("w", W.shape, location="w.bin", **where)]))


# Damage


def lying(**change: Any) -> Any:
    tensor = stored("w", W)
    for key, value in change.items():
        tensor.ClearField(key)
        getattr(tensor, key).extend(value) if isinstance(value, list) else setattr(tensor, key, value)
    return model([conv("w")], [tensor])


@pytest.mark.parametrize(
    "proto",
    [
        b"\x08", b"no model at all" * 20, b"\x12" * 4096, model([], []).SerializeToString(),
        lying(dims=[C, 1, 3, 4]), lying(dims=[C, 1, 3, 1 << 60]), lying(dims=[-C, 1, -3, 3]),
        lying(raw_data=b"\0" * 143),
        lying(data_type=TensorProto.FLOAT16), lying(dims=[2, 1, 6, 3]), lying(dims=[0, 1, 3, 3], raw_data=b""),
        model([conv("w", kernel_shape=[5, 5])], [stored("w", W)]), model([conv("w", strides=[0, 1])], [stored("w", W)]),
        model([conv("w", strides=[1])], [stored("w", W)]), model([conv("w", dilations=[1, 1 << 40])], [stored("w", W)]),
        model([conv("w", group=-4)], [stored("w", W)]),
        model([conv("w", bias="b")], [stored("w", W), stored("b", ONE)]),
        model([helper.make_node("Transpose", ["t"], ["w"], perm=[0, 1, 2, 2]), conv("w")], [stored("t", W)]),
        model([helper.make_node("Reshape", ["t", "s"], ["w"]), conv("w")],
              [stored("t", W), stored("s", np.array([C, 1, 3, 4]))]),
        model([helper.make_node("Reshape", ["t"], ["w"]), conv("w")], [stored("t", W)]),
        model([helper.make_node("DequantizeLinear", ["q", "s"], ["w"], axis=0), conv("w")],
              [stored("q", W.astype(np.int8)), stored("s", np.ones(3, np.float32))]),
    ],
)  # fmt: skip
def test_damage_is_one_sentence(read, proto):
    with pytest.raises(SourceError) as caught:
        read(proto)
    assert str(caught.value).count("\n") == 0 and "m.onnx" in str(caught.value)


def test_sparse_tensors_that_claim_much_are_not_allocated(read):
    for dims, at in (([C, 1, 1 << 20, 1 << 20], 0), ([C, 1, 3, 3], 36), ([C, 1, 3, 3], -1)):
        sparse = helper.make_sparse_tensor(stored("w", ONE), stored("", np.array([at])), [C, 1, 3, 3])
        sparse.ClearField("dims")
        sparse.dims.extend(dims)
        with pytest.raises(SourceError, match="sparse"):
            read(model([conv("w")], sparse=[sparse]))


def test_types_that_no_weights_have_are_listed(read):
    tensor = helper.make_tensor("w", TensorProto.FLOAT8E4M3FN, W.shape, W.reshape(-1))
    reading = read(model([conv("w")], [tensor]))
    assert not reading.layers and list(reading.skipped) == ["weights of ONNX type 17"]


def test_missing_package_names_the_remedy(read, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(MkfaError, match=r"pip install 'mkfa\[onnx\]'"):
        read(model([conv("w")], [stored("w", W)]))


def test_overflow_to_float32_becomes_infinite_and_is_refused(tmp_path):
    path = tmp_path / "m.onnx"
    nodes = [helper.make_node("Cast", ["d"], ["w"], to=F), conv("w")]
    path.write_bytes(model(nodes, [stored("d", np.full(W.shape, 1e300))]).SerializeToString())
    with pytest.raises(SourceError, match="infinite"):
        harvest(str(path))


def whole_model() -> bytes:
    """A small model with most of what the reader knows, to be damaged."""
    nodes, tensors = blocks()
    extra = [conv("v", x="y", y="z", bias="b"), helper.make_node("Relu", ["z"], ["r"]),
             helper.make_node("If", ["flag"], ["i"], then_branch=branch("t", "own", [stored("own", W)]),
                              else_branch=branch("e", "v"))]  # fmt: skip
    sparse = helper.make_sparse_tensor(stored("sp", ONE), stored("", np.array([3])), [C, 1, 3, 3])
    more = [stored("v", W), stored("b", np.ones(C, np.float32)), stored("flag", np.array(True))]
    return model([*nodes, conv("w"), *extra, conv("sp", x="r", y="k")], [*tensors, *more],
                 sparse=[sparse]).SerializeToString()  # fmt: skip


WHOLE = whole_model()


def test_the_model_to_damage_is_read_whole(read):
    assert [layer.key for layer in read(WHOLE).layers] == ["q", "v", "own", "sp"]


def test_large_tensors_are_taken_out_before_the_rest_is_parsed(read, monkeypatch):
    large, small = RNG.standard_normal((256, 256, 1, 1)).astype(np.float32), taps()
    deep = RNG.standard_normal((512, 1, 7, 7)).astype(np.float32)
    half = deep.astype(np.float16)
    nodes = [conv("large", y="a", group=1), conv("small", y="b"), conv("deep", y="c", group=512),
             helper.make_node("Cast", ["half"], ["h"], to=F), conv("h", y="d", group=256)]  # fmt: skip
    tensors = [stored(n, a) for n, a in (("large", large), ("deep", deep), ("small", small))]
    tensors.append(helper.make_tensor("half", TensorProto.FLOAT16, half.shape, half.tobytes(), raw=True))
    data = model(nodes, tensors).SerializeToString()
    trimmed = onnx_wire.trim(data)
    assert set(trimmed.spans) == {"large", "deep"}
    assert len(trimmed.message()) < len(data) - large.nbytes - deep.nbytes + 16
    for kept in (1 << 16, 1 << 30, 8):
        monkeypatch.setattr(onnx_wire, "KEPT", kept)
        first, second, third = read(data).layers
        np.testing.assert_array_equal(first.weight, small[:, 0])
        np.testing.assert_array_equal(second.weight, deep[:, 0])
        np.testing.assert_array_equal(third.weight, half[:, 0].astype(np.float32))
        assert third.multiplier == 2


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
