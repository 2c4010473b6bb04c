"""Which groups do the filters of several networks form, and how few filters explain them all? The atlas (clusters,
their stability, a map) and the key filters, both on the filters of several banks pooled."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mkfa.lazy import face

if TYPE_CHECKING:
    from mkfa.clusters.atlas import Atlas as Atlas
    from mkfa.clusters.atlas import build_atlas as build_atlas
    from mkfa.clusters.keys import Keys as Keys
    from mkfa.clusters.keys import find_keys as find_keys

__getattr__, __dir__, __all__ = face(__name__, __file__)
