"""The TFLite reader on files built by hand; convolutions are checked against a loop over the format's own layout."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import pytest
import tflite
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mkfa.errors import MkfaError, SourceError
from mkfa.harvest import harvest
from mkfa.sources.found import Reading
from mkfa.sources.graphfile import DamagedError, Why
from mkfa.sources.tflite import read_tflite
from mkfa.sources.tflite_sparse import Level, densify

OP, KIND, ACT = tflite.BuiltinOperator, tflite.TensorType, tflite.ActivationFunctionType
RNG = np.random.default_rng(20260723)


@dataclass
class T:
    """A tensor; `data` None makes one without a buffer. `sparse` is (traversal, block map, levels)."""

    shape: Sequence[int]
    data: np.ndarray | bytes | None = None
    kind: int = KIND.FLOAT32
    scale: Sequence[float] = ()
    zero: Sequence[int] = ()
    dim: int = 0
    sparse: tuple[Sequence[int], Sequence[int], Sequence[Level]] | None = None
    name: str = ""
    buffer: int | None = None
    behind: bool = False


@dataclass
class Op:
    code: int
    inputs: Sequence[int]
    outputs: Sequence[int]
    options: str = ""
    values: dict[str, Any] = field(default_factory=dict)


def depthwise(inputs: Sequence[int], output: int, **values: Any) -> Op:
    given = {"StrideW": 1, "StrideH": 1, "DepthMultiplier": 1, "DilationWFactor": 1, "DilationHFactor": 1}
    return Op(OP.DEPTHWISE_CONV_2D, inputs, [output], "DepthwiseConv2DOptions", given | values)


def plain_conv(inputs: Sequence[int], output: int, **values: Any) -> Op:
    given = {"StrideW": 1, "StrideH": 1, "DilationWFactor": 1, "DilationHFactor": 1}
    return Op(OP.CONV_2D, inputs, [output], "Conv2DOptions", given | values)


def table(b: Any, kind: str, **fields: Any) -> int:
    getattr(tflite, f"{kind}Start")(b)
    for name, value in fields.items():
        if value is not None:
            getattr(tflite, f"{kind}Add{name}")(b, value)
    return int(getattr(tflite, f"{kind}End")(b))


def offsets(b: Any, start: Any, items: Sequence[int]) -> int:
    start(b, len(items))
    for item in reversed(items):
        b.PrependUOffsetTRelative(item)
    return int(b.EndVector())


def ints(b: Any, values: Sequence[int], dtype: Any = np.int32) -> int | None:
    return b.CreateNumpyVector(np.array(values, dtype)) if len(values) else None


def sparsity(b: Any, parts: tuple[Sequence[int], Sequence[int], Sequence[Level]]) -> int:
    traversal, block_map, levels = parts
    made = []
    for level in levels:
        if level.segments is None:
            made.append(table(b, "DimensionMetadata", Format=0, DenseSize=level.size))
            continue
        seg = table(b, "Int32Vector", Values=b.CreateNumpyVector(level.segments.astype(np.int32)))
        idx = table(b, "Uint8Vector", Values=b.CreateNumpyVector(level.indices.astype(np.uint8)))
        made.append(table(b, "DimensionMetadata", Format=1, ArraySegmentsType=1, ArraySegments=seg,
                          ArrayIndicesType=3, ArrayIndices=idx))  # fmt: skip
    dims = offsets(b, tflite.SparsityParametersStartDimMetadataVector, made)
    return table(
        b,
        "SparsityParameters",
        TraversalOrder=ints(b, traversal),
        BlockMap=ints(b, block_map),
        DimMetadata=dims,
    )


def build(*graphs: tuple[Sequence[T], Sequence[Op]], old_codes: bool = False, behind_at: int = 0) -> bytes:
    """Return a TFLite file. Tensors marked `behind` have their data after the flatbuffer (as in models above 2 GB)."""
    b = flatbuffers.Builder(1024)
    codes = sorted({op.code for _, ops in graphs for op in ops})
    buffers = [table(b, "Buffer")]
    tail = b""
    made_graphs = []
    for tensors, ops in graphs:
        made = []
        for number, t in enumerate(tensors):
            index = t.buffer or 0
            if t.data is not None:
                raw = t.data if isinstance(t.data, bytes) else np.ascontiguousarray(t.data).tobytes()
                index = len(buffers)
                if t.behind:
                    buffers.append(table(b, "Buffer", Offset=behind_at + len(tail), Size=len(raw)))
                    tail += raw
                else:
                    buffers.append(table(b, "Buffer", Data=b.CreateNumpyVector(np.frombuffer(raw, np.uint8))))
            q = None
            if len(t.scale) or len(t.zero):
                scale = b.CreateNumpyVector(np.array(t.scale, np.float32)) if len(t.scale) else None
                q = table(b, "QuantizationParameters", Scale=scale, ZeroPoint=ints(b, t.zero, np.int64),
                          QuantizedDimension=t.dim)  # fmt: skip
            parts = sparsity(b, t.sparse) if t.sparse else None
            label = b.CreateString(t.name or f"t{number}")
            made.append(table(b, "Tensor", Name=label, Shape=ints(b, t.shape), Type=t.kind, Buffer=index,
                              Quantization=q, Sparsity=parts))  # fmt: skip
        operators = []
        for op in ops:
            kind = getattr(tflite.BuiltinOptions, op.options) if op.options else 0
            options = table(b, op.options, **op.values) if op.options else None
            operators.append(table(b, "Operator", OpcodeIndex=codes.index(op.code), Inputs=ints(b, op.inputs),
                                   Outputs=ints(b, op.outputs), BuiltinOptionsType=kind,
                                   BuiltinOptions=options))  # fmt: skip
        made_graphs.append(table(b, "SubGraph", Tensors=offsets(b, tflite.SubGraphStartTensorsVector, made),
                                 Operators=offsets(b, tflite.SubGraphStartOperatorsVector, operators)))  # fmt: skip
    made_codes = [
        table(b, "OperatorCode", DeprecatedBuiltinCode=min(c, 127), BuiltinCode=None if old_codes else c)
        for c in codes
    ]
    model = table(
        b, "Model", Version=3, OperatorCodes=offsets(b, tflite.ModelStartOperatorCodesVector, made_codes),
        Subgraphs=offsets(b, tflite.ModelStartSubgraphsVector, made_graphs),
        Buffers=offsets(b, tflite.ModelStartBuffersVector, buffers),
    )  # fmt: skip
    b.Finish(model, file_identifier=b"TFL3")
    out = bytes(b.Output())
    return out + b"\0" * (behind_at - len(out)) + tail if tail else out


@pytest.fixture
def read(tmp_path: Path) -> Callable[[bytes], Reading]:
    def save_and_read(data: bytes) -> Reading:
        path = tmp_path / "m.tflite"
        path.write_bytes(data)
        return read_tflite(path, "")

    return save_and_read


def taps(*shape: int) -> np.ndarray:
    return (RNG.integers(-40, 40, shape) / 16).astype(np.float32)


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
                                r * v["StrideH"] + i * v["DilationHFactor"],
                                c * v["StrideW"] + j * v["DilationWFactor"],
                            ]
                            y[r, c, oc] += float(pixel[ic]) * float(flat[((0 * kh + i) * kw + j) * out + oc])
    return y


@pytest.mark.parametrize(
    ("kh", "kw", "m", "stride", "dilation"),
    [(3, 3, 1, (1, 1), (1, 1)), (1, 5, 1, (2, 1), (1, 1)), (3, 2, 3, (1, 2), (2, 1))],
)
def test_layout_against_a_loop_over_the_stored_filter(read, kh, kw, m, stride, dilation):
    weight, x = taps(1, kh, kw, 4 * m), taps(9, 11, 4)
    op = depthwise([0, 1, 2], 3, DepthMultiplier=m, StrideH=stride[0], StrideW=stride[1], DilationHFactor=dilation[0],
                   DilationWFactor=dilation[1])  # fmt: skip
    bias = taps(4 * m)
    tensors = [T([1, 9, 11, 4]), T(weight.shape, weight, name="w"), T([4 * m], bias), T([1, 1, 1, 4 * m])]
    (layer,) = read(build((tensors, [op]))).layers
    assert (layer.key, layer.multiplier, layer.stride, layer.dilation) == ("w", m, stride, dilation)
    got = torch.nn.functional.conv2d(
        torch.from_numpy(x.transpose(2, 0, 1).copy())[None], torch.from_numpy(layer.weight)[:, None], None, stride, 0,
        dilation, 4,
    )[0].numpy().transpose(1, 2, 0)  # fmt: skip
    np.testing.assert_allclose(got, reference(x, weight.reshape(-1), weight.shape, op), atol=1e-4)
    np.testing.assert_array_equal(layer.bias, bias)


def test_multiplier_comes_from_the_input_and_from_the_option_where_the_input_is_open(read):
    for shape in ([1, 9, 9, 4], [1, 9, 9, -1], []):
        tensors = [T(shape), T([1, 3, 3, 8], taps(1, 3, 3, 8)), T([1])]
        (layer,) = read(build((tensors, [depthwise([0, 1], 2, DepthMultiplier=2)]))).layers
        assert layer.multiplier == 2


W = taps(1, 3, 3, 4)
HALF = W.astype(np.float16)
Q = RNG.integers(-128, 127, (1, 3, 3, 4)).astype(np.int8)
NIBBLES = RNG.integers(-8, 7, 36).astype(np.int8)
X, Y = T([1, 9, 9, 4]), T([1, 7, 7, 4])


def packed() -> bytes:
    low = NIBBLES.astype(np.uint8) & 15
    return (low[0::2] | (low[1::2] << 4)).astype(np.uint8).tobytes()


EACH = [0.25, 0.5, 0.125, 1.0]
FORMS: dict[str, tuple[T, np.ndarray, str]] = {
    "float32": (T(W.shape, W), W, "float32"),
    "int8 per channel": (T(Q.shape, Q, KIND.INT8, EACH, [0, 1, -2, 3], 3),
                         (Q - np.array([0, 1, -2, 3])) * np.array(EACH), "int8"),
    "int8 without zero point": (T(Q.shape, Q, KIND.INT8, EACH, [], 3), Q * np.array(EACH), "int8"),
    "uint8 per tensor": (T(Q.shape, Q.view(np.uint8), KIND.UINT8, [0.5], [128]),
                         (Q.view(np.uint8) - 128.0) * 0.5, "uint8"),
    "int4 per channel": (T(Q.shape, packed(), KIND.INT4, EACH, [], 3),
                         NIBBLES.reshape(Q.shape) * np.array(EACH), "int4"),
    "int16 per tensor": (T(Q.shape, Q.astype(np.int16) * 9, KIND.INT16, [0.5], [0]), Q * 4.5, "int16"),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_stored_forms(read, form):
    tensor, expected, dtype = FORMS[form]
    (layer,) = read(build(([X, tensor, Y], [depthwise([0, 1], 2)]))).layers
    np.testing.assert_array_equal(layer.weight, expected[0].transpose(2, 0, 1))
    assert layer.dtype == dtype


@pytest.mark.parametrize("form", ["float16", "bfloat16", "int8"])
def test_weights_behind_dequantize(read, form):
    top = (W.view(np.uint32) >> 16).astype("<u2")
    stored = {"float16": T(W.shape, HALF, KIND.FLOAT16, name="half"),
              "bfloat16": T(W.shape, top, KIND.BFLOAT16, name="half"),
              "int8": T(Q.shape, Q, KIND.INT8, [0.5], [0], name="half")}[form]  # fmt: skip
    expected = Q * np.float32(0.5) if form == "int8" else W
    ops = [Op(OP.DEQUANTIZE, [3], [1], "DequantizeOptions"), depthwise([0, 1], 2)]
    (layer,) = read(build(([X, T(W.shape), Y, stored], ops))).layers
    np.testing.assert_array_equal(layer.weight, expected[0].transpose(2, 0, 1))
    assert (layer.key, layer.dtype) == ("half", form)


def test_int32_bias_is_dequantised(read):
    bias = T([4], np.array([8, -8, 4, 2], np.int32), KIND.INT32, EACH, [0] * 4, 0)
    tensors = [X, FORMS["int8 per channel"][0], bias, Y]
    (layer,) = read(build((tensors, [depthwise([0, 1, 2], 3)]))).layers
    np.testing.assert_array_equal(layer.bias, [2, -4, 0.5, 2])
    for hidden in (T([4]), T([4], np.ones(4, np.int32), KIND.INT32)):
        reading = read(build(([X, FORMS["float32"][0], hidden, Y], [depthwise([0, 1, 2], 3)])))
        assert reading.layers[0].bias is None and any("bias" in note for note in reading.notes)


# Sparse tensors


def encode(dense: np.ndarray, traversal: Sequence[int], block_map: Sequence[int], blocks: Sequence[int],
           compressed: Sequence[bool]) -> tuple[np.ndarray, list[Level]]:  # fmt: skip
    """Encode by recursion over single elements, as the format's description reads; independent of the decoder."""
    rank = dense.ndim
    size = dict(zip(block_map, blocks, strict=True))
    extent = [dense.shape[d] // size.get(d, 1) if d < rank else blocks[d - rank] for d in traversal]
    values: list[float] = []
    segments: list[list[int]] = [[0] for _ in traversal]
    indices: list[list[int]] = [[] for _ in traversal]

    def part(chosen: dict[int, int]) -> np.ndarray:
        keep = np.ones(dense.shape, bool)
        for d, index in chosen.items():
            at = np.indices(dense.shape)[d if d < rank else block_map[d - rank]]
            step = size.get(d, 1) if d < rank else blocks[d - rank]
            keep &= (at // step if d < rank else at % step) == index
        return dense[keep]

    def descend(level: int, chosen: dict[int, int]) -> None:
        if level == len(traversal):
            values.append(part(chosen).item())
            return
        for index in range(extent[level]):
            below = {**chosen, traversal[level]: index}
            if compressed[level]:
                if not part(below).any():
                    continue
                indices[level].append(index)
            descend(level + 1, below)
        if compressed[level]:
            segments[level].append(len(indices[level]))

    descend(0, {})
    levels = [
        Level(segments=np.array(segments[i]), indices=np.array(indices[i]))
        if compressed[i]
        else Level(size=extent[i])
        for i in range(len(traversal))
    ]
    return np.array(values, dense.dtype), levels


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
    values, levels = encode(
        dense, traversal, blocked, [2] * len(blocked), [*compressed, *[False] * len(blocked)]
    )
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
    tensors = [X, T(W.shape), Y, T(W.shape, kind=KIND.FLOAT16),
               T(W.shape, values, KIND.FLOAT16, sparse=([0, 1, 2, 3], [], levels))]  # fmt: skip
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
        (
            (4, 4),
            [0, 1],
            [],
            [Level(size=4), Level(segments=np.array([0, 5, 2, 3, 3]), indices=np.arange(3))],
        ),
        (
            (4, 4),
            [0, 1],
            [],
            [Level(size=4), Level(segments=np.array([0, 1, 2, 3, 9]), indices=np.arange(3))],
        ),
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
        (
            (4, 4),
            [0, 1],
            [],
            [Level(size=4), Level(segments=np.array([0, 1, 1, 1, 1]), indices=np.array([0]))],
        ),
    ],
)
def test_sparse_tables_that_contradict_themselves(shape, traversal, block_map, levels):
    with pytest.raises(DamagedError):
        densify(np.ones(4, np.float32), shape, traversal=traversal, block_map=block_map, levels=levels)


