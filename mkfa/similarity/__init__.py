"""Did two networks learn the same filters? Measures of similarity between two banks, each between a noise floor and
what chance gives, with p-values and intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mkfa.lazy import face

if TYPE_CHECKING:
    from mkfa.similarity.comparing import compare as compare

__getattr__, __dir__, __all__ = face(__name__, {"compare": "mkfa.similarity.comparing"})
