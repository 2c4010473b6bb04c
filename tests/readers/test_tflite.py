"""The TFLite reader on files built by hand; convolutions are checked against a loop over the format's own layout."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from tflite_models import (
    ACT,
    EACH,
    HALF,
    INT8,
    KIND,
    OP,
    RNG,
    Op,
    Q,
    T,
    W,
    X,
    Y,
    build,
    depthwise,
    plain_conv,
    reader,
    taps,
)

from mkfa.errors import MkfaError, SourceError
from mkfa.readers.harvesting import harvest
from mkfa.readers.reading import Reading, Why


@pytest.fixture
def read(tmp_path: Path) -> Callable[[bytes], Reading]:
    return reader(tmp_path)


def reference(x: np.ndarray, flat: np.ndarray, shape: Sequence[int], op: Op) -> np.ndarray:
    """Depthwise convolution as TensorFlow Lite's reference kernel loops over the stored filter; x is (H, W, C)."""
    _, kh, kw, out = shape
    v = op.values
    m = out // x.shape[2]
    rows = (x.shape[0] - (kh - 1) * v["DilationHFactor"] - 1) // v["StrideH"] + 1
    columns = (x.shape[1] - (kw - 1) * v["DilationWFactor"] - 1) // v["StrideW"] + 1
    y = np.zeros((rows, columns, out), np.float64)
    for r in range(rows):
        for c in range(columns):
            for ic in range(x.shape[2]):
                for k in range(m):
                    oc = k + ic * m
                    for i in range(kh):
                        for j in range(kw):
                            pixel = x[
                                r * v["StrideH"] + i * v["DilationHFactor"], c * v["StrideW"] + j * v["DilationWFactor"]
                            ]
                            y[r, c, oc] += float(pixel[ic]) * float(flat[((0 * kh + i) * kw + j) * out + oc])
    return y


@pytest.mark.parametrize(
    ("kh", "kw", "m", "stride", "dilation"),
    [(3, 3, 1, (1, 1), (1, 1)), (1, 5, 1, (2, 1), (1, 1)), (3, 2, 3, (1, 2), (2, 1))],
)
def test_layout_against_a_loop_over_the_stored_filter(read, kh, kw, m, stride, dilation):
    weight, x = taps(1, kh, kw, 4 * m), taps(9, 11, 4)
    op = depthwise(
        [0, 1, 2],
        3,
        DepthMultiplier=m,
        StrideH=stride[0],
        StrideW=stride[1],
        DilationHFactor=dilation[0],
        DilationWFactor=dilation[1],
    )
    bias = taps(4 * m)
    tensors = [T([1, 9, 11, 4]), T(weight.shape, weight, name="w"), T([4 * m], bias), T([1, 1, 1, 4 * m])]
    (layer,) = read(build((tensors, [op]))).layers
    assert (layer.key, layer.multiplier, layer.stride, layer.dilation) == ("w", m, stride, dilation)
    got = (
        torch.nn.functional.conv2d(
            torch.from_numpy(x.transpose(2, 0, 1).copy())[None],
            torch.from_numpy(layer.weight)[:, None],
            None,
            stride,
            0,
            dilation,
            4,
        )[0]
        .numpy()
        .transpose(1, 2, 0)
    )
    np.testing.assert_allclose(got, reference(x, weight.reshape(-1), weight.shape, op), atol=1e-4)
    np.testing.assert_array_equal(layer.bias, bias)


def test_multiplier_comes_from_the_input_and_from_the_option_where_the_input_is_open(read):
    for shape in ([1, 9, 9, 4], [1, 9, 9, -1], []):
        tensors = [T(shape), T([1, 3, 3, 8], taps(1, 3, 3, 8)), T([1])]
        (layer,) = read(build((tensors, [depthwise([0, 1], 2, DepthMultiplier=2)]))).layers
        assert layer.multiplier == 2


NIBBLES = RNG.integers(-8, 7, 36).astype(np.int8)


def packed() -> bytes:
    low = NIBBLES.astype(np.uint8) & 15
    return (low[0::2] | (low[1::2] << 4)).astype(np.uint8).tobytes()


