"""Dilations that TensorFlow and its converters write as space-to-batch around a convolution."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper
from onnx.reference import ReferenceEvaluator
from onnx_models import RNG, C, W, conv, model, stored
from onnx_models import reader as onnx_reader
from tflite_models import KIND, OP, Op, T, build, depthwise, plain_conv, taps
from tflite_models import reader as tflite_reader

from mkfa.banks.bank import UNKNOWN


class Net:
    """A TFLite graph that grows by one operator after the other."""

    def __init__(self, side=16):
        self.tensors, self.operators = [], []
        self.x = self.add((1, side, side, 4))

    def add(self, shape, data=None, **facts):
        self.tensors.append(T(shape, data, **facts))
        return len(self.tensors) - 1

    def do(self, code, *more, options="", shape=(1, 16, 16, 4)):
        out = self.add(shape)
        self.operators.append(Op(code, [self.x, *more], [out], options))
        self.x = out
        return self

    def numbers(self, values, kind=KIND.INT32):
        array = np.array(values, "<i4" if kind == KIND.INT32 else "<i8")
        return self.add(array.shape, array, kind=kind)

    def to_batch(self, block, pads=((2, 2), (2, 2)), **facts):
        return self.do(
            OP.SPACE_TO_BATCH_ND, self.numbers(block, **facts), self.numbers(pads), options="SpaceToBatchNDOptions"
        )

    def to_space(self, block, crops=((0, 0), (0, 0))):
        return self.do(OP.BATCH_TO_SPACE_ND, self.numbers(block), self.numbers(crops), options="BatchToSpaceNDOptions")

    def conv(self, plain=False, **values):
        shape = (4, 3, 3, 1) if plain else (1, 3, 3, 4)
        weight, out = self.add(shape, taps(*shape)), self.add((1, 16, 16, 4))
        self.operators.append((plain_conv if plain else depthwise)([self.x, weight], out, **values))
        self.x = out
        return self

    def build(self):
        return build((self.tensors, self.operators))


@pytest.fixture
def tflite(tmp_path):
    return lambda net: [layer.dilation for layer in tflite_reader(tmp_path)(net.build()).layers]


@pytest.fixture
def onnx(tmp_path):
    return lambda proto: [layer.dilation for layer in onnx_reader(tmp_path)(proto).layers]


@pytest.mark.parametrize("block", [(2, 2), (4, 4), (3, 1), (2, 6)])
@pytest.mark.parametrize("plain", [False, True])
def test_the_block_is_the_dilation(tflite, block, plain):
    net = Net().conv(plain).to_batch(block, pads=((1, 3), (0, 5))).conv(plain).to_space(block, crops=((0, 1), (2, 0)))
    assert tflite(net.conv(plain)) == [(1, 1), block, (1, 1)]


def test_the_operators_own_dilation_is_multiplied(tflite):
    assert tflite(Net().to_batch((2, 3)).conv(DilationHFactor=2, DilationWFactor=1)) == [(4, 3)]


def test_what_lies_between_does_not_matter(tflite):
    net = Net().to_batch((2, 2)).do(OP.DEQUANTIZE).conv().do(OP.RELU).do(OP.QUANTIZE).do(OP.MUL).conv()
    assert tflite(net.to_space((2, 2)).do(OP.ADD).conv()) == [(2, 2), (2, 2), (1, 1)]


def test_nested_blocks_multiply_and_are_taken_back_one_by_one(tflite):
    net = Net().to_batch((2, 2)).conv().to_batch((2, 1)).conv().to_space((2, 1)).conv().to_space((2, 2)).conv()
    assert tflite(net) == [(2, 2), (4, 2), (2, 2), (1, 1)]


def test_a_block_of_one_axis_and_64_bit_numbers(tflite):
    assert tflite(Net().to_batch([2], pads=((1, 1),)).conv()) == [(2, 1)]
    assert tflite(Net().to_batch((2, 2), kind=KIND.INT64).conv()) == [(2, 2)]


def test_a_dilation_that_is_computed_at_run_time_is_unknown_and_not_1(tflite):
    net = Net()
    net.do(OP.SPACE_TO_BATCH_ND, net.add((2,), kind=KIND.INT32), net.numbers([[0, 0]] * 2)).conv()
    net.to_space((2, 2)).conv()
    unknown = (UNKNOWN, UNKNOWN)
    assert tflite(net) == [unknown, unknown]
    assert tflite(Net().to_batch((2, 2)).do(OP.TRANSPOSE).conv()) == [unknown]


def test_batch_to_space_alone_is_no_dilation(tflite):
    assert tflite(Net().to_space((2, 2)).conv()) == [(1, 1)]


# ONNX: what the whole chain answers to an impulse, by the reference evaluator, is the dilated filter.


def node(kind, x, y, *more, **attributes):
    return helper.make_node(kind, [x, *more], [y], **attributes)


def ints(name, values):
    return stored(name, np.array(values, np.int64))


SWAP = [1, 0, 2, 3]


def square_chain(block, between=()):
    """SpaceToBatchND and its inverse as tf2onnx writes them in NCHW, for blocks that are square."""
    nodes = [
        node("Transpose", "x", "a", perm=SWAP),
        node("Pad", "a", "b", "pads"),
        node("SpaceToDepth", "b", "c", blocksize=block),
        node("Transpose", "c", "d0", perm=SWAP),
        *(node(kind, f"d{i}", f"d{i + 1}") for i, kind in enumerate(between)),
        conv("w", x=f"d{len(between)}", y="e", pads=[1] * 4),
        node("Transpose", "e", "f", perm=SWAP),
        node("DepthToSpace", "f", "g", blocksize=block),
        node("Slice", "g", "h", "from", "to", "axes"),
        node("Transpose", "h", "y", perm=SWAP),
    ]
    pad = 2 * block
    tensors = [ints("pads", [0, 0, pad, pad, 0, 0, pad, pad]), ints("from", [pad, pad]), ints("to", [-pad, -pad])]
    return [*nodes], [*tensors, ints("axes", [2, 3]), stored("w", W)]


def nhwc_chain(block):
    """The same in NHWC, with the convolution's own Transposes."""
    nodes = [
        node("Transpose", "x", "nhwc", perm=[0, 2, 3, 1]),
        node("Transpose", "nhwc", "a", perm=[3, 0, 1, 2]),
        node("SpaceToDepth", "a", "b", blocksize=block),
        node("Transpose", "b", "c", perm=[1, 2, 3, 0]),
        node("Transpose", "c", "d", perm=[0, 3, 1, 2]),
        conv("w", x="d", y="e", pads=[1] * 4),
        node("Transpose", "e", "f", perm=SWAP),
        node("DepthToSpace", "f", "g", blocksize=block),
        node("Transpose", "g", "y", perm=SWAP),
    ]
    return nodes, [stored("w", W)]


