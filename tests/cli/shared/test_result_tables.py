"""What tables of a curve share: the sentence on what it could see."""

from __future__ import annotations

import math

from mkfa.cli.shared.result_tables import sensitivity
from mkfa.results.cells import Sensitivity


def test_what_lies_within_the_bound_of_chance_is_not_called_seen():
    def told(distance: float, bound: float) -> str:
        return sensitivity(Sensitivity("delta", 6, 0.01, 0.004, distance, bound))

    assert told(2.5, 2.8).endswith("that this setting can see filters at all is not shown.")
    assert told(2.9, 2.8) == (
        "Sensitivity: worst is delta at 6 layers, 1.0 points below the base, 2.9 SD of the seeds (SD 0.4)."
    )
    assert told(math.nan, math.nan).endswith("needs two seeds.")
    assert sensitivity(None).endswith("nothing is done.")
