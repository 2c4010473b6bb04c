"""TensorFlow.js models, written as tensorflowjs 4.22 writes them: layers and graph models, shards and quantisation."""

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from keras_files import filters, layer, model, network

from mkfa.errors import SourceError
from mkfa.readers.harvesting import harvest

Numbers = np.ndarray[Any, Any]
Arrays = dict[str, Numbers]


def quantise(
    array: np.ndarray[Any, Any], kind: str
) -> tuple[np.ndarray[Any, Any], dict[str, Any], np.ndarray[Any, Any]]:
    """Stored numbers, what the manifest says of them, and the numbers that they stand for."""
    if kind == "float16":
        stored = array.astype("<f2")
        return stored, {"dtype": "float16", "original_dtype": "float32"}, stored.astype("f4")
    least, scale = float(array.min()), float(np.ptp(array)) / (255 if kind == "uint8" else 65535)
    stored = np.round((array - least) / scale).astype("u1" if kind == "uint8" else "<u2")
    said = {"dtype": kind, "min": least, "scale": scale, "original_dtype": "float32"}
    return stored, said, stored.astype("f4") * np.float32(scale) + np.float32(least)


def write(folder: Path, topology: Any, arrays: Arrays, *, kind: str = "", shard: int = 500) -> Arrays:
    """Write model.json and its shards; return the numbers that the weights stand for."""
    run, specs, values = b"", [], {}
    for name, array in arrays.items():
        spec: dict[str, Any] = {"name": name, "shape": list(array.shape), "dtype": str(array.dtype)}
        values[name] = array
        if array.dtype.kind == "S":
            spec["dtype"] = "string"
            for text in array.reshape(-1):
                run += len(text).to_bytes(4, "little") + bytes(text)
        else:
            if kind and array.dtype == np.float32:
                array, spec["quantization"], values[name] = quantise(array, kind)
            run += array.tobytes()
        specs.append(spec)
    paths = []
    for i in range(0, len(run), shard):
        paths.append(f"group1-shard{i // shard + 1}of{-(-len(run) // shard)}.bin")
        (folder / paths[-1]).write_bytes(run[i : i + shard])
    content = {"format": "x", "modelTopology": topology, "weightsManifest": [{"paths": paths, "weights": specs}]}
    (folder / "model.json").write_text(json.dumps(content))
    return values


@pytest.mark.parametrize("kind", ["", "float16", "uint8", "uint16"])
@pytest.mark.parametrize("nested", [False, True])
def test_a_layers_model(tmp_path: Path, kind: str, nested: bool) -> None:
    layers = network()
    config = model(layers)
    topology = {"model_config": model({"inner": (config, {})}, "outer") if nested else config, "backend": "tensorflow"}
    arrays = {
        f"{'net/' * nested}{name}/{key}": array for name, (_, own) in layers.items() for key, array in own.items()
    }
    values = write(tmp_path, topology, dict(sorted(arrays.items())), kind=kind)  # the manifest is sorted
    bank = harvest(str(tmp_path / "model.json"))
    found = [(x.name.split("/")[-2], x.stride, x.dilation, x.multiplier) for x in bank.layers]
    assert found == [
        ("dw", (2, 2), (1, 1), 2),
        ("sep", (1, 1), (2, 2), 3),
        ("grouped", (1, 1), (1, 1), 2),
        ("last", (1, 1), (1, 1), 1),
    ]
    for x, weight in bank.iter_layers():
        np.testing.assert_array_equal(weight, filters(values[x.name], groups=4 if "grouped" in x.name else 0))
        assert x.dtype == (kind or "float32")
    assert bank.provenance.rule == "graph" and bank.provenance.skipped["1-D convolution"] == 1
    files = [tmp_path / "model.json", *sorted(tmp_path.glob("*.bin"), key=lambda p: int(p.name[12:].split("of")[0]))]
    lines = "".join(f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p.name}\n" for p in files)
    assert bank.provenance.source_sha256 == hashlib.sha256(lines.encode()).hexdigest()


def node(name: str, op: str, *inputs: str, **attributes: Any) -> dict[str, Any]:
    return {"name": name, "op": op, "input": list(inputs), "attr": attributes}


def whole(*numbers: int) -> dict[str, Any]:
    return {"list": {"i": [str(n) for n in numbers]}}


def text(*words: str) -> dict[str, Any]:
    return {"list": {"s": [base64.b64encode(word.encode()).decode() for word in words]}}


