"""Choose the depthwise layers among named tensors, and read them one by one.

Only names, shapes and types are used, so a header fetched from a hub is enough. The module graph decides if there is
one, else the shape rule of `select`.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from mkfa.array_types import F32
from mkfa.banks.bank import UNKNOWN
from mkfa.errors import SourceError
from mkfa.frozen import FrozenDict
from mkfa.readers.options import DEFAULT, UNTOLD, ReadOptions, matches
from mkfa.readers.reading import DepthwiseLayer, GraphLayer, Reading, TensorFile, TensorInfo, Why, is_fixed
from mkfa.readers.tensors import depthwise
from mkfa.readers.tensors import key_names as naming
from mkfa.readers.tensors.copies import Roles, roles, settle_copies
from mkfa.readers.tensors.dilations import named_dilations, of_several
from mkfa.readers.tensors.dtypes import FLOATS
from mkfa.readers.tensors.roles import is_depthwise_shape, is_weight_name
from mkfa.readers.tensors.view import View
from mkfa.words import counted

TIED = str(Why.TIED)
FIXED = str(Why.FIXED)
OUTSIDE = "not in the architecture's graph"


@dataclass(frozen=True, slots=True)
class PlannedLayer:
    """One depthwise layer to read: names and types in the file, and the facts of its module.

    `experts` > 0 marks a conditional convolution of shape (experts, C * kh * kw), whose kernel size is `kernel`.
    """

    key: str
    bias_key: str | None
    shape: tuple[int, ...]
    dtype: str
    kernel: tuple[int, int]
    stride: tuple[int, int] = (UNKNOWN, UNKNOWN)
    dilation: tuple[int, int] = (UNKNOWN, UNKNOWN)
    multiplier: int = UNKNOWN
    stage: int = UNKNOWN
    experts: int = 0


@dataclass(frozen=True, slots=True)
class Selection:
    """The layers to read from a file of named tensors.

    Attributes
    ----------
    layers : in order of execution.
    rule : as in `mkfa.banks.bank.Provenance`.
    skipped : reason -> number of tensors shaped like a depthwise layer's that were skipped for it.
    contents : the file's content in a clause.
    copy, left_out, doubtful : as in `mkfa.readers.reading.Reading`.
    once : True if layers with equal weights are one layer that several modules share.
    """

    layers: tuple[PlannedLayer, ...]
    rule: str
    skipped: Mapping[str, int] = field(default_factory=lambda: FrozenDict({}))
    notes: tuple[str, ...] = ()
    contents: str = ""
    copy: str = ""
    left_out: Mapping[str, str] = field(default_factory=lambda: FrozenDict({}))
    doubtful: Mapping[str, str] = field(default_factory=lambda: FrozenDict({}))
    once: bool = False

    @property
    def keys(self) -> tuple[str, ...]:
        """All tensors to fetch: weights and biases, in order."""
        return tuple(key for layer in self.layers for key in (layer.key, layer.bias_key) if key is not None)


@dataclass(frozen=True, slots=True)
class Context:
    """What is known of a file besides its tensors' names.

    Attributes
    ----------
    thing : named in errors.
    options : layers that match `include` are taken, if they have a depthwise layer's shape, whatever the rules say.
    role : which tensors are the network; None decides by names alone.
    read : returns values by key, where numbers tell more than names; None goes without.
    notes : sentences for the user about how the tensors are stored.
    doubtful : key -> why its filters may be others; of `mkfa.readers.tensors.view.View`.
    """

    thing: str = "the checkpoint"
    options: ReadOptions = DEFAULT
    role: Roles | None = None
    read: depthwise.Read | None = None
    notes: tuple[str, ...] = ()
    doubtful: Mapping[str, str] = field(default_factory=lambda: FrozenDict({}))


def context_of(file: View, options: ReadOptions, thing: object) -> Context:
    """Return the context of an open file, with copies settled; raises as `settle_copies`."""
    role = settle_copies(file, options, thing=thing)
    return Context(str(thing), options, role, lambda keys: dict(file.read(keys)), file.notes, file.doubtful)


def select(
    infos: Mapping[str, TensorInfo],
    *,
    graph: tuple[GraphLayer, ...] | None = None,
    rule: str = "graph",
    first_conv: str = "",
    gray: bool = False,
    keeps_order: bool | None = None,
    facts: Mapping[str, GraphLayer | str] | None = None,
    context: Context | None = None,
) -> Selection:
    """Choose the depthwise layers among named tensors.

    Shape rule (without a graph): a float tensor (C, 1, kh, kw) with C > 1 and kh * kw > 1, named as a weight, that
    belongs to the network (see `mkfa.readers.tensors.copies`) and is judged to be a depthwise layer's (see
    `mkfa.readers.tensors.depthwise`).

    Parameters
    ----------
    infos : all tensors, in the order of the file.
    graph : layers of the architecture in order of execution; they decide order, stride, dilation, multiplier and
        stage. Their keys must be in the file under one common prefix, with equal shapes.
    rule : recorded when `graph` is given.
    first_conv : name of the architecture's first convolution, without ".weight"; "" if unknown.
    gray : True if the network takes one channel, so that `first_conv` has the shape of a depthwise layer.
    keeps_order : whether the file keeps the order of definition; None assumes it unless the weights are in
        alphabetical order.
    facts : weight -> its depthwise layer, or why its module is not one, from the modules of a network that was saved
        whole; they decide before the shape rule.
    context : None goes by names and shapes alone.

    Raises SourceError: the file does not have the layers of `graph`.
    """
    context = context or Context()
    role = roles(infos) if context.role is None else context.role
    alive = {key: info for key, info in infos.items() if key not in role.left_out}
    forced = {k for k, info in alive.items() if is_depthwise_shape(info.shape) and matches(k, context.options.include)}
    facts = {} if facts is None or graph is not None else {key: f for key, f in facts.items() if key not in forced}
    why = depthwise.reasons({key: info for key, info in alive.items() if key not in facts}) | _against(alive, facts)
    why = {key: reason for key, reason in why.items() if key not in forced}
    left_out = why | {key: reason for key, reason in role.left_out.items() if is_depthwise_shape(infos[key].shape)}
    candidates = [
        key
        for key, info in alive.items()
        if key not in why and (is_depthwise_shape(info.shape) if key not in facts else _is_layer(facts[key], info))
    ]
    notes, doubtful = [*context.notes, *role.notes], dict[str, str]()
    if graph is not None:
        layers = _from_graph(alive, graph, context.thing)
        if any(layer.experts for layer in layers):
            notes.append("conditional convolutions: the filters of every expert are taken, one expert after the other")
        taken = {layer.key for layer in layers}
        left_out |= {key: OUTSIDE for key in candidates if key not in taken}
    else:
        if keeps_order is None:
            keeps_order = not _is_sorted(alive)
        if first_conv:
            stem = _known_stem(candidates, first_conv) if gray else None
            judged = depthwise.Judgement({} if stem is None else {stem: depthwise.STEM})
        else:
            open_ = [key for key in candidates if key not in facts]
            judged = depthwise.judge(alive, open_, keeps_order=keeps_order, read=context.read)
        left_out |= {key: reason for key, reason in judged.left_out.items() if key not in forced}
        doubtful = {key: reason for key, reason in judged.doubtful.items() if key not in forced}
        kept = [key for key in candidates if key not in left_out]
        layers = _by_names(alive, kept if keeps_order else naming.execution_order(kept), notes)
        layers = [_stated(layer, alive, facts) for layer in layers]
        several = of_several(layer.key for layer in layers if UNKNOWN in layer.dilation)
        doubtful |= {layer.key: context.doubtful[layer.key] for layer in layers if layer.key in context.doubtful}
        doubtful |= {key: UNTOLD for key in several if key not in doubtful}
        stated = sum(layer.key in facts for layer in layers)
        rule = "graph" if stated and stated == len(layers) else "shape"
        if stated and stated < len(layers):
            by_shape = counted(len(layers) - stated, "layer was", "layers were")
            notes.append(f"{by_shape} taken by shape: no module states the groups")
    return Selection(
        tuple(layers),
        rule,
        skipped=FrozenDict(dict(sorted(Counter(left_out.values()).items()))),
        notes=tuple(notes),
        contents=_contents(infos, alive, left_out),
        copy=role.copy,
        left_out=FrozenDict(left_out),
        doubtful=FrozenDict(doubtful),
        once=graph is None,
    )


def read_selection(file: TensorFile, selection: Selection) -> Iterator[DepthwiseLayer | str]:
    """Yield the chosen layers, and the reason for each that is not taken; raises SourceError.

    Copies of an earlier layer (equal weights that are not constant: tied modules) are not taken, nor fixed kernels.
    """
    tensors = dict(file.read(selection.keys))
    seen: set[bytes] = set()
    for layer in selection.layers:
        weight = _filters(layer, tensors.pop(layer.key))
        bias = None if layer.bias_key is None else tensors.pop(layer.bias_key).reshape(-1)
        if selection.once and weight.min() != weight.max():
            digest = hashlib.blake2b(repr(weight.shape).encode() + weight.tobytes()).digest()
            if digest in seen:
                yield TIED
                continue
            seen.add(digest)
            if _is_fixed(layer.key, weight, selection):
                yield FIXED
                continue
        shared = {name: getattr(layer, name) for name in ("dtype", "stride", "dilation", "multiplier", "stage")}
        yield DepthwiseLayer(layer.key, weight, bias, **shared)


def _is_fixed(key: str, weight: F32, selection: Selection) -> bool:
    """True for the same kernel in every channel, as of a smoothing or an edge detector."""
    guessed = selection.rule == "shape" and len(selection.layers) > 1 and not depthwise.is_named_depthwise(key)
    return guessed and is_fixed(weight)


def take(file: TensorFile, selection: Selection, *, architecture: str = "", source_sha256: str = "") -> Reading:
    """Read the chosen layers and count those that are skipped; raises as `read_selection`."""
    read = list(read_selection(file, selection))
    layers = tuple(layer for layer in read if isinstance(layer, DepthwiseLayer))
    late = Counter(reason for reason in read if isinstance(reason, str))
    skipped, found = {**selection.skipped, **late}, "; ".join(f"{n} left out as {why}" for why, n in late.items())
    return Reading(
        layers,
        selection.rule,
        architecture,
        source_sha256,
        skipped=FrozenDict(dict(sorted(skipped.items()))),
        notes=selection.notes,
        contents=f"{selection.contents}; {found}" if found else selection.contents,
        copy=selection.copy,
        left_out=selection.left_out,
        doubtful=selection.doubtful,
    )


def _filters(layer: PlannedLayer, tensor: F32) -> F32:
    """Return (m * C, kh, kw) float32 from a stored weight."""
    if tensor.shape != layer.shape:
        problem = f"has {layer.key} as {tensor.shape}, but its header says {layer.shape}"
        raise SourceError("the checkpoint", problem, "fetch the file again")
    return np.ascontiguousarray(tensor, np.float32).reshape(-1, *layer.kernel)


def _against(infos: Mapping[str, TensorInfo], facts: Mapping[str, GraphLayer | str]) -> dict[str, str]:
    """Map the weights of convolutions that are not depthwise to the reason, and those without numbers."""
    against = {}
    for key, info in infos.items():
        fact = facts.get(key)
        if isinstance(fact, GraphLayer):
            if info.shape != fact.shape or info.dtype not in FLOATS:
                against[key] = f"{info.dtype} weight" if info.shape == fact.shape else "weight of another shape"
        elif fact and is_depthwise_shape(info.shape) | (fact != depthwise.STEM):
            against[key] = fact
    return against


def _is_layer(fact: GraphLayer | str, info: TensorInfo) -> bool:
    return isinstance(fact, GraphLayer) and fact.shape == info.shape


def _stated(
    layer: PlannedLayer, infos: Mapping[str, TensorInfo], facts: Mapping[str, GraphLayer | str]
) -> PlannedLayer:
    """Return a layer with what its own module states."""
    fact = facts.get(layer.key)
    return replace(_graph_layer(fact, "", infos), stage=layer.stage) if isinstance(fact, GraphLayer) else layer


def _bias_key(key: str, shapes: Sequence[tuple[int, ...]], infos: Mapping[str, TensorInfo]) -> str | None:
    info = infos.get(depthwise.bias_name(key))
    if info is None or info.key == key or info.dtype not in FLOATS or info.shape not in shapes:
        return None
    return info.key


def _is_sorted(infos: Mapping[str, TensorInfo]) -> bool:
    """True if the weights of each type are in alphabetical order (safetensors sorts by type, then name)."""
    by_type: dict[str, list[str]] = {}
    for key, info in infos.items():
        if len(info.shape) >= 2 and is_weight_name(key):
            by_type.setdefault(info.dtype, []).append(key)
    return all(naming.is_sorted(keys) for keys in by_type.values())


def _known_stem(candidates: Sequence[str], first_conv: str) -> str | None:
    """Return the candidate that is the architecture's first convolution."""
    names = (f"{first_conv}.weight", f".{first_conv}.weight")
    return next((key for key in candidates if key == names[0] or key.endswith(names[1])), None)


