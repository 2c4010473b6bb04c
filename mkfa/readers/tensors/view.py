"""A view of a file of named tensors, some of which are computed from others."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from mkfa.array_types import F32
from mkfa.frozen import FrozenDict
from mkfa.readers.reading import TensorFile, TensorInfo


@dataclass(frozen=True, slots=True)
class Made:
    """A tensor that is computed from others: their keys in the file, and how."""

    sources: tuple[str, ...]
    compute: Callable[[Sequence[F32]], F32]


@dataclass(frozen=True, slots=True)
class View:
    """A `TensorFile` over another.

    Attributes
    ----------
    tensors : as a PyTorch state dict would have them.
    made : key -> how it is computed, for those that the file does not store so.
    notes : sentences for the user.
    doubtful : key -> why what is taken for a depthwise layer's weight may be stored in another layout.
    """

    file: TensorFile
    tensors: Mapping[str, TensorInfo]
    made: Mapping[str, Made]
    notes: tuple[str, ...] = ()
    doubtful: Mapping[str, str] = field(default_factory=lambda: FrozenDict({}))

    def sources(self, keys: Iterable[str]) -> list[str]:
        """Return the keys of the file that these tensors are read from."""
        wanted = (self.made[key].sources if key in self.made else (key,) for key in keys)
        return list(dict.fromkeys(source for sources in wanted for source in sources))

    def read(self, keys: Sequence[str]) -> Iterator[tuple[str, F32]]:
        """Yield (key, tensor as float32)."""
        plain = [key for key in keys if key not in self.made]
        if plain:
            yield from self.file.read(plain)
        made = [key for key in keys if key in self.made]
        if not made:
            return
        values = dict(self.file.read(self.sources(made)))
        for key in made:
            recipe = self.made[key]
            result = recipe.compute([values[source] for source in recipe.sources])
            yield key, np.ascontiguousarray(result, np.float32)
