"""Read the depthwise convolutions of an ONNX model by walking its graph.

A layer is a 2-D convolution with one input channel a group, several groups and a kernel above 1x1. Branches, loop
bodies and the model's functions are searched too. Nothing in the model is run.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mkfa.array_types import AnyArray
from mkfa.errors import SourceError
from mkfa.readers.graphs.graph_file import (
    DamagedError,
    LeftOutError,
    Sign,
    Tally,
    damaged,
    load_package,
    make_layer,
    map_file,
    to_float32,
)
from mkfa.readers.graphs.hidden_dilation import NOT_KNOWN, spread
from mkfa.readers.graphs.onnx_blocks import Blocks
from mkfa.readers.graphs.onnx_operands import Operand, Operands
from mkfa.readers.graphs.onnx_scopes import (
    DEEPEST,
    STANDARD,
    Carried,
    Scope,
    call_scope,
    carried,
    graph_scope,
    ordered,
    returns_unchanged,
    subgraphs,
)
from mkfa.readers.graphs.onnx_tensors import ExternalFiles
from mkfa.readers.graphs.onnx_wire import check_messages, trim
from mkfa.readers.graphs.quantised import dequantise
from mkfa.readers.options import DEFAULT, ReadOptions
from mkfa.readers.reading import DepthwiseLayer, Reading, Why
from mkfa.storage.budget import LONGEST_NAME, Budget
from mkfa.storage.files import sha256_of
from mkfa.words import counted

LARGEST_FILE = 1 << 31
"""Limit of protocol buffers; larger models keep their weights in separate files."""

MOST_UNROLLED = 300_000
"""Most nodes visited in calls of functions, which could call each other without end."""

_STEPS_A_VISIT = 80  # of a graph, subgraph or body, beside those of its nodes
_ACTIVATIONS = frozenset({"Relu", "Clip", "LeakyRelu", "PRelu", "HardSwish", "HardSigmoid", "Sigmoid"})
_NORMALISATIONS = frozenset(f"{kind}Normalization" for kind in ("Batch", "Instance", "Layer", "Group", "RMS", "Lp"))
_PASSED = frozenset({"Identity", "Cast", "QuantizeLinear", "DequantizeLinear", "Transpose"})
_SHIFTS = frozenset({"Mul", "Add", "Sub", "Div"})


@dataclass(frozen=True, slots=True)
class _Form:
    """Index of weight, bias, and the weight's scale and zero point among the inputs of an operator; -1 if none."""

    weight: int = 1
    bias: int = 2
    scale: int = -1
    zero: int = -1


_FORMS = {
    ("", "Conv"): _Form(),
    ("com.microsoft", "FusedConv"): _Form(),
    ("", "ConvInteger"): _Form(bias=-1, zero=3),
    ("", "QLinearConv"): _Form(weight=3, bias=8, scale=4, zero=5),
    ("com.microsoft", "QLinearConv"): _Form(weight=3, bias=8, scale=4, zero=5),
}


def read_onnx(path: Path, options: ReadOptions = DEFAULT) -> Reading:
    """Read an ONNX file and the files with its weights, which must lie in its folder; as for `reader_for`."""
    onnx: Any = load_package("onnx", "onnx", path)
    protobuf: Any = load_package("google.protobuf.message", "onnx", path)
    content = map_file(path)
    if len(content) >= LARGEST_FILE:
        raise SourceError(
            path, f"has {counted(len(content), 'byte')}, more than an ONNX file can have", "fetch the file again"
        )
    digest = sha256_of(path)  # hashing the map would load every page of it
    try:
        # onnx.load would open the files that the model names before their paths are checked
        budget = Budget(path, len(content))
        trimmed = trim(content, budget)
        check_messages(trimmed.message(), onnx.ModelProto.DESCRIPTOR, budget)
        model = onnx.ModelProto.FromString(trimmed.message())
    except (DamagedError, UnicodeDecodeError, protobuf.DecodeError) as error:
        raise damaged(path, error) from None
    if not model.HasField("graph") or not model.graph.node:
        raise SourceError(path, "does not contain an ONNX graph", "give a model exported to ONNX")
    external = ExternalFiles(path, trimmed)
    tally = Tally()
    try:
        functions = {(f.domain, f.name, f.overload): f for f in model.functions}
        _Walk(Operands(external, functions), tally).graph(
            model.graph, graph_scope(model.graph, "", None, budget=budget)
        )
    except (ValueError, OverflowError, TypeError) as error:  # bytes that are not UTF-8 raise TypeError
        raise damaged(path, error) from None
    tally.notes += [f"weights from {name}, SHA-256 {d}" for name, d in external.digests.items()]
    return tally.reading(options.architecture, digest)


