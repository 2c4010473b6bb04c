"""Families of analytic patterns and the dictionary that filters are looked up in (layer 2)."""

from __future__ import annotations

from mkfa.named import NAMED_SETS, NamedSet, named_set

__all__ = ["NAMED_SETS", "NamedSet", "named_set"]