# What is taken


def test_plain_convolutions_with_one_channel_a_group_are_depthwise(read):
    weight = taps(8, 3, 5, 1)
    tensors = [X, T(weight.shape, weight), Y]
    (layer,) = read(build((tensors, [plain_conv([0, 1], 2, StrideW=2)]))).layers
    np.testing.assert_array_equal(layer.weight, weight[..., 0])
    assert (layer.multiplier, layer.stride) == (2, (1, 2))


def test_what_is_not_taken_is_counted(read):
    gray, flat = T([1, 9, 9, 1]), T([1, 1, 99, 4])
    tensors = [
        X, T([4, 3, 3, 4], taps(4, 3, 3, 4)), T([4, 3, 3, 2], taps(4, 3, 3, 2)), T([1, 1, 1, 4], taps(1, 1, 1, 4)),
        gray,
        T([8, 3, 3, 1], taps(8, 3, 3, 1)), T([1, 3, 3, 8], taps(1, 3, 3, 8)), flat, T([1, 1, 9, 4], taps(1, 1, 9, 4)),
        T(W.shape), T(W.shape, W), Y, T(Q.shape, Q, KIND.INT8), T([8, 1, 1, 1], taps(8, 1, 1, 1)),
        T(W.shape, W.astype(np.complex64), KIND.COMPLEX64),
    ]  # fmt: skip
    ops = [
        plain_conv([0, 1], 11), plain_conv([0, 2], 11), depthwise([0, 3], 11), plain_conv([4, 5], 11),
        depthwise([4, 6], 11), depthwise([7, 8], 11), depthwise([0, 9], 11), depthwise([0, 10], 11),
        depthwise([0, 10], 11), depthwise([0, 12], 11), Op(OP.TRANSPOSE_CONV, [0, 1], [11]),
        Op(OP.CONV_3D, [0, 1], [11]), plain_conv([4, 13], 11), plain_conv([0, 13], 11),
        depthwise([0, 14], 11),
    ]  # fmt: skip
    reading = read(build((tensors, ops)))
    assert len(reading.layers) == 1
    assert reading.skipped == {
        Why.GROUPED: 1, Why.ONE_BY_ONE: 2, Why.STEM: 2, Why.ONE_D: 1, Why.RUN_TIME: 1,
        Why.SHARED: 1, Why.TRANSPOSED: 1, Why.THREE_D: 1, "quantised weights without a scale": 1,
        "weights of TFLite type 8": 1,
    }  # fmt: skip


