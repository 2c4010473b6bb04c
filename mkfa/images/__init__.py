"""Labelled image sets on disk and in memory: which there are, how folders are packed, and how batches are
augmented."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mkfa.lazy import face

if TYPE_CHECKING:
    from mkfa.images.load import load_domain as load_domain

__getattr__, __dir__, __all__ = face(__name__, {"load_domain": "mkfa.images.load"})
