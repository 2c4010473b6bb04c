"""Walking an ONNX graph: branches, loops, functions, order of execution, and what lies behind a convolution."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx_models import C, F, W, branch, constant, conv, model, reader, stored, taps

from mkfa.errors import SourceError
from mkfa.readers.reading import Reading, Why


@pytest.fixture
def read(tmp_path: Path) -> Callable[[Any], Reading]:
    return reader(tmp_path)


def test_branches_and_loops_are_walked_in_order_and_shared_weights_counted_once(read):
    first, inner, last = taps(), taps(), taps()
    body = helper.make_graph(
        [conv("inner", x="carried", y="out"), helper.make_node("Identity", ["go"], ["go_on"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("carried", F, None),
        ],
        [helper.make_tensor_value_info("go_on", TensorProto.BOOL, []), helper.make_tensor_value_info("out", F, None)],
        [stored("inner", inner)],
    )
    nodes = [
        conv("first", y="a"),
        helper.make_node(
            "If", ["flag"], ["b"], then_branch=branch("t", "own", [stored("own", W)]), else_branch=branch("e", "first")
        ),
        helper.make_node("Loop", ["n", "flag", "b"], ["c"], body=body),
        conv("last", x="c", y="y"),
    ]
    tensors = [stored("first", first), stored("last", last), stored("flag", np.array(True)), stored("n", np.array(2))]
    reading = read(model(nodes, tensors))
    assert [layer.key for layer in reading.layers] == ["first", "own", "inner", "last"]
    np.testing.assert_array_equal(reading.layers[2].weight, inner[:, 0])
    assert reading.skipped == {Why.SHARED: 1}


def test_weights_given_to_a_loop_body_are_known_at_run_time_only(read):
    body = helper.make_graph(
        [conv("w", x="x", y="out")],
        "body",
        [helper.make_tensor_value_info("w", F, None)],
        [helper.make_tensor_value_info("out", F, None)],
    )
    # the outer graph has a tensor of the same name, which the body's input hides
    reading = read(model([helper.make_node("Scan", ["v"], ["y"], body=body, num_scan_inputs=1)], [stored("w", W)]))
    assert not reading.layers and reading.skipped == {Why.LOOP: 1}


def test_functions_are_unrolled_with_their_arguments(read):
    group = onnx.AttributeProto(name="group", ref_attr_name="g", type=onnx.AttributeProto.INT)
    steps = onnx.AttributeProto(name="strides", ref_attr_name="s", type=onnx.AttributeProto.INTS)
    inside = conv("fw", x="fx", y="fy")
    inside.ClearField("attribute")
    inside.attribute.extend([group, steps])
    hidden = [constant("k", value=stored("k", W)), conv("k", x="fy", y="fz")]
    block = helper.make_function(
        "own", "Block", ["fx", "fw"], ["fz"], [inside, *hidden], [helper.make_opsetid("", 21)], ["g", "s"]
    )
    outer = helper.make_function(
        "own",
        "Twice",
        ["tx", "ta", "tb"],
        ["tz"],
        [
            helper.make_node("Block", ["tx", "ta"], ["th"], domain="own", g=C, s=[2, 2]),
            helper.make_node("Block", ["th", "tb"], ["tz"], domain="own", g=C, s=[1, 3]),
        ],
        [helper.make_opsetid("", 21), helper.make_opsetid("own", 1)],
    )
    a, b = taps(), taps(2 * C, 5, 5)
    reading = read(
        model(
            [helper.make_node("Twice", ["x", "a", "b"], ["y"], domain="own")],
            [stored("a", a), stored("b", b)],
            functions=[block, outer],
        )
    )
    assert [(layer.key, layer.stride, layer.multiplier) for layer in reading.layers] == [
        ("a", (2, 2), 1),
        ("k", (1, 1), 1),
        ("b", (1, 3), 2),
    ]
    np.testing.assert_array_equal(reading.layers[2].weight, b[:, 0])
    assert reading.skipped == {Why.SHARED: 1}  # the constant in the function is one weight, used in both calls


def test_functions_that_unroll_without_bound_are_refused_soon(read):
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("own", 1)]
    doubling = [
        helper.make_function(
            "own",
            f"f{i}",
            ["a"],
            ["b"],
            [
                helper.make_node(f"f{i - 1}" if i else "Relu", ["a"], ["c"], domain="own" if i else ""),
                helper.make_node(f"f{i - 1}" if i else "Relu", ["c"], ["b"], domain="own" if i else ""),
            ],
            opsets,
        )
        for i in range(40)
    ]
    start = time.process_time()
    with pytest.raises(SourceError, match=r"without end|more than [\d,]+ steps"):
        read(model([helper.make_node("f39", ["x"], ["y"], domain="own")], functions=doubling))
    circle = helper.make_function("own", "f", ["a"], ["b"], [helper.make_node("f", ["a"], ["b"], domain="own")], opsets)
    with pytest.raises(SourceError, match="without end"):
        read(model([helper.make_node("f", ["x"], ["y"], domain="own")], functions=[circle]))
    assert time.process_time() - start < 20


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
    late = helper.make_node("If", ["flag"], ["y"], then_branch=branch("t", "w2"), else_branch=branch("e", "w2"))
    late.attribute[0].g.node[0].input[0] = "a"
    assert [layer.key for layer in read(model([late, conv("w1", y="a")], tensors)).layers] == ["w1", "w2"]


BN = [stored(name, np.ones(C, np.float32)) for name in ("g", "b0", "mean", "var")]
BN += [stored("space", np.array([2, 3])), stored("channel", np.array([1]))]


@pytest.mark.parametrize(
    ("behind", "bias", "folded"),
    [
        ([helper.make_node("Relu", ["c"], ["y"])], True, True),
        ([helper.make_node("Relu", ["c"], ["y"])], False, False),
        (
            [
                helper.make_node("BatchNormalization", ["c", "g", "b0", "mean", "var"], ["n"]),
                helper.make_node("Relu", ["n"], ["y"]),
            ],
            True,
            False,
        ),
        (
            [
                helper.make_node("Mul", ["c", "g"], ["m"]),
                helper.make_node("Add", ["m", "b0"], ["a"]),
                helper.make_node("HardSwish", ["a"], ["y"]),
            ],
            True,
            True,
        ),
        ([helper.make_node("Add", ["c", "x"], ["a"]), helper.make_node("Relu", ["a"], ["y"])], True, False),
        (
            [
                helper.make_node("Transpose", ["c"], ["t"]),
                helper.make_node("ReduceMean", ["t"], ["u"], axes=[-1]),
                helper.make_node("Sub", ["t", "u"], ["y"]),
            ],
            True,
            False,
        ),
        (
            [
                helper.make_node("Relu", ["c"], ["r"]),
                helper.make_node("BatchNormalization", ["r", "g", "b0", "mean", "var"], ["y"]),
            ],
            True,
            False,
        ),
        (
            [
                helper.make_node("ReduceMean", ["c", "space"], ["u"]),
                helper.make_node("Relu", ["u"], ["v"]),
                helper.make_node("Relu", ["c"], ["r"]),
                helper.make_node("Mul", ["r", "v"], ["y"]),
            ],
            True,
            True,
        ),
        (
            [helper.make_node("ReduceMean", ["c", "channel"], ["u"]), helper.make_node("Relu", ["c"], ["r"])],
            True,
            False,
        ),
        ([helper.make_node("Gelu", ["c"], ["y"])], True, False),
    ],
)
def test_folding_is_inferred_from_bias_and_activation(read, behind, bias, folded):
    first = conv("w", y="c", bias="b" if bias else "")
    (layer,) = read(model([first, *behind], [stored("w", W), stored("b", np.ones(C, np.float32)), *BN])).layers
    assert layer.bn_folded is folded


@pytest.mark.parametrize(("name", "folded"), [("onnx::Conv_541", True), ("blocks.0.weight", False)])
def test_a_name_that_the_exporter_gave_is_a_sign_of_folding(read, name, folded):
    (layer,) = read(model([conv(name, bias="b")], [stored(name, W), stored("b", np.ones(C, np.float32))])).layers
    assert layer.bn_folded is folded


def test_linear_layers_follow_the_rest_of_a_folded_network(read):
    bias = stored("b", np.ones(C, np.float32))
    tensors = [bias, *(stored(f"w{i}", taps()) for i in range(4)), *BN]
    nodes = [
        conv("w0", y="c0", bias="b"),
        helper.make_node("Relu", ["c0"], ["a0"]),
        conv("w1", x="a0", y="c1", bias="b"),
        helper.make_node("Clip", ["c1"], ["a1"]),
        conv("w2", x="a1", y="c2", bias="b"),
        helper.make_node("MaxPool", ["c2"], ["p2"], kernel_shape=[2, 2]),
        conv("w3", x="p2", y="c3"),
        helper.make_node("BatchNormalization", ["c3", "g", "b0", "mean", "var"], ["y"]),
    ]
    assert [layer.bn_folded for layer in read(model(nodes, tensors)).layers] == [True, True, True, False]
