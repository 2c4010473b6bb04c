"""Compute operators of an ONNX graph whose operands are all constants, as a runtime folds them when it loads a model.

One table maps an operator to its function. What a result takes is charged to the file's budget before it is made.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from mkfa.array_types import AnyArray
from mkfa.readers.graphs.graph_file import DamagedError, LeftOutError
from mkfa.readers.graphs.onnx_scopes import Scope
from mkfa.readers.graphs.onnx_tensors import ExternalFiles, tensor_array
from mkfa.words import counted

_PRODUCTS_A_STEP = 500


class Known(Protocol):
    """An operand: its shape, and its values when asked."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def load(self) -> Callable[[], AnyArray]: ...


@dataclass(frozen=True, slots=True)
class Call:
    """One operator, the place of the wanted output among its outputs, and its operands (None: left out)."""

    node: Any
    output: int
    operands: Sequence[Known | None]
    scope: Scope
    external: ExternalFiles

    def known(self, index: int) -> Known:
        """Return an operand that must be there."""
        found = self.operands[index] if index < len(self.operands) else None
        if found is None:
            raise DamagedError(f"a {self.node.op_type} with {counted(len(self.operands), 'input')}")
        return found

    def values(self, index: int) -> AnyArray:
        return self.known(index).load()

    def numbers(self, index: int, attribute: str = "") -> list[int] | None:
        """Return the whole numbers of an operand, or of the attribute that older operator sets have in its place."""
        if index < len(self.operands) and self.operands[index] is not None:
            if math.prod(self.known(index).shape) > 64:
                raise DamagedError(f"a {self.node.op_type} with {counted(math.prod(self.known(index).shape), 'size')}")
            return [int(number) for number in self.values(index).reshape(-1)]
        given = self.scope.wholes(self.node, attribute) if attribute else None
        return None if given is None else list(given)

    def reserve(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Charge a result of that shape."""
        if any(n < 0 for n in shape):
            raise DamagedError(f"a {self.node.op_type} of shape {list(shape)}")
        self.scope.budget.produce(8 * math.prod(shape))
        return tuple(shape)


def fold(call: Call) -> AnyArray:
    """Return the wanted output of an operator of `TABLE`.

    Raises DamagedError: the operands do not fit each other. Raises LeftOutError: this form of the operator is not
    evaluated. Raises SourceError: the result is too large for the file's budget.
    """
    kind = call.node.op_type
    call.scope.budget.step(30)
    try:
        with np.errstate(all="ignore"):
            return np.asarray(TABLE[kind](call))
    except (IndexError, ValueError, TypeError, ArithmeticError, RuntimeError) as error:  # NumPy raises all of them
        if isinstance(error, DamagedError):
            raise
        shapes = [list(known.shape) for known in call.operands if known is not None]
        raise DamagedError(f"a {kind} that does not fit operands of shapes {shapes}") from None


def left_out(kind: str) -> LeftOutError:
    """Return the reason for weights that come from constants by an operator that is not evaluated."""
    return LeftOutError(f"weights computed from constants by {kind}, which is not evaluated")


def _elementwise(function: Callable[..., Any], least: int, most: int | None = None) -> Callable[[Call], Any]:
    def apply(call: Call) -> Any:
        most_here = len(call.operands) if most is None else most
        if not least <= len(call.operands) <= most_here:
            raise DamagedError(f"a {call.node.op_type} with {counted(len(call.operands), 'input')}")
        known = [call.known(i) for i in range(len(call.operands))]
        call.reserve(np.broadcast_shapes(*(each.shape for each in known)))
        return function(*(each.load() for each in known))

    return apply


def _of_many(function: Callable[[AnyArray, AnyArray], AnyArray]) -> Callable[[Call], Any]:
    def fold_all(*parts: AnyArray) -> AnyArray:
        total = parts[0]
        for part in parts[1:]:
            total = function(total, part)
        return total

    return _elementwise(fold_all, 1)


def _divided(a: AnyArray, b: AnyArray) -> AnyArray:
    """Divide; whole numbers are rounded towards zero."""
    if a.dtype.kind not in "iu" or b.dtype.kind not in "iu":
        return np.asarray(np.divide(a, b))
    quotient = np.floor_divide(a, b)
    return np.asarray(quotient + ((np.remainder(a, b) != 0) & ((a < 0) != (b < 0))).astype(quotient.dtype))


def _clipped(call: Call) -> Any:
    values = call.values(0)
    call.reserve(values.shape)
    for index, name, bound in ((1, "min", np.maximum), (2, "max", np.minimum)):
        attribute = call.scope.attribute(call.node, name)
        if index < len(call.operands) and call.operands[index] is not None:
            values = bound(values, call.values(index))
        elif attribute is not None:
            values = bound(values, np.asarray(attribute.f, values.dtype))
    return values


def _slice(call: Call) -> AnyArray:
    values = call.values(0)
    starts, ends = call.numbers(1, "starts"), call.numbers(2, "ends")
    axes, steps = call.numbers(3, "axes"), call.numbers(4)
    if starts is None or ends is None:
        raise DamagedError("a Slice without starts and ends")
    taken = [slice(None)] * values.ndim
    axes = list(range(len(starts))) if axes is None else axes
    for start, end, axis, step in zip(starts, ends, axes, steps or [1] * len(starts), strict=True):
        taken[axis] = slice(start, end, step)
    return values[tuple(taken)]


def _split(call: Call) -> AnyArray:
    values, axis = call.values(0), call.scope.whole(call.node, "axis", 0)
    length, sizes = values.shape[axis], call.numbers(1, "split")
    if sizes is None:
        parts = call.scope.whole(call.node, "num_outputs", 0) or len(call.node.output)
        each = -(-length // parts)
        sizes = [each] * (parts - 1) + [length - each * (parts - 1)]
    if min(sizes) < 0 or sum(sizes) != length:
        raise DamagedError(f"a Split of {length} into {sizes}")
    start = sum(sizes[: call.output])
    taken = [slice(None)] * values.ndim
    taken[axis] = slice(start, start + sizes[call.output])
    return values[tuple(taken)]


def _concatenated(call: Call) -> AnyArray:
    known = [call.known(i) for i in range(len(call.operands))]
    call.reserve((sum(math.prod(each.shape) for each in known),))
    attribute = call.scope.attribute(call.node, "axis")
    return np.concatenate([each.load() for each in known], 1 if attribute is None else int(attribute.i))


def _gathered(call: Call) -> AnyArray:
    shape, at = call.known(0).shape, call.values(1)
    axis = call.scope.whole(call.node, "axis", 0)
    length = shape[axis]
    call.reserve((math.prod(shape) // max(length, 1), at.size))
    return np.take(call.values(0), at, axis)


def _padded(call: Call) -> AnyArray:
    values, pads, axes = call.values(0), call.numbers(1, "pads"), call.numbers(3)
    mode = call.scope.attribute(call.node, "mode")
    mode = "constant" if mode is None else bytes(mode.s).decode("ascii", "replace")
    if mode not in ("constant", "edge"):
        raise left_out(f"Pad of mode {mode}")
    axes = list(range(values.ndim)) if axes is None else axes
    if pads is None or len(pads) != 2 * len(axes):
        raise DamagedError(f"a Pad of {counted(values.ndim, 'axis', 'axes')}")
    widths = [(0, 0)] * values.ndim
    for axis, before, after in zip(axes, pads[: len(axes)], pads[len(axes) :], strict=True):
        widths[axis] = (before, after)
    # negative widths crop
    kept = tuple(slice(max(-a, 0), n - max(-b, 0)) for n, (a, b) in zip(values.shape, widths, strict=True))
    values, widths = values[kept], [(max(a, 0), max(b, 0)) for a, b in widths]
    call.reserve([n + a + b for n, (a, b) in zip(values.shape, widths, strict=True)])
    if mode == "edge":
        return np.pad(values, widths, "edge")
    fill = call.scope.attribute(call.node, "value")
    number: Any = 0 if fill is None else fill.f
    if len(call.operands) > 2 and call.operands[2] is not None:
        number = call.values(2).reshape(-1)[0]
    return np.pad(values, widths, constant_values=number)


def _expanded(call: Call) -> AnyArray:
    shape = np.broadcast_shapes(call.known(0).shape, tuple(call.numbers(1) or ()))
    return np.broadcast_to(call.values(0), call.reserve(shape))


def _tiled(call: Call) -> AnyArray:
    shape, times = call.known(0).shape, call.numbers(1) or []
    call.reserve([n * count for n, count in zip(shape, times, strict=True)])
    return np.tile(call.values(0), times)


def _full(call: Call) -> AnyArray:
    shape = call.reserve(call.numbers(0) or ())
    attribute = call.scope.attribute(call.node, "value")
    if attribute is None:
        return np.zeros(shape, np.float32)
    value = tensor_array(attribute.t, call.external, call.scope.budget).reshape(-1)
    return np.full(shape, value[0])


def _shape(call: Call) -> AnyArray:
    shape = call.known(0).shape
    end = call.scope.attribute(call.node, "end")
    start = call.scope.whole(call.node, "start", 0)
    return np.array(shape[start : None if end is None else int(end.i)], np.int64)


def _counted(call: Call) -> AnyArray:
    start, limit, step = (call.values(i).reshape(-1)[0] for i in range(3))
    count = max(math.ceil((float(limit) - float(start)) / float(step)), 0)
    call.reserve((count,))
    return np.asarray(start + np.arange(count) * step, start.dtype)


def _flattened(call: Call) -> AnyArray:
    values, axis = call.values(0), call.scope.whole(call.node, "axis", 1)
    return values.reshape(math.prod(values.shape[:axis]), -1)


def _reduced(function: Callable[..., Any]) -> Callable[[Call], Any]:
    def apply(call: Call) -> Any:
        values, axes = call.values(0), call.numbers(1, "axes")
        if not axes and call.scope.whole(call.node, "noop_with_empty_axes", 0):
            return values
        call.reserve(values.shape)
        if not values.size:
            raise DamagedError(f"a {call.node.op_type} of no values")
        keep = bool(call.scope.whole(call.node, "keepdims", 1))
        return np.asarray(function(values, axis=tuple(axes) if axes else None, keepdims=keep), values.dtype)

    return apply


def _norm(values: AnyArray, **how: Any) -> AnyArray:
    return np.asarray(np.sqrt(np.sum(np.square(values), **how)))


def _product(call: Call) -> AnyArray:
    a, b = call.values(0), call.values(1)
    columns = b.shape[-1] if b.ndim > 1 else 1
    lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    rows = a.shape[-2] if a.ndim > 1 else 1
    call.reserve((*lead, rows, columns))
    call.scope.budget.step(math.prod(lead) * rows * columns * a.shape[-1] // _PRODUCTS_A_STEP)
    return np.asarray(np.matmul(a, b))


TABLE: dict[str, Callable[[Call], Any]] = {
    "Slice": _slice,
    "Split": _split,
    "Concat": _concatenated,
    "Gather": _gathered,
    "Pad": _padded,
    "Expand": _expanded,
    "Tile": _tiled,
    "ConstantOfShape": _full,
    "Shape": _shape,
    "Size": lambda call: np.array(math.prod(call.known(0).shape), np.int64),
    "Range": _counted,
    "Flatten": _flattened,
    "CastLike": lambda call: call.values(0).astype(call.values(1).dtype),
    "Clip": _clipped,
    "MatMul": _product,
    "Where": _elementwise(np.where, 3, 3),
    "Mul": _elementwise(np.multiply, 2, 2),
    "Div": _elementwise(_divided, 2, 2),
    "Add": _elementwise(np.add, 2, 2),
    "Sub": _elementwise(np.subtract, 2, 2),
    "Pow": _elementwise(lambda a, b: np.power(a, b).astype(a.dtype), 2, 2),
    "Sum": _of_many(np.add),
    "Max": _of_many(np.maximum),
    "Min": _of_many(np.minimum),
    "Mean": _elementwise(lambda *parts: sum(parts[1:], parts[0]) / np.asarray(len(parts), parts[0].dtype), 1),
    "Equal": _elementwise(np.equal, 2, 2),
    "Greater": _elementwise(np.greater, 2, 2),
    "GreaterOrEqual": _elementwise(np.greater_equal, 2, 2),
    "Less": _elementwise(np.less, 2, 2),
    "LessOrEqual": _elementwise(np.less_equal, 2, 2),
    "And": _elementwise(np.logical_and, 2, 2),
    "Or": _elementwise(np.logical_or, 2, 2),
    "Not": _elementwise(np.logical_not, 1, 1),
    "Neg": _elementwise(np.negative, 1, 1),
    "Abs": _elementwise(np.abs, 1, 1),
    "Sign": _elementwise(np.sign, 1, 1),
    "Sqrt": _elementwise(np.sqrt, 1, 1),
    "Reciprocal": _elementwise(np.reciprocal, 1, 1),
    "Exp": _elementwise(np.exp, 1, 1),
    "Log": _elementwise(np.log, 1, 1),
    "Tanh": _elementwise(np.tanh, 1, 1),
    "Sigmoid": _elementwise(lambda x: (1 / (1 + np.exp(-x))).astype(x.dtype), 1, 1),
    "Relu": _elementwise(lambda x: np.maximum(x, np.zeros((), x.dtype)), 1, 1),
    "Floor": _elementwise(np.floor, 1, 1),
    "Ceil": _elementwise(np.ceil, 1, 1),
    "Round": _elementwise(np.rint, 1, 1),
    "ReduceSum": _reduced(np.sum),
    "ReduceMean": _reduced(np.mean),
    "ReduceMax": _reduced(np.max),
    "ReduceMin": _reduced(np.min),
    "ReduceProd": _reduced(np.prod),
    "ReduceSumSquare": _reduced(lambda x, **how: np.sum(np.square(x), **how)),
    "ReduceL1": _reduced(lambda x, **how: np.sum(np.abs(x), **how)),
    "ReduceL2": _reduced(_norm),
}

OF_PARTS = frozenset({"Slice", "Split", "Concat", "Gather"})
"""Operators whose result can be a part of a tensor, or several tensors in one."""