@dataclass(slots=True)
class _Counter:
    """The number of a Loop's step, "" if it is not known; `asked` tells whether a weight depends on it."""

    name: str = ""
    steps: int = 1
    asked: bool = False

    def operand(self, step: int) -> Operand:
        """Return the counter's value in a step."""

        def load() -> AnyArray:
            self.asked = True
            return np.array(step, np.int64)

        return Operand(self.name, ("step", str(step)), (), "int64", load)


@dataclass(slots=True)
class _Walk:
    """Visits the nodes of a model in order of execution."""

    operands: Operands
    tally: Tally
    unrolled: int = 0
    blocks: Blocks = field(init=False)

    def __post_init__(self) -> None:
        self.blocks = Blocks(self.operands)

    def graph(self, body: Any, scope: Scope, depth: int = 0) -> None:
        """Visit a graph, a subgraph or a function body (anything with `node`)."""
        scope.budget.step(_STEPS_A_VISIT)
        for node in body.node:
            scope.budget.step(4 + len(node.input) + len(node.output))
            for text in (node.op_type, node.domain, node.name, *node.input, *node.output):
                if not isinstance(text, str):
                    raise DamagedError("names that are not text")
                if len(text) > LONGEST_NAME:
                    scope.budget.key(text, LONGEST_NAME)
        nodes, was_ordered = ordered(body.node, scope.budget)
        if not was_ordered:
            self.tally.notes.append(
                f"The nodes of graph {body.name[:80]!r} were not in order of execution and were sorted."
            )
        for node in nodes:
            self._node(node, scope, depth)

    def _node(self, node: Any, scope: Scope, depth: int) -> None:
        scope.budget.step(4)
        domain = "" if node.domain in STANDARD else node.domain
        function = self.operands.functions.get((node.domain, node.op_type, node.overload)) if domain else None
        if function is not None:
            self._count(function, depth)
            inner = call_scope(function, node, scope)
            self.graph(function, inner, depth + 1)
            self.blocks.returned(node, scope, [(inner, [(name, None) for name in function.output])])
        elif (form := _FORMS.get((domain, node.op_type))) is not None:
            self._convolution(node, scope, form)
        elif node.op_type in ("ConvTranspose", "NhwcConvTranspose"):
            self.tally.left_out[Why.TRANSPOSED] += 1
        elif node.op_type.endswith("Conv"):
            self.tally.left_out[f"convolution of kind {domain or 'ONNX'} {node.op_type}"] += 1
        if function is None:
            self.blocks.visit(node, scope)
        bodies: list[tuple[Scope, list[tuple[str, int | None]]]] = []
        for name, body in subgraphs(node):
            path = f"{scope.path}/{node.name or next(iter(node.output), '')}.{name}"
            around = carried(node, body, scope)
            if around.inputs or around.outputs:
                self._loop(node, body, around, graph_scope(body, path, scope), depth)
            else:
                inner = graph_scope(body, path, scope)
                why = Why.OLD_SCAN if node.op_type == "Scan" else Why.LOOP
                inner.changing = dict.fromkeys(inner.inputs, why)
                self.graph(body, inner, depth + 1)
                bodies.append((inner, [(value.name, None) for value in body.output]))
        if bodies:
            self.blocks.returned(node, scope, bodies)

    def _count(self, body: Any, depth: int) -> None:
        self.unrolled += len(body.node)
        if self.unrolled > MOST_UNROLLED or depth > DEEPEST:
            raise DamagedError("functions that call each other without end")

    def _loop(self, node: Any, body: Any, around: Carried, inner: Scope, depth: int) -> None:
        """Visit the body of Loop or Scan: once, or in each step if a Scan's slices or a Loop's counter give weights."""
        scope = inner.outer
        assert scope is not None
        inner.entering = {inside: (outside, scope, axis) for inside, outside, axis in around.inputs}
        for (inside, outside, axis), (returned, _, _) in zip(around.inputs, around.outputs, strict=False):
            if axis is None and returns_unchanged(inside, returned, inner):
                inner.bound[inside] = (outside, scope)
        slices = {}
        for at, (inside, outside, axis) in enumerate(around.inputs):
            if axis is not None:
                slices[inside] = self.operands.steps_of(outside, scope, axis, backwards=at in around.backwards)
        steps = {len(operands) for operands in slices.values() if operands}
        if len(steps) > 1:
            raise DamagedError(f"a Scan over {sorted(steps)} steps")
        inner.changing = dict.fromkeys(inner.inputs, Why.LOOP)
        before, counter = len(self.tally.layers), self._counter(node, body, inner)
        for step in range(steps.pop() if steps else counter.steps):
            if step and not slices and not counter.asked:
                break
            self._count(body, depth)
            inner.found.clear()
            inner.sliced |= {inside: operands[step] for inside, operands in slices.items() if operands}
            if counter.name:
                inner.sliced[counter.name] = counter.operand(step)
            self.graph(body, inner, depth + 1)
        if self.blocks.changed(around, inner, scope):  # the distance of neighbours differs from step to step
            self.tally.layers[before:] = [spread(layer, NOT_KNOWN) for layer in self.tally.layers[before:]]
            self.blocks.forget(node, scope)
        else:
            self.blocks.returned(node, scope, [(inner, [(name, axis) for name, _, axis in around.outputs])])

    def _counter(self, node: Any, body: Any, inner: Scope) -> _Counter:
        """Return the counter of a Loop whose number of steps the file states; of others the counter of one step."""
        if node.op_type != "Loop" or len(body.input) < 2 or len(node.input) < 2 or not body.output or not inner.outer:
            return _Counter()
        go = Operand("", ("", "go"), (), "bool", lambda: np.array(True))
        inner.sliced[body.input[1].name] = go
        try:
            count = int(self.operands.find(node.input[0], inner.outer).load().reshape(()))
            first = self.operands.find(node.input[1], inner.outer) if node.input[1] else go
            always = all(known.load().all() for known in (first, self.operands.find(body.output[0].name, inner)))
        except LeftOutError:
            count, always = 0, False
        if not always or count < 1:
            del inner.sliced[body.input[1].name]
            return _Counter()
        return _Counter(body.input[0].name, count)

    def _convolution(self, node: Any, scope: Scope, form: _Form) -> None:
        self.tally.convolutions += 1
        groups = scope.whole(node, "group", 1)
        try:
            weight = self._operand(node, scope, form.weight)
            reason = _why_not(weight, groups)
            if reason is None and self.tally.is_new(weight.root):
                self.tally.take(self._layer(node, scope, form, weight, groups), self._sign(node, scope, weight.key))
        except LeftOutError as left_out:
            reason = str(left_out.args[0]) if groups > 1 else None
        if reason:
            self.tally.left_out[reason] += 1

    def _operand(self, node: Any, scope: Scope, index: int) -> Operand:
        if not 0 <= index < len(node.input) or not node.input[index]:
            raise LeftOutError(Why.RUN_TIME)
        return self.operands.find(node.input[index], scope)

    def _layer(self, node: Any, scope: Scope, form: _Form, weight: Operand, groups: int) -> DepthwiseLayer:
        out, _, kh, kw = weight.shape
        kernel = scope.wholes(node, "kernel_shape")
        if kernel is not None and kernel != (kh, kw):
            raise DamagedError(f"a kernel of {list(kernel)} with weights of shape {list(weight.shape)} at {weight.key}")
        values = weight.load()
        scope.budget.produce(8 * values.size)  # as float32, and once more in the bank
        if form.scale >= 0 or form.zero >= 0:
            scale = self._operand(node, scope, form.scale).load() if form.scale >= 0 else None
            values = self._integers(node, scope, form, values, scale)
        layer = make_layer(
            weight.key,
            values.reshape(out, kh, kw),
            self._bias(node, scope, form),
            dtype=weight.dtype,
            channels=groups,
            stride=scope.wholes(node, "strides") or (1, 1),
            dilation=scope.wholes(node, "dilations") or (1, 1),
        )
        return spread(layer, self.blocks.block(node.input[0], scope))

    def _integers(self, node: Any, scope: Scope, form: _Form, values: AnyArray, scale: AnyArray | None) -> AnyArray:
        """Return integer weights as real numbers; without scale, in quantisation steps."""
        zero = None
        if form.zero < len(node.input) and node.input[form.zero]:
            zero = self._operand(node, scope, form.zero).load()
        if scale is None:
            note = "Weights of ConvInteger are in quantisation steps: their scale is applied to the output."
            if note not in self.tally.notes:
                self.tally.notes.append(note)
        return dequantise(values, np.ones(1, np.float32) if scale is None else scale, zero, axis=0)

    def _bias(self, node: Any, scope: Scope, form: _Form) -> AnyArray | None:
        if not 0 <= form.bias < len(node.input) or not node.input[form.bias]:
            return None
        try:
            values = self._operand(node, scope, form.bias).load()
            if form.scale >= 0:  # QLinearConv: int32 in steps of input scale times weight scale
                steps = self._operand(node, scope, 1).load() * self._operand(node, scope, form.scale).load()
                values = dequantise(values, to_float32(steps), None, axis=0)
        except LeftOutError:
            name = node.name or node.output[0]
            self.tally.notes.append(f"The bias of {name} is computed at run time and not stored.")
            return None
        return values

    def _sign(self, node: Any, scope: Scope, key: str) -> Sign:
        """Infer a folded normalisation from the operators that follow changes of type, scale and offset."""
        if node.op_type == "FusedConv":
            return Sign.FOLDED  # its attribute `activation` names one
        waiting = scope.readers.get(node.output[0], [])[:DEEPEST] if node.output else []
        for _ in range(DEEPEST):
            if not waiting:
                break
            scope.budget.step(2)
            reader = waiting.pop(0)
            if self._normalises(reader, scope):
                return Sign.SEPARATE
            if reader.op_type in _ACTIVATIONS:
                after = scope.readers.get(reader.output[0], []) if reader.output else []
                scope.budget.step(len(after))
                return Sign.SEPARATE if any(self._normalises(node, scope) for node in after) else Sign.FOLDED
            shifted = reader.op_type in _SHIFTS and any(self._known(name, scope) for name in reader.input)
            if (shifted or reader.op_type in _PASSED) and reader.output:
                waiting += scope.readers.get(reader.output[0], [])[:DEEPEST]
        return Sign.FOLDED if re.fullmatch(r"onnx::Conv_\d+", key) else Sign.NONE

    def _normalises(self, node: Any, scope: Scope) -> bool:
        """True for a normalisation, or for its first operator, a mean (a mean over both spatial axes is a pooling)."""
        if node.op_type != "ReduceMean":
            return node.op_type in _NORMALISATIONS
        axes = scope.wholes(node, "axes")
        if axes is None and len(node.input) > 1 and self._known(node.input[1], scope):
            axes = tuple(self.operands.find(node.input[1], scope).load().reshape(-1).tolist())
        return axes is not None and len(axes) != 2

    def _known(self, name: str, scope: Scope) -> bool:
        try:
            self.operands.find(name, scope)
        except LeftOutError:
            return False
        return True


def _why_not(weight: Operand, groups: int) -> str | None:
    """Return why a convolution is skipped, "" for an ordinary one, None for a depthwise layer."""
    shape = weight.shape
    if len(shape) < 3 or groups < 1:
        raise DamagedError(
            f"a convolution with weights of shape {list(shape)} in {counted(groups, 'group')} at {weight.key}"
        )
    if groups == 1:
        return Why.STEM if shape[1] == 1 and len(shape) == 4 and shape[2] * shape[3] > 1 else ""
    if shape[1] != 1:
        return Why.GROUPED
    if len(shape) != 4:
        return {3: Why.ONE_D, 5: Why.THREE_D}.get(len(shape), f"{len(shape) - 2}-D convolution")
    return Why.ONE_BY_ONE if shape[2] * shape[3] == 1 else None
