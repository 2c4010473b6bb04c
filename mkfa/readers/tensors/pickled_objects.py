"""Find the tensors in what a pickle contains: in nested containers, in objects, and in whole pickled networks.

A network that was saved whole (`torch.save(model)`, as trainers for detection do) is an object with `_modules`,
`_parameters` and `_buffers`. Its tensors get the names of its state dict, and each convolution's own attributes tell
groups, stride and dilation, so that no guess from shapes is needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mkfa.readers.reading import GraphLayer, Why
from mkfa.readers.tensors.inert_values import Array, DamagedPickleError, Inert, TensorRef
from mkfa.storage.budget import Budget

MAX_DEPTH = 64
"""Deepest nesting of containers that is read."""

LONGEST_KEY = 4096
"""Longest dotted name of a tensor."""

_LONGEST_PART = 512
_STEPS_A_PART, _BYTES_A_PART = 2, 160
_CONTAINERS = (dict, list, tuple, TensorRef, Inert, Array)
_MODULE = ("_parameters", "_buffers", "_modules")
_PACKED = ("Conv1dPackedParamsBase", "Conv2dPackedParamsBase", "Conv3dPackedParamsBase")
_QUANTISED_STATE = 13
"""Shortest state of a quantised convolution: weight and bias are entries 10 and 11."""

Path = tuple[str, ...]
Step = tuple[Path, Any, bool]


@dataclass(slots=True)
class Contents:
    """The tensors of a pickle by dotted name, in order, and what its modules say of them.

    Attributes
    ----------
    facts : weight -> its depthwise layer, or the reason why its module is not one ("" for a dense convolution).
    architecture : name that a network keeps of itself (timm's `pretrained_cfg`), else "".
    packed : weight -> configuration (whole numbers, or a tensor of them) and weight of a packed quantised convolution.
    called : class of a TorchScript module -> what its code says of its convolution.
    budget : of the file; a pickle can use one tensor, one key and one collection again and again.
    """

    tensors: list[tuple[str, TensorRef]] = field(default_factory=list)
    facts: dict[str, GraphLayer | str] = field(default_factory=dict)
    architecture: str = ""
    packed: dict[str, tuple[Any, TensorRef]] = field(default_factory=dict)
    called: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    budget: Budget = field(default_factory=Budget)


def contents_of(
    value: Any, budget: Budget | None = None, called: Mapping[str, Mapping[str, Any]] | None = None
) -> Contents:
    """Find all tensors in a value; a container or object that occurs twice is read once.

    Raises DamagedPickleError: containers are nested deeper than `MAX_DEPTH`. Within objects, what is deeper is left
    out. Raises SourceError: the file's budget is spent.
    """
    found = Contents(budget=budget or Budget(), called=called or {})
    entered: set[int] = set()
    waiting: list[Step] = [((), value, False)]
    while waiting:
        path, item, loose = waiting.pop()
        if isinstance(item, Array):
            item = item.ref if item.ref is not None else item.items
        if isinstance(item, TensorRef):
            if key := _joined(path, found):
                found.tensors.append((key, item))
            continue
        if not isinstance(item, _CONTAINERS) or id(item) in entered:
            continue
        if len(path) >= MAX_DEPTH:
            if loose:
                continue
            raise DamagedPickleError("containers nested too deep")
        entered.add(id(item))
        found.budget.step(len(item) // 4 if isinstance(item, dict | list | tuple) else _size(item))
        inner: list[Step] = []
        steps = _parts(item, path, found) if isinstance(item, Inert) else _inside(item, path, loose)
        for step in steps:
            found.budget.step(_STEPS_A_PART)
            found.budget.produce(_BYTES_A_PART + 8 * len(path) + len(step[0][-1] if step[0] else ""))
            inner.append(step)
        waiting.extend(reversed(inner))
    return found


def _inside(item: Any, path: Path, loose: bool) -> Iterator[Step]:
    return (((*path, key), part, loose) for key, part in _named(item))


def _size(*parts: Any) -> int:
    """Return the steps that it takes to look at all that is in objects and collections, which they may share."""
    count = 2
    for part in parts:
        if isinstance(part, dict | list | tuple):
            count += len(part) // 4
            if isinstance(part, tuple):  # a state: attributes and slots
                count += sum(len(inner) // 2 for inner in part[:4] if isinstance(inner, dict))
        elif isinstance(part, Inert):
            count += _size(part.args, part.state, part.items, part.entries)
    return count


def _joined(path: Path, found: Contents) -> str:
    """Return a path as a dotted name, "" if it is longer than any that is read."""
    length = sum(map(len, path)) + len(path)
    if length > LONGEST_KEY:
        found.budget.step(len(path))
        return ""
    found.budget.key(key := ".".join(path), LONGEST_KEY)
    return key


def _named(item: Any) -> Iterator[tuple[str, Any]]:
    """Yield what is in a container by name; a pair of name and tensor, as `dict.items()` gives, has that name.

    In a dictionary its key is the name: PaddlePaddle stores (name in the program, array) there.
    """
    if isinstance(item, dict):
        for key, part in item.items():
            if isinstance(part, _CONTAINERS):
                yield _text(key), part[1] if isinstance(part, tuple) and _is_pair(part) else part
    for i, part in enumerate(item if isinstance(item, list | tuple) else ()):
        if _is_pair(part):
            yield _text(part[0]), part[1]
        elif isinstance(part, _CONTAINERS):
            yield str(i), part


def _is_pair(item: Any) -> bool:
    return isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], str) and _is_tensor(item[1])


def _is_tensor(item: Any) -> bool:
    return isinstance(item, TensorRef | Array)


def _text(key: Any) -> str:
    """Return a key as part of a name; bounded, since a pickle can use one long key again and again."""
    if isinstance(key, Inert):
        return f"<{key.name[:80]}>"
    return str(key[:_LONGEST_PART] if isinstance(key, str | bytes) else key)[:_LONGEST_PART]


def _parts(item: Inert, path: Path, found: Contents) -> Iterator[Step]:
    """Yield what is in an object, with its name."""
    module = _module_state(item)
    if module is not None:
        yield from _module_parts(module, path, found)
        return
    if _is_packed(item) or _is_quantised(item):
        yield from _quantised_parts(item, path, found)
        return
    attributes, others = _attributes(item.state)
    weight = attributes.get("weight")
    if item.name in found.called and isinstance(weight, TensorRef) and len(weight.shape) == 4:
        said = found.called[item.name]
        sizes = {"out_channels": weight.shape[0], "in_channels": weight.shape[1] * said["groups"]}
        state = {**said, **sizes, "kernel_size": weight.shape[2:], "_parameters": attributes}
        _note_convolution(state, (*path, "weight"), found)
    tensors = [part for part in item.args if isinstance(part, TensorRef | Array)]
    for i, part in enumerate(item.args):
        if isinstance(part, _CONTAINERS):  # the only tensor of a call is the tensor that the call wraps
            plain = len(tensors) == 1 and isinstance(part, TensorRef | Array)
            yield path if plain or isinstance(part, dict) else (*path, str(i)), part, True
    for key, part in attributes.items():
        if isinstance(part, _CONTAINERS):
            yield path if key == "_local_tensor" else (*path, _text(key)), part, True
    for i, part in enumerate(others):
        yield (*path, str(i)) if isinstance(part, TensorRef | Array) else path, part, True
    for i, part in enumerate(item.items or ()):
        if isinstance(part, _CONTAINERS):
            yield (*path, str(i)), part, True
    for key, part in (item.entries or {}).items():
        if isinstance(part, _CONTAINERS):
            yield (*path, _text(key)), part, True


def _attributes(state: Any) -> tuple[dict[Any, Any], list[Any]]:
    """Return an object's attributes, from its dictionary and its slots, and what else its state contains."""
    if isinstance(state, dict):
        return state, []
    if isinstance(state, tuple):
        merged: dict[Any, Any] = {}
        for part in state:
            if isinstance(part, dict):
                merged |= part
        return merged, [part for part in state if isinstance(part, _CONTAINERS) and not isinstance(part, dict)]
    return {}, [state] if isinstance(state, _CONTAINERS) else []


def _module_state(item: Inert) -> dict[Any, Any] | None:
    """Return the attributes of a torch.nn.Module: its state, or what a function rebuilds it from (torch.fx)."""
    for state in (item.state, *item.args, *(item.state if isinstance(item.state, tuple) else ())):
        if isinstance(state, dict):
            kinds = {type(state.get(name)) for name in _MODULE}
            if dict in kinds and kinds <= {dict, type(None)}:
                return dict(state)
    return None


def _module_parts(state: dict[Any, Any], path: Path, found: Contents) -> Iterator[Step]:
    """Yield parameters, buffers and modules under the names of the state dict, then other attributes."""
    parameters, buffers, modules = (state.get(name) or {} for name in _MODULE)
    found.budget.step(2 * _size(state, parameters, buffers, modules, state.get("_non_persistent_buffers_set")))
    _note_convolution(state, (*path, "weight"), found)
    if not found.architecture:
        found.architecture = _architecture(state)
    passing = state.get("_non_persistent_buffers_set")
    skipped = set(passing) if isinstance(passing, list) and all(isinstance(n, str) for n in passing) else set()
    for named in (parameters, {k: v for k, v in buffers.items() if k not in skipped}, modules):
        for key, part in named.items():
            if isinstance(part, _CONTAINERS):
                yield (*path, _text(key)), part, True
    for key, part in state.items():
        if key in _MODULE or "hook" in str(key) or isinstance(part, TensorRef | Array):
            continue
        if isinstance(part, _CONTAINERS):
            yield (*path, _text(key)), part, True


def convolution(state: Mapping[Any, Any], key: str) -> GraphLayer | str | None:
    """Return the depthwise layer of a convolution by the attributes of its module, or why it is none.

    None if they are not those of a convolution.
    """
    facts = [state.get(name) for name in ("in_channels", "out_channels", "groups")]
    if not all(type(n) is int and 0 < n < 1 << 31 for n in facts):
        return None
    inputs, outputs, groups = (int(str(n)) for n in facts)
    experts = state.get("num_experts")
    experts = experts if type(experts) is int and 0 < experts < 1 << 20 else 0
    kernel, stride, dilation = (_sizes(state.get(name)) for name in ("kernel_size", "stride", "dilation"))
    if kernel is None or stride is None or dilation is None or not ("transposed" in state or experts):
        return None
    if groups == 1:
        return Why.STEM if inputs == 1 and len(kernel) == 2 and not state.get("transposed") else ""
    if state.get("transposed"):
        return Why.TRANSPOSED
    if groups != inputs or outputs % inputs:
        return Why.GROUPED
    if len(kernel) != 2:
        return Why.ONE_D if len(kernel) == 1 else Why.THREE_D
    if kernel == (1, 1):
        return Why.ONE_BY_ONE
    shape = (experts, outputs * kernel[0] * kernel[1]) if experts else (outputs, 1, kernel[0], kernel[1])
    parameters = state.get("_parameters")
    bias = isinstance(parameters, dict) and parameters.get("bias") is not None
    return GraphLayer(
        key=key,
        shape=shape,
        stride=(stride[0], stride[-1]),
        dilation=(dilation[0], dilation[-1]),
        multiplier=outputs // inputs,
        has_bias=bias,
        experts=experts,
        kernel=(kernel[0], kernel[1]),
    )


def _sizes(value: Any) -> tuple[int, ...] | None:
    """Return a kernel size, stride or dilation, or None."""
    sizes = value if isinstance(value, tuple | list) else (value,) * 2
    if not 1 <= len(sizes) <= 3 or not all(type(n) is int and 0 < n < 1 << 15 for n in sizes):
        return None
    return tuple(sizes)


def _architecture(state: Mapping[Any, Any]) -> str:
    """Return timm's name of the architecture that a network carries."""
    for name in ("pretrained_cfg", "default_cfg"):
        config = state.get(name)
        if isinstance(config, Inert):
            config = config.state
        architecture = config.get("architecture") if isinstance(config, dict) else None
        if isinstance(architecture, str):
            return architecture[:200]
    return ""


def _is_quantised(item: Inert) -> bool:
    """True for a quantised convolution of torch.ao, whose state is a tuple."""
    state = item.state
    return isinstance(state, tuple) and len(state) >= _QUANTISED_STATE and isinstance(state[10], TensorRef)


def _is_packed(item: Inert) -> bool:
    return item.name.rpartition(".")[2] in _PACKED


def _quantised_parts(item: Inert, path: Path, found: Contents) -> Iterator[Step]:
    """Yield weight and bias of a quantised convolution, and note what it says of itself.

    Order of the state: torch/ao/nn/quantized/modules/conv.py.
    """
    if _is_quantised(item):
        names = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "transposed")
        weight, bias = item.state[10:12]
        state = dict(zip((*names, "output_padding", "groups"), item.state, strict=False))
        _note_convolution({**state, "_parameters": {"bias": bias}}, (*path, "weight"), found)
    else:
        path = path[:-1] if path and path[-1] == "_packed_params" else path
        config, weight, bias = _unpacked(item.state)
        if isinstance(weight, TensorRef) and config is not None:
            found.packed[".".join((*path, "weight"))] = config, weight
    for name, part in (("weight", weight), ("bias", bias)):
        if isinstance(part, TensorRef):
            yield (*path, name), part, True


