"""Did two networks learn the same filters? Measures of similarity between two banks, each between a noise floor and
what chance gives, with p-values and intervals. Measures are entries of one table, `measures/table.py`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mkfa.lazy import face

if TYPE_CHECKING:
    from mkfa.similarity.comparing import compare as compare
    from mkfa.similarity.comparing import compare_many as compare_many
    from mkfa.similarity.comparison import Comparison as Comparison
    from mkfa.similarity.matrix import Comparisons as Comparisons
    from mkfa.similarity.measures.table import Measure as Measure

__getattr__, __dir__, __all__ = face(__name__, __file__)