def test_network_without_depthwise_layers_says_what_it_has(tmp_path):
    path = tmp_path / "m.tflite"
    path.write_bytes(build(([X, T([4, 3, 3, 4], taps(4, 3, 3, 4)), Y], [plain_conv([0, 1], 2)])))
    with pytest.raises(SourceError, match="no depthwise layer: it holds 1 convolution, none depthwise"):
        harvest(str(path))


def test_bodies_come_where_they_are_run_and_shared_buffers_count_once(read):
    def graph(weight: T, *ops: Op) -> tuple[list[T], list[Op]]:
        return [X, weight, Y], [*ops]

    main = [X, T(W.shape, W, name="a"), Y, T(W.shape, taps(1, 3, 3, 4), name="d")], [
        depthwise([0, 1], 2), Op(OP.IF, [0], [2], "IfOptions", {"ThenSubgraphIndex": 2, "ElseSubgraphIndex": 1}),
        Op(OP.WHILE, [0], [2], "WhileOptions", {"CondSubgraphIndex": 1, "BodySubgraphIndex": 4}), depthwise([0, 3], 2),
    ]  # fmt: skip
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
    [(ACT.RELU6, None, True, True), (ACT.RELU6, None, False, False), (ACT.NONE, OP.HARD_SWISH, True, True),
     (ACT.NONE, OP.ADD, True, False)],
)  # fmt: skip
def test_folding_is_inferred_from_bias_and_activation(read, fused, behind, bias, folded):
    ops = [depthwise([0, 1, 2] if bias else [0, 1, -1], 3, FusedActivationFunction=fused)]
    ops += [Op(behind, [3], [4])] if behind is not None else []
    (layer,) = read(build(([X, T(W.shape, W), T([4], taps(4)), Y, Y], ops))).layers
    assert layer.bn_folded is folded
    assert (layer.bias is not None) is bias


