"""Find dilations that an ONNX graph hides in its batch axis (see `mkfa.readers.graphs.hidden_dilation`).

tf2onnx writes SpaceToBatchND as SpaceToDepth between two Transposes that exchange batch and channels, or, for blocks
that are not square, as Reshape, Transpose, Reshape, whose shapes are partly computed at run time. Its later versions
join it with the convolution into one dilated Conv, if nothing is between them. It can also be kept as a custom
operator. All these forms are recognised, also where
several convolutions follow. Blocks among the channels (pixel-unshuffle, YOLO's focus) and windows are not dilation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mkfa.array_types import AnyArray
from mkfa.readers.graphs.graph_file import LeftOutError
from mkfa.readers.graphs.hidden_dilation import PLAIN, Block
from mkfa.readers.graphs.onnx_operands import Operands
from mkfa.readers.graphs.onnx_scopes import STANDARD, Carried, Scope

_PASSED = frozenset(
    (
        "Identity Cast QuantizeLinear DequantizeLinear Pad Slice Clip Relu LeakyRelu PRelu Elu Selu Gelu Sigmoid "
        "HardSwish HardSigmoid Mish Softplus Tanh Erf Add Sub Mul Div Neg Max Min Pow Sqrt BatchNormalization Dropout"
    ).split()
)
"""Operators that leave pixels where they are."""
_OVER_CHANNELS = frozenset({"Conv", "FusedConv", "ConvInteger", "QLinearConv", "MaxPool", "AveragePool"})
"""Operators over the axes 2 and 3 after which blocks among the channels are channels like any other."""
_LONGEST = 16
"""Most numbers of a shape, and most steps to compute it."""


@dataclass(frozen=True, slots=True)
class _Phases:
    """Where a tensor's blocks are: the axis that they were moved into, and axis -> distance of its neighbours."""

    axis: int
    distance: Mapping[int, int]


_NOT_KNOWN = _Phases(0, {2: 0, 3: 0})


def _shifted(phases: _Phases | None, axis: int | None, by: int) -> _Phases | None:
    """Return the blocks of a tensor of which Scan takes a slice along an axis (`by` -1), or stacks such (1)."""
    if phases is None or axis is None:
        return phases
    if axis < 0 or (by < 0 and axis in (phases.axis, *phases.distance)):
        return _NOT_KNOWN
    first = axis - min(by, 0)
    moved = {at + by * (at >= first): n for at, n in phases.distance.items()}
    return _Phases(phases.axis + by * (phases.axis >= first), moved)


