"""Weights of ONNX models that operators compute from constants, against the reference evaluator."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import helper, numpy_helper
from onnx_models import C, F, W, constant, conv, impulse, model, reader, stored, taps

from mkfa.errors import SourceError
from mkfa.readers.reading import Why

node = helper.make_node
OTHER = taps()


@pytest.fixture
def read(tmp_path):
    return reader(tmp_path)


def whole(name: str, *numbers: int) -> Any:
    return stored(name, np.array(numbers, np.int64))


def standardised() -> list[Any]:
    """Weight standardisation, as PyTorch's exporters write it."""
    return [
        node("ReduceMean", ["a", "axes"], ["mean"]),
        node("Sub", ["a", "mean"], ["centred"]),
        node("Mul", ["centred", "centred"], ["squared"]),
        node("ReduceMean", ["squared", "axes"], ["var"]),
        node("Add", ["var", "eps"], ["shifted"]),
        node("Sqrt", ["shifted"], ["std"]),
        node("Div", ["centred", "std"], ["w"]),
    ]


ROWS = W.reshape(C, 9)
FORMS: dict[str, tuple[list[Any], list[Any]]] = {
    "slice": (
        [node("Slice", ["a", "s", "e", "d"], ["w"])],
        [stored("a", np.concatenate([OTHER, W])), whole("s", C), whole("e", 2**63 - 1), whole("d", 0)],
    ),
    "flipped": (
        [node("Slice", ["a", "s", "e", "d", "t"], ["w"])],
        [stored("a", W), whole("s", -1, -1), whole("e", -(2**63), -4), whole("d", 2, -1), whole("t", -1, -1)],
    ),
    "strided slice": (
        [node("Slice", ["a", "s", "e", "d", "t"], ["w"])],
        [
            stored("a", np.stack([W, OTHER], 1).reshape(2 * C, 1, 3, 3)),
            whole("s", 0),
            whole("e", 99),
            whole("d", 0),
            whole("t", 2),
        ],
    ),
    "split": (
        [node("Split", ["a", "n"], ["v", "w"], axis=-4)],
        [stored("a", np.concatenate([OTHER[:3], W])), whole("n", 3, C)],
    ),
    "split evenly": ([node("Split", ["a"], ["v", "w"], num_outputs=2)], [stored("a", np.concatenate([OTHER, W]))]),
    "concat": ([node("Concat", ["a", "b"], ["w"], axis=0)], [stored("a", W[:1]), stored("b", W[1:])]),
    "gather one": (
        [node("Gather", ["a", "i"], ["w"])],
        [stored("a", np.stack([OTHER, W])), numpy_helper.from_array(np.array(-1), "i")],
    ),
    "gather rows": ([node("Gather", ["a", "i"], ["w"], axis=3)], [stored("a", W[..., [2, 0, 1]]), whole("i", 1, 2, 0)]),
    "pad": ([node("Pad", ["a", "p", "", "d"], ["w"])], [stored("a", W[..., 1:2, :]), whole("p", 1, 1), whole("d", 2)]),
    "pad with a number": (
        [node("Pad", ["a", "p", "k"], ["w"])],
        [stored("a", W[..., :2]), whole("p", *[0] * 7, 1), stored("k", np.float32(2))],
    ),
    "pad by the edge": (
        [node("Pad", ["a", "p"], ["w"], mode="edge")],
        [stored("a", W[..., :2]), whole("p", 0, 0, 0, 1, 0, 0, 0, 0)],
    ),
    "expand": ([node("Expand", ["a", "t"], ["w"])], [stored("a", W[:1, :, :1]), whole("t", C, 1, 3, 1)]),
    "tile": ([node("Tile", ["a", "t"], ["w"])], [stored("a", W[:1]), whole("t", C, 1, 1, 1)]),
    "filled": (
        [node("ConstantOfShape", ["t"], ["w"], value=stored("v", np.array([0.5], np.float32)))],
        [whole("t", C, 1, 3, 3)],
    ),
    "shape of another": (
        [node("Shape", ["b"], ["t"]), node("Reshape", ["a", "t"], ["w"])],
        [stored("a", ROWS), stored("b", OTHER)],
    ),
    "a shape put together": (
        [
            node("Shape", ["b"], ["t"], start=0, end=1),
            constant("k", value_ints=[3, 3]),
            constant("one", value_int=1),
            constant("zero", value_ints=[0]),
            node("Unsqueeze", ["one", "zero"], ["o"]),
            node("Concat", ["t", "o", "k"], ["s"], axis=0),
            node("Reshape", ["a", "s"], ["w"]),
        ],
        [stored("a", ROWS), stored("b", OTHER)],
    ),
    "halved by whole numbers": (
        [node("Div", ["n", "two"], ["t"]), node("Reshape", ["a", "t"], ["w"])],
        [stored("a", ROWS), whole("n", 2 * C + 1, 3, 7, -3), whole("two", 2, 2, 2, 2)],
    ),
    "standardised": (standardised(), [stored("a", W), whole("axes", 1, 2, 3), stored("eps", np.float32(1e-6))]),
    "weight norm": (
        [node("ReduceL2", ["a", "axes"], ["l"]), node("Div", ["a", "l"], ["u"]), node("Mul", ["u", "g"], ["w"])],
        [
            stored("a", W),
            whole("axes", 1, 2, 3),
            stored("g", np.arange(1.0, C + 1, dtype=np.float32).reshape(C, 1, 1, 1)),
        ],
    ),
    "masked by a choice": (
        [node("Greater", ["b", "z"], ["m"]), node("Where", ["m", "a", "z"], ["w"])],
        [stored("a", W), stored("b", OTHER), stored("z", np.zeros(1, np.float32))],
    ),
    "stored mask": (
        [node("Cast", ["m"], ["f"], to=F), node("Mul", ["a", "f"], ["w"])],
        [stored("a", W), stored("m", OTHER > 0)],
    ),
    "sum of branches": ([node("Sum", ["a", "b", "a"], ["w"])], [stored("a", W), stored("b", OTHER)]),
    "clipped": ([node("Clip", ["a", "", "k"], ["w"])], [stored("a", W), stored("k", np.float32(0.5))]),
    "two factors": (
        [node("MatMul", ["a", "b"], ["p"]), node("Reshape", ["p", "t"], ["w"])],
        [stored("a", W[:, 0, :2, 0]), stored("b", ROWS[:2]), whole("t", C, 1, 3, 3)],
    ),
    "like another": (
        [node("CastLike", ["a", "b"], ["w"])],
        [stored("a", W.astype(np.float16)), stored("b", OTHER[:1])],
    ),
    "rounded and scaled": (
        [node("Round", ["a"], ["r"]), node("Neg", ["r"], ["n"]), node("Mul", ["n", "k"], ["w"])],
        [stored("a", W), stored("k", np.float32(0.25))],
    ),
    "a window": (
        [
            node("Range", ["zero", "three", "one"], ["r"]),
            node("Cast", ["r"], ["f"], to=F),
            node("Exp", ["f"], ["e"]),
            node("Mul", ["a", "e"], ["w"]),
        ],
        [
            stored("a", W),
            *(numpy_helper.from_array(np.array(n), name) for n, name in ((0, "zero"), (1, "one"), (3, "three"))),
        ],
    ),
    "flattened": (
        [node("Flatten", ["a"], ["f"], axis=2), node("Reshape", ["f", "t"], ["w"])],
        [stored("a", W), whole("t", C, 1, 3, 3)],
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_weights_computed_from_constants_are_what_the_evaluator_computes(read, form):
    nodes, tensors = FORMS[form]
    proto = model([*nodes, conv("w")], tensors)
    (layer,) = read(proto).layers
    np.testing.assert_allclose(layer.weight, impulse(proto), rtol=1e-6, atol=1e-6)


def test_parts_of_one_tensor_are_layers_of_their_own(read):
    """Names must differ in a bank; the place in a stack names a slice of it."""
    stack = [taps() for _ in range(3)]
    nodes = [
        node("Split", ["a", "n"], ["first", "second"]),
        node("Gather", ["s", "i"], ["g"]),
        conv("first", y="y1"),
        conv("second", x="y1", y="y2"),
        conv("g", x="y2"),
    ]
    tensors = [stored("a", np.concatenate(stack[:2])), whole("n", C, C), stored("s", np.stack(stack))]
    reading = read(model(nodes, [*tensors, numpy_helper.from_array(np.array(2), "i")]))
    assert [layer.key for layer in reading.layers] == ["first", "second", "s[2]"]
    for layer, weight in zip(reading.layers, stack, strict=True):
        np.testing.assert_array_equal(layer.weight, weight[:, 0])


def test_a_mask_gives_a_weight_no_name(read):
    nodes = [node("Where", ["mask", "a", "z"], ["w"]), conv("w")]
    tensors = [stored("mask", OTHER > 0), stored("a", W), stored("z", np.zeros(1, np.float32))]
    (layer,) = read(model(nodes, tensors)).layers
    assert (layer.key, layer.dtype) == ("a", "float32")
    np.testing.assert_array_equal(layer.weight, np.where(OTHER > 0, W, 0)[:, 0])


def test_weights_that_a_function_computes(read):
    """Each call has weights of its own, although the body is one."""
    made = helper.make_function(
        "own", "Doubled", ["v"], ["v2"], [node("Add", ["v", "v"], ["v2"])], [helper.make_opsetid("", 21)]
    )
    block = helper.make_function(
        "own",
        "Block",
        ["bx", "bw"],
        ["by"],
        [node("Neg", ["bw"], ["nw"]), conv("nw", x="bx", y="by")],
        [helper.make_opsetid("", 21)],
    )
    nodes = [
        node("Doubled", ["a"], ["w"], domain="own"),
        conv("w", y="y1"),
        node("Block", ["y1", "a"], ["y2"], domain="own"),
        node("Block", ["y2", "b"], ["y"], domain="own"),
    ]
    reading = read(model(nodes, [stored("a", W), stored("b", OTHER)], functions=[made, block]))
    for layer, weight in zip(reading.layers, [2 * W, -W, -OTHER], strict=True):
        np.testing.assert_array_equal(layer.weight, weight[:, 0])


@pytest.mark.parametrize(
    ("nodes", "why"),
    [
        ([node("Einsum", ["a"], ["w"], equation="oihw->oihw")], "weights computed from constants by Einsum"),
        ([node("Pad", ["a", "p"], ["w"], mode="reflect")], "weights computed from constants by Pad of mode reflect"),
        ([node("Cast", ["a"], ["w"], to=17)], "weights computed from constants by Cast to type 17"),
        ([node("Mul", ["a", "x"], ["w"])], Why.RUN_TIME),
        ([node("GlobalAveragePool", ["x"], ["q"]), node("Einsum", ["a", "q"], ["w"], equation="")], Why.RUN_TIME),
        ([node("RandomNormal", [], ["w"], shape=[C, 1, 3, 3])], Why.RUN_TIME),
    ],
)
def test_what_is_not_computed_is_said(read, nodes, why):
    reading = read(model([*nodes, conv("w")], [stored("a", W), whole("p", *[0] * 8)]))
    (reason,) = reading.skipped
    assert not reading.layers and reason.startswith(why)


@pytest.mark.parametrize(
    ("nodes", "numbers"),
    [
        ([node("ConstantOfShape", ["t"], ["w"])], [1 << 30, 1, 3, 3]),
        ([node("Expand", ["a", "t"], ["w"])], [1 << 20, C, 1, 3, 3]),
        ([node("Tile", ["a", "t"], ["w"])], [1 << 40, 1, 1, 1]),
        ([node("Pad", ["a", "t"], ["w"])], [0, 0, 0, 0, 1 << 40, 0, 0, 0]),
        ([node("Gather", ["a", "k"], ["g"]), *[node("Concat", ["g"] * 500, ["w"], axis=0)]], [0]),
    ],
)
def test_small_files_that_ask_for_much_are_refused(read, nodes, numbers):
    """The large result is never made: what it would take is charged first."""
    many = [stored("k", np.zeros(16_000, np.int64))]
    with pytest.raises(SourceError, match="bytes"):
        read(model([*nodes, conv("w")], [stored("a", W), whole("t", *numbers), *many]))


@pytest.mark.parametrize(
    "nodes",
    [
        [node("Slice", ["a", "t"], ["w"])],
        [node("Split", ["a", "t"], ["v", "w"])],
        [node("Concat", ["a", "t"], ["w"], axis=7)],
        [node("Gather", ["a", "t"], ["w"])],
        [node("Pad", ["a", "t"], ["w"])],
        [node("Expand", ["a", "t"], ["w"])],
        [node("Tile", ["a", "t"], ["w"])],
        [node("ConstantOfShape", ["m"], ["w"])],
        [node("Where", ["a", "t"], ["w"])],
        [node("Add", ["a", "t"], ["w"])],
        [node("MatMul", ["a", "t"], ["w"])],
        [node("ReduceMean", ["a", "t"], ["w"])],
    ],
)
def test_operands_that_do_not_fit_are_damage(read, nodes):
    with pytest.raises(SourceError, match="damaged"):
        read(model([*nodes, conv("w")], [stored("a", W), whole("t", 99, 98), whole("m", -1)]))


@pytest.mark.parametrize(
    ("op", "operands"), [("ReduceMean", ["none"]), ("Expand", ["deep", "t"]), ("Add", ["deep", "a"])]
)
def test_no_values_and_many_axes_are_damage(read, op, operands):
    """NumPy warns of a mean of nothing, and does not broadcast beyond 32 axes."""
    tensors = [stored("none", np.zeros((0, 3), np.float32)), stored("a", W), whole("t", C, 1, 3, 3)]
    nodes = [constant("axes", value_ints=list(range(44))), node("Unsqueeze", ["a", "axes"], ["deep"])]
    with pytest.raises(SourceError, match="damaged"):
        read(model([*nodes, node(op, operands, ["w"]), conv("w")], tensors))