def _by_names(infos: Mapping[str, TensorInfo], keys: Sequence[str], notes: list[str]) -> list[PlannedLayer]:
    """Plan layers chosen by shape: stages, and strides and dilations of known families, come from the names."""
    names, everything = [naming.plain_name(key) for key in keys], [naming.plain_name(key) for key in infos]
    stages = naming.stages(names, everything)
    family = naming.known_family(names, everything)
    told, sources = named_dilations(names, everything, [(infos[key].shape[-2], infos[key].shape[-1]) for key in keys])
    layers = []
    for i, (key, stage) in enumerate(zip(keys, stages, strict=True)):
        info = infos[key]
        kernel = info.shape[-2], info.shape[-1]
        bias_key = _bias_key(key, [info.shape[:1]], infos)
        layer = PlannedLayer(key, bias_key, info.shape, info.dtype, kernel, stage=stage)
        if family is not None:
            dilation = family[1][i]
            layer = replace(layer, stride=(1, 1), dilation=(dilation, dilation), multiplier=1)
        elif names[i] in told:
            layer = replace(layer, dilation=told[names[i]])
        layers.append(layer)
    notes += sources if family is None else [family[0].note]
    return layers


def _from_graph(infos: Mapping[str, TensorInfo], graph: tuple[GraphLayer, ...], thing: str) -> list[PlannedLayer]:
    """Plan the layers of a graph, which have one common prefix in the file."""
    if not graph:
        return []
    missing: list[list[str]] = []
    for keys in naming.spellings(infos):
        named = {name: infos[key] for name, key in keys.items()}
        prefixes = [name[: -len(graph[0].key)] for name in named if f".{name}".endswith(f".{graph[0].key}")] or [""]
        for prefix in sorted(prefixes, key=len):
            lacks = [g.key for g in graph if (t := named.get(prefix + g.key)) is None or t.shape != g.shape]
            if not lacks:
                return [_graph_layer(g, prefix, named) for g in graph]
            missing.append(lacks)
    least = min(missing, key=len)
    problem = (
        f"lacks {len(least)} of the {counted(len(graph), 'depthwise layer')} of the architecture, first {least[0]}"
    )
    raise SourceError(thing, problem, "name the architecture that the weights belong to, or leave it out")


