"""What tables of a curve share: the CSV of its cells and the sentence on what it could see."""

from __future__ import annotations

import csv
import io
import math

from mkfa.cli.shared.result_tables import csv_of, sensitivity
from mkfa.results.cells import Cell, Sensitivity


def test_the_csv_has_a_line_a_seed_and_keeps_commas_of_names():
    cell = Cell("a,b", "there", "stack", 2, (0, 3), (0.1, 0.30000000000000004), 0.2, 0.141, -0.1, math.nan, 0, 1)
    rows = list(csv.DictReader(io.StringIO(csv_of(cell))))
    assert [(r["source"], r["seed"], float(r["top1"])) for r in rows] == [
        ("a,b", "0", 0.1),
        ("a,b", "3", 0.30000000000000004),
    ]
    assert (rows[0]["change"], rows[0]["half_width_95"], rows[0]["layers"]) == ("-0.1", "nan", "2")


def test_what_lies_within_the_bound_of_chance_is_not_called_seen():
    def told(distance: float, bound: float) -> str:
        return sensitivity(Sensitivity("delta", 6, 0.01, 0.004, distance, bound))

    assert told(2.5, 2.8).endswith("that this setting can see filters at all is not shown.")
    assert told(2.9, 2.8) == (
        "Sensitivity: worst is delta at 6 layers, 1.0 points below the base, 2.9 SD of the seeds (SD 0.4)."
    )
    assert told(math.nan, math.nan).endswith("needs two seeds.")
    assert sensitivity(None).endswith("nothing is done.")
