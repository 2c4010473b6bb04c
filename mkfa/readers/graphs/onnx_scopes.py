"""Names and order in an ONNX graph: scopes of subgraphs and functions, attributes, topological order."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from mkfa.readers.graphs.graph_file import DamagedError
from mkfa.storage.budget import Budget

STANDARD = ("", "ai.onnx")
"""Names of the standard operator domain."""

DEEPEST = 64
"""Most steps between a weight and its convolution, and deepest nesting of functions; more is a cycle."""


@dataclass(slots=True)
class Scope:
    """The names that the nodes of one graph, subgraph or function body can use.

    Attributes
    ----------
    path : identifies the body; two calls of one function share it.
    stored : name -> TensorProto or SparseTensorProto (initialisers)
    made : name -> the node that computes it
    inputs : names of values known at run time only
    outer : scope of the enclosing graph, None for the main graph and for functions
    bound : input of a function, or of a loop that does not change it -> (name, scope) at the call
    entering : input of a loop's body -> (name, scope) at the loop, and the axis along which Scan slices it, else None
    sliced : input of a Scan's body, or counter of a Loop's -> its operand in one step
        (`mkfa.readers.graphs.onnx_operands`)
    changing : input of a loop's body -> why it is not known
    attributes : a function's attribute -> its value at the call
    readers : name -> the nodes that read it
    budget : charged for what is looked up
    found : name -> its operand, or why there is none (`mkfa.readers.graphs.onnx_operands`)
    """

    path: str
    stored: dict[str, Any] = field(default_factory=dict)
    made: dict[str, Any] = field(default_factory=dict)
    inputs: frozenset[str] = frozenset()
    outer: Scope | None = None
    bound: dict[str, tuple[str, Scope]] = field(default_factory=dict)
    entering: dict[str, tuple[str, Scope, int | None]] = field(default_factory=dict)
    sliced: dict[str, Any] = field(default_factory=dict)
    changing: dict[str, str] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)
    readers: dict[str, list[Any]] = field(default_factory=dict)
    budget: Budget = field(default_factory=Budget)
    found: dict[str, Any] = field(default_factory=dict)

    def attribute(self, node: Any, name: str) -> Any | None:
        """Return an attribute of a node, following a reference to the enclosing function's; None if absent."""
        for candidate in node.attribute:
            self.budget.step()
            if candidate.name == name:
                if not candidate.ref_attr_name:
                    return candidate
                scope: Scope | None = self
                while scope is not None and candidate.ref_attr_name not in scope.attributes:
                    scope = scope.outer
                return scope.attributes[candidate.ref_attr_name] if scope is not None else None
        return None

    def whole(self, node: Any, name: str, default: int) -> int:
        """Return an integer attribute."""
        attribute = self.attribute(node, name)
        return default if attribute is None else int(attribute.i)

    def wholes(self, node: Any, name: str) -> tuple[int, ...] | None:
        """Return an attribute that is a list of integers."""
        attribute = self.attribute(node, name)
        if attribute is None:
            return None
        self.budget.step(len(attribute.ints))
        return tuple(int(i) for i in attribute.ints)


def graph_scope(graph: Any, path: str, outer: Scope | None, *, budget: Budget | None = None) -> Scope:
    """Return the scope of a graph or subgraph; `budget` is that of `outer` if there is one."""
    budget = outer.budget if outer is not None else budget or Budget()
    budget.step(2 * (len(graph.initializer) + len(graph.sparse_initializer) + len(graph.input)) + len(path))
    stored = {tensor.name: tensor for tensor in graph.initializer}
    stored.update({tensor.values.name: tensor for tensor in graph.sparse_initializer})
    scope = _with_nodes(Scope(path, stored, outer=outer, budget=budget), graph.node)
    scope.inputs = frozenset(value.name for value in graph.input) - scope.stored.keys()
    return scope


def call_scope(function: Any, node: Any, caller: Scope) -> Scope:
    """Return the scope of a function's body for one call of it."""
    path = f"{function.domain}::{function.name}::{function.overload}"
    caller.budget.step(len(function.input) + len(node.input) + len(function.attribute_proto) + len(node.attribute))
    scope = _with_nodes(Scope(path, budget=caller.budget), function.node)
    scope.inputs = frozenset(function.input)
    scope.bound = {inner: (name, caller) for inner, name in zip(function.input, node.input, strict=False) if name}
    scope.attributes = {a.name: a for a in function.attribute_proto}
    for a in node.attribute:
        if (value := caller.attribute(node, a.name)) is not None:
            scope.attributes[a.name] = value
    return scope


def _with_nodes(scope: Scope, nodes: Iterable[Any]) -> Scope:
    for node in nodes:
        scope.budget.step(2 + len(node.input) + len(node.output))
        for name in node.output:
            if name:
                scope.made[name] = node
        for name in node.input:
            if name:
                scope.readers.setdefault(name, []).append(node)
    return scope


