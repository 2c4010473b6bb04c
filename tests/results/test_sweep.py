"""A sweep's result: which run belongs to which setting, and the lines that are drawn through them."""

from __future__ import annotations

import numpy as np
import pytest
from planted_sweep import PARAMETERS, SETTINGS, record, runs

from mkfa.results.gather import make_result
from mkfa.results.sweep import Sweep


def test_the_width_law_comes_back_from_planted_runs():
    sweep = make_result("sweep", runs(lambda ratio, _: 0.02 - 0.01 * np.log2(ratio)), PARAMETERS)
    assert isinstance(sweep, Sweep) and len(sweep.points) == 6
    assert [point.curve.base.mean for point in sweep.points] == pytest.approx([0.9] * 6, abs=0.002)
    trends = {(t.axis, t.series, t.against): t for t in sweep.trends}
    assert trends.keys() == {
        ("D / f^2", "transfer", "random"),
        ("D / f^2", "transfer", "baseline"),
        ("D / f^2", "random", "baseline"),
    }
    law = trends["D / f^2", "transfer", "random"]
    assert law.slope == pytest.approx(-0.01, abs=0.001) and law.shown and law.rho == -1 and law.p_rho < 0.02
    assert law.crossing[1] < 2.0 < law.crossing[2]  # .02 - .01 log2(2) = .01
    assert not trends["D / f^2", "random", "baseline"].shown
    assert np.isnan(trends["D / f^2", "random", "baseline"].paired)  # base runs start from weights of their own
    assert len(sweep.rows()) == 6 * 4 * 3 and sweep.rows()[0]["width"] == 8
    assert len(sweep.weakest) == 1 and sweep.weakest[0] in sweep.points


def test_the_settings_that_are_least_sensitive_are_all_named():
    """Runs of equal accuracies in two settings: both are less sensitive than a third."""
    made = [
        record(setting, arm, seed, {"baseline": 0.9, "delta": low}[arm] + 0.01 * seed)
        for setting, low in zip(SETTINGS[:3], (0.7, 0.5, 0.7), strict=True)
        for arm in ("baseline", "delta")
        for seed in range(2)
    ]
    sweep = make_result("sweep", made, PARAMETERS | {"settings": SETTINGS[:3]})
    assert [(p.width, p.kernel) for p in sweep.weakest] == [(8, 3), (16, 3)]
    one = make_result("sweep", [r for r in made if r.seed == 0], PARAMETERS | {"settings": SETTINGS[:3]})
    assert [(p.width, p.kernel) for p in one.weakest] == [(8, 3), (16, 3)]  # without SDs, by points


def test_time_is_an_axis_and_runs_of_other_lengths_are_told_apart():
    settings = [SETTINGS[0] | {"steps": steps} for steps in (150, 600, 1500)]
    made = runs(lambda _, steps: 0.05 - 0.01 * np.log2(steps / 150), settings=settings)
    sweep = make_result("sweep", made, PARAMETERS | {"settings": settings})
    assert [point.steps for point in sweep.points] == [150, 600, 1500]
    [law] = [t for t in sweep.trends if (t.axis, t.against) == ("steps", "random")]
    assert law.slope == pytest.approx(-0.01, abs=0.001)
    assert not [t for t in sweep.trends if t.axis == "D / f^2"]


def test_both_axes_at_once_have_a_line_each():
    settings = [s | {"steps": steps} for s in SETTINGS for steps in (100, 400)]
    made = runs(lambda ratio, steps: 0.1 - 0.01 * np.log2(ratio) - 0.005 * np.log2(steps / 100), settings=settings)
    sweep = make_result("sweep", made, PARAMETERS | {"settings": settings})
    slopes = {t.axis: t.slope for t in sweep.trends if t.against == "random"}
    assert slopes["D / f^2"] == pytest.approx(-0.01, abs=0.001)
    assert slopes["steps"] == pytest.approx(-0.005, abs=0.001)


def test_settings_without_runs_and_arms_without_their_like_make_no_line():
    made = runs(lambda *_: 0.0, settings=SETTINGS[:2], arms=("baseline", "random"))
    sweep = make_result("sweep", made, PARAMETERS)
    assert len(sweep.points) == 2 and {t.series for t in sweep.trends} == {"random"}
    assert make_result("sweep", [], PARAMETERS).trends == ()