@dataclass(slots=True)
class Blocks:
    """The blocks of a model's tensors; nodes must be visited in order of execution."""

    operands: Operands
    _known: dict[tuple[int, str], _Phases] = field(default_factory=dict)
    _scopes: list[Scope] = field(default_factory=list)

    def block(self, name: str, scope: Scope) -> Block:
        """Return the distance of a tensor's neighbours for a convolution over its axes 2 and 3."""
        phases = self._phases(name, scope)
        if phases is None or phases.axis != 0 or not phases.distance.keys() <= {2, 3}:
            return PLAIN
        return phases.distance.get(2, 1), phases.distance.get(3, 1)

    def returned(
        self, node: Any, scope: Scope, bodies: Sequence[tuple[Scope, Sequence[tuple[str, int | None]]]]
    ) -> None:
        """Note the blocks of a node's outputs, which are those of its bodies' (name, axis that is added or None)."""
        if not self._known:
            return
        for at, output in enumerate(node.output):
            found = [
                _shifted(self._phases(names[at][0], inner), names[at][1], 1)
                for inner, names in bodies
                if at < len(names)
            ]
            first = next((phases for phases in found if phases is not None), None)
            if first is not None and output:
                self._keep(scope, output, first if all(phases == first for phases in found) else _NOT_KNOWN)

    def changed(self, carried: Carried, inner: Scope, scope: Scope) -> bool:
        """True if a value that a loop carries on has other blocks after a step than before."""
        pairs = zip(carried.inputs[: carried.states], carried.outputs, strict=False)
        return bool(self._known) and any(
            self._phases(outside, scope) != self._phases(returned, inner) for (_, outside, _), (returned, _, _) in pairs
        )

    def forget(self, node: Any, scope: Scope) -> None:
        """Note that the blocks of a node's outputs are not known."""
        for output in node.output:
            self._keep(scope, output, _NOT_KNOWN)

    def _keep(self, scope: Scope, name: str, phases: _Phases) -> None:
        if not self._scopes or self._scopes[-1] is not scope:
            self._scopes.append(scope)  # kept, so that no other scope gets its number
        self._known[id(scope), name] = phases

    def visit(self, node: Any, scope: Scope) -> None:
        """Note the blocks of a node's first output."""
        found = self._after(node, scope)
        if found is None or not node.output:
            return
        self._keep(scope, node.output[0], found)

    def _phases(self, name: str, scope: Scope) -> _Phases | None:
        at: Scope | None = scope
        while at is not None and self._known:
            scope.budget.step()
            if (found := self._known.get((id(at), name))) is not None:
                return found
            if name in at.bound:
                name, at = at.bound[name]
            elif name in at.entering:
                outside, caller, axis = at.entering[name]
                return _shifted(self._phases(outside, caller), axis, -1)
            else:
                at = None if name in at.inputs else at.outer
        return None

    def _after(self, node: Any, scope: Scope) -> _Phases | None:
        kind = node.op_type
        if kind == "SpaceToDepth" and node.domain in STANDARD:
            return self._space_to_depth(node, scope)
        if kind == "Reshape":
            return self._reshape(node, scope)
        if kind in ("SpaceToBatchND", "BatchToSpaceND"):
            return self._of_tensorflow(node, scope)
        if not self._known or not node.input:
            return None
        if kind == "Transpose":
            order = scope.wholes(node, "perm")
            return _transposed(self._phases(node.input[0], scope), order)
        if kind == "DepthToSpace":
            first, factor = self._phases(node.input[0], scope), scope.whole(node, "blocksize", 1)
            if first is None or first.axis != 1 or factor < 1 or any(n % factor for n in first.distance.values()):
                return None
            left = {axis: n // factor for axis, n in first.distance.items() if n > factor or not n}
            return _Phases(1, left) if left else None
        if kind in _PASSED or kind in _OVER_CHANNELS or kind.startswith("QLinear"):
            inputs = (self._phases(name, scope) for name in node.input)
            found = next((phases for phases in inputs if phases is not None), None)
            return None if found is not None and kind not in _PASSED and found.axis != 0 else found
        return None

    def _space_to_depth(self, node: Any, scope: Scope) -> _Phases | None:
        first = self._phases(node.input[0], scope) if node.input else None
        factor = scope.whole(node, "blocksize", 1)
        if factor < 1 or (first is not None and first.axis != 1):
            return None
        before = first.distance if first is not None else {}
        return _Phases(1, {axis: before.get(axis, 1) * factor for axis in (2, 3)})

    def _of_tensorflow(self, node: Any, scope: Scope) -> _Phases | None:
        """Take the operators of TensorFlow, which converters can keep as custom ones; their images are NHWC."""
        first = self._phases(node.input[0], scope) if node.input else None
        sizes = self._shape(node.input[1], scope) if len(node.input) > 1 else None
        if sizes is None or None in sizes or (first is not None and first.axis != 0):
            return None
        distance = dict(first.distance) if first is not None else {}
        for axis, size in enumerate(sizes, start=1):
            before, factor = distance.get(axis, 1), size or 1
            distance[axis] = before * factor if node.op_type == "SpaceToBatchND" else before // factor
        unknown = () if first is None else [axis for axis, n in first.distance.items() if not n]
        left = {axis: n for axis, n in distance.items() if n > 1 or axis in unknown}
        return _Phases(0, left) if left else None

    def _reshape(self, node: Any, scope: Scope) -> _Phases | None:
        """Recognise Reshape, Transpose, Reshape that splits spatial axes and joins their inner parts with the batch."""
        turn = scope.made.get(node.input[0]) if len(node.input) > 1 else None
        if turn is None or turn.op_type != "Transpose" or not turn.input:
            return None
        split = scope.made.get(turn.input[0])
        order = scope.wholes(turn, "perm")
        if split is None or split.op_type != "Reshape" or len(split.input) < 2 or not order or len(order) < 5:
            return None
        before, after = (self._shape(n.input[1], scope) for n in (split, node))
        if before is None or after is None or len(after) > 4:
            return None
        return _joined(before, order, after)

    def _shape(self, name: str, scope: Scope) -> list[int | None] | None:
        """Return the numbers of a shape, None for those not known; they end where a part of unknown length begins."""
        values = _PartlyKnown(self.operands, scope).find(name)
        if values is None or values.ndim != 1:
            return None
        return [None if v is None or int(v) < 1 else int(v) for v in values]


def _transposed(phases: _Phases | None, order: Sequence[int] | None) -> _Phases | None:
    if phases is None or order is None or phases.axis not in order:
        return None
    distance = {order.index(axis): n for axis, n in phases.distance.items() if axis in order}
    return _Phases(order.index(phases.axis), distance)


def _joined(split: Sequence[int | None], order: Sequence[int], after: Sequence[int | None]) -> _Phases | None:
    """Return the blocks after a Reshape to `split`, a Transpose by `order`, and a Reshape to `after`, which must keep
    the last three axes and join all before; shapes may lack their last numbers."""
    kept, leading = order[len(order) - 3 :], set(order[: len(order) - 3])
    distance = {}
    if sum(axis - 1 not in kept for axis in leading) != 1:  # the batch; windows have their outer parts here
        return None
    for position, axis in enumerate(kept, start=1):
        if position < len(after) and axis < len(split) and after[position] != split[axis]:
            return None
        inner = axis + 1  # a spatial axis is split into (outer, inner); the inner part is the place in its block
        if inner in leading and inner < len(split):
            factor = split[inner]
            if factor is None:
                return None
            if factor > 1:
                distance[position] = factor
    return _Phases(0, distance) if distance else None


@dataclass(slots=True)
class _PartlyKnown:
    """Computes shapes of which some numbers are known only at run time (None)."""

    operands: Operands
    scope: Scope
    steps: int = 0

    def find(self, name: str) -> AnyArray | None:
        """Return the numbers (dtype object); None if not even their count is known."""
        self.steps += 1
        if self.steps > 4 * _LONGEST:
            return None
        try:
            values = self.operands.find(name, self.scope)
            if math.prod(values.shape) > _LONGEST:
                return None
            return values.load().astype(object)
        except LeftOutError:
            pass
        node = self.scope.made.get(name)
        if node is None or node.domain not in STANDARD:
            return None
        try:
            found = self._made(node)
        except (ValueError, TypeError, IndexError):  # numbers that do not fit each other
            return None
        return None if found is None or found.size > _LONGEST else found

    def _made(self, node: Any) -> AnyArray | None:
        kind = node.op_type
        if kind == "Concat":
            return self._concatenated(node)
        if kind == "Slice":
            return self._sliced(node)
        if kind == "Gather":
            return self._gathered(node)
        if kind in ("Mul", "Div", "Add", "Sub"):
            sizes = [part.size for name in node.input if (part := self.find(name)) is not None]
            return np.full(max(sizes), None, object) if sizes else None
        if kind not in ("Cast", "Identity", "Squeeze", "Unsqueeze", "Reshape", "Transpose"):
            return None
        values = self.find(node.input[0])
        if values is None or kind in ("Cast", "Identity"):
            return values
        if kind == "Transpose":
            return values.transpose(self.scope.wholes(node, "perm"))
        if kind == "Reshape":
            target = self.find(node.input[1])
            return None if target is None else values.reshape([int(v) for v in target])
        return values.reshape(-1)

    def _concatenated(self, node: Any) -> AnyArray:
        out: list[Any] = []
        for name in node.input:
            part = self.find(name)
            if part is None:
                break
            out += list(part.reshape(-1))
        return np.array(out, object)

    def _sliced(self, node: Any) -> AnyArray | None:
        if len(node.input) < 3:
            starts, ends = self.scope.wholes(node, "starts"), self.scope.wholes(node, "ends")
        else:
            starts, ends = (self._constants(name) for name in node.input[1:3])
        if starts is None or ends is None or len(starts) != 1 or len(ends) != 1:
            return None
        values = self.find(node.input[0])
        if values is not None:
            return values[starts[0] : ends[0]]
        known = 0 <= starts[0] <= ends[0] <= starts[0] + _LONGEST
        return np.full(ends[0] - starts[0], None, object) if known else None

    def _gathered(self, node: Any) -> AnyArray | None:
        values, at = self.find(node.input[0]), self.find(node.input[1])
        if at is None:
            return None
        places = np.array([int(i) for i in at.reshape(-1)], int)
        return np.full(len(places), None, object) if values is None else values.reshape(-1)[places]

    def _constants(self, name: str) -> tuple[int, ...] | None:
        values = self.find(name)
        return None if values is None or None in values.tolist() else tuple(int(v) for v in values.reshape(-1))