# Damage


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
    monkeypatch.setattr("mkfa.sources.tflite_tables.MOST_TABLES", 50)
    with pytest.raises(SourceError, match="more than 50 tables"):
        read(many)


def test_missing_package_names_the_remedy(read, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tflite", None)
    with pytest.raises(MkfaError, match=r"pip install 'mkfa\[tflite\]'"):
        read(build(([X, T(W.shape, W), Y], [depthwise([0, 1], 2)])))


def whole_model() -> bytes:
    """A small model with most of what the reader knows, to be damaged."""
    values, levels = encode(W * (W > 1), [0, 3, 1, 2, 4], [3], [2], [False, True, False, True, False])
    tensors = [X, FORMS["int8 per channel"][0], T([4], taps(4)), Y, T(W.shape),
               T(W.shape, HALF, KIND.FLOAT16), T(W.shape),
               T(W.shape, values, sparse=([0, 3, 1, 2, 4], [3], levels))]  # fmt: skip
    ops = [depthwise([0, 1, 2], 3), Op(OP.DEQUANTIZE, [5], [4]), depthwise([0, 4], 3), Op(OP.DENSIFY, [7], [6]),
           depthwise([0, 6], 3), Op(OP.IF, [0], [3], "IfOptions", {"ThenSubgraphIndex": 1})]  # fmt: skip
    return build((tensors, ops), ([X, T(W.shape, taps(1, 3, 3, 4)), Y], [depthwise([0, 1], 2)]))


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
