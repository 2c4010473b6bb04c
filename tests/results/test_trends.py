"""Lines along an axis: slopes, intervals and crossings of planted runs, and the sentences that tell them."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from scipy import stats

from mkfa.results.curve import make_curve
from mkfa.results.image_error import Answers
from mkfa.results.record import RunRecord
from mkfa.results.trends import depth_trends, make_trend, rank_correlation, tell_trend
from mkfa.training.result import RunResult, encode_right


def answers(values, images=0):
    right = None
    if images:
        right = {seed: (np.arange(images) < round(top1 * images)).astype(float) for seed, top1 in enumerate(values)}
    return Answers(dict(enumerate(map(float, values))), images, right)


def planted(x, *, slope, height, spread=0.0, seeds=5, rng=None, against=0.5):
    """Return sides whose difference is height + slope log2(x / geometric mean), with normal noise on each side."""
    place = np.log2(x)
    mean = against + height + slope * (place - place.mean())
    noise = (lambda: 0.0) if rng is None else (lambda: rng.normal(0, spread))
    return [
        (answers([m + noise() for _ in range(seeds)]), answers([against + noise() for _ in range(seeds)])) for m in mean
    ]


def test_a_planted_line_comes_back_with_its_crossing():
    x = [0.25, 0.5, 1.0, 2.0, 4.0]
    rng = np.random.default_rng(0)
    sides = planted(x, slope=-0.02, height=0.03, spread=1e-5, rng=rng)
    trend = make_trend("D / f^2", ("transfer", "random"), x=x, sides=sides, doubling=True)
    assert trend.slope == pytest.approx(-0.02, abs=1e-4) and trend.shown and trend.p < 1e-6
    at, low, high = trend.crossing  # .03 - .02 log2(x) = .01 at x = 2
    assert low < at < high and at == pytest.approx(2.0, rel=1e-3)
    text = tell_trend(trend)
    assert text.startswith(
        "transfer minus random changes by -2.0 points with each doubling of D / f^2 (95 % interval -2.0"
    )
    assert "5 seeds, 5 settings" in text and "rank correlation -1.00" in text
    assert text.endswith("; the line reaches 1 point at D / f^2 = 2.00 (95 % interval 2.00 to 2.00).")


def test_interval_and_p_are_those_of_a_regression_with_variances_of_its_own():
    """Independent: the slope's weights by scipy, the variance by hand, the degrees of freedom after Satterthwaite."""
    x, rng = np.array([1.0, 2.0, 3.0]), np.random.default_rng(1)
    a, b = rng.normal(0.7, 0.02, (3, 4)), rng.normal(0.6, 0.01, (3, 5))
    sides = [(answers(one), answers(other)) for one, other in zip(a, b, strict=True)]
    trend = make_trend("layers", ("a", "b"), x=x, sides=sides, doubling=False)
    assert trend.slope == pytest.approx(stats.linregress(x, a.mean(1) - b.mean(1)).slope)
    weight = (x - 2) / 2
    parts = [w**2 * v for w, v in zip(weight, a.var(1, ddof=1) / 4, strict=True)]
    others = [w**2 * v for w, v in zip(weight, b.var(1, ddof=1) / 5, strict=True)]
    total = sum(parts) + sum(others)
    freedom = total**2 / (sum(p**2 / 3 for p in parts) + sum(p**2 / 4 for p in others))
    assert trend.half_width == pytest.approx(stats.t.ppf(0.975, freedom) * math.sqrt(total))
    assert trend.p == pytest.approx(2 * stats.t.sf(abs(trend.slope) / math.sqrt(total), freedom))


def test_two_settings_of_one_side_are_welchs_test():
    a, b = [0.70, 0.72, 0.74], [0.60, 0.61, 0.65]
    trend = make_trend("layers", ("a", ""), x=[1, 2], sides=[(answers(b), None), (answers(a), None)], doubling=False)
    welch = stats.ttest_ind(a, b, equal_var=False)
    assert trend.p == pytest.approx(welch.pvalue)
    assert trend.slope - trend.half_width == pytest.approx(welch.confidence_interval().low)


