"""How many layers may be frozen: intervals by hand and by simulation, and curves that must not speak."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

from mkfa.cli.shared.result_tables import print_curve
from mkfa.results.allowance import answer
from mkfa.results.cells import Cell, make_cell
from mkfa.results.curve import make_curve
from mkfa.results.record import RunRecord
from mkfa.training.result import RunResult


def cell(arm, layers, loss, half_width, source="fashion", seeds=3, std=0.004):
    """A point that loses so much against a base of .9, with so wide an interval."""
    top1 = tuple([0.9 - loss] * seeds)
    return Cell(source, "digits", arm, layers, tuple(range(seeds)), top1, top1[0], std, -loss, half_width, 0, 0)


BASE = cell("baseline", 0, 0.0, math.nan, "")
DELTA = [cell("delta", n, 0.1 * n, 0.01, "") for n in (2, 4, 6)]


def allowed(cells, base=BASE):
    found = answer(base, cells)
    return {a.series: (a.estimate, a.low, a.high) for a in found.allowances}, found


def test_both_ends_come_from_chains_that_stop_at_the_first_number_of_layers_that_fails():
    losses = [(2, 0.0, 0.009), (4, 0.004, 0.005), (6, 0.009, 0.02), (8, 0.02, 0.02), (10, 0.05, 0.03)]
    cells = [cell("transfer", n, loss, half) for n, loss, half in losses]
    numbers, found = allowed([*cells, *DELTA])
    assert numbers["transfer"] == (6, 4, 9)  # 2 and 4 lose less for sure, 10 more; 8 is not told from a point
    assert numbers["delta"] == (0, 0, 1)
    assert (found.refused, found.margin) == ("", 0.01)
    assert "of 2, 4, ... 10 tried? With filters from fashion 6 (95 % interval 4 to 9)" in found.sentence


def test_a_number_of_layers_beyond_a_failed_one_does_not_count():
    losses = [(2, 0.012, 0.001), (4, 0.0, 0.001), (6, 0.03, 0.001), (8, 0.0, 0.001)]
    numbers, _ = allowed([*(cell("random", n, loss, half, "") for n, loss, half in losses), *DELTA])
    assert numbers["random"] == (0, 0, 8)  # from above, 8 loses nothing: nothing below is claimed to lose


def test_the_sentence_names_borrowed_and_random_filters_and_the_control():
    cells = [cell("transfer", n, 0.0, 0.005) for n in (2, 4, 6)]
    cells += [cell("random", n, 0.012 * n, 0.015, "") for n in (2, 4, 6)] + [cell("selffer", 2, 0, 0.005, "digits")]
    _, found = allowed([*cells, *DELTA])
    assert found.sentence == (
        "How many layers may be frozen before more than a point is lost, of 2, 4, 6 tried? With filters from fashion "
        "all 6 (95 % interval 6 to 6); with random ones 0 (0 to 3). For comparison, identity kernels (delta), which "
        "mix no pixels: 0 (0 to 1)."
    )


def test_where_the_seeds_do_not_tell_it_says_so():
    cells = [cell("transfer", n, 0.011, 0.05) for n in (2, 4, 6)]
    numbers, found = allowed([*cells, *DELTA])
    assert numbers["transfer"] == (0, 0, 6)
    assert "With filters from fashion anything from 0 to 6 is possible: these seeds do not tell; random ones" in (
        found.sentence
    )


@pytest.mark.parametrize(
    ("transfer", "words"),
    [
        (0.80, "With 2 layers frozen, filters from a are better than random ones: +10.0 points, 95 % interval +9"),
        (0.60, "With 2 layers frozen, filters from a are worse than random ones: -10.0 points, 95 % interval -10"),
        (0.701, "With 2 layers frozen, filters from a are not told from random ones: +0.1 points, 95 % interval -0"),
    ],
)
def test_it_ends_with_what_borrowed_filters_are_worth_beside_random_ones(transfer, words):
    around = (-0.002, 0.0, 0.002)
    planted = [*runs("baseline", 0, [0.9 + x for x in around])]
    for n in (1, 2):
        planted += runs("transfer", n, [transfer + x for x in around], "a")
        planted += runs("random", n, [0.7 + x for x in around]) + runs("delta", n, [0.3 + x for x in around])
    assert words in make_curve(planted, parameters={}).answer.sentence


def test_several_sources_have_a_number_each():
    cells = [cell("transfer", n, 0.0, 0.005, s) for s in ("fashion", "letters") for n in (2, 4)]
    _, found = allowed([*cells, *DELTA])
    assert "With filters from fashion 4" not in found.sentence
    assert "With filters from fashion all 4 (95 % interval 4 to 4); with filters from letters all 4" in found.sentence


@pytest.mark.parametrize(
    ("control", "words"),
    [
        ([], "no arm that must hurt .* add delta to --arms"),
        ([cell("delta", 6, 0.008, 0.006, "")], r"delta, which must hurt, changes accuracy by -0.8 ± 0.6 points at 6"),
        ([cell("delta", 6, 0.2, 0.25, "")], "or the seeds differ too much"),
        ([cell("delta", 6, 0.05, 0.03, "", std=0.06)], "filters hardly matter"),
        ([cell("delta", 6, 0.5, math.nan, "", seeds=1, std=math.nan)], "has no interval"),
    ],
)
def test_a_curve_that_could_not_have_seen_a_loss_does_not_speak(control, words):
    _, found = allowed([cell("transfer", 6, 0.0, 0.002, std=0.06), *control])
    assert found.sentence.startswith("How many layers may be frozen cannot be said: ")
    assert re.search(words, found.refused)
    assert found.allowances[0].estimate == 6


def test_one_seed_has_no_interval():
    numbers, found = allowed([cell("transfer", 6, 0.0, math.nan, seeds=1, std=math.nan), *DELTA])
    assert numbers["transfer"] == (6, None, None)
    assert "With filters from fashion all 6, no interval" in found.sentence


def runs(arm, layers, top1, source=""):
    return [
        RunRecord(source, "b", arm, layers, seed, RunResult.of({"state": "done", "top1_last": value}))
        for seed, value in enumerate(top1)
    ]


@pytest.mark.parametrize(
    ("losses", "true"), [({2: 0.0, 4: 0.01001}, 2), ({2: 0.00999, 4: 0.05}, 2)], ids=["lower end", "upper end"]
)
def test_each_end_is_wrong_in_one_of_forty_experiments_at_worst(losses, true):
    """The loss that decides the end lies at the margin, where its chain is wrong most often."""
    rng = np.random.default_rng(3)
    wrong, trials = 0, 500
    for _ in range(trials):
        base = make_cell(runs("baseline", 0, rng.normal(0.9, 0.003, 5)), ())
        cells = [
            make_cell(runs("transfer", n, rng.normal(0.9 - loss, 0.003, 5), "a"), base.top1)
            for n, loss in losses.items()
        ]
        [found] = answer(base, cells).allowances
        wrong += not found.low <= true <= found.high
    assert abs(wrong / trials - 0.025) < 3 * math.sqrt(0.025 * 0.975 / trials)


def test_a_curve_carries_its_answer_and_the_command_ends_with_it(capsys):
    rng = np.random.default_rng(0)
    planted = [*runs("baseline", 0, rng.normal(0.9, 0.003, 4))]
    for n in (1, 2):
        planted += runs("transfer", n, rng.normal(0.9, 0.003, 4), "a") + runs("delta", n, rng.normal(0.4, 0.003, 4))
    curve = make_curve(planted, parameters={"source": "a", "target": "b", "arch": "net", "seeds": 4})
    assert curve.answer is not None
    assert curve.to_dict()["answer"]["allowances"][0] == {
        "series": "transfer",
        "arm": "transfer",
        "layers": [1, 2],
        "estimate": curve.answer.allowances[0].estimate,
        "low": curve.answer.allowances[0].low,
        "high": 2,
    }
    print_curve(curve, test_images=100, notes=["Wrote it."])
    assert " ".join(capsys.readouterr().out.split()).endswith(" ".join(curve.answer.sentence.split()))
    assert (
        make_curve(
            [run for run in planted if run.arm != "baseline"] + [RunRecord("", "b", "baseline", 0, 0)], parameters={}
        ).answer.refused
        == "no base run is done"
    )