def oblong_chain(rows, columns, size, computed):
    """SpaceToBatchND in NHWC by Reshape, Transpose, Reshape; `computed` takes the sizes from the input, as tf2onnx."""
    h, w = size // rows, size // columns
    nodes, tensors = [node("Transpose", "x", "n", perm=[0, 2, 3, 1])], [stored("w", W), ints("block", [rows, columns])]
    if computed:
        nodes += [
            node("Shape", "n", "shape"),
            node("Slice", "shape", "spatial", "one", "three"),
            node("Slice", "shape", "depth", "three", "far"),
            node("Div", "spatial", "reduced", "block"),
            helper.make_node("Concat", ["reduced", "block"], ["pairs"], axis=0),
            node("Reshape", "pairs", "matrix", "two"),
            node("Transpose", "matrix", "turned"),
            node("Reshape", "turned", "woven", "rest"),
            helper.make_node("Concat", ["rest", "woven", "depth"], ["split"], axis=0),
            helper.make_node("Concat", ["rest", "reduced", "depth"], ["joined"], axis=0),
        ]
        tensors += [
            ints("one", [1]),
            ints("three", [3]),
            ints("far", [2**31]),
            ints("two", [-1, 2]),
            ints("rest", [-1]),
        ]
    else:
        tensors += [ints("split", [-1, h, rows, w, columns, C]), ints("joined", [-1, h, w, C])]
    nodes += [
        node("Reshape", "n", "a", "split"),
        node("Transpose", "a", "b", perm=[2, 4, 0, 1, 3, 5]),
        node("Reshape", "b", "c", "joined"),
        node("Transpose", "c", "d", perm=[0, 3, 1, 2]),
        conv("w", x="d", y="e", pads=[1] * 4),
        node("Reshape", "e", "f", "apart"),
        node("Transpose", "f", "g", perm=[2, 3, 4, 0, 5, 1]),
        node("Reshape", "g", "y", "whole"),
    ]
    return nodes, [*tensors, ints("apart", [rows, columns, C, h, w]), ints("whole", [1, C, size, size])]