def subgraphs(node: Any) -> Iterator[tuple[str, Any]]:
    """Yield (attribute name, graph) for the bodies of If, Loop and Scan, in the order of the file."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.name, attribute.g
        for number, graph in enumerate(attribute.graphs):
            yield f"{attribute.name}{number}", graph


@dataclass(frozen=True, slots=True)
class Carried:
    """What goes into and out of the body of Loop and Scan.

    Attributes
    ----------
    inputs : (name in the body, name outside, axis along which Scan slices it), None for what is carried on.
    outputs : (name in the body, name outside, axis along which Scan stacks it), None for what is carried on.
    backwards : places among `inputs` of what Scan reads from the end.
    """

    inputs: tuple[tuple[str, str, int | None], ...] = ()
    outputs: tuple[tuple[str, str, int | None], ...] = ()
    backwards: frozenset[int] = frozenset()

    @property
    def states(self) -> int:
        """Count of the values that are carried on; they come first on both sides."""
        return sum(axis is None for _, _, axis in self.inputs)


def carried(node: Any, body: Any, scope: Scope) -> Carried:
    """Return what goes into and out of a body of Loop or Scan; nothing for other operators and other forms of Scan."""
    inside, returned = [value.name for value in body.input], [value.name for value in body.output]
    scope.budget.step(len(inside) + len(returned) + len(node.input) + len(node.output))
    if node.domain not in STANDARD or node.op_type not in ("Loop", "Scan"):
        return Carried()
    if node.op_type == "Loop":  # trip count and condition come first; the body returns a condition
        states = max(len(inside) - 2, 0)
        outer, inside, returned, scans = list(node.input)[2:], inside[2:], returned[1:], 0
    else:
        outer, scans = list(node.input), max(scope.whole(node, "num_scan_inputs", 0), 0)
        states = len(inside) - scans
    if len(outer) != len(inside) or len(returned) != len(node.output) or not 0 <= states <= len(returned):
        return Carried()  # version 8 of Scan has lengths first
    into = _axes(scope.wholes(node, "scan_input_axes"), states, scans)
    out = _axes(scope.wholes(node, "scan_output_axes"), states, len(returned) - states)
    directions = scope.wholes(node, "scan_input_directions") or ()
    return Carried(
        tuple(zip(inside, outer, into, strict=True)),
        tuple(zip(returned, node.output, out, strict=True)),
        frozenset(states + i for i, direction in enumerate(directions[:scans]) if direction == 1),
    )


def _axes(given: tuple[int, ...] | None, states: int, scans: int) -> list[int | None]:
    axes = list(given or ())[:scans]
    return [*[None] * states, *axes, *[0] * (scans - len(axes))]


def returns_unchanged(inside: str, returned: str, scope: Scope) -> bool:
    """True if a body returns one of its inputs as it is."""
    for _ in range(DEEPEST):
        scope.budget.step()
        if returned == inside:
            return True
        node = scope.made.get(returned)
        if node is None or node.op_type != "Identity" or node.domain not in STANDARD or not node.input:
            return False
        returned = node.input[0]
    return False


def ordered(nodes: Sequence[Any], budget: Budget | None = None) -> tuple[list[Any], bool]:
    """Return the nodes in order of execution, and whether the file has them in that order.

    The format requires topological order. In a file without it, each node comes as early as its inputs allow. Raises
    DamagedError for nodes that depend on each other in a circle.
    """
    spent = budget or Budget()
    makers = {name: index for index, node in enumerate(nodes) for name in node.output if name}
    needs = [{makers[name] for name in _inputs(node, spent) if name in makers} for node in nodes]
    if all(maker < index for index, before in enumerate(needs) for maker in before):
        return list(nodes), True
    followers: list[list[int]] = [[] for _ in nodes]
    for index, before in enumerate(needs):
        for maker in before:
            followers[maker].append(index)
    waiting = [len(before) for before in needs]
    ready = [index for index, count in enumerate(waiting) if not count]
    order: list[Any] = []
    while ready:
        index = heapq.heappop(ready)
        order.append(nodes[index])
        for follower in followers[index]:
            waiting[follower] -= 1
            if not waiting[follower]:
                heapq.heappush(ready, follower)
    if len(order) != len(nodes):
        raise DamagedError("nodes that depend on each other in a circle")
    return order, False


def _inputs(node: Any, budget: Budget) -> Iterator[str]:
    """Yield the names that a node reads, with those that its subgraphs capture: what they make themselves hides it."""
    budget.step(1 + len(node.input) + len(node.attribute))
    yield from node.input
    for _, graph in subgraphs(node):
        own = {value.name for value in (*graph.input, *graph.initializer)}
        own |= {name for inner in graph.node for name in inner.output}
        budget.step(len(own))
        for inner in graph.node:
            yield from (name for name in _inputs(inner, budget) if name not in own)
        # a branch may return an outer value unchanged
        yield from (value.name for value in graph.output if value.name not in own)
