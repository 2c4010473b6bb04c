"""Read the depthwise convolutions of a TensorFlow.js model: model.json with its weight shards.

A layers model has the configuration of a Keras model, a graph model TensorFlow's operators. Nothing in it is run.
Sources: tfjs-core/src/io/types.ts; the operators' attributes: https://www.tensorflow.org/api_docs/python/tf/raw_ops.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mkfa.errors import SourceError
from mkfa.readers.graphs.graph_file import DamagedError, LeftOutError, Sign, Tally, damaged, make_layer, to_float32
from mkfa.readers.graphs.hidden_dilation import PLAIN, Block, after_batch_to_space, after_space_to_batch, spread
from mkfa.readers.graphs.keras_layers import Finder, StoredLayer, Weight, in_order, inner, take_layer
from mkfa.readers.graphs.tfjs_weights import Manifest, read_manifest
from mkfa.readers.options import DEFAULT, ReadOptions
from mkfa.readers.reading import DepthwiseLayer, Reading, Why
from mkfa.storage.files import open_file, read_span, sha256_of

LONGEST_MODEL = 1 << 28
"""Longest model.json that is parsed, bytes."""

_DEEPEST = 8
_DEPTHWISE = ("DepthwiseConv2dNative", "FusedDepthwiseConv2dNative", "_FusedDepthwiseConv2dNative")
_DENSE = ("Conv2D", "_FusedConv2D")
_ACTIVATIONS = ("Relu", "Relu6", "LeakyRelu", "Prelu", "Elu", "Sigmoid", "Tanh", "_FusedHardSwish")
_PASSED = ("Identity", "StopGradient", "CheckNumerics", "ReadVariableOp", "Cast")
_KEEPS_CHANNELS = frozenset(
    (*_ACTIVATIONS, *_PASSED, "BiasAdd", "Add", "AddV2", "Mul", "Sub", "Maximum", "Minimum", "Pad")
)
_KEEPS_CHANNELS |= {"FusedBatchNorm", "FusedBatchNormV3", "MaxPool", "AvgPool", "SpaceToBatchND", "BatchToSpaceND"}
_READABLE = ("float16", "float32", "float64", "uint8", "uint16")


def is_tfjs(path: Path) -> bool:
    """True for a JSON file that has the manifest of a TensorFlow.js model."""
    with open_file(path) as f:
        size = f.seek(0, 2)
        return size <= LONGEST_MODEL and b'"weightsManifest"' in read_span(f, 0, size, thing=path)


def shards_of(path: Path) -> list[str]:
    """Return the names of the shards that a model.json lists, [] for any other file."""
    with contextlib.suppress(SourceError, ValueError, RecursionError, TypeError, LookupError, AttributeError):
        if is_tfjs(path):
            with open_file(path) as f:
                groups = json.loads(read_span(f, 0, f.seek(0, 2), thing=path))["weightsManifest"]
            return [name for group in groups for name in group["paths"] if isinstance(name, str)]
    return []


def read_tfjs(path: Path, options: ReadOptions = DEFAULT) -> Reading:
    """Read a model.json and its shards; parameters and errors as for `mkfa.readers.formats.reader_for`."""
    with open_file(path) as f:
        try:
            model = json.loads(read_span(f, 0, f.seek(0, 2), thing=path))
        except (ValueError, RecursionError):
            raise SourceError(path, "is not JSON", "fetch it again") from None
    topology = model.get("modelTopology") if isinstance(model, dict) else None
    tally, stated = Tally(), True
    try:
        manifest = read_manifest(path, model.get("weightsManifest") if isinstance(model, dict) else None)
        if isinstance(topology, dict) and isinstance(topology.get("node"), list):
            _graph_model(topology, manifest, tally)
        else:
            stated = _layers_model(topology, manifest, tally)
    except (DamagedError, TypeError, ValueError, AttributeError) as error:
        raise damaged(path, error) from None
    digests = {file: sha256_of(file) for file in dict.fromkeys((path, *manifest.files))}
    lines = "".join(f"{digests[file]}  {file.name}\n" for file in (path, *manifest.files))
    tally.notes.append("source_sha256 is that of the lines 'digest  name' of model.json and its shards, in their order")
    reading = tally.reading(options.architecture, hashlib.sha256(lines.encode()).hexdigest())
    return reading if stated else replace(reading, rule="shape")


def _layers_model(topology: Any, manifest: Manifest, tally: Tally) -> bool:
    """Visit a Keras model's layers; return whether its configuration states what every layer taken is."""
    config = topology.get("model_config", topology) if isinstance(topology, dict) else None
    config = config if isinstance(config, dict) and "class_name" in config else None
    by_layer: dict[str, dict[str, Weight]] = defaultdict(dict)
    for name, weight in manifest.weights.items():
        by_layer[name.rpartition("/")[0]][name] = weight
    order = {id(node): i for i, node in enumerate(in_order(config))} if config is not None else {}
    layers: list[tuple[int, StoredLayer]] = []
    find = Finder(manifest.budget).find
    for path, weights in by_layer.items():
        node: Mapping[str, Any] | None = config
        for part in path.split("/"):  # nested models first, then the layer
            manifest.budget.step(2)
            below = find(node, part)
            node = node if below is None else below
        node = None if node is config else node
        while node is not None and (wrapped := inner(node, "layer")) is not None:
            node = wrapped
        place = len(order) if node is None else order.get(id(node), len(order))
        layers.append((place, StoredLayer(weights, node, (path.rpartition("/")[2],))))
    ranked = sorted(layers, key=lambda entry: entry[0])  # the manifest is sorted by name
    return all([take_layer(layer, tally) for _, layer in ranked])


