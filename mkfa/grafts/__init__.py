"""Does a trained network still answer as before when its filters are replaced by those of a small vocabulary? `graft`
replaces them without training, and measures answers that are kept over the vocabulary's size, layers and likeness."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mkfa.lazy import face

if TYPE_CHECKING:
    from mkfa.grafts.grafting import graft as graft
    from mkfa.grafts.result import Graft as Graft

__getattr__, __dir__, __all__ = face(__name__, __file__)
