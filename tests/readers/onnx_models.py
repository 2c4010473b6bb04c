"""Small ONNX models, built by hand, and what the reference evaluator makes of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from mkfa.readers.graphs.onnx import read_onnx
from mkfa.readers.reading import Reading

F, C, M = TensorProto.FLOAT, 4, 2
RNG = np.random.default_rng(20260722)


def taps(out: int = C, kh: int = 3, kw: int = 3) -> np.ndarray:
    """Weights (out, 1, kh, kw) that float16 holds exactly, so that every route gives the same bits."""
    return (RNG.integers(-40, 40, (out, 1, kh, kw)) / 16).astype(np.float32)


W = taps()
ONE = np.array([0.25], np.float32)
EACH = np.array([0.25, 0.5, 0.125, 1.0], np.float32)


def conv(weight: str, *, x: str = "x", y: str = "y", bias: str = "", group: int = C, **attributes: Any) -> Any:
    inputs = [x, weight, bias] if bias else [x, weight]
    return helper.make_node("Conv", inputs, [y], name=f"conv_{y}", group=group, **attributes)


def stored(name: str, array: np.ndarray) -> Any:
    return numpy_helper.from_array(np.ascontiguousarray(array), name)


def constant(name: str, **value: Any) -> Any:
    return helper.make_node("Constant", [], [name], **value)


def model(
    nodes: Sequence[Any],
    initialisers: Sequence[Any] = (),
    *,
    functions: Sequence[Any] = (),
    opset: int = 21,
    sparse: Sequence[Any] = (),
    rank: int = 4,
    channels: int = C,
    outputs: Sequence[str] = ("y",),
) -> Any:
    graph = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info("x", F, [1, channels, *["n"] * (rank - 2)])],
        [helper.make_tensor_value_info(name, F, None) for name in outputs],
        list(initialisers),
        sparse_initializer=list(sparse),
    )
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in {f.domain for f in functions})]
    return helper.make_model(graph, functions=list(functions), opset_imports=opsets, ir_version=10)


def branch(name: str, weight: str, tensors: Sequence[Any] = ()) -> Any:
    return helper.make_graph(
        [conv(weight, y=name)], name, [], [helper.make_tensor_value_info(name, F, None)], list(tensors)
    )


def quantised(weight: np.ndarray, dtype: Any, scale: np.ndarray, zero: np.ndarray) -> np.ndarray:
    steps = np.rint(weight / scale.reshape(-1, 1, 1, 1)) + zero.reshape(-1, 1, 1, 1)
    limits = np.iinfo(dtype)
    return np.clip(steps, limits.min, limits.max).astype(dtype)


def blocks() -> tuple[list[Any], list[Any]]:
    rows = W.reshape(C, 9)
    scale = np.linspace(0.1, 0.9, C * 3).reshape(C, 3).astype(np.float32)
    q = np.clip(np.rint(rows / np.repeat(scale, 3, 1)), -8, 7).astype(np.int8)
    nodes = [
        helper.make_node("DequantizeLinear", ["q", "s"], ["d"], axis=1, block_size=3),
        helper.make_node("Reshape", ["d", "t"], ["w"]),
    ]
    tensor = helper.make_tensor("q", TensorProto.INT4, [C, 9], q.reshape(-1).tolist())
    return nodes, [tensor, stored("s", scale), stored("t", np.array([0, 1, 3, -1], np.int64))]


def reader(folder: Path) -> Callable[[Any], Reading]:
    """Return a function that stores a model, given as bytes or as a message, in a folder and reads it."""

    def save_and_read(proto: Any) -> Reading:
        path = folder / "m.onnx"
        path.write_bytes(proto if isinstance(proto, bytes) else proto.SerializeToString())
        return read_onnx(path)

    return save_and_read


def impulse(proto: Any, kh: int = 3, kw: int = 3, channels: int = C) -> np.ndarray:
    """Return the filters that the reference evaluator applies, (out, kh, kw): its answer to an impulse, turned."""
    x = np.zeros((1, channels, 2 * kh - 1, 2 * kw - 1), np.float32)
    x[:, :, kh - 1, kw - 1] = 1
    (y,) = ReferenceEvaluator(proto).run(None, {"x": x})
    return np.asarray(y)[0, :, ::-1, ::-1]


def whole_model() -> bytes:
    """A small model with most of what the reader knows, to be damaged."""
    nodes, tensors = blocks()
    extra = [
        conv("v", x="y", y="z", bias="b"),
        helper.make_node("Relu", ["z"], ["r"]),
        helper.make_node(
            "If", ["flag"], ["i"], then_branch=branch("t", "own", [stored("own", W)]), else_branch=branch("e", "v")
        ),
    ]
    sparse = helper.make_sparse_tensor(stored("sp", ONE), stored("", np.array([3])), [C, 1, 3, 3])
    more = [stored("v", W), stored("b", np.ones(C, np.float32)), stored("flag", np.array(True))]
    return model(
        [*nodes, conv("w"), *extra, conv("sp", x="r", y="k")], [*tensors, *more], sparse=[sparse]
    ).SerializeToString()
