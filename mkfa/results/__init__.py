"""What did finished runs find? `read_runs` lists them; points, curves, tables, matrices, sweeps, contrasts and their
intervals summarise them. Nothing here trains."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mkfa.lazy import face

if TYPE_CHECKING:
    from mkfa.results.curve import Curve as Curve
    from mkfa.results.matrix import Matrix as Matrix
    from mkfa.results.record import RunList as RunList
    from mkfa.results.record import RunRecord as RunRecord
    from mkfa.results.runs import read_runs as read_runs
    from mkfa.results.sweep import Sweep as Sweep
    from mkfa.results.table import Scenarios as Scenarios

__getattr__, __dir__, __all__ = face(__name__, __file__)
