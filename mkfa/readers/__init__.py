"""Harvest depthwise filters from a file, a repository of the model hub, or a network in memory.
`tensors/` reads files of named tensors, `graphs/` graph files, `hub/` repositories by byte ranges; `timm/` has the
graphs of timm's networks. Which layers are depthwise: `modules.is_depthwise` decides for a network in memory,
`tensors/roles` and `tensors/select` by shapes and names, `graphs/onnx` and `graphs/tflite` by their graphs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mkfa.lazy import face

if TYPE_CHECKING:
    from mkfa.readers.harvesting import harvest as harvest

__getattr__, __dir__, __all__ = face(__name__, __file__)