STEPS = {"strides": whole(1, 1, 1, 1), "dilations": whole(1, 1, 1, 1)}
SHAPE = {"shape": {"shape": {"dim": [{"size": str(n)} for n in (-1, 32, 32, 3)]}}}


def graph(rng: np.random.Generator) -> tuple[list[dict[str, Any]], Arrays]:
    """A graph as the converter writes it after its own optimiser."""

    def random(*shape: int) -> np.ndarray[Any, Any]:
        return rng.standard_normal(shape).astype("f4")

    weights = {
        "two": np.array([2, 2], "i4"),
        "texts": np.array([b"ab", b"cde"]),
        "stem/w": random(3, 3, 3, 8),
        "dw/w": random(5, 5, 8, 2),
        "dw/b": random(16),
        "dil/w": random(3, 3, 16, 1),
        "dil/b": random(16),
        "own/w": random(3, 3, 16, 1),
        "grouped/w": random(3, 3, 1, 32),
        "depth/w": random(3, 3, 1, 4),
        "one/w": random(1, 1, 16, 1),
        "flat/w": random(1, 3, 16, 1),
    }
    nodes = [node(name, "Const") for name in weights]
    nodes += [
        node("x", "Placeholder", **SHAPE),
        node("gray", "Placeholder", shape={"shape": {"dim": [{"size": "1"}]}}),
        node("stem", "_FusedConv2D", "x", "stem/w", **STEPS),
        node("dw/read", "Identity", "dw/w"),
        node(
            "dw",
            "FusedDepthwiseConv2dNative",
            "stem",
            "dw/read:0",
            "dw/b",
            strides=whole(1, 2, 2, 1),
            dilations=whole(1, 1, 1, 1),
            fused_ops=text("BiasAdd", "Relu6"),
        ),
        node("space", "SpaceToBatchND", "dw", "two", "two"),
        node("dil", "DepthwiseConv2dNative", "space", "dil/w", "^dw", **STEPS),
        node("batch", "BatchToSpaceND", "dil", "two", "two"),
        node("dil/add", "BiasAdd", "batch", "dil/b"),
        node("relu", "Relu", "dil/add"),
        node("own", "DepthwiseConv2dNative", "relu", "own/w", strides=whole(1, 1, 1, 1), dilations=whole(1, 3, 3, 1)),
        node("norm", "FusedBatchNormV3", "own"),
        node("grouped", "Conv2D", "norm", "grouped/w", **STEPS),
        node("again", "DepthwiseConv2dNative", "norm", "own/w", **STEPS),
        node("depth", "Conv2D", "gray", "depth/w", **STEPS),
        node("one", "DepthwiseConv2dNative", "norm", "one/w", **STEPS),
        node("made", "Relu", "norm"),
        node("loose", "DepthwiseConv2dNative", "norm", "made", **STEPS),
        node("row", "ExpandDims", "norm"),
        node("flat", "DepthwiseConv2dNative", "row", "flat/w", **STEPS),
        node("up", "Conv2DBackpropInput", "two", "stem/w", "x"),
    ]
    return nodes, weights


@pytest.mark.parametrize("kind", ["", "float16", "uint8", "uint16"])
def test_a_graph_model(tmp_path: Path, kind: str) -> None:
    nodes, weights = graph(np.random.default_rng(0))
    values = write(tmp_path, {"node": nodes, "library": {}, "versions": {}}, weights, kind=kind, shard=777)
    bank = harvest(str(tmp_path / "model.json"))
    found = [(x.name, x.stride, x.dilation, x.multiplier, x.has_bias, x.bn_folded) for x in bank.layers]
    assert found == [
        ("dw/w", (2, 2), (1, 1), 2, True, True),
        ("dil/w", (1, 1), (2, 2), 1, True, True),
        ("own/w", (1, 1), (3, 3), 1, False, False),
        ("grouped/w", (1, 1), (1, 1), 2, False, False),
    ]
    for i, (x, weight) in enumerate(bank.iter_layers()):
        np.testing.assert_array_equal(weight, filters(values[x.name], groups=16 if "grouped" in x.name else 0))
        if x.has_bias:
            np.testing.assert_array_equal(bank.of_layer(i).bias, values[x.name.replace("/w", "/b")])
    assert bank.provenance.skipped == {
        "1-D convolution": 1,
        "1x1 depthwise convolution": 1,
        "further use of weights that are listed already": 1,
        "one-channel stem": 1,
        "transposed convolution": 1,
        "weights computed at run time": 1,
    }