@pytest.mark.parametrize(("slope", "shown"), [(0.0, 0.05), (-0.02, 0.99)])
def test_intervals_hold_and_the_crossing_is_in_its_interval(slope, shown):
    rng = np.random.default_rng(3)
    x, inside, seen, crossed, bounded = [0.16, 0.3, 0.64, 0.9, 1.8, 3.6], 0, 0, 0, 0
    for _ in range(300):
        sides = planted(x, slope=slope, height=0.03, spread=0.008, seeds=3, rng=rng)
        trend = make_trend("D / f^2", ("a", "b"), x=x, sides=sides, doubling=True)
        inside += abs(trend.slope - slope) <= trend.half_width
        seen += trend.shown
        if slope and not math.isnan(trend.crossing[0]):
            true = 2 ** (np.log2(x).mean() + (0.01 - 0.03) / slope)
            bounded, crossed = bounded + 1, crossed + (trend.crossing[1] <= true <= trend.crossing[2])
    assert 0.92 <= inside / 300 <= 0.985  # nominal .95: two standard errors are .025
    assert abs(seen / 300 - shown) < 0.035
    if slope:
        assert bounded > 290 and 0.92 <= crossed / bounded <= 0.99


def test_the_choice_of_images_widens_the_interval_of_a_level_but_hardly_that_of_a_slope():
    """The answers at all settings fall on the same images: an easier set lifts all, and changes no slope."""
    rng = np.random.default_rng(0)
    means = [0.70, 0.71, 0.72, 0.73]
    with_images, without = (
        make_trend(
            "layers",
            ("a", ""),
            x=[1, 2, 3, 4],
            sides=[(answers(m + 0.001 * z, images), None) for m, z in zip(means, rng.normal(size=(4, 5)), strict=True)],
            doubling=False,
        )
        for images in (2000, 0)
    )
    assert max(with_images.half_widths) > 3 * max(without.half_widths)
    assert with_images.half_width < 0.3 * max(with_images.half_widths)


def test_seed_by_seed_the_slope_is_surer_where_seeds_move_all_settings_alike():
    rng = np.random.default_rng(5)
    shift, noise = rng.normal(0, 0.05, (1, 6)), rng.normal(0, 0.001, (4, 6))
    top1 = 0.5 + np.arange(4)[:, None] * 0.01 + shift + noise
    trend = make_trend(
        "layers", ("a", ""), x=[1, 2, 3, 4], sides=[(answers(row), None) for row in top1], doubling=False
    )
    assert trend.paired < 0.1 * trend.half_width
    slopes = [stats.linregress([1, 2, 3, 4], column).slope for column in top1.T]
    assert trend.paired == pytest.approx(stats.t.ppf(0.975, 5) * stats.sem(slopes))


def test_other_axes_are_held_fixed():
    """Steps grow with D / f^2 here; the difference depends on the steps alone."""
    ratio, steps = [1, 1, 2, 2, 4, 4], [100, 200, 200, 400, 400, 800]
    rng = np.random.default_rng(2)
    sides = [
        (answers(0.6 - 0.01 * np.log2(s) + rng.normal(0, 1e-5, 3)), answers(0.5 + rng.normal(0, 1e-5, 3)))
        for s in steps
    ]
    one = make_trend("D / f^2", ("a", "b"), x=ratio, sides=sides, doubling=True, beside=[np.log2(steps).tolist()])
    other = make_trend("steps", ("a", "b"), x=steps, sides=sides, doubling=True, beside=[np.log2(ratio).tolist()])
    assert abs(one.slope) < 1e-4 and other.slope == pytest.approx(-0.01, abs=1e-4)
    assert (
        make_trend("D / f^2", ("a", "b"), x=ratio, sides=sides, doubling=True, beside=[np.log2(ratio).tolist()]) is None
    )


def test_one_seed_and_no_trend_get_words():
    x = [1.0, 2.0, 4.0]
    alone = make_trend("steps", ("a", "random"), x=x, sides=planted(x, slope=0.01, height=0, seeds=1), doubling=True)
    assert tell_trend(alone).endswith("no interval (needs two seeds at every setting).")
    assert math.isnan(alone.crossing[0])
    rng = np.random.default_rng(0)
    flat = make_trend(
        "steps", ("a", "random"), x=x, sides=planted(x, slope=0, height=0.1, spread=0.01, rng=rng), doubling=True
    )
    assert tell_trend(flat).endswith(": no trend is shown.") and math.isnan(flat.crossing[0])
    assert (
        make_trend("steps", ("a", "b"), x=[4.0, 4.0], sides=planted([4.0, 4.0], slope=0, height=0), doubling=True)
        is None
    )


