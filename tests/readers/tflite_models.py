"""TFLite files built by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import tflite

from mkfa.readers.graphs.tflite import read_tflite
from mkfa.readers.graphs.tflite_sparse import Level
from mkfa.readers.reading import Reading

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
        made.append(
            table(
                b,
                "DimensionMetadata",
                Format=1,
                ArraySegmentsType=1,
                ArraySegments=seg,
                ArrayIndicesType=3,
                ArrayIndices=idx,
            )
        )
    dims = offsets(b, tflite.SparsityParametersStartDimMetadataVector, made)
    return table(
        b, "SparsityParameters", TraversalOrder=ints(b, traversal), BlockMap=ints(b, block_map), DimMetadata=dims
    )


def build(*graphs: Any, old_codes: bool = False, behind_at: int = 0) -> bytes:
    """Return a TFLite file of graphs: tensors, operators and, if given, inputs and outputs.

    Tensors marked `behind` have their data after the flatbuffer (as in models above 2 GB).
    """
    b = flatbuffers.Builder(1024)
    codes = sorted({op.code for _, ops, *_ in graphs for op in ops})
    buffers = [table(b, "Buffer")]
    tail = b""
    made_graphs = []
    for tensors, ops, *ends in graphs:
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
                q = table(
                    b,
                    "QuantizationParameters",
                    Scale=scale,
                    ZeroPoint=ints(b, t.zero, np.int64),
                    QuantizedDimension=t.dim,
                )
            parts = sparsity(b, t.sparse) if t.sparse else None
            label = b.CreateString(t.name or f"t{number}")
            made.append(
                table(
                    b,
                    "Tensor",
                    Name=label,
                    Shape=ints(b, t.shape),
                    Type=t.kind,
                    Buffer=index,
                    Quantization=q,
                    Sparsity=parts,
                )
            )
        operators = []
        for op in ops:
            kind = getattr(tflite.BuiltinOptions, op.options) if op.options else 0
            options = table(b, op.options, **op.values) if op.options else None
            operators.append(
                table(
                    b,
                    "Operator",
                    OpcodeIndex=codes.index(op.code),
                    Inputs=ints(b, op.inputs),
                    Outputs=ints(b, op.outputs),
                    BuiltinOptionsType=kind,
                    BuiltinOptions=options,
                )
            )
        made_graphs.append(
            table(
                b,
                "SubGraph",
                Tensors=offsets(b, tflite.SubGraphStartTensorsVector, made),
                Operators=offsets(b, tflite.SubGraphStartOperatorsVector, operators),
                Inputs=ints(b, ends[0]) if ends else None,
                Outputs=ints(b, ends[1]) if ends else None,
            )
        )
    made_codes = [
        table(b, "OperatorCode", DeprecatedBuiltinCode=min(c, 127), BuiltinCode=None if old_codes else c) for c in codes
    ]
    model = table(
        b,
        "Model",
        Version=3,
        OperatorCodes=offsets(b, tflite.ModelStartOperatorCodesVector, made_codes),
        Subgraphs=offsets(b, tflite.ModelStartSubgraphsVector, made_graphs),
        Buffers=offsets(b, tflite.ModelStartBuffersVector, buffers),
    )
    b.Finish(model, file_identifier=b"TFL3")
    out = bytes(b.Output())
    return out + b"\0" * (behind_at - len(out)) + tail if tail else out


def reader(folder: Path) -> Callable[[bytes], Reading]:
    """Return a function that stores a model in a folder and reads it."""

    def save_and_read(data: bytes) -> Reading:
        path = folder / "m.tflite"
        path.write_bytes(data)
        return read_tflite(path)

    return save_and_read


def taps(*shape: int) -> np.ndarray:
    return (RNG.integers(-40, 40, shape) / 16).astype(np.float32)


def encode(
    dense: np.ndarray,
    traversal: Sequence[int],
    block_map: Sequence[int],
    blocks: Sequence[int],
    compressed: Sequence[bool],
) -> tuple[np.ndarray, list[Level]]:
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
        Level(segments=np.array(segments[i]), indices=np.array(indices[i])) if compressed[i] else Level(size=extent[i])
        for i in range(len(traversal))
    ]
    return np.array(values, dense.dtype), levels


W = taps(1, 3, 3, 4)
HALF = W.astype(np.float16)
Q = RNG.integers(-128, 127, (1, 3, 3, 4)).astype(np.int8)
X, Y = T([1, 9, 9, 4]), T([1, 7, 7, 4])
EACH = [0.25, 0.5, 0.125, 1.0]


INT8 = T(Q.shape, Q, KIND.INT8, EACH, [0, 1, -2, 3], 3)
"""Weights with a scale and a zero point for each channel."""


def whole_model() -> bytes:
    """A small model with most of what the reader knows, to be damaged."""
    values, levels = encode(W * (W > 1), [0, 3, 1, 2, 4], [3], [2], [False, True, False, True, False])
    tensors = [
        X,
        INT8,
        T([4], taps(4)),
        Y,
        T(W.shape),
        T(W.shape, HALF, KIND.FLOAT16),
        T(W.shape),
        T(W.shape, values, sparse=([0, 3, 1, 2, 4], [3], levels)),
    ]
    ops = [
        depthwise([0, 1, 2], 3),
        Op(OP.DEQUANTIZE, [5], [4]),
        depthwise([0, 4], 3),
        Op(OP.DENSIFY, [7], [6]),
        depthwise([0, 6], 3),
        Op(OP.IF, [0], [3], "IfOptions", {"ThenSubgraphIndex": 1}),
    ]
    return build((tensors, ops), ([X, T(W.shape, taps(1, 3, 3, 4)), Y], [depthwise([0, 1], 2)]))
