"""Archives that `torch.export.save` writes (.pt2): weights in records of their own, and the graph as JSON.

The graph's calls of convolutions tell groups, stride, dilation and the order of execution. The classes in
`torch/_export/serde/schema.py` describe the JSON.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from io import FileIO
from pathlib import Path
from typing import Any

from mkfa.errors import SourceError
from mkfa.frozen import FrozenDict
from mkfa.readers.reading import GraphLayer
from mkfa.readers.tensors.inert_pickle import Interpreter
from mkfa.readers.tensors.inert_values import StorageRef, TensorRef
from mkfa.readers.tensors.pickled_objects import convolution
from mkfa.readers.tensors.safetensors import MAX_HEADER, json_object
from mkfa.readers.tensors.torch_file import Numbers, TorchFile, torch_file
from mkfa.storage.budget import Budget
from mkfa.storage.files import read_span
from mkfa.storage.zip_records import check_span
from mkfa.words import counted

_TYPES = dict(enumerate(("uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64"), 1))
_TYPES |= dict(enumerate(("complex32", "complex64", "complex128", "bool", "bfloat16"), 9))
_TYPES |= dict(enumerate(("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz"), 29))
_CONFIG = re.compile(r"data/weights/(.+)_weights_config\.json")
_CONVOLUTION = re.compile(r"torch\.ops\.aten\.(_?conv(?:olution|[123]d)|conv_transpose[123]d)\.\w+")

Records = Mapping[str, tuple[int, int, int]]


def open_exported(path: Path, f: FileIO, records: Records, *, budget: Budget) -> TorchFile:
    """Return the weights of an archive; `records` are those of the zip file, without the name of its folder.

    Tensors come in the order in which the graph uses them. Raises SourceError.
    """
    configs = {match[1]: name for name in records if (match := _CONFIG.fullmatch(name))}
    if not configs:
        problem = "is a torch.export archive without weights that can be read"
        raise SourceError(path, problem, "save the module's state_dict() as safetensors")
    refs: dict[str, TensorRef] = {}
    facts: dict[str, GraphLayer | str] = {}
    places: dict[str, tuple[int, int, int]] = {}
    for model, name in configs.items():
        prefix = f"{model}." if len(configs) > 1 else ""
        stored = _tensors(_parsed(path, f, records[name], budget), records, places)
        used = _calls(_parsed(path, f, records.get(f"models/{model}.json"), budget))
        called = [(key, facts_of) for key, facts_of in used if key in stored]
        refs |= {prefix + key: stored[key] for key in (*dict(called), *stored)}
        for key, facts_of in called:
            fact = convolution({**facts_of, **_channels(stored[key].shape, facts_of)}, prefix + key)
            if fact is not None:
                facts.setdefault(prefix + key, fact)
    spans = {key: place[:2] for key, place in places.items()}
    interpreter = Interpreter(io.BytesIO(b""), 0, budget)
    file = torch_file(Numbers(path, f, spans), refs, interpreter)
    return replace(file, facts=FrozenDict(facts), records=FrozenDict(places))


def _parsed(path: Path, f: FileIO, record: tuple[int, int, int] | None, budget: Budget) -> dict[str, Any]:
    if record is None:
        return {}
    first, last, _ = record
    if last - first > MAX_HEADER:
        raise SourceError(
            path, f"has a JSON record of {counted(last - first, 'byte')}", "save model.state_dict() alone"
        )
    check_span(f, record, name="a JSON record", thing=path)
    return json_object(read_span(f, first, last, thing=path), path, budget)


def _at(value: Any, *steps: str) -> Any:
    """Return what lies deeper in nested dictionaries; None if it is not there."""
    for step in steps:
        value = value.get(step) if isinstance(value, dict) else None
    return value


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _tensors(config: Mapping[str, Any], records: Records, places: dict[str, Any]) -> dict[str, TensorRef]:
    """Return the tensors of a configuration by name, and note where their numbers are."""
    out: dict[str, TensorRef] = {}
    for key, entry in (_at(config, "config") or {}).items():
        name, meta = _at(entry, "path_name"), _at(entry, "tensor_meta")
        sizes, steps = ([_at(n, "as_int") for n in _items(_at(meta, part))] for part in ("sizes", "strides"))
        offset = _at(meta, "storage_offset", "as_int")
        record = records.get(f"data/weights/{name}")
        numbers = [offset, *sizes, *steps]
        if record is None or not all(type(n) is int and 0 <= n < 1 << 40 for n in numbers) or len(sizes) != len(steps):
            continue
        without = "pickled" if _at(entry, "use_pickle") else ""
        storage = StorageRef(name, "", record[1] - record[0])
        kind = _TYPES.get(_at(meta, "dtype"), "")
        out[key] = TensorRef(storage, offset, tuple(sizes), tuple(steps), kind, without=without)
        places[name] = record
    return out


def _calls(graph: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (weight, stride, dilation, groups, ... of its convolution) in order of execution."""
    specs = [_at(each, "parameter") for each in _items(_at(graph, "graph_module", "signature", "input_specs"))]
    names = {str(_at(spec, "arg", "name")): str(_at(spec, "parameter_name")) for spec in specs if spec}
    for node in _items(_at(graph, "graph_module", "graph", "nodes")):
        match = _CONVOLUTION.fullmatch(str(_at(node, "target")))
        args = {_at(each, "name"): _at(each, "arg") for each in _items(_at(node, "inputs"))} if match else {}
        weight = names.get(str(_at(args.get("weight"), "as_tensor", "name")))
        if match is None or weight is None:
            continue
        yield (
            weight,
            {
                "stride": _at(args.get("stride"), "as_ints") or 1,
                "dilation": _at(args.get("dilation"), "as_ints") or 1,
                "groups": _at(args.get("groups"), "as_int") or 1,
                "transposed": "transpose" in match[1] or bool(_at(args.get("transposed"), "as_bool")),
                "_parameters": {"bias": _at(args.get("bias"), "as_tensor")},
            },
        )


def _channels(shape: tuple[int, ...], facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the channels and the kernel of a convolution by its weight's shape, which has inputs a group second."""
    groups = facts["groups"]
    first, second = (shape[0], shape[1] * groups) if len(shape) > 2 and type(groups) is int else (0, 0)
    inputs, outputs = (first, second) if facts["transposed"] else (second, first)
    return {"in_channels": inputs, "out_channels": outputs, "kernel_size": shape[2:]}
