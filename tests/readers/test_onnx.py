"""The ONNX reader against the reference evaluator: an impulse through each model must reproduce its filters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator
from onnx_models import EACH, ONE, RNG, C, F, W, blocks, constant, conv, impulse, model, quantised, reader, stored, taps

from mkfa.banks.bank import UNKNOWN
from mkfa.errors import MkfaError, SourceError
from mkfa.readers.graphs.onnx import read_onnx
from mkfa.readers.harvesting import harvest
from mkfa.readers.reading import Reading, Why


@pytest.fixture
def read(tmp_path: Path) -> Callable[[Any], Reading]:
    return reader(tmp_path)


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


def dq(dtype: Any, scale: np.ndarray, zero: Sequence[int], **attributes: Any) -> tuple[list[Any], list[Any]]:
    z = np.array(zero, dtype)
    tensors = [stored("q", quantised(W, dtype, scale, np.array(zero))), stored("s", scale), stored("z", z)]
    if scale.size == 1:
        tensors[1:] = [stored("s", scale.reshape(())), stored("z", z.reshape(()))]
    return [helper.make_node("DequantizeLinear", ["q", "s", "z"], ["w"], **attributes)], tensors


FORMS: dict[str, tuple[str, tuple[list[Any], list[Any]]]] = {
    "raw float32": ("float32", ([], [stored("w", W)])),
    "typed float32": ("float32", ([], [helper.make_tensor("w", F, W.shape, W.reshape(-1))])),
    "raw float64": ("float64", ([helper.make_node("Cast", ["d"], ["w"], to=F)], [stored("d", W.astype(np.float64))])),
    "typed float64": (
        "float64",
        (
            [helper.make_node("Cast", ["d"], ["w"], to=F)],
            [helper.make_tensor("d", TensorProto.DOUBLE, W.shape, W.reshape(-1))],
        ),
    ),
    "raw float16": ("float16", ([helper.make_node("Cast", ["h"], ["w"], to=F)], [stored("h", W.astype(np.float16))])),
    "typed float16": (
        "float16",
        (
            [helper.make_node("Cast", ["h"], ["w"], to=F)],
            [helper.make_tensor("h", TensorProto.FLOAT16, W.shape, W.reshape(-1))],
        ),
    ),
    "raw bfloat16": (
        "bfloat16",
        (
            [helper.make_node("Cast", ["h"], ["w"], to=F)],
            [
                helper.make_tensor(
                    "h",
                    TensorProto.BFLOAT16,
                    W.shape,
                    (W.reshape(-1).view(np.uint32) >> 16).astype("<u2").tobytes(),
                    raw=True,
                )
            ],
        ),
    ),
    "typed bfloat16": (
        "bfloat16",
        (
            [helper.make_node("Cast", ["h"], ["w"], to=F)],
            [helper.make_tensor("h", TensorProto.BFLOAT16, W.shape, W.reshape(-1))],
        ),
    ),
    "constant node": ("float32", ([constant("w", value=stored("other", W))], [])),
    "constant of numbers": (
        "float32",
        (
            [
                constant("n", value_floats=W.reshape(-1).tolist()),
                constant("t", value_ints=list(W.shape)),
                helper.make_node("Reshape", ["n", "t"], ["w"]),
            ],
            [],
        ),
    ),
    "identity": ("float32", ([helper.make_node("Identity", ["i"], ["w"])], [stored("i", W)])),
    "transpose": (
        "float32",
        ([helper.make_node("Transpose", ["t"], ["w"], perm=[3, 2, 0, 1])], [stored("t", W.transpose(2, 3, 1, 0))]),
    ),
    "transpose, no order": ("float32", ([helper.make_node("Transpose", ["t"], ["w"])], [stored("t", W.transpose())])),
    "reshape": (
        "float32",
        (
            [helper.make_node("Reshape", ["r", "t"], ["w"])],
            [stored("r", W.reshape(C, 9)), stored("t", np.array([0, 1, -1, 3], np.int64))],
        ),
    ),
    "masked": (
        "float32",
        (
            [helper.make_node("Mul", ["m", "k"], ["p"]), helper.make_node("Sub", ["p", "z"], ["w"])],
            [stored("m", W), stored("k", (W > 0).astype(np.float32)), stored("z", np.zeros(1, np.float32))],
        ),
    ),
    "scaled by channel": (
        "float32",
        (
            [helper.make_node("Div", ["m", "k"], ["p"]), helper.make_node("Add", ["z", "p"], ["w"])],
            [stored("m", W), stored("k", EACH.reshape(C, 1, 1, 1)), stored("z", W[:1])],
        ),
    ),
    "squeezed": (
        "float32",
        (
            [helper.make_node("Squeeze", ["q", "a"], ["p"]), helper.make_node("Unsqueeze", ["p", "b"], ["w"])],
            [stored("q", W[None]), stored("a", np.array([0, 2], np.int64)), stored("b", np.array([-3], np.int64))],
        ),
    ),
    "rounded by a cast": (
        "float32",
        (
            [
                helper.make_node("Cast", ["o"], ["h"], to=TensorProto.FLOAT16),
                helper.make_node("Cast", ["h"], ["w"], to=F),
            ],
            [stored("o", W / 3)],
        ),
    ),
    "int8 per tensor": ("int8", dq(np.int8, ONE, [3])),
    "uint8 per tensor": ("uint8", dq(np.uint8, ONE, [128])),
    "int16 per channel": ("int16", dq(np.int16, EACH, [0, 1, -2, 3], axis=0)),
    "int8 per channel": ("int8", dq(np.int8, EACH, [0, 1, -2, 3], axis=-4)),
    "int4 in blocks": ("int4", blocks()),
    "runtime's own QDQ": (
        "float32",
        (
            [
                helper.make_node("QuantizeLinear", ["o", "s", "z"], ["q"], domain="com.microsoft"),
                helper.make_node("DequantizeLinear", ["q", "s", "z"], ["w"], domain="com.microsoft"),
            ],
            [stored("o", W), stored("s", ONE[0]), stored("z", np.int8(0))],
        ),
    ),
    "rounded by QDQ": (
        "float32",
        (
            [
                helper.make_node("QuantizeLinear", ["o", "s", "z"], ["q"], axis=0),
                helper.make_node("DequantizeLinear", ["q", "s", "z"], ["w"], axis=0),
            ],
            [stored("o", W), stored("s", EACH), stored("z", np.zeros(C, np.int8))],
        ),
    ),
}


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
    tensors = [
        stored("xs", np.float32(0.5)),
        stored("xz", np.uint8(0)),
        stored("w", q),
        stored("s", EACH),
        stored("z", np.zeros(C, np.int8)),
        stored("ys", np.float32(1)),
        stored("yz", np.uint8(0)),
        stored("b", np.array([8, -8, 16, 4], np.int32)),
    ]
    node = helper.make_node("QLinearConv", ["x", "xs", "xz", "w", "s", "z", "ys", "yz", "b"], ["y"], group=C)
    (layer,) = read(model([node], tensors)).layers
    np.testing.assert_array_equal(layer.weight, q[:, 0] * EACH[:, None, None])
    np.testing.assert_array_equal(layer.bias, np.array([8, -8, 16, 4]) * 0.5 * EACH)
    assert layer.dtype == "int8"


def test_what_is_not_taken_is_counted(read):
    tensors = [
        stored("one_d", np.ones((C, 1, 3), np.float32)),
        stored("three_d", np.ones((C, 1, 3, 3, 3), np.float32)),
        stored("point", np.ones((C, 1, 1, 1), np.float32)),
        stored("grouped", np.ones((C, 2, 3, 3), np.float32)),
        stored("dense", np.ones((C, C, 3, 3), np.float32)),
        stored("stem", np.ones((8, 1, 3, 3), np.float32)),
        stored("w", W),
    ]
    nodes = [
        conv("one_d", y="a"),
        conv("three_d", y="b"),
        conv("point", y="c"),
        conv("grouped", y="d", group=2),
        conv("dense", y="e", group=1),
        conv("stem", y="f", group=1),
        conv("x", y="g"),
        conv("w", y="h"),
        conv("w", y="i"),
        helper.make_node("ConvTranspose", ["x", "w"], ["j"], group=C),
        helper.make_node("DeformConv", ["x", "w", "x"], ["k"], group=C),
    ]
    reading = read(model(nodes, tensors))
    assert [layer.key for layer in reading.layers] == ["w"]
    assert reading.skipped == {
        Why.ONE_D: 1,
        Why.THREE_D: 1,
        Why.ONE_BY_ONE: 1,
        Why.GROUPED: 1,
        Why.STEM: 1,
        Why.RUN_TIME: 1,
        Why.SHARED: 1,
        Why.TRANSPOSED: 1,
        "convolution of kind ONNX DeformConv": 1,
    }
    assert any("counted once" in note for note in reading.notes)


def test_network_without_depthwise_layers_says_what_it_has(tmp_path):
    path = tmp_path / "m.onnx"
    nodes = [conv("w", y="a", group=1), conv("w", y="b", group=1), conv("v", y="c")]
    tensors = [stored("w", np.ones((C, C, 3, 3), np.float32)), stored("v", np.ones((C, 1, 1, 1), np.float32))]
    path.write_bytes(model(nodes, tensors).SerializeToString())
    with pytest.raises(SourceError, match=r"no depthwise layer: it has 3 convolutions.*1x1 depthwise"):
        harvest(str(path))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of PyTorch's about its own exporter
def test_what_pytorch_exports(tmp_path):
    import torch
    from torch import nn

    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.Conv2d(8, 8, 5, stride=2, padding=2, groups=8, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 16, (3, 1), dilation=2, groups=8),
        nn.GELU(),
        nn.ConvTranspose2d(16, 16, 3, groups=16),
    ).eval()
    net[2].running_var.uniform_(0.5, 2)
    path = tmp_path / "net.onnx"
    torch.onnx.export(net, (torch.zeros(1, 3, 32, 32),), str(path), dynamo=False, opset_version=17)
    folded, plain = read_onnx(path).layers
    gain = (net[2].weight / torch.sqrt(net[2].running_var + net[2].eps)).detach()
    np.testing.assert_allclose(folded.weight, (net[1].weight[:, 0] * gain[:, None, None]).detach(), rtol=1e-5)
    np.testing.assert_array_equal(plain.weight, net[4].weight[:, 0].detach())
    np.testing.assert_array_equal(plain.bias, net[4].bias.detach())
    assert (folded.stride, folded.dilation, folded.multiplier, folded.bn_folded) == ((2, 2), (1, 1), 1, True)
    assert (plain.key, plain.stride, plain.dilation, plain.multiplier, plain.bn_folded) == (
        "4.weight",
        (1, 1),
        (2, 2),
        2,
        False,
    )
    assert read_onnx(path).skipped == {Why.TRANSPOSED: 1}


def test_smoothings_beside_learned_layers_are_left_out(read):
    """As in networks with BlurPool, whose kernels are constants of the graph."""
    blur = stored("b", np.tile(np.outer([1, 2, 1], [1, 2, 1]) / 16, (C, 1, 1, 1)).astype(np.float32))
    reading = read(model([conv("w", y="z"), conv("b", x="z")], [stored("w", W), blur]))
    assert [layer.key for layer in reading.layers] == ["w"] and reading.skipped == {Why.FIXED: 1}
    assert [layer.key for layer in read(model([conv("b")], [blur])).layers] == ["b"]


def test_types_that_no_weights_have_are_listed(read):
    tensor = helper.make_tensor("w", TensorProto.FLOAT8E4M3FN, W.shape, W.reshape(-1))
    reading = read(model([conv("w")], [tensor]))
    assert not reading.layers and list(reading.skipped) == ["weights of ONNX type 17"]


def test_results_of_arithmetic_are_tensors_of_their_own_and_bounded(read):
    scales = [stored("a", ONE), stored("b", 2 * ONE)]
    nodes = [helper.make_node("Mul", ["m", "a"], ["v"]), helper.make_node("Mul", ["m", "b"], ["w"])]
    reading = read(model([*nodes, conv("v", y="z"), conv("w", x="z")], [stored("m", W), *scales]))
    assert [layer.weight[0, 0, 0] / W[0, 0, 0, 0] for layer in reading.layers] == [ONE[0], 2 * ONE[0]]
    long = [stored("m", np.ones((60_000, 1), np.float32)), stored("a", np.ones((1, 60_000), np.float32))]
    shape = [stored("t", np.array([60_000, 1, 300, 200], np.int64)), helper.make_node("Reshape", ["v", "t"], ["w"])]
    with pytest.raises(SourceError, match="bytes"):
        read(model([nodes[0], shape[1], conv("w", group=60_000)], [*long, shape[0]], channels=60_000))


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
