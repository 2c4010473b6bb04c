"""What tables of a curve share: the sentence on what it could see."""

from __future__ import annotations

import math

from mkfa.cli.shared.result_tables import print_contrasts, sensitivity
from mkfa.results.cells import Cell, Sensitivity
from mkfa.results.contrasts import contrasts_of


def test_what_lies_within_the_bound_of_chance_is_not_called_seen():
    def told(distance: float, bound: float) -> str:
        return sensitivity(Sensitivity("delta", 6, 0.01, 0.004, distance, bound))

    assert "so it is not shown that this setting can see filters at all." in told(2.5, 2.8)
    assert told(2.9, 2.8) == (
        "Sensitivity: worst is delta at 6 layers, 1.0 points below the base, 2.9 SD of the seeds (SD 0.4). "
        "Resolution: unknown; it takes seeds that differ, and enough of them for intervals below 100 points."
    )
    assert told(math.nan, math.nan).endswith("needs two seeds.")
    assert sensitivity(None).endswith("nothing is done.")


def test_seeds_that_do_not_differ_have_no_interval(capsys):
    def cell(arm: str, *top1: float) -> Cell:
        return Cell("a", "b", arm, 0 if arm == "baseline" else 2, (0, 1), top1, sum(top1) / 2, 0, 0, 0, 0, 0)

    print_contrasts(contrasts_of(cell("baseline", 0.5, 0.5), [cell("delta", 0.4, 0.4), cell("box", 0.3, 0.4)]))
    rows = {line.split("  ")[0]: line.split()[-5:] for line in capsys.readouterr().out.splitlines()}
    assert rows["delta - baseline"] == ["-10.000", "–", "–", "–", "–"]
    assert rows["box - baseline"][0] == "-15.000" and float(rows["box - baseline"][1]) > 10
