"""How much work and memory the reading of one file may cost.

A small file can make a reader work without end: parts that refer to each other, one region that many tensors share,
a name of a million components. A reader therefore charges its budget with what it does. The budget grows with the
bytes that the file has, so an honest file of any size is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from mkfa.errors import SourceError
from mkfa.words import counted

FREE_STEPS = 4_000_000
"""Steps that every file may take; a step takes about a microsecond.

They suffice for 40,000 tensors, 16,000 depthwise layers or a graph of 190,000 operators with next to no data; a
gigabyte of data allows five times as many. A limit for small files has to be there: an operator takes 20 microseconds
to read, so that a million of them, which fit 20 MB, would take 20 s.
"""

FREE_BYTES = 1 << 26
"""Bytes that every file may be decoded into."""

LONGEST_KEY = 1 << 10
"""Most characters in the name of a tensor in a checkpoint."""

LONGEST_NAME = 1 << 14
"""Most characters in a name in a graph; converters join the names of fused operators."""

DEEPEST = 64
"""Deepest nesting of containers, of graphs and of calls."""

_BYTES_A_STEP = 64
_STEPS_A_TENSOR, _STEPS_A_PART, _STEPS_A_LAYER = 40, 4, 130
_USUAL_KEY = 100
_EXPANSION = 12  # integers of 4 bits become bytes, then float32
_EXPANDED = 1 << 26
_LATER_EXPANSION = 4


@dataclass(slots=True)
class Budget:
    """Steps and bytes that are left for one file, over all its tensors.

    Parameters
    ----------
    thing : the file, named in errors
    size : bytes of the file

    Attributes
    ----------
    most_steps, most_bytes : what a file of this size may take.

    Examples
    --------
    >>> budget = Budget("net.onnx", size=1000)
    >>> budget.step(10)
    >>> budget.produce(1 << 40)
    Traceback (most recent call last):
    ...
    mkfa.errors.SourceError: net.onnx: would take more than 67 MB of memory, far more than its 1,000 bytes justify; ...
    """

    thing: object = "the file"
    size: int = 0
    most_steps: int = field(init=False)
    most_bytes: int = field(init=False)
    _steps: int = field(init=False, default=0)
    _bytes: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.grow(0)

    def grow(self, size: int) -> None:
        """Add the bytes of a file that belongs to the first one."""
        self.size += size
        near = min(self.size, _EXPANDED)
        self.most_steps = FREE_STEPS + self.size // _BYTES_A_STEP
        self.most_bytes = FREE_BYTES + _EXPANSION * near + _LATER_EXPANSION * (self.size - near)

    def step(self, count: int = 1) -> None:
        """Charge steps; raises SourceError if there are too many."""
        self._steps += count
        if self._steps > self.most_steps:
            most = counted(self.most_steps, "step")
            problem = f"needs more than {most} to read, far more than its {counted(self.size, 'byte')} justify"
            raise SourceError(self.thing, problem, "use a file from a source that you trust")

    def produce(self, count: int) -> None:
        """Charge bytes that are about to be made; raises SourceError if there are too many."""
        self._bytes += count
        if self._bytes > self.most_bytes:
            most = f"{self.most_bytes / 1e6:.0f} MB"
            problem = f"would take more than {most} of memory, far more than its {counted(self.size, 'byte')} justify"
            raise SourceError(self.thing, problem, "use a file from a source that you trust")

    def key(self, key: str, most: int = LONGEST_KEY) -> None:
        """Charge a tensor's key and the prefixes that end at its dots; raises SourceError if it is too long."""
        self._check(key, most)
        self.step(2 * len(key))
        self.produce(len(key) * (2 + key.count(".")) // 2)

    def _check(self, key: str, most: int) -> None:
        if len(key) > most:
            problem = (
                f"has a name of {counted(len(key), 'character')}, more than the {most} that are read ({key[:40]!r})"
            )
            raise SourceError(self.thing, problem, "use a file from a source that you trust")

    def tensor(self, key: str, most: int = LONGEST_KEY, *, shape: Sequence[int] = ()) -> None:
        """Charge what the rules for names do with a tensor of a checkpoint, and for a filter's shape what is done with
        its numbers; raises as `key`.
        """
        self._check(key, most)
        parts, beyond = key.count("."), max(0, len(key) - _USUAL_KEY)
        self.step(_STEPS_A_TENSOR + len(key) // 2 + 2 * beyond + _STEPS_A_PART * parts + parts * parts // 10)
        self.produce(len(key) * (2 + parts) // 2)
        if len(shape) == 4 and shape[1] == 1:
            self.step(_STEPS_A_LAYER)
