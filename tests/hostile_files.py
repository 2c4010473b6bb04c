"""Small files that ask a reader for much: parts that refer to each other, regions that many tensors share.

Each builder takes a number that scales the file and returns name -> bytes; the first file is the one to read. The
files are sound, so that no check of the format refuses them.
"""

from __future__ import annotations

import io
import itertools
import json
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent / "readers")]

from hostile_hdf5 import HDF5  # noqa: E402
from hostile_pickles import PICKLES  # noqa: E402

Files = dict[str, bytes]
W = (np.arange(36) % 7 - 3).reshape(4, 1, 3, 3).astype(np.float32)


def safetensors(entries: dict[str, Any], data: bytes) -> Files:
    header = json.dumps(entries).encode()
    return {"m.safetensors": struct.pack("<Q", len(header)) + header + data}


def layers(keys: list[str]) -> Files:
    """Return a safetensors file with one depthwise layer a key."""
    entries = {
        key: {"dtype": "F32", "shape": [4, 1, 3, 3], "data_offsets": [144 * i, 144 * i + 144]}
        for i, key in enumerate(keys)
    }
    numbers = np.random.default_rng(0).normal(size=(len(keys), 36)).astype("<f4")
    return safetensors(entries, numbers.tobytes())


def one_key_of_dots(n: int) -> Files:
    return layers(["." * 20 * n + "weight"])


def keys_of_many_parts(n: int) -> Files:
    return layers([f"{'a.' * 400}{i}.weight" for i in range(n)])


def long_keys(n: int) -> Files:
    return layers([f"{'a1' * 480}{i}.weight" for i in range(n)])


def many_layers(n: int) -> Files:
    return layers([f"b{i}.weight" for i in range(10 * n)])


def empty_tensors(n: int) -> Files:
    entry = {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}
    return safetensors({f"a.{i}": entry for i in range(50 * n)}, b"")


def nested_objects(n: int) -> Files:
    return safetensors({"__metadata__": [{"": 0}] * 400 * n}, b"")


def onnx_file(nodes: list[Any], tensors: list[Any] = (), **more: Any) -> Files:  # type: ignore[assignment]
    import onnx_models as made

    return {"m.onnx": made.model(nodes, tensors, **more).SerializeToString()}


def stored(name: str, array: Any) -> Any:
    import onnx_models as made

    return made.stored(name, np.asarray(array))


def node(kind: str, inputs: list[str], output: str, **more: Any) -> Any:
    from onnx import helper

    return helper.make_node(kind, inputs, [output], **more)


def conv(weight: str, x: str = "x", y: str = "y", **more: Any) -> Any:
    return node("Conv", [x, weight], y, group=4, **more)


def chain_of_dequantisations(n: int) -> Files:
    tensor = stored("q0", np.ones((4, 1, 3, 3), np.int8))
    steps = [node("DequantizeLinear", [f"q{i}"] * 3, f"q{i + 1}") for i in range(min(n, 60))]
    one = stored("q0", np.ones((), np.float32))
    return onnx_file(
        [*steps, node("Mul", ["x", f"q{len(steps)}"], "z"), conv("w")], [one if n % 2 else tensor, stored("w", W)]
    )


def chain_for_a_weight(n: int) -> Files:
    tensor = stored("s", np.ones(1, np.float32))
    steps = [
        node("DequantizeLinear", [f"q{i}", f"q{i}" if i else "s", f"q{i}"], f"q{i + 1}", axis=0)
        for i in range(min(n, 60))
    ]
    return onnx_file([*steps, conv(f"q{len(steps)}")], [tensor, stored("q0", np.ones((4, 1, 3, 3), np.int8))])


def chain_of_casts(n: int) -> Files:
    names = ["w", *(f"c{i}" for i in range(100 * n))]
    steps = [node("Cast", [a], b, to=1) for a, b in itertools.pairwise(names)]
    shifts = [node("Mul", ["x", name], f"m{name}") for name in names]
    return onnx_file([*steps, *shifts, conv("w")], [stored("w", W)])


def many_nodes(n: int) -> Files:
    return onnx_file([*(node("Relu", ["x"], f"r{i}") for i in range(200 * n)), conv("w")], [stored("w", W)])


def shared_readers(n: int) -> Files:
    convs = [conv(f"w{i}", y="y") for i in range(20 * n)]
    readers = [node("Relu", ["y"], f"r{i}") for i in range(20 * n)]
    return onnx_file([*convs, *readers], [stored(f"w{i}", W) for i in range(20 * n)])


def wide_readers(n: int) -> Files:
    convs = [conv(f"w{i}", y="y") for i in range(10 * n)]
    return onnx_file([*convs, node("Mul", ["y"] * 200 * n, "m")], [stored(f"w{i}", W) for i in range(10 * n)])


def chains_of_activations(n: int) -> Files:
    convs = [conv(f"w{i}", y=f"y{i}") for i in range(10 * n)]
    joined = [node("Relu", [f"y{i}" for i in range(10 * n)], "r")]
    return onnx_file(
        [*convs, *joined, *(node("Add", ["r", "r"], f"a{i}") for i in range(100 * n))],
        [stored(f"w{i}", W) for i in range(10 * n)],
    )


