"""Read the depthwise convolutions of a TFLite model by walking its graphs.

A layer is a DEPTHWISE_CONV_2D, or a CONV_2D whose filter has one channel although its input has several, with a kernel
above 1x1. The bodies of IF and WHILE are searched too. A convolution along one axis of an input that is one pixel high
or wide is a 1-D convolution, which the converter writes in two dimensions, and is skipped.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mkfa.array_types import F32, AnyArray
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
from mkfa.readers.graphs.hidden_dilation import (
    NOT_KNOWN,
    PLAIN,
    Block,
    after_batch_to_space,
    after_space_to_batch,
    spread,
)
from mkfa.readers.graphs.quantised import dequantise
from mkfa.readers.graphs.tflite_tables import Tables, first, options, stored_type, tensor_name
from mkfa.readers.options import DEFAULT, ReadOptions
from mkfa.readers.reading import DepthwiseLayer, Reading, Why
from mkfa.storage.budget import Budget
from mkfa.storage.files import sha256_of
from mkfa.words import counted

_DEEPEST = 8
"""Most conversions between a stored weight and its convolution, and deepest nesting of control flow."""

_MOST_INPUTS = 64
"""Most tensors of one operator that are followed."""

_OFFSET_ERRORS = (struct.error, IndexError, TypeError, ValueError, OverflowError, AttributeError)
"""Errors of the flatbuffers package on wrong offsets."""


def read_tflite(path: Path, options: ReadOptions = DEFAULT) -> Reading:
    """Read a TFLite file; parameters and errors as for `reader_for`."""
    tflite: Any = load_package("tflite", "tflite", path)
    content = map_file(path)
    if content[4:8] != b"TFL3":
        raise SourceError(path, "is not a TFLite model (it lacks the mark TFL3)", "fetch the file again")
    tally = Tally()
    try:
        _Walk(tflite, Tables(content, len(content), Budget(path, len(content))), tally).model()
    except _OFFSET_ERRORS as error:
        raise damaged(path, error) from None
    digest = sha256_of(path)
    return tally.reading(options.architecture, digest)


@dataclass(frozen=True, slots=True)
class _Stored:
    """A tensor with data: its table, the bytes, the buffer that identifies them, and the shape that a RESHAPE gives."""

    tensor: Any
    data: AnyArray
    buffer: int
    shape: tuple[int, ...] | None = None


@dataclass(slots=True)
class _Graph:
    """One subgraph: its table, operators with codes, the operators that make tensors, the activated tensors, the
    tensors whose batch is made of blocks, and where the tensors come from that a body gets and does not change."""

    table: Any
    operators: list[tuple[int, Any]]
    makers: dict[int, Any] = field(default_factory=dict)
    activated: set[int] = field(default_factory=set)
    blocks: dict[int, Block] = field(default_factory=dict)
    entering: dict[int, tuple[_Graph, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Bodies:
    """The subgraphs that an operator runs, and the tensors that it gives them.

    `loop` means that the last subgraph's results are its inputs the next time.
    """

    indexes: tuple[int, ...] = ()
    given: tuple[int, ...] = ()
    loop: bool = False


@dataclass(slots=True)
class _Walk:
    """Visits the operators of a model in order of execution."""

    tflite: Any
    tables: Tables
    tally: Tally
    root: Any = None
    codes: list[int] = field(default_factory=list)
    done: dict[int, _Graph] = field(default_factory=dict)
    visited: int = 0

    def model(self) -> None:
        """Visit all subgraphs: the main one with the bodies that it calls, then other entry points."""
        self.root = self.tflite.Model.GetRootAs(self.tables.content, 0)
        for code in self.tables.children(self.root, "OperatorCodes"):
            # old files have the number in one byte, new ones in both fields if it fits (schema.fbs)
            self.codes.append(max(int(code.DeprecatedBuiltinCode()), int(code.BuiltinCode())))
        for index in range(self.tables.count(self.root, "Subgraphs")):
            self._subgraph(index, 0)
        if not self.visited:
            raise DamagedError("no operators")

    def _subgraph(self, index: int, depth: int, caller: _Graph | None = None, bodies: _Bodies = _Bodies()) -> None:
        """Visit a subgraph once; one that several operators run has the blocks that the first one gives it."""
        if index in self.done or not 0 <= index < self.tables.count(self.root, "Subgraphs") or depth > _DEEPEST:
            return
        graph = self.done[index] = self._graph(self.root.Subgraphs(index))
        self.visited += len(graph.operators)
        if caller is not None:
            self._enter(graph, caller, bodies)
        kinds = self.tflite.BuiltinOperator
        for code, operator in graph.operators:
            if code == kinds.DEPTHWISE_CONV_2D:
                self._convolution(graph, operator, depthwise=True)
            elif code == kinds.CONV_2D:
                self._convolution(graph, operator, depthwise=False)
            elif code == kinds.TRANSPOSE_CONV:
                self.tally.left_out[Why.TRANSPOSED] += 1
            elif code in (kinds.CONV_3D, kinds.CONV_3D_TRANSPOSE):
                self.tally.left_out[Why.THREE_D] += 1
            elif (inner := self._bodies(code, operator)).indexes:
                before = len(self.tally.layers)
                for body in inner.indexes:
                    self._subgraph(body, depth + 1, graph, inner)
                self._leave(graph, operator, inner, before)
                continue
            self._note_block(graph, code, operator)

    def _enter(self, graph: _Graph, caller: _Graph, bodies: _Bodies) -> None:
        """Note what a body's inputs are in the graph that runs it."""
        inputs, outputs = self._ends(graph)
        for at, (inside, outside) in enumerate(zip(inputs, bodies.given, strict=False)):
            if outside in caller.blocks:
                graph.blocks[inside] = caller.blocks[outside]
            if not bodies.loop or outputs[at : at + 1] == [inside]:
                graph.entering[inside] = (caller, outside)

    def _leave(self, graph: _Graph, operator: Any, bodies: _Bodies, before: int) -> None:
        """Note the blocks of what bodies return; `before` layers were known before them."""
        results = [int(i) for i in self.tables.numbers(operator, "Outputs", _MOST_INPUTS)]
        run = [self.done[index] for index in bodies.indexes[-1 if bodies.loop else 0 :] if index in self.done]
        given = [graph.blocks.get(i, PLAIN) for i in bodies.given]
        returned = [[one.blocks.get(i, PLAIN) for i in self._ends(one)[1]] for one in run]
        if bodies.loop and returned and any(a != b for a, b in zip(given, returned[0], strict=False)):
            # the distance of neighbours differs from step to step
            self.tally.layers[before:] = [spread(layer, NOT_KNOWN) for layer in self.tally.layers[before:]]
            graph.blocks |= dict.fromkeys(results, NOT_KNOWN)
            return
        for at, result in enumerate(results):
            found = {blocks[at] for blocks in returned if at < len(blocks)}
            if found and found != {PLAIN}:
                graph.blocks[result] = found.pop() if len(found) == 1 else NOT_KNOWN

    def _ends(self, graph: _Graph) -> tuple[list[int], list[int]]:
        """Return a subgraph's inputs and outputs."""
        inputs, outputs = (self.tables.numbers(graph.table, name, _MOST_INPUTS) for name in ("Inputs", "Outputs"))
        return [int(i) for i in inputs], [int(i) for i in outputs]

    def _graph(self, table: Any) -> _Graph:
        kinds = self.tflite.BuiltinOperator
        gates = {kinds.RELU, kinds.RELU6, kinds.RELU_N1_TO_1, kinds.PRELU, kinds.LEAKY_RELU}
        gates |= {kinds.HARD_SWISH, kinds.LOGISTIC}
        graph = _Graph(table, [])
        for operator in self.tables.children(table, "Operators"):
            number = int(operator.OpcodeIndex())
            if number >= len(self.codes):
                raise DamagedError(f"operator code {number} of {len(self.codes)}")
            code = self.codes[number]
            graph.operators.append((code, operator))
            if code in (kinds.DEQUANTIZE, kinds.DENSIFY, kinds.RESHAPE):
                graph.makers[first(self.tables.numbers(operator, "Outputs", 1))] = operator
            elif code in gates:
                graph.activated.add(first(self.tables.numbers(operator, "Inputs", 1)))
        return graph

    def _note_block(self, graph: _Graph, code: int, operator: Any) -> None:
        """Note the distance of neighbours in an operator's outputs, if its inputs are blocks or it makes some."""
        kinds = self.tflite.BuiltinOperator
        change = {kinds.SPACE_TO_BATCH_ND: after_space_to_batch, kinds.BATCH_TO_SPACE_ND: after_batch_to_space}.get(
            code
        )
        if change is None and not graph.blocks:
            return
        inputs = [int(i) for i in self.tables.numbers(operator, "Inputs", _MOST_INPUTS)]
        block = next((graph.blocks[i] for i in inputs if i in graph.blocks), PLAIN)
        if change is not None:
            block = change(block, self._block_shape(graph, inputs))
        elif block != PLAIN and code in (kinds.RESHAPE, kinds.TRANSPOSE, kinds.GATHER, kinds.GATHER_ND):
            block = NOT_KNOWN
        if block != PLAIN:
            graph.blocks |= {int(i): block for i in self.tables.numbers(operator, "Outputs", _MOST_INPUTS)}

    def _block_shape(self, graph: _Graph, inputs: list[int]) -> list[int] | None:
        """Return the constant block shape of SPACE_TO_BATCH_ND or its inverse; None if it is computed."""
        if len(inputs) < 2:
            raise DamagedError(f"a change between space and batch with {counted(len(inputs), 'input')}")
        try:
            stored = self._stored(graph, inputs[1])
            values = self.tables.values(stored.tensor, stored.data)
        except LeftOutError:
            return None
        if values.dtype.kind != "i" or values.size > 3:
            raise DamagedError(f"a block shape of {counted(values.size, f'{values.dtype} number')}")
        return [int(v) for v in values.reshape(-1)]

    def _bodies(self, code: int, operator: Any) -> _Bodies:
        """Return the subgraphs that a control-flow operator runs."""
        kinds, numbers = self.tflite.BuiltinOperator, self.tflite.BuiltinOptions
        if code not in (kinds.IF, kinds.WHILE, kinds.CALL_ONCE):
            return _Bodies()
        given = tuple(int(i) for i in self.tables.numbers(operator, "Inputs", _MOST_INPUTS))
        if code == kinds.IF:
            branch = options(operator, self.tflite.IfOptions, numbers.IfOptions)
            return _Bodies((branch.ThenSubgraphIndex(), branch.ElseSubgraphIndex()), given[1:])
        if code == kinds.WHILE:
            loop = options(operator, self.tflite.WhileOptions, numbers.WhileOptions)
            return _Bodies((loop.CondSubgraphIndex(), loop.BodySubgraphIndex()), given, loop=True)
        return _Bodies((options(operator, self.tflite.CallOnceOptions, numbers.CallOnceOptions).InitSubgraphIndex(),))

    def _convolution(self, graph: _Graph, operator: Any, *, depthwise: bool) -> None:
        self.tally.convolutions += 1
        inputs = [int(i) for i in self.tables.numbers(operator, "Inputs", 3)]
        if len(inputs) < 2:
            raise DamagedError(f"a convolution with {counted(len(inputs), 'input')}")
        name = "DepthwiseConv2DOptions" if depthwise else "Conv2DOptions"
        option = options(operator, getattr(self.tflite, name), getattr(self.tflite.BuiltinOptions, name))
        shape = self.tables.shape(self._tensor(graph, inputs[1]))
        input_shape = self.tables.shape(self._tensor(graph, inputs[0]))
        try:
            channels = _channels(shape, input_shape, option.DepthMultiplier() if depthwise else None)
            if channels is None:
                return  # an ordinary convolution
            if input_shape[1:3] and any(n == k == 1 for n, k in zip(input_shape[1:3], shape[1:3], strict=False)):
                raise LeftOutError(Why.ONE_D)
            weight = self._stored(graph, inputs[1])
            if self.tally.is_new(weight.buffer):
                filters = self._filters(weight, depthwise=depthwise)
                layer = self._layer(graph, option, inputs, weight, filters, channels)
                self.tally.take(layer, self._sign(graph, operator, option))
        except LeftOutError as left_out:
            self.tally.left_out[str(left_out.args[0])] += 1

    def _filters(self, weight: _Stored, *, depthwise: bool) -> F32:
        """Return a weight as (C * m, kh, kw) float32."""
        values = self._real(weight)
        if values is None:
            raise LeftOutError("quantised weights without a scale")
        if values.ndim != 4:
            raise DamagedError(f"a filter of shape {list(values.shape)}")
        # depthwise (1, kh, kw, C * m), otherwise (C * m, kh, kw, 1)
        return values[0].transpose(2, 0, 1) if depthwise else values[..., 0]

    def _layer(
        self, graph: _Graph, option: Any, inputs: list[int], weight: _Stored, filters: F32, channels: int
    ) -> DepthwiseLayer:
        layer = make_layer(
            tensor_name(weight.tensor, self.tables.budget),
            filters,
            self._bias(graph, inputs),
            dtype=stored_type(weight.tensor)[0],
            channels=channels,
            stride=(option.StrideH(), option.StrideW()),
            dilation=(option.DilationHFactor(), option.DilationWFactor()),
        )
        return spread(layer, graph.blocks.get(inputs[0], PLAIN))

    def _bias(self, graph: _Graph, inputs: list[int]) -> F32 | None:
        if len(inputs) < 3 or inputs[2] < 0:
            return None
        try:
            values = self._real(self._stored(graph, inputs[2]))
        except LeftOutError:
            values = None
        if values is None:
            name = tensor_name(self._tensor(graph, inputs[2]), self.tables.budget)
            self.tally.notes.append(f"The bias {name} is computed at run time or has no scale, and is not stored.")
        return values

    def _real(self, stored: _Stored) -> F32 | None:
        """Return a tensor's values in float32; None for integers without a scale."""
        values = self.tables.values(stored.tensor, stored.data)
        self.tables.budget.produce(8 * values.size)  # as float32, and once more in the bank
        if values.dtype.kind == "f":
            real = to_float32(values)
        else:
            scales = self.tables.scales(stored.tensor)
            if scales is None:
                return None
            real = dequantise(values, scales[0], scales[1], axis=scales[2])
        if stored.shape is None:
            return real
        if math.prod(stored.shape) != real.size:
            raise DamagedError(f"shape {list(real.shape)} made into {list(stored.shape)}")
        return real.reshape(stored.shape)

    def _tensor(self, graph: _Graph, index: int) -> Any:
        return self.tables.child(graph.table, "Tensors", index)

    def _stored(self, graph: _Graph, index: int) -> _Stored:
        """Follow DEQUANTIZE, DENSIFY and RESHAPE back from a weight, out of bodies, to the tensor with its data."""
        shape = None
        for _ in range(_DEEPEST):
            tensor = self._tensor(graph, index)
            buffer = int(tensor.Buffer())
            data = self.tables.data(self.tables.child(self.root, "Buffers", buffer))
            if data.size:
                return _Stored(tensor, data, buffer, shape)
            if index in graph.entering:
                graph, index = graph.entering[index]
                continue
            if index not in graph.makers:
                break
            maker = graph.makers[index]
            if shape is None and self.codes[int(maker.OpcodeIndex())] == self.tflite.BuiltinOperator.RESHAPE:
                shape = self.tables.shape(tensor)
            index = first(self.tables.numbers(maker, "Inputs", 1))
        raise LeftOutError(Why.RUN_TIME)

    def _sign(self, graph: _Graph, operator: Any, option: Any) -> Sign:
        none = self.tflite.ActivationFunctionType.NONE
        fused = option.FusedActivationFunction() != none
        output = first(self.tables.numbers(operator, "Outputs", 1))
        return Sign.FOLDED if fused or output in graph.activated else Sign.NONE