FORMS: dict[str, tuple[T, np.ndarray, str]] = {
    "float32": (T(W.shape, W), W, "float32"),
    "int8 per channel": (INT8, (Q - np.array([0, 1, -2, 3])) * np.array(EACH), "int8"),
    "int8 without zero point": (T(Q.shape, Q, KIND.INT8, EACH, [], 3), Q * np.array(EACH), "int8"),
    "uint8 per tensor": (
        T(Q.shape, Q.view(np.uint8), KIND.UINT8, [0.5], [128]),
        (Q.view(np.uint8) - 128.0) * 0.5,
        "uint8",
    ),
    "int4 per channel": (
        T(Q.shape, packed(), KIND.INT4, EACH, [], 3),
        NIBBLES.reshape(Q.shape) * np.array(EACH),
        "int4",
    ),
    "int16 per tensor": (T(Q.shape, Q.astype(np.int16) * 9, KIND.INT16, [0.5], [0]), Q * 4.5, "int16"),
}


@pytest.mark.parametrize("form", FORMS)
def test_stored_forms(read, form):
    tensor, expected, dtype = FORMS[form]
    (layer,) = read(build(([X, tensor, Y], [depthwise([0, 1], 2)]))).layers
    np.testing.assert_array_equal(layer.weight, expected[0].transpose(2, 0, 1))
    assert layer.dtype == dtype


@pytest.mark.parametrize("form", ["float16", "bfloat16", "int8"])
def test_weights_behind_dequantize(read, form):
    top = (W.view(np.uint32) >> 16).astype("<u2")
    stored = {
        "float16": T(W.shape, HALF, KIND.FLOAT16, name="half"),
        "bfloat16": T(W.shape, top, KIND.BFLOAT16, name="half"),
        "int8": T(Q.shape, Q, KIND.INT8, [0.5], [0], name="half"),
    }[form]
    expected = Q * np.float32(0.5) if form == "int8" else W
    ops = [Op(OP.DEQUANTIZE, [3], [1], "DequantizeOptions"), depthwise([0, 1], 2)]
    (layer,) = read(build(([X, T(W.shape), Y, stored], ops))).layers
    np.testing.assert_array_equal(layer.weight, expected[0].transpose(2, 0, 1))
    assert (layer.key, layer.dtype) == ("half", form)


def test_int32_bias_is_dequantised(read):
    bias = T([4], np.array([8, -8, 4, 2], np.int32), KIND.INT32, EACH, [0] * 4, 0)
    tensors = [X, INT8, bias, Y]
    (layer,) = read(build((tensors, [depthwise([0, 1, 2], 3)]))).layers
    np.testing.assert_array_equal(layer.bias, [2, -4, 0.5, 2])
    for hidden in (T([4]), T([4], np.ones(4, np.int32), KIND.INT32)):
        reading = read(build(([X, T(W.shape, W), hidden, Y], [depthwise([0, 1, 2], 3)])))
        assert reading.layers[0].bias is None and any("bias" in note for note in reading.notes)


def test_plain_convolutions_with_one_channel_a_group_are_depthwise(read):
    weight = taps(8, 3, 5, 1)
    tensors = [X, T(weight.shape, weight), Y]
    (layer,) = read(build((tensors, [plain_conv([0, 1], 2, StrideW=2)]))).layers
    np.testing.assert_array_equal(layer.weight, weight[..., 0])
    assert (layer.multiplier, layer.stride) == (2, (1, 2))