def _unpacked(state: Any) -> tuple[Any, Any, Any]:
    """Return configuration, weight and bias of packed parameters, None for what is not found.

    Versions 2 and 3 of aten/src/ATen/native/quantized/cpu/conv_serialization.h: (version, configuration and tensors,
    optional tensors); the configuration is a list or a tensor of whole numbers.
    """
    parts: list[Any] = list(state[1:3]) if isinstance(state, tuple) else []
    flat = [part for inner in parts if isinstance(inner, list) for part in inner[:64]]
    tensors = [part for part in flat if isinstance(part, TensorRef)]
    weight = next((ref for ref in tensors if ref.scale is not None), None)
    bias = next((ref for ref in tensors if len(ref.shape) == 1 and ref.dtype == "float32"), None)
    numbers = [part for part in flat if type(part) is int]
    short = next((ref for ref in tensors if ref.dtype == "int16" and len(ref.shape) == 1), None)
    return numbers or short, weight, bias


def note_packed(found: Contents, key: str, config: Sequence[int]) -> None:
    """Note a packed convolution: (axes, stride, padding, dilation, output padding, groups, transposed)."""
    _, weight = found.packed[key]
    axes = config[0] if config else 0
    if not 1 <= axes <= 3 or len(config) < 4 * axes + 3 or len(weight.shape) != axes + 2:
        return
    groups, transposed = config[4 * axes + 1], bool(config[4 * axes + 2])
    state = {
        "in_channels": weight.shape[1] * groups,
        "out_channels": weight.shape[0],
        "kernel_size": weight.shape[2:],
        "stride": tuple(config[1 : 1 + axes]),
        "dilation": tuple(config[1 + 2 * axes : 1 + 3 * axes]),
        "groups": groups,
        "transposed": transposed,
    }
    _note_convolution(state, tuple(key.split(".")), found)


def _note_convolution(state: Mapping[Any, Any], path: Path, found: Contents) -> None:
    """Note what the attributes of a module say of its weight, if it is a convolution; `path` is the weight's."""
    key = _joined(path, found)
    fact = convolution(state, key) if key else None
    if fact is not None:
        found.budget.produce(_BYTES_A_PART)
        found.facts[key] = fact