def test_convolutions_in_functions_of_the_library(tmp_path: Path) -> None:
    weight = np.random.default_rng(0).standard_normal((3, 3, 4, 1)).astype("f4")
    body = [node("w", "Const"), node("conv", "DepthwiseConv2dNative", "x", "w", **STEPS)]
    write(tmp_path, {"node": [node("x", "Placeholder")], "library": {"function": [{"nodeDef": body}]}}, {"w": weight})
    assert [x.name for x in harvest(str(tmp_path / "model.json")).layers] == ["w"]


def changed(folder: Path, change: Any) -> str:
    content = json.loads((folder / "model.json").read_text())
    change(content)
    (folder / "model.json").write_text(json.dumps(content))
    return str(folder / "model.json")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda c: c["weightsManifest"][0].update(paths=["../secret.bin"]), "outside its folder"),
        (lambda c: c["weightsManifest"][0].update(paths=["/etc/passwd"]), "outside its folder"),
        (lambda c: c["weightsManifest"][0].update(paths=["https://x.org/a.bin"]), "outside its folder"),
        (lambda c: c["weightsManifest"][0].update(paths=[3]), "outside its folder"),
        (lambda c: c["weightsManifest"][0]["paths"].append("more.bin"), "does not exist"),
        (lambda c: c["weightsManifest"][0]["paths"].pop(), "claims weights beyond the"),
        (lambda c: c["weightsManifest"][0].update(weights=3), "without paths"),
        (lambda c: c["weightsManifest"][0]["weights"][0].update(shape=[-1]), "a weight of shape"),
        (lambda c: c["weightsManifest"][0]["weights"][0].update(shape=[5, 5, 1 << 30, 2]), "claims weights beyond the"),
        (lambda c: c["weightsManifest"][0]["weights"][0].update(dtype="float3"), "of type float3"),
        (lambda c: c["weightsManifest"][0]["weights"][0].update(dtype="string"), "claims weights beyond the"),
        (lambda c: c["weightsManifest"][0]["weights"][0].pop("name"), "without name"),
        (lambda c: c.update(weightsManifest=[3]), "without paths"),
        (lambda c: c.update(modelTopology=None, weightsManifest=[]), "no depthwise layer"),
    ],
)
def test_models_that_lie_are_refused(tmp_path: Path, change: Any, problem: str) -> None:
    layers = {"dw": (layer("DepthwiseConv2D"), {"depthwise_kernel": network()["dw"][1]["depthwise_kernel"]})}
    arrays = {"dw/depthwise_kernel": layers["dw"][1]["depthwise_kernel"]}
    write(tmp_path, {"model_config": model(layers)}, arrays)
    assert len(harvest(str(tmp_path / "model.json"))) == 16
    with pytest.raises(SourceError, match=problem) as error:
        harvest(changed(tmp_path, change))
    assert "\n" not in str(error.value)


def test_other_json_is_not_a_model(tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text('{"weightsManifest"')
    assert "weightsManifest" in (tmp_path / "model.json").read_text()
    with pytest.raises(SourceError, match="is not JSON"):
        harvest(str(tmp_path / "model.json"))


def test_the_folder_of_a_model_will_do(tmp_path: Path) -> None:
    nodes, weights = graph(np.random.default_rng(0))
    (tmp_path / "web").mkdir()
    write(tmp_path / "web", {"node": nodes}, weights)
    shards = sorted((tmp_path / "web").glob("*.bin"))
    for source in (tmp_path / "web", tmp_path, *shards[:2]):
        assert len(harvest(str(source)).layers) == 4


def test_weights_as_a_browser_saves_them_belong_to_the_model(tmp_path: Path) -> None:
    """`model.save("downloads://model")` writes model.json and model.weights.bin."""
    nodes, weights = graph(np.random.default_rng(0))
    write(tmp_path, {"node": nodes}, weights)
    content = json.loads((tmp_path / "model.json").read_text())
    (group,) = content["weightsManifest"]
    data = b"".join((tmp_path / name).read_bytes() for name in group["paths"])
    for name in group["paths"]:
        (tmp_path / name).unlink()
    group["paths"] = ["model.weights.bin"]
    (tmp_path / "model.weights.bin").write_bytes(data)
    (tmp_path / "model.json").write_text(json.dumps(content))
    assert len(harvest(tmp_path).layers) == 4