@dataclass(slots=True)
class _Graph:
    """The operators of a graph by name, and who reads their results."""

    nodes: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    readers: dict[str, list[Mapping[str, Any]]] = field(default_factory=lambda: defaultdict(list))
    blocks: dict[str, Block] = field(default_factory=dict)


def _graph_model(topology: Mapping[str, Any], manifest: Manifest, tally: Tally) -> None:
    """Visit the operators of a graph and of the functions in its library."""
    library = topology.get("library")
    functions = library.get("function") if isinstance(library, dict) else None
    bodies = [topology.get("node")]
    bodies += [body.get("nodeDef") for body in functions or () if isinstance(body, dict)]
    for body in bodies:
        nodes = [node for node in body or () if isinstance(node, dict) and isinstance(node.get("name"), str)]
        _Walk(manifest, tally).graph(nodes)


@dataclass(slots=True)
class _Walk:
    """Visits the operators of one graph in order of execution."""

    manifest: Manifest
    tally: Tally
    found: _Graph = field(default_factory=_Graph)

    def graph(self, nodes: Sequence[Mapping[str, Any]]) -> None:
        """Visit all operators."""
        for node in nodes:
            self.found.nodes[node["name"]] = node
            for source in _inputs(node, None):
                self.manifest.budget.step()
                self.found.readers[source].append(node)
        for node in nodes:
            self._node(node)

    def _node(self, node: Mapping[str, Any]) -> None:
        self.manifest.budget.step(8)
        kind, sources = node.get("op"), _inputs(node)
        block = self.found.blocks.get(sources[0], PLAIN) if sources else PLAIN
        if kind in ("SpaceToBatchND", "BatchToSpaceND"):
            change = after_space_to_batch if kind == "SpaceToBatchND" else after_batch_to_space
            block = change(block, self._whole_numbers(sources[1]) if len(sources) > 1 else None)
        self.found.blocks[node["name"]] = block
        if kind in (*_DEPTHWISE, *_DENSE):
            self._convolution(node, sources, block, depthwise=kind in _DEPTHWISE)
        elif kind == "Conv2DBackpropInput":
            self.tally.left_out[Why.TRANSPOSED] += 1
        elif kind in ("Conv3D", "_FusedConv3D"):
            self.tally.left_out[Why.THREE_D] += 1

    def _convolution(self, node: Mapping[str, Any], sources: Sequence[str], block: Block, *, depthwise: bool) -> None:
        self.tally.convolutions += 1
        try:
            weight = self._constant(sources[1]) if len(sources) > 1 else None
            if weight is None:
                raise LeftOutError(Why.RUN_TIME)
            channels = self._channels(weight, sources[0], depthwise=depthwise)
            if channels is None:
                return
            if self.found.nodes.get(sources[0], {}).get("op") == "ExpandDims":
                raise LeftOutError(Why.ONE_D)
            if weight.dtype not in _READABLE:
                raise LeftOutError(f"{weight.dtype} weight without a scale")
            if self.tally.is_new(weight.key):
                self.tally.take(spread(self._layer(node, weight, channels), block), self._sign(node))
        except LeftOutError as left_out:
            self.tally.left_out[str(left_out.args[0])] += 1

    def _channels(self, weight: Weight, source: str, *, depthwise: bool) -> int | None:
        """Return the channels of a depthwise convolution's input; None for an ordinary convolution."""
        shape = weight.shape
        if len(shape) != 4 or 0 in shape:
            raise DamagedError(f"a convolution with a kernel of shape {list(shape)}")
        if not depthwise and shape[2] > 1:
            known = self._channels_of(source, 0)
            if known is not None and known > shape[2]:
                raise LeftOutError(Why.GROUPED)
            return None
        channels = shape[2] if depthwise else self._channels_of(source, 0)
        if shape[:2] == (1, 1):
            if depthwise:
                raise LeftOutError(Why.ONE_BY_ONE)
            return None
        if channels is None:
            raise LeftOutError("convolution on a number of channels that is not stated")
        if channels == 1:
            raise LeftOutError(Why.STEM)
        return channels

    def _channels_of(self, name: str, depth: int) -> int | None:
        """Return the number of channels of a result, None if it is not stated."""
        node = self.found.nodes.get(name)
        if node is None or depth > 64:
            return None
        kind, sources = node.get("op"), _inputs(node)
        if kind in (*_DEPTHWISE, *_DENSE) and len(sources) > 1:
            weight = self._constant(sources[1])
            if weight is None or len(weight.shape) != 4:
                return None
            return weight.shape[2] * weight.shape[3] if kind in _DEPTHWISE else weight.shape[3]
        if kind == "Placeholder":
            shape = _attribute(node, "shape").get("shape", {})
            last = (shape.get("dim") or [{}])[-1].get("size") if isinstance(shape, dict) else None
            return int(last) if last is not None and int(last) > 0 else None
        return self._channels_of(sources[0], depth + 1) if kind in _KEEPS_CHANNELS and sources else None

    def _layer(self, node: Mapping[str, Any], weight: Weight, channels: int) -> DepthwiseLayer:
        values = to_float32(weight.load())
        high, wide = weight.shape[:2]
        first = _text(node, "data_format") == "NCHW"
        stride, dilation = (_whole_list(node, name)[2 if first else 1 :][:2] for name in ("strides", "dilations"))
        return make_layer(
            weight.key,
            values.transpose(2, 3, 0, 1).reshape(-1, high, wide),
            self._bias(node),
            dtype=weight.dtype,
            channels=channels,
            stride=stride or (1, 1),
            dilation=dilation or (1, 1),
        )

    def _bias(self, node: Mapping[str, Any]) -> Any:
        """Return the bias: an input of a fused operator, or what is added next."""
        sources = _inputs(node)
        if _fused(node)[:1] == ["BiasAdd"] and len(sources) > 2:
            weight = self._constant(sources[2])
            return None if weight is None else weight.load()
        for reader in self._after(node):
            if reader.get("op") == "BiasAdd" and len(_inputs(reader)) > 1:
                weight = self._constant(_inputs(reader)[1])
                return None if weight is None else weight.load()
        return None

    def _after(self, node: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        """Return the operators that read a result, seen through changes of the layout."""
        readers = self.found.readers.get(node["name"], [])
        for _ in range(_DEEPEST):
            if len(readers) != 1 or readers[0].get("op") not in (*_PASSED, "BatchToSpaceND"):
                break
            readers = self.found.readers.get(readers[0]["name"], [])
        self.manifest.budget.step(4 * len(readers))
        return readers

    def _sign(self, node: Mapping[str, Any]) -> Sign:
        """Infer a folded normalisation from the activation that is fused or follows."""
        if any(name in _ACTIVATIONS for name in _fused(node)):
            return Sign.FOLDED
        readers = self._after(node)
        for reader in list(readers):
            if reader.get("op") == "BiasAdd":
                readers = self._after(reader)
        kinds = {reader.get("op") for reader in readers}
        if any(str(kind).startswith("FusedBatchNorm") for kind in kinds):
            return Sign.SEPARATE
        return Sign.FOLDED if kinds & set(_ACTIVATIONS) else Sign.NONE

    def _constant(self, name: str) -> Weight | None:
        """Return a stored weight by its name, seen through operators that pass it on; None if it is computed."""
        for _ in range(_DEEPEST):
            if name in self.manifest.weights:
                return self.manifest.weights[name]
            node = self.found.nodes.get(name)
            if node is None or node.get("op") not in _PASSED or not _inputs(node):
                return None
            name = _inputs(node)[0]
        return None

    def _whole_numbers(self, name: str) -> list[int] | None:
        weight = self._constant(name)
        if weight is None or len(weight.shape) != 1 or weight.shape[0] > _DEEPEST:
            return None
        return [int(n) for n in weight.load()]


def _inputs(node: Mapping[str, Any], most: int | None = 16) -> list[str]:
    """Return the names of the operators whose results a node reads, without output numbers; at most `most`."""
    names = node.get("input")
    texts = [name for name in names[:most] if isinstance(name, str)] if isinstance(names, list) else []
    return [name.partition(":")[0] for name in texts if not name.startswith("^")]


def _attribute(node: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    attributes = node.get("attr")
    value = attributes.get(name) if isinstance(attributes, dict) else None
    return value if isinstance(value, dict) else {}


def _whole_list(node: Mapping[str, Any], name: str) -> tuple[int, ...]:
    values = _attribute(node, name).get("list")
    numbers = values.get("i") if isinstance(values, dict) else None
    return tuple(int(n) for n in numbers) if isinstance(numbers, list) and len(numbers) == 4 else ()


def _text(node: Mapping[str, Any], name: str) -> str:
    return _decoded(_attribute(node, name).get("s"))


def _fused(node: Mapping[str, Any]) -> list[str]:
    """Return the operators fused with a convolution: ["BiasAdd", "Relu6"]."""
    values = _attribute(node, "fused_ops").get("list")
    texts = values.get("s") if isinstance(values, dict) else None
    return [_decoded(text) for text in texts] if isinstance(texts, list) else []


def _decoded(text: Any) -> str:
    """Return text that is stored in base64."""
    try:
        return base64.b64decode(text, validate=True).decode()
    except (binascii.Error, TypeError, ValueError):
        return ""