def _channels(shape: tuple[int, ...], input_shape: tuple[int, ...], multiplier: int | None) -> int | None:
    """Return the input channels of a depthwise convolution, None for an ordinary one.

    `shape` is the filter's; `multiplier` that of DEPTHWISE_CONV_2D, None for CONV_2D. Raises `LeftOutError` for a
    convolution that is skipped.
    """
    if len(shape) != 4 or min(shape) < 1:
        raise DamagedError(f"a convolution with a filter of shape {list(shape)}")
    channels = input_shape[3] if len(input_shape) == 4 and input_shape[3] > 0 else 0
    one_tap = shape[1] * shape[2] == 1
    if multiplier is not None:
        if shape[0] != 1:
            raise DamagedError(f"a depthwise filter of shape {list(shape)}")
        # like the interpreter: the input's channels if known, else the option
        channels = channels or (shape[3] // multiplier if multiplier > 0 else 0)
        if not channels:
            raise DamagedError(f"a depthwise convolution with multiplier {multiplier}")
    elif shape[3] > 1 or (one_tap and channels <= 1):
        if channels % shape[3]:
            raise DamagedError(f"a filter of shape {list(shape)} on {counted(channels, 'channel')}")
        if channels > shape[3]:
            raise LeftOutError(Why.GROUPED)
        return None
    elif not channels:
        raise LeftOutError("convolution on a number of channels that is not stated")
    if one_tap:
        raise LeftOutError(Why.ONE_BY_ONE)
    if channels == 1:
        raise LeftOutError(Why.STEM)
    return channels
