"""Ranges and the arithmetic of curves, against values worked out by hand and scipy."""

from __future__ import annotations

import csv
import math
import pickle

import numpy as np
import pytest

from mkfa.cli.shared.result_tables import sensitivity as printed_sensitivity
from mkfa.cli.shared.result_tables import sensitivity as told
from mkfa.errors import MkfaError
from mkfa.experiments.layer_numbers import parse_numbers
from mkfa.results.cells import Cell, cell_rows, sensitivity
from mkfa.results.curve import make_curve
from mkfa.results.record import RunRecord
from mkfa.storage.records import to_csv
from mkfa.training.result import RunResult


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("3", (3,)),
        ("1..4", (1, 2, 3, 4)),
        ("0..12..3", (0, 3, 6, 9, 12)),
        ("1..10..4", (1, 5, 9)),
        ("4, 1,2..3", (1, 2, 3, 4)),
        ("7..7", (7,)),
        ("1..18", tuple(range(1, 19))),
    ],
)
def test_numbers_as_users_write_them(text, numbers):
    assert parse_numbers(text) == numbers


@pytest.mark.parametrize("text", ["", "a", "1..", "..3", "4..1", "1..3..0", "-1", "1.5", "1,,2", "1..999999"])
def test_what_is_no_number_is_refused(text):
    with pytest.raises(MkfaError, match="--layers"):
        parse_numbers(text)


def run(arm: str, layers: int, seed: int, top1: float | None, *, source: str = "a", target: str = "b") -> RunRecord:
    result = None if top1 is None else RunResult.of({"state": "done", "top1_last": top1, "chance": 0.25})
    return RunRecord(source, target, arm, layers, seed, result)


def test_a_curve_worked_out_by_hand():
    runs = [
        run("baseline", 0, 0, 0.80),
        run("baseline", 0, 1, 0.84),
        run("transfer", 1, 0, 0.79),
        run("transfer", 1, 1, 0.81),
        run("transfer", 2, 0, 0.78),
        run("transfer", 2, 1, None),
        run("delta", 2, 0, 0.40),
        run("delta", 2, 1, 0.44),
    ]
    runs.append(RunRecord("a", "b", "delta", 2, 2, RunResult.of({"state": "diverged", "step": 7, "chance": 0.25})))
    curve = make_curve(runs, parameters={"x": 1})
    assert (curve.base.mean, curve.base.std) == pytest.approx((0.82, math.sqrt(0.0008)))
    first, second, delta = curve.cells
    assert (first.mean, first.relative, first.std) == pytest.approx((0.80, -0.02, math.sqrt(0.0002)))
    assert (second.seeds, second.missing, second.diverged) == ((0,), 1, 0)
    assert math.isnan(second.std)
    assert math.isnan(second.half_width)
    assert (delta.mean, delta.diverged, delta.seeds) == (pytest.approx(0.42), 1, (0, 1))
    spread = math.sqrt((0.0008 + 0.0002 + 0.0008) / 3)  # base, transfer 1, delta: one degree of freedom each
    found = curve.sensitivity
    assert found is not None
    assert (found.worst_arm, found.worst_layers, found.drop) == ("delta", 2, pytest.approx(0.40))
    assert (found.spread, found.distance) == pytest.approx((spread, 0.40 / spread))
    assert curve.chance == 0.25


@pytest.mark.parametrize(("cells", "seeds"), [(2, 2), (54, 3)])
def test_the_lowest_of_equal_cells_passes_the_bound_in_one_experiment_of_twenty_at_most(cells, seeds):
    rng = np.random.default_rng(cells)

    def made(arm: str, layers: int) -> Cell:
        top1 = rng.normal(0.8, 0.01, seeds)
        return Cell("a", "b", arm, layers, tuple(range(seeds)), tuple(top1), top1.mean(), top1.std(ddof=1), 0, 0, 0, 0)

    found = [sensitivity(made("baseline", 0), [made("random", n) for n in range(cells)]) for _ in range(400)]
    passed = np.mean([s.distance > s.bound for s in found])
    assert 0.005 <= passed <= 0.07
    assert np.mean([s.distance > 2 for s in found]) > 0.1  # two SDs say little of the lowest of many cells or few seeds


def test_all_cells_that_are_lowest_are_named():
    runs = [run(arm, 2, seed, top1) for seed in (0, 1) for arm, top1 in (("delta", 0.1), ("box", 0.1), ("random", 0.6))]
    runs += [run("baseline", 0, seed, 0.8 + 0.02 * seed) for seed in (0, 1)]
    found = make_curve(runs, parameters={}).sensitivity
    assert found is not None and found.worst == (("delta", 2), ("box", 2)) and found.worst_arms == "delta and box"
    assert printed_sensitivity(found).startswith(
        "Sensitivity: worst is delta at 2 layers and box at 2 layers, 71.0 points"
    )


def test_an_interval_or_a_resolution_above_100_points_is_unknown():
    tops = {("baseline", 0): (0.5, 0.3), ("transfer", 1): (0.4, 0.4), ("delta", 1): (0.1, 0.1)}
    curve = make_curve([run(*point, i, x) for point, both in tops.items() for i, x in enumerate(both)], parameters={})
    assert all(math.isnan(c.half_width) and math.isnan(c.seeds_half_width) for c in curve.cells)
    assert curve.sensitivity is not None
    assert math.isnan(curve.sensitivity.detectable)
    assert "Resolution: unknown" in told(curve.sensitivity)


def test_an_unfinished_experiment_has_no_numbers():
    curve = make_curve([run("baseline", 0, 0, None), run("random", 1, 0, None)], parameters={})
    assert math.isnan(curve.base.mean)
    assert curve.cells[0].missing == 1
    assert curve.sensitivity is None


def test_a_point_has_a_row_a_seed_and_keeps_commas_of_names():
    cell = Cell("a,b", "there", "stack", 2, (0, 3), (0.1, 0.30000000000000004), 0.2, 0.141, -0.1, math.nan, 0, 1)
    rows = list(csv.DictReader(to_csv(cell_rows(cell), "curve").splitlines()[1:]))
    assert [(r["source"], r["seed"], float(r["top1"])) for r in rows] == [
        ("a,b", "0", 0.1),
        ("a,b", "3", 0.30000000000000004),
    ]
    assert (rows[0]["change"], rows[0]["half_width_95"], rows[0]["layers"]) == ("-0.1", "", "2")


def test_a_result_is_the_same_after_pickling():
    curve = make_curve([run("baseline", 0, 0, 0.5), run("delta", 2, 0, 0.25)], parameters={"seeds": 1})
    assert math.isnan(curve.cells[0].std)
    assert pickle.loads(pickle.dumps(curve)) == curve