def test_a_crossing_beyond_the_settings_is_called_so():
    x, rng = [100.0, 200.0, 400.0], np.random.default_rng(0)
    trend = make_trend(
        "steps", ("a", "b"), x=x, sides=planted(x, slope=-0.01, height=0.05, spread=1e-4, rng=rng), doubling=True
    )
    assert trend.crossing[0] == pytest.approx(3200, rel=0.05)
    assert tell_trend(trend).endswith("beyond the settings that were trained.")
    unbounded = dataclasses.replace(trend, crossing=(3200.0, 450.0, 6e17))
    end = "; the line reaches 1 point at steps = 3,200 (95 % interval 450 to no upper end)"
    assert tell_trend(unbounded).endswith(f"{end}, beyond the settings that were trained.")
    below = dataclasses.replace(trend, crossing=(150.0, 1e-12, 390.0))
    assert tell_trend(below).endswith("steps = 150 (95 % interval no lower end to 390).")
    far = dataclasses.replace(trend, crossing=(5e9, 450.0, 6e17))
    assert tell_trend(far).endswith("; nowhere near the settings that were trained does the line reach 1 point.")


def test_rank_correlation_is_spearmans_and_its_p_that_of_all_orders():
    rng = np.random.default_rng(8)
    x, y = rng.normal(size=7), rng.normal(size=7)
    y[2] = y[5]
    rho, p = rank_correlation(x, y)
    assert rho == pytest.approx(stats.spearmanr(x, y).statistic)
    exact = stats.permutation_test(
        (x,), lambda a: abs(stats.spearmanr(a, y).statistic), permutation_type="pairings", alternative="greater"
    )
    assert p == pytest.approx(exact.pvalue, abs=0.02)
    assert all(math.isnan(v) for v in rank_correlation(x[:4], y[:4]))


def record(arm, layers, seed, top1, *, source="", images=500):
    right = encode_right(np.arange(images) < round(top1 * images))
    result = RunResult("done", top1, top1, 0.1, test_images=images, test_right=right, record={})
    return RunRecord(source, "digits", arm, layers, seed, result)


def test_random_falls_with_depth_and_transfer_does_not():
    rng = np.random.default_rng(0)
    runs = [record("baseline", 0, seed, 0.93 + rng.normal(0, 0.003), source="digits") for seed in range(4)]
    for layers in (3, 6, 12, 18):
        for seed in range(4):
            runs.append(record("random", layers, seed, 0.93 - 0.006 * layers + rng.normal(0, 0.004)))
            runs.append(record("transfer", layers, seed, 0.92 + rng.normal(0, 0.004), source="fashion"))
    trends = {(t.series, t.against): t for t in depth_trends(runs)}
    assert trends.keys() == {("random", ""), ("transfer", ""), ("transfer", "random")}
    assert trends["random", ""].slope == pytest.approx(-0.006, abs=0.001) and trends["random", ""].shown
    assert not trends["transfer", ""].shown
    gap = trends["transfer", "random"]
    assert gap.slope == pytest.approx(0.006, abs=0.001) and gap.shown
    assert "transfer minus random changes by +0.6" in tell_trend(gap)
    assert "points with each further layer" in tell_trend(gap)
    assert not depth_trends([run for run in runs if run.layers in (0, 3, 6)])  # two numbers of layers make any line


def test_a_curve_has_its_trends():
    runs = [record("baseline", 0, seed, 0.9 + 0.001 * seed, source="digits") for seed in range(3)]
    for layers in (1, 2, 3):
        runs += [record("random", layers, seed, 0.9 - 0.02 * layers + 0.002 * seed) for seed in range(3)]
    curve = make_curve(runs, parameters={})
    assert [(t.series, t.against, round(t.slope, 6)) for t in curve.trends] == [("random", "", -0.02)]
    assert make_curve(runs[:6], parameters={}).trends == ()