def inputs_of_functions(n: int) -> Files:
    from onnx import helper

    names = [f"i{i}" for i in range(50 * n)]
    function = helper.make_function("own", "f", names, [], [], [helper.make_opsetid("", 21)])
    calls = [node("f", ["x"], f"c{i}", domain="own") for i in range(20 * n)]
    return onnx_file([*calls, conv("w")], [stored("w", W)], functions=[function])


def doubling_functions(n: int) -> Files:
    from onnx import helper

    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("own", 1)]
    functions = [
        helper.make_function(
            "own",
            f"f{i}",
            ["a"],
            ["b"],
            [node(f"f{i - 1}" if i else "Relu", ["a"], y, domain="own" * bool(i)) for y in "bc"],
            opsets,
        )
        for i in range(min(n, 60))
    ]
    return onnx_file(
        [node(f"f{len(functions) - 1}", ["x"], "z", domain="own"), conv("w")], [stored("w", W)], functions=functions
    )


def nested_branches(n: int) -> Files:
    from onnx import helper

    body = [node("Relu", ["x"], f"r{i}") for i in range(20 * n)]
    for depth in range(20):
        graph = helper.make_graph(body, f"g{depth}", [], [])
        body = [node("If", ["x"], f"o{depth}", then_branch=graph)]
    return onnx_file([*body, conv("w")], [stored("w", W)])


def scans_of_many_steps(n: int) -> Files:
    """Scans in Scans, each over the slices of one tensor: a body is visited once for each slice."""
    from onnx import TensorProto, helper

    def value(name: str) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, None)

    body, name = [conv("k0")], "k0"
    tensors = []
    for depth in range(3):
        graph = helper.make_graph(body, "g", [value(name)], [])
        tensors.append(stored(f"s{depth}", np.broadcast_to(W, (10 * n, *W.shape))))
        body = [node("Scan", [f"s{depth}"], f"y{depth}", body=graph, num_scan_inputs=1)]
        del body[0].output[:]
        name = f"k{depth + 1}"
    return onnx_file(body, tensors)


def empty_messages(n: int) -> Files:
    """A node with attributes of two bytes each."""
    files = onnx_file([node("Relu", ["x"], "r"), conv("w")], [stored("w", W)])
    inner = b"\x0a\x01x\x12\x01r\x22\x04Relu" + b"\x2a\x00" * (2000 * n)
    graph = b"\x0a" + varint(len(inner)) + inner
    return {"m.onnx": files["m.onnx"] + b"\x3a" + varint(len(graph)) + graph}


def varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def many_dimensions(n: int) -> Files:
    files = onnx_file([conv("w")], [stored("v", W)])
    tensor = b"\x08" + b"\xff" * 8 + b"\x7f"  # one dimension of 63 bits
    tensor = tensor * (100 * n) + b"\x10\x01\x42\x01w"
    graph = b"\x2a" + varint(len(tensor)) + tensor
    return {"m.onnx": files["m.onnx"] + b"\x3a" + varint(len(graph)) + graph}


