"""Do filters that were learned on one domain serve another? Experiments that train networks: base runs (`train`), a
transfer, a curve over layers, a matrix of domains, a sweep of sizes. The verbs plan the runs, let an engine train the
missing ones, and summarise the results."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mkfa.lazy import face

if TYPE_CHECKING:
    from mkfa.experiments.planning import Plan as Plan
    from mkfa.experiments.verbs import train as train
    from mkfa.experiments.verbs import transfer as transfer
    from mkfa.experiments.verbs import transfer_curve as transfer_curve
    from mkfa.experiments.verbs import transfer_matrix as transfer_matrix
    from mkfa.experiments.verbs import transfer_sweep as transfer_sweep

__getattr__, __dir__, __all__ = face(__name__, __file__)
