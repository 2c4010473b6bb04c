"""From a checkpoint to a bank: find the depthwise filters in a file, a repository of the hub, or a live module.
`tensors/` reads files that hold tensors by name, `graphs/` those that hold a graph, `hub/` reads from the model hub
by ranges, `timm/` knows the networks of timm. Which layers are depthwise: `modules.is_depthwise` of a live network,
`tensors/roles` and `tensors/select` by shapes and names, `graphs/onnx` and `graphs/tflite` by their graphs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mkfa.lazy import face

if TYPE_CHECKING:
    from mkfa.readers.harvesting import harvest as harvest

__getattr__, __dir__, __all__ = face(__name__, {"harvest": "mkfa.readers.harvesting"})