def one_external_region(n: int) -> Files:
    from onnx import TensorProto

    size = 40_000 * n
    tensors = []
    for i in range(100):
        tensor = TensorProto(name=f"w{i}", data_type=1, dims=[size // 36, 1, 3, 3], data_location=1)
        tensor.external_data.add(key="location", value="m.data")
        tensor.external_data.add(key="length", value=str(size // 36 * 36))
        tensors.append(tensor)
    group = size // 36
    nodes = [node("Conv", ["x", f"w{i}"], f"y{i}", group=group) for i in range(100)]
    return onnx_file(nodes, tensors) | {"m.data": bytes(range(64, 128)) * (size // 64 + 1)}


def sparse_tensors(n: int) -> Files:
    from onnx import helper

    rows = 1000 * n
    sparse = [
        helper.make_sparse_tensor(stored(f"w{i}", np.ones(1, np.float32)), stored("", np.array([i])), [rows, 1, 3, 3])
        for i in range(100)
    ]
    nodes = [node("Conv", ["x", f"w{i}"], f"y{i}", group=rows) for i in range(100)]
    return onnx_file(nodes, sparse=sparse)


def one_tflite_region(n: int) -> Files:
    """Return a model with 200 buffers, each an offset and size behind the flatbuffer that name the same bytes."""
    import tflite
    from tflite_models import KIND, T, build, depthwise

    channels = 4000 * n
    tensors = [T((1, 8, 8, channels))]
    tensors += [T((1, 3, 3, channels), np.zeros(36, np.uint8), kind=KIND.INT8, scale=[1.0], behind=True)] * 200
    operators = [depthwise([0, i + 1], 0) for i in range(200)]
    content = bytearray(build((tensors, operators)))
    content += bytes(16)
    region = len(content)
    content += bytes(range(64, 128)) * (9 * channels // 64 + 1)
    model = tflite.Model.GetRootAs(bytes(content), 0)
    for i in range(model.BuffersLength()):
        buffer = model.Buffers(i)
        for slot, value in ((6, region), (8, 9 * channels)):
            if place := buffer._tab.Offset(slot):
                struct.pack_into("<Q", content, buffer._tab.Pos + place, value)
    return {"m.tflite": bytes(content)}


def tfjs(nodes: list[Any], groups: list[Any], shard: bytes) -> Files:
    content = {"format": "graph-model", "modelTopology": {"node": nodes}, "weightsManifest": groups}
    return {"model.json": json.dumps(content).encode(), "a.bin": shard}


def tfjs_conv(weight: str, y: str) -> Any:
    return {"name": y, "op": "DepthwiseConv2dNative", "input": ["x", weight], "attr": {}}


def one_shard_of_many_groups(n: int) -> Files:
    channels = 1000 * n
    spec = {
        "shape": [3, 3, channels, 1],
        "dtype": "uint8",
        "quantization": {"dtype": "uint8", "scale": 1.0, "min": 0.0},
    }
    groups = [{"paths": ["a.bin"], "weights": [spec | {"name": f"w{i}"}]} for i in range(100)]
    return tfjs([tfjs_conv(f"w{i}", f"y{i}") for i in range(100)], groups, bytes(range(90)) * (channels // 10))


def one_shard_named_again(n: int) -> Files:
    spec = {"name": "w", "shape": [3, 3, 4, 1], "dtype": "float32"}
    groups = [{"paths": ["a.bin"] * 100 * n, "weights": [spec]}]
    return tfjs([tfjs_conv("w", "y")], groups, bytes(range(64, 128)) * 20_000)


def texts_without_end(n: int) -> Files:
    spec = {"name": "t", "shape": [1 << 39], "dtype": "string"}
    return tfjs([tfjs_conv("w", "y")], [{"paths": ["a.bin"], "weights": [spec]}], bytes(20_000 * n))


def shared_readers_in_tfjs(n: int) -> Files:
    spec = {"shape": [3, 3, 4, 1], "dtype": "float32"}
    weights = [spec | {"name": f"w{i}"} for i in range(10 * n)]
    readers = [{"name": f"r{i}", "op": "Relu", "input": ["y"]} for i in range(20 * n)]
    shard = np.random.default_rng(0).normal(size=360 * n).astype("<f4").tobytes()
    return tfjs(
        [*(tfjs_conv(f"w{i}", "y") for i in range(10 * n)), *readers], [{"paths": ["a.bin"], "weights": weights}], shard
    )


def many_keras_layers(n: int) -> Files:
    spec = {"shape": [3, 3, 4, 1], "dtype": "float32"}
    weights = [spec | {"name": f"l{i}/depthwise_kernel"} for i in range(20 * n)]
    nodes = [{"class_name": "DepthwiseConv2D", "config": {"name": f"l{i}"}} for i in range(20 * n)]
    shard = np.random.default_rng(0).normal(size=720 * n).astype("<f4").tobytes()
    content = {
        "modelTopology": {"model_config": {"class_name": "Functional", "config": {"layers": nodes}}},
        "weightsManifest": [{"paths": ["a.bin"], "weights": weights}],
    }
    return {"model.json": json.dumps(content).encode(), "a.bin": shard}


def many_shards(n: int) -> Files:
    """Files of nearly nothing, each of which would be read for itself."""
    total = min(20 * n, 2000)
    files = {}
    for i in range(total):
        entries = {
            f"b{i}.{j}.weight": {"dtype": "F32", "shape": [0, 1, 3, 3], "data_offsets": [0, 0]} for j in range(n)
        }
        header = json.dumps(entries).encode()
        files[f"model-{i + 1:05d}-of-{total:05d}.safetensors"] = struct.pack("<Q", len(header)) + header
    return files


def one_tensor_of_many_names(n: int) -> Files:
    """Return a PyTorch file whose names are one text of 1,000 characters before a number, and one tensor."""
    import torch

    tensor, inner = torch.from_numpy(W.copy()), "a." * 400
    buffer = io.BytesIO()
    torch.save({inner + f"{i}.weight": tensor for i in range(50 * n)}, buffer)
    return {"m.pth": buffer.getvalue()}


BUILDERS: dict[str, Callable[[int], Files]] = {
    builder.__name__: builder
    for builder in (
        one_key_of_dots,
        keys_of_many_parts,
        long_keys,
        many_layers,
        empty_tensors,
        nested_objects,
        chain_of_dequantisations,
        chain_for_a_weight,
        chain_of_casts,
        many_nodes,
        shared_readers,
        wide_readers,
        chains_of_activations,
        inputs_of_functions,
        doubling_functions,
        nested_branches,
        scans_of_many_steps,
        empty_messages,
        many_dimensions,
        one_external_region,
        sparse_tensors,
        one_tflite_region,
        one_shard_of_many_groups,
        one_shard_named_again,
        texts_without_end,
        shared_readers_in_tfjs,
        many_keras_layers,
        many_shards,
        one_tensor_of_many_names,
        *PICKLES,
        *HDF5,
    )
}