def answer(proto, size):
    """Return what a network makes of an impulse in the middle, turned: the filters with their dilation."""
    x = np.zeros((1, C, size, size), np.float32)
    x[:, :, size // 2, size // 2] = 1
    (y,) = ReferenceEvaluator(proto).run(None, {"x": x})
    return np.asarray(y)[0, :, ::-1, ::-1]


def dilated(rows, columns):
    filters = np.zeros((C, 2 * rows + 1, 2 * columns + 1), np.float32)
    filters[:, ::rows, ::columns] = W[:, 0]
    return filters


@pytest.mark.parametrize("block", [2, 3, 4])
@pytest.mark.parametrize("chain", [square_chain, nhwc_chain])
def test_space_to_depth_between_transposes_of_the_batch(onnx, block, chain):
    size = 12 * (1 + block % 2)
    proto = model(*chain(block))
    out = answer(proto, size)
    nonzero = np.argwhere(np.abs(out).max(0))
    steps = [np.diff(np.unique(places)) for places in nonzero.T]
    assert [set(step.tolist()) for step in steps] == [{block}, {block}]  # the reference sees taps `block` apart
    assert onnx(proto) == [(block, block)]


def test_operators_between_do_not_matter(onnx):
    assert onnx(model(*square_chain(2, between=("Relu", "Identity", "Neg")))) == [(2, 2)]


@pytest.mark.parametrize(("rows", "columns"), [(2, 2), (2, 4), (3, 1), (1, 2)])
@pytest.mark.parametrize("computed", [False, True])
def test_reshape_transpose_reshape(onnx, rows, columns, computed):
    nodes, tensors = oblong_chain(rows, columns, 12, computed)
    # undo the blocks: (rows, columns, C, h, w) -> (C, h, rows, w, columns)
    nodes[-2].attribute[0].ints[:] = [2, 3, 0, 4, 1]
    proto = model(nodes, tensors)
    out = answer(proto, 12)
    middle = np.argwhere(np.abs(out).max(0)).min(0)
    taps_of = out[:, middle[0] : middle[0] + 2 * rows + 1, middle[1] : middle[1] + 2 * columns + 1]
    np.testing.assert_array_equal(taps_of, dilated(rows, columns))
    assert onnx(proto) == [(rows, columns)]


def test_operators_of_tensorflow_that_were_kept(onnx):
    tensors = [ints("block", [2, 3]), ints("pads", [[0, 0], [0, 0]]), stored("w", W), stored("v", W + 1)]
    nodes = [
        node("Transpose", "x", "n", perm=[0, 2, 3, 1]),
        node("SpaceToBatchND", "n", "a", "block", "pads", domain="ai.onnx.converters.tensorflow"),
        node("Transpose", "a", "b", perm=[0, 3, 1, 2]),
        conv("w", x="b", y="c"),
        node("Transpose", "c", "d", perm=[0, 2, 3, 1]),
        node("BatchToSpaceND", "d", "e", "block", "pads", domain="ai.onnx.converters.tensorflow"),
        node("Transpose", "e", "f", perm=[0, 3, 1, 2]),
        conv("v", x="f", y="y"),
    ]
    assert onnx(model(nodes, tensors)) == [(2, 3), (1, 1)]


def test_blocks_among_the_channels_are_no_dilation(onnx):
    focus = [node("SpaceToDepth", "x", "a", blocksize=2), conv("v", x="a", y="y", group=4 * C)]
    weight = (RNG.integers(-9, 9, (4 * C, 1, 3, 3)) / 8).astype(np.float32)
    after = [*focus, helper.make_node("Transpose", ["y"], ["t"], perm=SWAP), conv("u", x="t", y="z", group=3)]
    assert onnx(model(focus, [stored("v", weight)])) == [(1, 1)]
    other = (RNG.integers(-9, 9, (3, 1, 3, 3)) / 8).astype(np.float32)
    assert onnx(model(after, [stored("v", weight), stored("u", other)], outputs=["z"])) == [(1, 1), (1, 1)]


@pytest.mark.parametrize(
    ("split", "order", "joined"),
    [
        ([-1, C, 3, 4, 3, 4], [0, 2, 4, 1, 3, 5], [-1, C, 4, 4]),  # windows
        ([1, C // 4, 3, 4, 3, 4], [0, 1, 3, 5, 2, 4], [1, 4 * C, 3, 3]),  # pixel-unshuffle
        ([1, 2, C // 2, 12, 12], [0, 2, 1, 3, 4], [1, C, 12, 12]),  # channel shuffle
    ],
)
def test_windows_and_shuffles_are_no_dilation(onnx, split, order, joined):
    channels = joined[1]
    weight = (RNG.integers(-9, 9, (channels, 1, 3, 3)) / 8).astype(np.float32)
    nodes = [
        node("Reshape", "x", "a", "split"),
        node("Transpose", "a", "b", perm=order),
        node("Reshape", "b", "c", "joined"),
        conv("v", x="c", y="y", group=channels),
    ]
    assert onnx(model(nodes, [ints("split", split), ints("joined", joined), stored("v", weight)])) == [(1, 1)]


def test_windows_of_channels_last_images_are_no_dilation(onnx):
    nodes = [
        node("Transpose", "x", "n", perm=[0, 2, 3, 1]),
        node("Reshape", "n", "a", "split"),
        node("Transpose", "a", "b", perm=[0, 1, 3, 2, 4, 5]),
        node("Reshape", "b", "c", "joined"),
        node("Transpose", "c", "d", perm=[0, 3, 1, 2]),
        conv("w", x="d", y="y"),
    ]
    shapes = [ints("split", [-1, 3, 4, 3, 4, C]), ints("joined", [-1, 4, 4, C])]
    assert onnx(model(nodes, [*shapes, stored("w", W)])) == [(1, 1)]


def test_shapes_that_are_computed_without_end_are_not_followed(onnx):
    nodes = [helper.make_node("Concat", [f"s{i}", f"s{i}"], [f"s{i + 1}"], axis=0) for i in range(60)]
    nodes += [node("Reshape", "x", "a", "s60"), node("Transpose", "a", "b", perm=[2, 4, 0, 1, 3, 5])]
    nodes += [node("Reshape", "b", "c", "s60"), conv("w", x="c")]
    assert onnx(model([node("Shape", "x", "s0"), *nodes], [stored("w", W)])) == [(1, 1)]
