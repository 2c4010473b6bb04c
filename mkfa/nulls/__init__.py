"""What does chance give? Filters without patterns (`draw_null`), or an untrained network. Nulls are entries of one
table, `NULLS` in `draws.py`; a new one is a `Null`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mkfa.lazy import face

if TYPE_CHECKING:
    from mkfa.nulls.draws import NULLS as NULLS
    from mkfa.nulls.draws import Null as Null
    from mkfa.nulls.draws import draw_null as draw_null

__getattr__, __dir__, __all__ = face(__name__, __file__)