def test_what_is_not_taken_is_counted(read):
    gray, flat = T([1, 9, 9, 1]), T([1, 1, 99, 4])
    tensors = [
        X,
        T([4, 3, 3, 4], taps(4, 3, 3, 4)),
        T([4, 3, 3, 2], taps(4, 3, 3, 2)),
        T([1, 1, 1, 4], taps(1, 1, 1, 4)),
        gray,
        T([8, 3, 3, 1], taps(8, 3, 3, 1)),
        T([1, 3, 3, 8], taps(1, 3, 3, 8)),
        flat,
        T([1, 1, 9, 4], taps(1, 1, 9, 4)),
        T(W.shape),
        T(W.shape, W),
        Y,
        T(Q.shape, Q, KIND.INT8),
        T([8, 1, 1, 1], taps(8, 1, 1, 1)),
        T(W.shape, W.astype(np.complex64), KIND.COMPLEX64),
    ]
    ops = [
        plain_conv([0, 1], 11),
        plain_conv([0, 2], 11),
        depthwise([0, 3], 11),
        plain_conv([4, 5], 11),
        depthwise([4, 6], 11),
        depthwise([7, 8], 11),
        depthwise([0, 9], 11),
        depthwise([0, 10], 11),
        depthwise([0, 10], 11),
        depthwise([0, 12], 11),
        Op(OP.TRANSPOSE_CONV, [0, 1], [11]),
        Op(OP.CONV_3D, [0, 1], [11]),
        plain_conv([4, 13], 11),
        plain_conv([0, 13], 11),
        depthwise([0, 14], 11),
    ]
    reading = read(build((tensors, ops)))
    assert len(reading.layers) == 1
    assert reading.skipped == {
        Why.GROUPED: 1,
        Why.ONE_BY_ONE: 2,
        Why.STEM: 2,
        Why.ONE_D: 1,
        Why.RUN_TIME: 1,
        Why.SHARED: 1,
        Why.TRANSPOSED: 1,
        Why.THREE_D: 1,
        "quantised weights without a scale": 1,
        "weights of TFLite type 8": 1,
    }


def test_network_without_depthwise_layers_says_what_it_has(tmp_path):
    path = tmp_path / "m.tflite"
    path.write_bytes(build(([X, T([4, 3, 3, 4], taps(4, 3, 3, 4)), Y], [plain_conv([0, 1], 2)])))
    with pytest.raises(SourceError, match="no depthwise layer: it has 1 convolution, none depthwise"):
        harvest(str(path))


def test_bodies_come_where_they_are_run_and_shared_buffers_count_once(read):
    def graph(weight: T, *ops: Op) -> tuple[list[T], list[Op]]:
        return [X, weight, Y], [*ops]

    main = (
        [X, T(W.shape, W, name="a"), Y, T(W.shape, taps(1, 3, 3, 4), name="d")],
        [
            depthwise([0, 1], 2),
            Op(OP.IF, [0], [2], "IfOptions", {"ThenSubgraphIndex": 2, "ElseSubgraphIndex": 1}),
            Op(OP.WHILE, [0], [2], "WhileOptions", {"CondSubgraphIndex": 1, "BodySubgraphIndex": 4}),
            depthwise([0, 3], 2),
        ],
    )
    other = graph(T(W.shape, buffer=1, name="a again"), depthwise([0, 1], 2))
    then = graph(T(W.shape, taps(1, 3, 3, 4), name="b"), depthwise([0, 1], 2))
    entry = graph(T(W.shape, taps(1, 3, 3, 4), name="e"), depthwise([0, 1], 2))
    body = graph(T(W.shape, taps(1, 3, 3, 4), name="c"), depthwise([0, 1], 2))
    for old in (False, True):
        reading = read(build(main, other, then, entry, body, old_codes=old))
        assert [layer.key for layer in reading.layers] == ["a", "b", "c", "d", "e"]
        assert reading.skipped == {Why.SHARED: 1}


def test_data_behind_the_flatbuffer(read):
    tensors = [X, T(W.shape, W, behind=True), T([4], taps(4), behind=True), Y]
    graph = tensors, [depthwise([0, 1, 2], 3)]
    good = build(graph, behind_at=4096)
    (layer,) = read(good).layers
    np.testing.assert_array_equal(layer.weight, W[0].transpose(2, 0, 1))
    np.testing.assert_array_equal(layer.bias, tensors[2].data)
    with pytest.raises(SourceError, match="buffer"):
        read(good[:-1])


