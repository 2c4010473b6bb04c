"""Differences between the arms of a curve against scipy's tests and values worked out by hand."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from scipy.stats import ttest_1samp, ttest_ind

from mkfa.results.cells import Cell
from mkfa.results.contrasts import contrasts_of, sentence, series_of
from mkfa.results.curve import make_curve
from mkfa.results.record import RunRecord
from mkfa.stats.intervals import paired_half_width
from mkfa.training.result import RunResult


def cell(arm: str, layers: int, top1: dict[int, float], source: str = "a") -> Cell:
    return Cell(
        source, "b", arm, layers, tuple(top1), tuple(top1.values()), math.nan, math.nan, math.nan, math.nan, 0, 0
    )


def drawn(seed: int, count: int, mean: float, spread: float) -> dict[int, float]:
    return dict(enumerate(np.random.default_rng(seed).normal(mean, spread, count).tolist()))


def by_what(contrasts, series, against):
    return {c.what: c for c in contrasts if (c.series, c.against) == (series, against)}


def test_arms_are_held_against_random_and_the_base_at_the_last_point_and_over_all():
    transfer = {n: drawn(n, 4, 0.7 - 0.01 * n, 0.01) for n in (2, 4, 6)}
    random = {n: drawn(n + 50, 4, 0.6, 0.01) for n in (4, 6)}
    base = drawn(99, 3, 0.72, 0.01)
    cells = [
        *(cell("transfer", n, v) for n, v in transfer.items()),
        *(cell("random", n, v, "") for n, v in random.items()),
    ]
    found = contrasts_of(cell("baseline", 0, base, ""), cells)
    against = by_what(found, "transfer", "random")
    interval = ttest_ind([*transfer[6].values()], [*random[6].values()], equal_var=False).confidence_interval()
    last = against["last"]
    assert (last.layers, last.against_layers, last.seeds, last.common) == ((6,), (6,), (4, 4), 4)
    assert last.half_width == pytest.approx((interval.high - interval.low) / 2)
    pairs = np.array([*transfer[6].values()]) - np.array([*random[6].values()])
    paired = ttest_1samp(pairs, 0).confidence_interval(0.95)
    assert (last.difference - last.paired, last.difference + last.paired) == pytest.approx((paired.low, paired.high))
    pooled = against["all"]
    a, b = (np.mean([[*v[n].values()] for n in (4, 6)], axis=0) for v in (transfer, random))
    interval = ttest_ind(a, b, equal_var=False).confidence_interval()
    assert (pooled.layers, pooled.against_layers) == ((4, 6), (4, 6))
    assert pooled.difference - pooled.half_width == pytest.approx(interval.low)
    assert pooled.difference == pytest.approx(a.mean() - b.mean())
    assert pooled.paired == pytest.approx(paired_half_width(a - b))
    to_base = by_what(found, "transfer", "baseline")["all"]
    a = np.mean([[*v.values()] for v in transfer.values()], axis=0)
    interval = ttest_ind(a, [*base.values()], equal_var=False).confidence_interval()
    assert to_base.difference + to_base.half_width == pytest.approx(interval.high)
    assert (to_base.common, to_base.against_layers, to_base.seeds) == (0, (0,), (4, 3))
    assert math.isnan(to_base.paired)
    assert set(by_what(found, "random", "baseline")) == {"last", "all"}
    assert not by_what(found, "random", "random")


def test_the_last_step_of_transfer():
    values = {n: drawn(n, 3, 0.7, 0.02) for n in (1, 17, 18)}
    found = contrasts_of(
        cell("baseline", 0, drawn(7, 3, 0.7, 0.01), ""), [cell("transfer", n, v) for n, v in values.items()]
    )
    [step] = [c for c in found if c.what == "step"]
    pairs = np.array([*values[18].values()]) - np.array([*values[17].values()])
    assert (step.layers, step.against_layers) == ((18,), (17,))
    assert step.difference == pytest.approx(pairs.mean())
    assert step.paired == pytest.approx(paired_half_width(pairs))
    assert sentence(step).startswith("transfer from 17 to 18 layers: ")


def test_a_missing_seed_is_left_out_of_both_sides():
    cells = [cell("transfer", 2, {0: 0.5, 1: 0.6, 2: 0.9}), cell("random", 2, {0: 0.4, 1: 0.4}, "")]
    last = by_what(contrasts_of(cell("baseline", 0, {0: 0.5}, ""), cells), "transfer", "random")["last"]
    assert (last.seeds, last.common) == ((2, 2), 2)
    assert last.difference == pytest.approx(0.15)
    assert last.paired == pytest.approx(ttest_1samp([0.1, 0.2], 0).confidence_interval().high - 0.15)


def test_a_seed_that_lacks_a_point_is_in_no_mean_over_points():
    cells = [cell("transfer", 1, {0: 0.5, 1: 0.7}), cell("transfer", 2, {0: 0.6})]
    pooled = by_what(contrasts_of(cell("baseline", 0, {0: 0.5, 1: 0.5}, ""), cells), "transfer", "baseline")["all"]
    assert (pooled.difference, pooled.seeds) == (pytest.approx(0.05), (1, 2))


def test_series_have_their_source_where_an_arm_has_several():
    cells = [
        cell("stack", 2, {0: 0.5}, "food"),
        cell("stack", 1, {0: 0.5}, "food"),
        cell("stack", 1, {0: 0.5}, "pets"),
        cell("random", 1, {0: 0.4}, ""),
    ]
    found = series_of(cells)
    assert list(found) == ["stack food", "stack pets", "random"]
    assert [c.layers for c in found["stack food"]] == [1, 2]
    names = {(c.series, c.against) for c in contrasts_of(cell("baseline", 0, {0: 0.5}, ""), cells)}
    assert ("stack pets", "random") in names
    assert ("stack food", "stack food") in names


@pytest.mark.parametrize(
    ("top1", "told"),
    # the reference is .50 .51 .52: deviations of 1 point on either side make Welch's width 2.776 sqrt(2 / 3) = 2.27
    [
        (
            {0: 0.60, 1: 0.62, 2: 0.61},
            "+10.0 points, 95 % interval +7.7 to +12.3 (Welch, 3 seeds); seed by seed +7.5 to +12.5; 0 is outside.",
        ),
        (
            {0: 0.50, 1: 0.52, 2: 0.51},
            "interval -2.3 to +2.3 (Welch, 3 seeds); seed by seed -2.5 to +2.5; 0 is inside: "
            "variation between seeds could explain it.",
        ),
        (
            {0: 0.52, 1: 0.53, 2: 0.541},
            "seed by seed +1.9 to +2.2; the intervals disagree about 0: more seeds are needed.",
        ),
        (
            {0: 0.75, 1: 0.76, 2: 0.77},  # Welch's interval does not need differences that differ
            "+25.0 points, 95 % interval +22.7 to +27.3 (Welch, 3 seeds); seed by seed no interval, because it is the "
            "same in every seed, or varies too much for so few; 0 is outside.",
        ),
        ({0: 0.60}, "no interval (needs two seeds)"),
    ],
)
def test_a_sentence_says_what_the_interval_says(top1, told):
    cells = [cell("transfer", 3, top1), cell("random", 3, {0: 0.50, 1: 0.51, 2: 0.52}, "")]
    last = by_what(contrasts_of(cell("baseline", 0, {0: 0.7}, ""), cells), "transfer", "random")["last"]
    assert told in sentence(last)
    assert sentence(last).startswith("transfer minus random at 3 layers: ")


def test_a_curve_has_its_contrasts_and_an_unfinished_one_has_none():
    def run(arm, layers, seed, top1):
        result = None if top1 is None else RunResult.of({"state": "done", "top1_last": top1, "chance": 0.25})
        return RunRecord("a", "b", arm, layers, seed, result)

    runs = [run("baseline", 0, s, 0.8 + s / 100) for s in (0, 1)] + [run("delta", 1, s, 0.4) for s in (0, 1)]
    curve = make_curve(runs, parameters={})
    [last] = curve.contrasts
    assert (last.series, last.against, last.difference) == ("delta", "baseline", pytest.approx(-0.405))
    assert make_curve([run("baseline", 0, 0, None), run("delta", 1, 0, 0.4)], parameters={}).contrasts == ()
    from mkfa.storage.records import to_json

    assert json.loads(to_json(curve))["contrasts"][0]["seeds"] == [2, 2]
