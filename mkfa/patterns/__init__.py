"""Which analytic pattern does a filter follow, and how well? Families of Gaussian derivatives on the pixel grid, the
fit of one to a filter, and the assignment of all filters of a bank beside what chance gives."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mkfa.lazy import face

if TYPE_CHECKING:
    from mkfa.patterns.assigning import assign as assign
    from mkfa.patterns.assignment import Assignment as Assignment

__getattr__, __dir__, __all__ = face(__name__, __file__)