@pytest.mark.parametrize(
    ("fused", "behind", "bias", "folded"),
    [
        (ACT.RELU6, None, True, True),
        (ACT.RELU6, None, False, False),
        (ACT.NONE, OP.HARD_SWISH, True, True),
        (ACT.NONE, OP.ADD, True, False),
    ],
)
def test_folding_is_inferred_from_bias_and_activation(read, fused, behind, bias, folded):
    ops = [depthwise([0, 1, 2] if bias else [0, 1, -1], 3, FusedActivationFunction=fused)]
    ops += [Op(behind, [3], [4])] if behind is not None else []
    (layer,) = read(build(([X, T(W.shape, W), T([4], taps(4)), Y, Y], ops))).layers
    assert layer.bn_folded is folded
    assert (layer.bias is not None) is bias


def test_missing_package_names_the_remedy(read, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tflite", None)
    with pytest.raises(MkfaError, match=r"pip install 'mkfa\[tflite\]'"):
        read(build(([X, T(W.shape, W), Y], [depthwise([0, 1], 2)])))


# Bodies of IF and WHILE

WRITTEN = Path(__file__).parent / "written"


def numbers(seed, index):
    """The weights that `written/README.md` puts into a file, as (C, kh, kw)."""
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(3, 3, 4, 1)).astype("f")[..., 0].transpose(2, 0, 1) for _ in range(2)][index]


def test_a_loop_that_tensorflow_wrote_inherits_the_blocks_around_it():
    bank = harvest(WRITTEN / "while_loop.tflite")
    assert [layer.dilation for layer in bank.layers] == [(2, 2), (1, 1)]
    np.testing.assert_array_equal(bank.of_layer(0).weight, numbers(0, 1))
    np.testing.assert_array_equal(bank.of_layer(1).weight, numbers(0, 0))


def test_branches_that_tensorflow_wrote_find_the_weights_that_they_are_given():
    """One branch reshapes a weight that is an input of IF; the main graph has the same weight as a constant."""
    bank = harvest(WRITTEN / "cond.tflite")
    assert [layer.dilation for layer in bank.layers] == [(2, 2), (2, 2)]
    np.testing.assert_array_equal(bank.of_layer(0).weight, numbers(0, 1))
    np.testing.assert_array_equal(bank.of_layer(1).weight, numbers(0, 0))
    assert bank.provenance.skipped == {Why.SHARED: 1}


def in_blocks(*, back: bool, changes: bool = False):
    """A main graph that makes blocks and runs a WHILE whose body halves the image again or changes its weight."""
    size = T([2], np.array([2, 2], np.int32), kind=KIND.INT32)
    pads = T([2, 2], np.zeros((2, 2), np.int32), kind=KIND.INT32)
    main = (
        [X, size, pads, X, T(W.shape, W, name="w"), Y, Y, Y, T(W.shape, taps(1, 3, 3, 4), name="v")],
        [
            Op(OP.SPACE_TO_BATCH_ND, [0, 1, 2], [3], "SpaceToBatchNDOptions"),
            Op(OP.WHILE, [3, 4], [5, 6], "WhileOptions", {"CondSubgraphIndex": 1, "BodySubgraphIndex": 2}),
            depthwise([5, 8], 7),
        ],
    )
    condition = [X, T(W.shape), Y], [], [0, 1], [2]
    steps = [depthwise([0, 1], 2)]
    if back:
        steps.append(Op(OP.SPACE_TO_BATCH_ND, [2, 3, 4], [5], "SpaceToBatchNDOptions"))
    if changes:
        steps.append(Op(OP.NEG, [1], [6], "NegOptions"))
    body = [X, T(W.shape), Y, size, pads, Y, T(W.shape)], steps, [0, 1], [5 if back else 2, 6 if changes else 1]
    return build(main, condition, body)


def test_a_loop_whose_blocks_grow_has_no_one_dilation(read):
    assert [layer.dilation for layer in read(in_blocks(back=False)).layers] == [(2, 2), (2, 2)]
    assert [layer.dilation for layer in read(in_blocks(back=True)).layers] == [(-1, -1), (-1, -1)]


def test_a_weight_that_a_loop_carries_is_taken_if_it_stays_the_same(read):
    assert [layer.key for layer in read(in_blocks(back=False)).layers] == ["w", "v"]
    changed = read(in_blocks(back=False, changes=True))
    assert [layer.key for layer in changed.layers] == ["v"] and changed.skipped == {Why.RUN_TIME: 1}
