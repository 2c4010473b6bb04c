"""Remove the bytes of large tensors from an ONNX file before it is parsed.

The protobuf package copies the bytes that it parses, so the whole model would be in memory twice. Here the file is
mapped, its outermost messages are read in the wire format (protobuf.dev, Encoding), and the model is parsed without the
`raw_data` of its larger initialisers, which are read from the map when needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from mkfa.readers.graphs.graph_file import DamagedError
from mkfa.storage.budget import DEEPEST, Budget

KEPT = 1 << 16
"""Tensors up to this many bytes stay in the model."""

_MODEL_GRAPH, _GRAPH_INITIALIZER, _TENSOR_NAME, _TENSOR_RAW = 7, 5, 8, 9
_BYTES = 2
_MESSAGE = 256
"""About the bytes of an object that the protobuf package makes of a message."""


@dataclass(slots=True)
class Trimmed:
    """A model without its large tensors.

    Attributes
    ----------
    content : the mapped file, or anything that slices to bytes
    parts : pieces of the message to parse: (first byte, byte after the last) in the file, or bytes
    spans : name of an initialiser -> span of its bytes in the file
    budget : charged for every field
    """

    content: Any
    parts: list[tuple[int, int] | bytes] = field(default_factory=list)
    spans: dict[str, tuple[int, int]] = field(default_factory=dict)
    budget: Budget = field(default_factory=Budget)

    def message(self) -> bytes:
        """Return the message to parse."""
        return b"".join(self.content[p[0] : p[1]] if isinstance(p, tuple) else p for p in self.parts)

    def raw(self, name: str) -> memoryview | None:
        """Return the bytes removed from an initialiser, None if none were."""
        span = self.spans.get(name)
        return None if span is None else memoryview(self.content)[span[0] : span[1]]


def trim(content: Any, budget: Budget | None = None) -> Trimmed:
    """Trim a mapped ONNX file; raises DamagedError if its outermost messages are not in the wire format."""
    out = Trimmed(content, budget=budget or Budget(size=len(content)))
    done = 0
    for number, kind, start, first, last in _fields(content, 0, len(content), out.budget):
        if number == _MODEL_GRAPH and kind == _BYTES:
            out.parts.append((done, start))
            _graph(out, first, last)
            done = last
    out.parts.append((done, len(content)))
    return out


def _graph(out: Trimmed, first: int, last: int) -> None:
    parts: list[tuple[int, int] | bytes] = []
    done = first
    for number, kind, start, inner, end in _fields(out.content, first, last, out.budget):
        if number != _GRAPH_INITIALIZER or kind != _BYTES or end - inner <= KEPT:
            continue
        if (rest := _tensor(out, inner, end)) is not None:
            parts += [(done, start), _header(_GRAPH_INITIALIZER, len(rest)), rest]
            done = end
    parts.append((done, last))
    size = sum(p[1] - p[0] if isinstance(p, tuple) else len(p) for p in parts)
    out.parts += [_header(_MODEL_GRAPH, size), *parts]


def _tensor(out: Trimmed, first: int, last: int) -> bytes | None:
    """Record the span of a tensor's bytes and return the rest of it, None if it has no large raw bytes."""
    rest, name, span, done = [], "", None, first
    for number, kind, start, inner, end in _fields(out.content, first, last, out.budget):
        if kind == _BYTES and number == _TENSOR_NAME:
            name = bytes(out.content[inner:end]).decode("utf-8")
        if kind == _BYTES and number == _TENSOR_RAW:
            rest.append(bytes(out.content[done:start]))
            span, done = (inner, end), end
    if span is None or span[1] - span[0] <= KEPT:
        return None
    out.spans[name] = span
    return b"".join([*rest, bytes(out.content[done:last])])


def check_messages(message: bytes, descriptor: Any, budget: Budget) -> None:
    """Charge the fields of a message and of all messages in it, before the package makes an object of each.

    `descriptor` is that of the message's type. Raises DamagedError if it is not in the wire format.
    """
    kinds: dict[str, dict[int, Any]] = {}
    waiting = [(0, len(message), descriptor, 0)]
    while waiting:
        first, last, kind, depth = waiting.pop()
        if depth > DEEPEST:
            raise DamagedError("messages nested without end")
        inner = kinds.get(kind.full_name)
        if inner is None:
            inner = {f.number: f.message_type for f in kind.fields if f.message_type is not None}
            kinds[kind.full_name] = inner
        for number, wire, _, begin, end in _fields(message, first, last, budget):
            if wire == _BYTES and number in inner:
                budget.produce(_MESSAGE)
                if end > begin:
                    waiting.append((begin, end, inner[number], depth + 1))


def _fields(content: Any, at: int, last: int, budget: Budget) -> Iterator[tuple[int, int, int, int, int]]:
    """Yield (number, wire type, start, start of the value, end) of each field of a message."""
    while at < last:
        budget.step()
        start = at
        tag, at = _varint(content, at, last)
        number, kind = tag >> 3, tag & 7
        if kind == 0:
            first = at
            _, at = _varint(content, at, last)
        elif kind == _BYTES:
            size, first = _varint(content, at, last)
            at = first + size
        elif kind in (1, 5):
            first, at = at, at + (8 if kind == 1 else 4)
        else:
            raise DamagedError(f"wire type {kind} at byte {start}")
        if at > last or not number:
            raise DamagedError(f"a field at byte {start} that is cut off")
        yield number, kind, start, first, at


def _varint(content: Any, at: int, last: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= last:
            raise DamagedError(f"a number at byte {at} that is cut off")
        byte = content[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise DamagedError(f"a number at byte {at} that does not end")


def _header(number: int, size: int) -> bytes:
    out = bytearray([number << 3 | _BYTES])
    while size >= 0x80:
        out.append(size & 0x7F | 0x80)
        size >>= 7
    out.append(size)
    return bytes(out)
