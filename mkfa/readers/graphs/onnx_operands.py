"""Follow an operand of an ONNX node back to stored tensors: through layouts, quantisation, functions of constants."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, cast

import numpy as np

from mkfa.array_types import F32, AnyArray
from mkfa.readers.graphs.graph_file import DamagedError, LeftOutError
from mkfa.readers.graphs.onnx_folding import OF_PARTS, TABLE, Call, fold, left_out
from mkfa.readers.graphs.onnx_scopes import DEEPEST, STANDARD, Scope, call_scope
from mkfa.readers.graphs.onnx_tensors import ExternalFiles, tensor_array, tensor_shape, type_name
from mkfa.readers.graphs.quantised import dequantise, spread
from mkfa.readers.reading import Why
from mkfa.storage.budget import Budget
from mkfa.words import counted

_CASTS: dict[int, np.dtype[Any]] = {1: np.dtype("f4"), 10: np.dtype("f2"), 11: np.dtype("f8")}
_CASTS |= {2: np.dtype("u1"), 3: np.dtype("i1"), 4: np.dtype("u2"), 5: np.dtype("i2"), 6: np.dtype("i4")}
_CASTS |= {7: np.dtype("i8"), 9: np.dtype("?"), 12: np.dtype("u4"), 13: np.dtype("u8")}
_QUANTISED: dict[int, np.dtype[Any]] = {2: np.dtype("u1"), 3: np.dtype("i1"), 4: np.dtype("u2"), 5: np.dtype("i2")}
_SAME_ELSEWHERE = (("com.microsoft", "QuantizeLinear"), ("com.microsoft", "DequantizeLinear"))
_LAYOUTS = ("Identity", "Cast", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "DequantizeLinear", "QuantizeLinear")
_CONSTANTS = {
    "value_float": ("f", "f4"),
    "value_floats": ("floats", "f4"),
    "value_int": ("i", "i8"),
    "value_ints": ("ints", "i8"),
}


@dataclass(frozen=True, slots=True)
class Operand:
    """A value known before run time; it is decoded when `load` is called.

    `key` and `dtype` are those of the stored tensor; `root`, (scope path, name), identifies that tensor in the model.
    `steps` counts the nodes between it and the stored tensor.
    """

    key: str
    root: tuple[str, str]
    shape: tuple[int, ...]
    dtype: str
    load: Callable[[], AnyArray]
    steps: int = 0


@dataclass(frozen=True, slots=True)
class Operands:
    """Finds the operands of one model; `functions` are its own, by (domain, name, overload)."""

    external: ExternalFiles
    functions: Mapping[tuple[str, str, str], Any] = field(default_factory=dict)

    def find(self, name: str, scope: Scope, depth: int = 0) -> Operand:
        """Return the operand of that name.

        Raises LeftOutError: it is an input, or computed from one, or by an operator that is not evaluated. Raises
        DamagedError: its shape, or that of a scale, does not fit.
        """
        scope.budget.step(3)
        known = scope.found.get(name)
        if known is None:
            try:
                known = self._search(name, scope, depth)
            except LeftOutError as error:
                if not depth:  # deeper, it may be the depth that failed
                    scope.found[name] = error
                raise
            if known.steps > DEEPEST:
                known = LeftOutError(Why.RUN_TIME)
            scope.found[name] = known
        if isinstance(known, LeftOutError):
            raise known.with_traceback(None)
        return cast("Operand", known)

    def steps_of(self, name: str, scope: Scope, axis: int, *, backwards: bool) -> list[Operand]:
        """Return the operands that the steps of a Scan get from one that is known, [] from any other.

        Raises DamagedError: the operand does not have the axis.
        """
        try:
            whole = _once(self.find(name, scope), scope)
        except LeftOutError:
            return []
        if not -len(whole.shape) <= axis < len(whole.shape):
            raise DamagedError(f"a Scan along axis {axis} of shape {list(whole.shape)}")
        at = axis % len(whole.shape)
        count, shape = whole.shape[at], whole.shape[:at] + whole.shape[at + 1 :]
        scope.budget.step(20 * count)
        steps = [
            replace(
                whole,
                key=f"{whole.key}[{i}]",
                root=(whole.root[0], f"{whole.root[1]}[{i}]"),
                shape=shape,
                load=partial(_step_of, whole, i, at),
            )
            for i in range(count)
        ]
        return steps[::-1] if backwards else steps

    def _search(self, name: str, scope: Scope, depth: int) -> Operand:
        if depth > DEEPEST:
            raise LeftOutError(Why.RUN_TIME)
        at: Scope | None = scope
        while at is not None:
            if name in at.stored:
                return self._stored(name, at.stored[name], at)
            if name in at.sliced:
                return cast("Operand", at.sliced[name])
            if name in at.bound:
                inner, caller = at.bound[name]
                return self.find(inner, caller, depth + 1)
            if name in at.inputs:
                raise LeftOutError(at.changing.get(name, Why.RUN_TIME))
            if name in at.made:
                return self._made(at.made[name], at, name, depth)
            at = at.outer
        raise LeftOutError(Why.RUN_TIME)

    def _stored(self, name: str, tensor: Any, scope: Scope) -> Operand:
        return Operand(
            name,
            (scope.path, name),
            tensor_shape(tensor),
            type_name(tensor),
            lambda: tensor_array(tensor, self.external, scope.budget),
        )

    def _made(self, node: Any, scope: Scope, name: str, depth: int) -> Operand:
        kind = node.op_type
        if node.domain not in STANDARD and (node.domain, kind) not in _SAME_ELSEWHERE:
            function = self.functions.get((node.domain, kind, node.overload))
            at = list(node.output).index(name)
            if function is None or at >= len(function.output):
                raise LeftOutError(Why.RUN_TIME)
            return self.find(function.output[at], call_scope(function, node, scope), depth + 1)
        if kind == "Constant":
            return self._constant(node, scope, name)
        if kind not in _LAYOUTS:
            return self._folded(node, scope, name, depth)
        source = _once(self.find(_input(node, 0), scope, depth + 1), scope)
        if kind == "Cast":
            return _cast(node, scope, source)
        if kind == "Transpose":
            return _transposed(node, scope, source)
        if kind == "Reshape":
            return _reshaped(node, scope, source, self.find(_input(node, 1), scope, depth + 1))
        if kind in ("Squeeze", "Unsqueeze"):
            axes = self.find(node.input[1], scope, depth + 1) if len(node.input) > 1 and node.input[1] else None
            return _squeezed(node, scope, source, axes)
        if kind == "Identity":
            return source
        scale = _once(self.find(_input(node, 1), scope, depth + 1), scope)
        zero = None
        if len(node.input) > 2 and node.input[2]:
            zero = _once(self.find(node.input[2], scope, depth + 1), scope)
        source = replace(source, steps=max(source.steps, scale.steps, 0 if zero is None else zero.steps))
        change = _Quantisation(scale, zero, scope.whole(node, "axis", 1), scope.whole(node, "block_size", 0))
        if kind == "DequantizeLinear":
            return replace(source, load=lambda: change.dequantise(source.load()))
        kinds = scope.whole(node, "output_dtype", 0)
        return replace(source, load=lambda: change.quantise(source.load(), kinds))

    def _folded(self, node: Any, scope: Scope, name: str, depth: int) -> Operand:
        """Compute an operator of which all operands are known; the result is a tensor of its own."""
        kind = node.op_type
        scope.budget.step(4 * len(node.input))
        # of an operator that is not evaluated only the reason depends on its operands: a short look at them will do
        deeper = depth + 1 if kind in TABLE else max(depth + 1, DEEPEST - 4)
        known = [_once(self.find(each, scope, deeper), scope) if each else None for each in node.input]
        given = [operand for operand in known if operand is not None]
        if not given:  # random numbers
            raise LeftOutError(Why.RUN_TIME)
        if kind not in TABLE:
            raise left_out(kind)
        values = fold(Call(node, list(node.output).index(name), known, scope, self.external))
        largest = max(given, key=lambda operand: (math.prod(operand.shape), "float" in operand.dtype))  # not a mask
        key, dtype = largest.key, largest.dtype
        if kind == "ConstantOfShape":
            key, dtype = name, str(values.dtype)
        elif kind in OF_PARTS and values.size != math.prod(largest.shape):
            key = _name_of_part(kind, name, known)
        roots = hashlib.blake2b(repr([operand.root for operand in given]).encode(), digest_size=16).hexdigest()
        load = _Once(None, scope.budget, values)
        return Operand(key, (f"{scope.path}/{name}", roots), values.shape, dtype, load, max(o.steps for o in given))

    def _constant(self, node: Any, scope: Scope, name: str) -> Operand:
        for attribute in node.attribute:
            if attribute.ref_attr_name:
                break
            if attribute.name in ("value", "sparse_value"):
                tensor = attribute.t if attribute.name == "value" else attribute.sparse_tensor
                return self._stored(name, tensor, scope)
            if attribute.name in _CONSTANTS:
                part, dtype = _CONSTANTS[attribute.name]
                values = np.array(getattr(attribute, part), dtype)
                return Operand(name, (scope.path, name), values.shape, str(values.dtype), values.copy)
        raise LeftOutError(Why.RUN_TIME)


def _once(operand: Operand, scope: Scope) -> Operand:
    """Return an operand that is decoded once however many nodes read it; several inputs may lead to one tensor."""
    load = operand.load if isinstance(operand.load, _Once) else _Once(operand.load, scope.budget)
    return replace(operand, load=load, steps=operand.steps + 1)


def _step_of(whole: Operand, index: int, axis: int) -> AnyArray:
    step: AnyArray = whole.load()[(slice(None),) * axis + (index,)]  # `take` would copy an unaligned whole for each
    return step


@dataclass(slots=True)
class _Once:
    """Calls a function at most once and keeps its array, which is charged to the budget."""

    make: Callable[[], AnyArray] | None
    budget: Budget
    made: AnyArray | None = None

    def __call__(self) -> AnyArray:
        if self.made is None:
            assert self.make is not None
            self.made = self.make()
            self.budget.produce(self.made.nbytes)
            self.make = None
        return self.made


def _name_of_part(kind: str, name: str, known: Sequence[Operand | None]) -> str:
    """Return the name of a part of a tensor: its place if one number tells it, as for the steps of a Scan."""
    whole, at = known[0], known[1] if len(known) > 1 else None
    if kind == "Gather" and whole is not None and at is not None and not at.shape:
        return f"{whole.key}[{int(at.load())}]"
    return name


def _input(node: Any, index: int) -> str:
    if len(node.input) <= index:
        raise DamagedError(f"a {node.op_type} with {counted(len(node.input), 'input')}")
    return str(node.input[index])


def _cast(node: Any, scope: Scope, source: Operand) -> Operand:
    to = scope.whole(node, "to", 0)
    dtype = _CASTS.get(to)
    if dtype is None:
        raise left_out(f"Cast to type {to}")

    def load() -> AnyArray:
        with np.errstate(over="ignore", invalid="ignore"):
            return source.load().astype(dtype)

    return replace(source, load=load)


def _transposed(node: Any, scope: Scope, source: Operand) -> Operand:
    order = scope.wholes(node, "perm") or tuple(reversed(range(len(source.shape))))
    if sorted(order) != list(range(len(source.shape))):
        raise DamagedError(f"a transposition {list(order)} of shape {list(source.shape)}")
    shape = tuple(source.shape[i] for i in order)
    return replace(source, shape=shape, load=lambda: source.load().transpose(order))


def _reshaped(node: Any, scope: Scope, source: Operand, shape: Operand) -> Operand:
    """Apply Reshape: 0 keeps a dimension (unless `allowzero`), -1 takes the rest."""
    if len(shape.shape) != 1 or shape.shape[0] > 8:
        raise DamagedError(f"a target shape of {list(shape.shape)} numbers")
    wanted = [int(v) for v in shape.load()]
    if not scope.whole(node, "allowzero", 0):
        wanted = [source.shape[i] if v == 0 and i < len(source.shape) else v for i, v in enumerate(wanted)]
    count, known = math.prod(source.shape), math.prod(v for v in wanted if v != -1)
    if wanted.count(-1) == 1 and known > 0 and count % known == 0:
        wanted = [count // known if v == -1 else v for v in wanted]
    if any(v < 0 for v in wanted) or math.prod(wanted) != count:
        raise DamagedError(f"shape {list(source.shape)} made into {wanted}")
    return replace(source, shape=tuple(wanted), load=lambda: source.load().reshape(wanted))


def _squeezed(node: Any, scope: Scope, source: Operand, given: Operand | None) -> Operand:
    """Apply Squeeze or Unsqueeze; the axes are an attribute before opset 13, an input since."""
    if given is not None and math.prod(given.shape) > DEEPEST:
        raise DamagedError(f"a {node.op_type} of {counted(math.prod(given.shape), 'axis', 'axes')}")
    axes = scope.wholes(node, "axes") if given is None else tuple(int(axis) for axis in given.load().reshape(-1))
    shape, more = list(source.shape), node.op_type == "Unsqueeze"
    rank = len(shape) + more * len(axes or ())
    if axes is None and not more:
        axes = tuple(i for i, n in enumerate(shape) if n == 1)
    if axes is None or not all(-rank <= axis < rank for axis in axes):
        raise DamagedError(f"a {node.op_type} of shape {shape}")
    at = sorted({axis % rank for axis in axes})
    for axis in at if more else reversed(at):
        shape[axis : axis + (not more)] = [1] * more
    if math.prod(shape) != math.prod(source.shape):
        raise DamagedError(f"a {node.op_type} of shape {list(source.shape)} at {list(axes)}")
    return replace(source, shape=tuple(shape), load=lambda: source.load().reshape(shape))


@dataclass(frozen=True, slots=True)
class _Quantisation:
    """Scale and zero point, for all values, for each index along an axis, or for blocks along it (opset 21)."""

    scale: Operand
    zero: Operand | None
    axis: int
    block: int

    def dequantise(self, values: AnyArray) -> F32:
        zero = None if self.zero is None else self.zero.load()
        return dequantise(values, self.scale.load(), zero, axis=self.axis, block=self.block)

    def quantise(self, values: AnyArray, output: int) -> AnyArray:
        """Round half to even and saturate, as QuantizeLinear does."""
        zero: AnyArray = np.zeros(1, _QUANTISED.get(output, np.dtype("u1")))
        if self.zero is not None:
            zero = self.zero.load()
        if zero.dtype not in _QUANTISED.values():
            raise LeftOutError(Why.RUN_TIME)
        scale, zero = (
            spread(part, values.shape, axis=self.axis, block=self.block)
            for part in (self.scale.load().astype(np.float32), zero)
        )
        limits = np.iinfo(zero.dtype)
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            steps = np.rint(values.astype(np.float32) / scale) + zero.astype(np.float32)
            saturated: AnyArray = np.clip(np.nan_to_num(steps), limits.min, limits.max).astype(zero.dtype)
        return saturated
