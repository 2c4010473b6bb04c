"""Bodies of functions, If, Loop and Scan: blocks of the batch and weights that enter and leave them."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator
from onnx_models import C, F, W, conv, model, reader, stored, taps

from mkfa.banks.bank import UNKNOWN
from mkfa.readers.reading import Why

SWAP = [1, 0, 2, 3]
OPSETS = [helper.make_opsetid("", 21), helper.make_opsetid("own", 1)]


@pytest.fixture
def read(tmp_path):
    return reader(tmp_path)


def to_batch(x, y, block=2):
    """Space-to-batch of an image whose batch is 1, as tf2onnx writes it."""
    return [
        helper.make_node("Transpose", [x], [f"{y}1"], perm=SWAP),
        helper.make_node("SpaceToDepth", [f"{y}1"], [f"{y}2"], blocksize=block),
        helper.make_node("Transpose", [f"{y}2"], [y], perm=SWAP),
    ]


def to_space(x, y, block=2):
    return [
        helper.make_node("Transpose", [x], [f"{y}1"], perm=SWAP),
        helper.make_node("DepthToSpace", [f"{y}1"], [f"{y}2"], blocksize=block),
        helper.make_node("Transpose", [f"{y}2"], [y], perm=SWAP),
    ]


def padded(weight, x, y):
    return conv(weight, x=x, y=y, pads=[1] * 4)


def graph(nodes, inputs=(), outputs=("o",), tensors=()):
    def value(name):
        kind = {"i": TensorProto.INT64, "go": TensorProto.BOOL, "on": TensorProto.BOOL}.get(name, F)
        return helper.make_tensor_value_info(name, kind, [] if kind != F else None)

    return helper.make_graph(nodes, "body", [*map(value, inputs)], [*map(value, outputs)], list(tensors))


def function(name, inputs, outputs, nodes):
    return helper.make_function("own", name, inputs, outputs, nodes, OPSETS)


def spacings(proto):
    """Return the distances of taps, (down, across), that the reference evaluator shows, from an impulse."""
    x = np.zeros((1, C, 16, 16), np.float32)
    x[:, :, 8, 8] = 1
    (y,) = ReferenceEvaluator(proto).run(None, {"x": x})
    places = np.argwhere(np.abs(np.asarray(y)[0]).max(0)).T
    return tuple(int(np.diff(np.unique(axis)).max()) for axis in places)


def dilations(reading):
    return [layer.dilation for layer in reading.layers]


FLAGS = [stored("flag", np.array(True)), stored("n", np.array(1)), stored("w", W)]


def around(*middle):
    """Blocks, what is given (from "a" to "b"), and no blocks any more."""
    return [*to_batch("x", "a"), *middle, *to_space("b", "y")]


def in_function():
    block = function("Block", ["fx", "fw"], ["fy"], [padded("fw", "fx", "fy")])
    outer = function("Outer", ["ox", "ow"], ["oy"], [helper.make_node("Block", ["ox", "ow"], ["oy"], domain="own")])
    return around(helper.make_node("Outer", ["a", "w"], ["b"], domain="own")), [block, outer]


def in_if():
    then = graph([padded("w", "a", "o")])
    other = graph([helper.make_node("Relu", ["a"], ["c"]), padded("w", "c", "o")])
    return around(helper.make_node("If", ["flag"], ["b"], then_branch=then, else_branch=other)), []


def in_loop():
    body = graph([padded("w", "c", "o"), helper.make_node("Identity", ["go"], ["on"])], ["i", "go", "c"], ["on", "o"])
    return around(helper.make_node("Loop", ["n", "flag", "a"], ["b"], body=body)), []


def in_scan():
    body = graph([padded("v", "c", "o"), helper.make_node("Identity", ["t"], ["u"])], ["c", "t"], ["o", "u"])
    node = helper.make_node("Scan", ["a", "one"], ["b", "q"], body=body, num_scan_inputs=1)
    return [helper.make_node("Identity", ["w"], ["v"]), *around(node)], []


def made_by_functions():
    """The blocks are made by one function and undone by another, as converters write SpaceToBatchND."""
    there = function("There", ["p"], ["q"], to_batch("p", "q"))
    back = function("Back", ["r"], ["s"], to_space("r", "s"))
    nodes = [helper.make_node("There", ["x"], ["a"], domain="own"), padded("w", "a", "b")]
    return [*nodes, helper.make_node("Back", ["b"], ["y"], domain="own")], [there, back]


def made_in_branches():
    node = helper.make_node(
        "If", ["flag"], ["a"], then_branch=graph(to_batch("x", "o")), else_branch=graph(to_batch("x", "o"))
    )
    return [node, padded("w", "a", "b"), *to_space("b", "y")], []


@pytest.mark.parametrize("net", [in_function, in_if, in_loop, in_scan, made_by_functions, made_in_branches])
def test_blocks_enter_and_leave_bodies(read, net):
    nodes, functions = net()
    after = [*nodes, padded("last", "y", "z")]
    tensors = [*FLAGS, stored("last", taps()), stored("one", np.zeros((1, 1), np.float32))]
    assert spacings(model(nodes, tensors, functions=functions)) == (2, 2)
    reading = read(model(after, tensors, functions=functions, outputs=["z"]))
    assert [layer.key for layer in reading.layers] == ["w", "last"]
    assert dilations(reading) == [(2, 2), (1, 1)]


def test_a_function_without_blocks_keeps_its_dilation(read):
    block = function("Block", ["fx", "fw"], ["fy"], [padded("fw", "fx", "fy")])
    nodes = [
        helper.make_node("Block", ["x", "v"], ["d"], domain="own"),
        *to_batch("d", "a", 4),
        helper.make_node("Block", ["a", "w"], ["y"], domain="own"),
    ]
    assert dilations(read(model(nodes, [*FLAGS, stored("v", taps())], functions=[block]))) == [(1, 1), (4, 4)]


def test_branches_that_disagree_make_the_dilation_unknown(read):
    same = graph([helper.make_node("Identity", ["x"], ["o"])])
    node = helper.make_node("If", ["flag"], ["a"], then_branch=graph(to_batch("x", "o")), else_branch=same)
    nodes = [node, conv("w", x="a", y="b"), *to_space("b", "c"), conv("v", x="c", y="y")]
    assert dilations(read(model(nodes, [*FLAGS, stored("v", taps())]))) == [(UNKNOWN, UNKNOWN)] * 2


def test_a_loop_that_halves_the_image_each_time_has_no_one_dilation(read):
    body = graph(
        [padded("w", "c", "d"), *to_batch("d", "o"), helper.make_node("Identity", ["go"], ["on"])],
        ["i", "go", "c"],
        ["on", "o"],
    )
    nodes = [helper.make_node("Loop", ["n", "flag", "x"], ["b"], body=body), conv("v", x="b", y="y")]
    assert dilations(read(model(nodes, [*FLAGS, stored("v", taps())]))) == [(UNKNOWN, UNKNOWN)] * 2


# Weights


@pytest.mark.parametrize("kind", ["Loop", "Scan"])
@pytest.mark.parametrize("named", [False, True])
def test_weights_that_a_loop_carries_unchanged_are_found(read, kind, named):
    """Exporters pass what a body captures as values that it returns as they are."""
    end = [helper.make_node("Identity", ["k"], ["k2"])] if named else []
    back = "k2" if named else "k"
    if kind == "Loop":
        nodes = [padded("k", "c", "o"), *end, helper.make_node("Identity", ["go"], ["on"])]
        body = graph(nodes, ["i", "go", "c", "k"], ["on", "o", back])
        node = helper.make_node("Loop", ["n", "flag", "x", "w"], ["y", "same"], body=body)
    else:
        body = graph([padded("k", "c", "o"), *end], ["c", "k", "t"], ["o", back])
        node = helper.make_node("Scan", ["x", "w", "one"], ["y", "same"], body=body, num_scan_inputs=1)
    reading = read(model([node], [*FLAGS, stored("one", np.zeros((1, 1), np.float32))]))
    assert [layer.key for layer in reading.layers] == ["w"]
    np.testing.assert_array_equal(reading.layers[0].weight, W[:, 0])


def test_weights_that_a_loop_changes_are_not_taken(read):
    body = graph(
        [padded("k", "c", "o"), helper.make_node("Neg", ["k"], ["k2"]), helper.make_node("Identity", ["go"], ["on"])],
        ["i", "go", "c", "k"],
        ["on", "o", "k2"],
    )
    reading = read(model([helper.make_node("Loop", ["n", "flag", "x", "w"], ["y", "k3"], body=body)], FLAGS))
    assert not reading.layers and reading.skipped == {Why.LOOP: 1}


def counting(go, *, count=3, flag=True):
    """A loop whose step i convolves with the i-th of three weights."""
    nodes = [helper.make_node("Gather", ["stack", "i"], ["k"]), padded("k", "c", "o"), *go]
    body = graph(nodes, ["i", "go", "c"], ["on", "o"])
    weights = [taps() for _ in range(3)]
    tensors = [stored("n", np.array(count)), stored("flag", np.array(flag)), stored("stack", np.stack(weights))]
    return weights, model([helper.make_node("Loop", ["n", "flag", "x"], ["y"], body=body)], tensors)


KEEP_GOING = [helper.make_node("Cast", ["go"], ["on"], to=TensorProto.BOOL)]


def test_a_loops_counter_chooses_the_weights_of_each_step(read):
    weights, proto = counting(KEEP_GOING)
    reading = read(proto)
    assert [layer.key for layer in reading.layers] == ["stack[0]", "stack[1]", "stack[2]"]
    for layer, weight in zip(reading.layers, weights, strict=True):
        np.testing.assert_array_equal(layer.weight, weight[:, 0])
    x = np.random.default_rng(0).normal(size=(1, C, 9, 9)).astype(np.float32)
    plain = [padded(f"w{i}", f"v{i}", f"v{i + 1}") for i in range(3)]
    plain[0].input[0], plain[2].output[0] = "x", "y"
    expected = model(plain, [stored(f"w{i}", weight) for i, weight in enumerate(weights)])
    got, right = (ReferenceEvaluator(each).run(["y"], {"x": x})[0] for each in (proto, expected))
    np.testing.assert_allclose(got, right, rtol=1e-4, atol=1e-3)


def test_a_loop_whose_steps_are_not_stated_is_said(read):
    ends = [helper.make_node("ReduceMax", ["o"], ["m"], keepdims=0), helper.make_node("Cast", ["m"], ["on"], to=9)]
    for _, proto in (counting(ends), counting(KEEP_GOING, flag=False)):
        reading = read(proto)
        assert not reading.layers and reading.skipped == {Why.LOOP: 1}


def test_a_counter_that_no_weight_asks_for_unrolls_nothing(read):
    nodes = [helper.make_node("Cast", ["i"], ["f"], to=F), helper.make_node("Add", ["c", "f"], ["d"])]
    body = graph([*nodes, padded("w", "d", "o"), *KEEP_GOING], ["i", "go", "c"], ["on", "o"])
    tensors = [stored("n", np.array(1000)), stored("flag", np.array(True)), stored("w", W)]
    reading = read(model([helper.make_node("Loop", ["n", "flag", "x"], ["y"], body=body)], tensors))
    assert [layer.key for layer in reading.layers] == ["w"] and not reading.skipped


@pytest.mark.parametrize(("axis", "backwards"), [(0, False), (0, True), (2, False), (-1, False)])
def test_each_step_of_a_scan_has_its_slice_of_the_weights(read, axis, backwards):
    weights = [taps() for _ in range(3)]
    body = graph([padded("k", "c", "o"), helper.make_node("Identity", ["o"], ["p"])], ["c", "k"], ["o", "p"])
    node = helper.make_node(
        "Scan",
        ["x", "stack"],
        ["y", "q"],
        body=body,
        num_scan_inputs=1,
        scan_input_axes=[axis],
        scan_input_directions=[int(backwards)],
    )
    tensors = [stored("stack", np.stack(weights, axis))]
    proto = model([node], tensors)
    order = weights[::-1] if backwards else weights
    if axis == 0 and not backwards:  # the reference evaluator knows no others
        x = np.random.default_rng(0).normal(size=(1, C, 9, 9)).astype(np.float32)
        one_by_one = [padded(f"w{i}", f"v{i}", f"v{i + 1}") for i in range(3)]
        one_by_one[0].input[0], one_by_one[2].output[0] = "x", "y"
        plain = model(one_by_one, [stored(f"w{i}", weight) for i, weight in enumerate(order)])
        expected, got = (ReferenceEvaluator(each).run(["y"], {"x": x})[0] for each in (plain, proto))
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-3)
    reading = read(proto)
    assert [layer.key for layer in reading.layers] == [f"stack[{i}]" for i in ([2, 1, 0] if backwards else [0, 1, 2])]
    for layer, weight in zip(reading.layers, order, strict=True):
        np.testing.assert_array_equal(layer.weight, weight[:, 0])


def test_the_older_form_of_scan_is_left_alone(read):
    body = graph([padded("k", "c", "o")], ["c", "k"], ["o"])
    node = helper.make_node("Scan", ["", "x", "stack"], ["y"], body=body, num_scan_inputs=1)
    reading = read(model([node], [stored("stack", np.stack([W, W])[None])], opset=8))
    assert not reading.layers and reading.skipped == {Why.OLD_SCAN: 1}


def test_a_whole_network_in_a_scan_of_pytorch(read):
    """Weights within the body of one form are found whatever encloses it."""
    inner = graph([padded("own", "c", "o")], ["c", "t"], ["o"], [stored("own", W)])
    scan = helper.make_node("Scan", ["a", "one"], ["o"], body=inner, num_scan_inputs=1)
    then = graph([*to_batch("x", "a"), scan])
    node = helper.make_node("If", ["flag"], ["b"], then_branch=then, else_branch=then)
    nodes = [node, *to_space("b", "y")]
    reading = read(model(nodes, [*FLAGS, stored("one", np.zeros((1, 1), np.float32))]))
    assert dilations(reading) == [(2, 2)] * 2  # each branch has weights of its own
    assert all(isinstance(proto, onnx.GraphProto) for proto in (inner, then))