def _graph_layer(layer: GraphLayer, prefix: str, infos: Mapping[str, TensorInfo]) -> PlannedLayer:
    key = prefix + layer.key
    info = infos[key]
    high, wide = layer.kernel if layer.experts else (layer.shape[2], layer.shape[3])
    channels = layer.shape[1] // (high * wide) if layer.experts else layer.shape[0]
    bias_key = _bias_key(key, [(channels,), (layer.experts, channels)], infos)
    shared = {name: getattr(layer, name) for name in ("stride", "dilation", "multiplier", "stage", "experts")}
    return PlannedLayer(info.key, bias_key, info.shape, info.dtype, (high, wide), **shared)


def _contents(infos: Mapping[str, TensorInfo], alive: Mapping[str, TensorInfo], left_out: Mapping[str, str]) -> str:
    """Describe the file in a clause, for the error that no layer is depthwise, with why none that looks so was."""
    if not infos:
        return "no tensors"
    weights = [info for key, info in alive.items() if is_weight_name(key)]
    dense = sum(len(i.shape) == 4 and i.shape[1] > 1 for i in weights)
    flat = sum(len(i.shape) == 2 for i in weights)
    parts = [
        counted(n, one, many)
        for n, one, many in ((dense, "dense convolution", "dense convolutions"), (flat, "matrix", "matrices"))
        if n
    ]
    of = counted(len(infos), "tensor")
    text = f"{of}, of them {' and '.join(parts)}" if parts else of
    counts = Counter(left_out.values())
    first = {why: key for key, why in reversed(list(left_out.items()))}
    nearest = "; ".join(f"{n} left out as {why} (first {first[why]})" for why, n in counts.most_common(4))
    return f"{text}; {nearest}" if nearest else text
