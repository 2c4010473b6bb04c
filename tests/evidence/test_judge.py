"""Verdicts on planted runs: what is true of them is known, and what cannot be seen must stay open."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from planted_runs import TRAIN, around, runs, setting
from scipy import stats

from mkfa.evidence.claims import all_claims
from mkfa.evidence.effects import Effect, difference, effects_of, mean_effect, seeds_to_decide
from mkfa.evidence.judge import judge_runs
from mkfa.evidence.run_table import tables_of
from mkfa.results.image_error import Answers

CLAIMS = all_claims()
CONTROLS = {"baseline": 0.93, "delta": 0.52, "box": 0.60}


def verdict(id, records, **more):
    return judge_runs(CLAIMS[id], records, **more)[0]


@pytest.mark.parametrize(
    ("transfer", "random", "state"),
    [
        (0.906, 0.813, "supported"),
        (0.906, 0.905, "contradicted"),  # equal within a point
        (0.850, 0.906, "contradicted"),  # worse
        (0.906, 0.896, "inconclusive"),  # a point exactly
    ],
)
def test_a_planted_difference_decides(transfer, random, state):
    found = verdict("C12", setting({**CONTROLS, "transfer": transfer, "random": random}, spread=0.002))
    assert found.state == state
    assert found.effect.difference == pytest.approx(transfer - random, abs=1e-9)
    assert found.seeds == 5
    assert "150 steps" in found.scale.text and "32 px" in found.scale.text and "resmixer_32_18" in found.scale.text


def test_the_interval_is_welchs_over_seeds_and_test_images():
    records = setting({**CONTROLS, "transfer": 0.9, "random": 0.8})
    found = verdict("C12", records).effect
    a, b = around(0.9), around(0.8)
    assert found.low < stats.ttest_ind(a, b, equal_var=False).confidence_interval().low  # images add to it
    assert found.test_error == pytest.approx(math.sqrt(0.1 * 0.9 / 4000), rel=0.03)  # a tenth of the images differ


@pytest.mark.parametrize(
    ("shuffle", "spread", "state", "lacks"),
    [
        (0.905, 0.002, "supported", ""),
        (0.880, 0.002, "contradicted", ""),
        (0.899, 0.012, "inconclusive", "seeds"),  # equal on average, but too few seeds for this spread
    ],
)
def test_equal_is_an_interval_within_the_margins_and_never_not_significant(shuffle, spread, state, lacks):
    found = verdict("C3", setting({**CONTROLS, "transfer": 0.904, "shuffle": shuffle}, spread=spread))
    assert found.state == state
    assert all(text.startswith(lacks) for text in found.missing) and bool(found.missing) == bool(lacks)
    if state == "inconclusive":
        assert found.effect.p > 0.05  # "not significant", which shows nothing


def test_too_few_seeds():
    found = verdict("C12", setting({**CONTROLS, "transfer": 0.9, "random": 0.8}, seeds=3))
    assert (found.state, found.missing) == ("inconclusive", ("seeds: 3 of 5",))
    assert found.command == "mkfa claims run C12 --scale laptop"


def test_intervals_and_resolutions_above_100_points_are_unknown_as_they_are_in_results():
    """Two seeds of which one side's do not differ: t of one degree of freedom, 12.7 * 0.15 = 190 points."""
    wide = difference("digits", Answers({0: 0.2, 1: 0.5}, 0, None), Answers({0: 0.4, 1: 0.4}, 0, None), paired=False)
    assert wide.difference == pytest.approx(-0.05) and wide.error == pytest.approx(0.15) and not wide.known
    assert math.isnan(wide.high) and math.isnan(wide.detectable) and not wide.above(-1) and not wide.below(1)
    mean = mean_effect([wide, wide], "mean of 2 targets")  # two degrees of freedom: 4.3 * 0.106, and 5.4 * 0.106
    assert mean.high - mean.difference == pytest.approx(4.3027 * 0.15 / math.sqrt(2), rel=1e-4)
    assert mean.detectable == pytest.approx((4.3027 + 1.0607) * 0.15 / math.sqrt(2), rel=1e-3)
    three = mean_effect([replace(wide, error=0.5)] * 3, "mean of 3 targets")  # 92 and 120 points
    assert three.known and math.isnan(three.detectable)


@pytest.mark.parametrize("arms", [{"delta": 0.925}, {}])
def test_what_the_experiment_could_not_see_stays_open(arms):
    found = verdict("C12", setting({"baseline": 0.93, "transfer": 0.92, "random": 0.919, **arms}, spread=0.003))
    assert found.state == "inconclusive"
    assert [text.partition(":")[0] for text in found.missing] == ["sensitivity"]


def test_the_limit_of_sensitivity_is_five_standard_errors():
    records = {"baseline": 0.93, "transfer": 0.92, "random": 0.918}
    error = verdict("C12", setting({**records, "delta": 0.5})).effect.error
    for drop, seen in ((5.2, True), (4.8, False)):
        found = verdict("C12", setting({**records, "delta": 0.93 - drop * error}))
        assert (not any("sensitivity" in text for text in found.missing)) == seen


def test_the_worst_control_counts():
    found = verdict("C12", setting({**CONTROLS, "transfer": 0.9, "random": 0.8}))
    assert found.effect.control == "delta on digits"
    assert found.effect.sensitivity == pytest.approx(0.41)


def test_missing_runs_are_named_with_their_command():
    found = verdict("C16", setting({**CONTROLS, "keys-8": 0.93}))
    assert found.state == "inconclusive"
    assert "runs: random-8" in found.missing and "runs: blurred-8" in found.missing
    assert verdict("C15", []).missing == ("runs: keys, impulse",)
    assert verdict("C2", []).missing == ("runs: transfer", "scale: paper")


EIGHT = {"random-8": 0.85, "covariance-8": 0.86, "blurred-8": 0.87}


@pytest.mark.parametrize(
    ("arms", "state"),
    [
        ({"keys-8": 0.93, **EIGHT}, "supported"),
        ({"keys-8": 0.90, **EIGHT}, "contradicted"),  # below the base by three points
        ({"keys-8": 0.93, **EIGHT, "random-8": 0.93}, "contradicted"),  # random ones do it too
        ({"keys-8": 0.93, **EIGHT, "blurred-8": 0.9295}, "inconclusive"),
    ],
)
def test_eight_keys_must_suffice_and_beat_eight_others(arms, state):
    assert verdict("C16", setting({**CONTROLS, **arms}, spread=0.002)).state == state


def matrix(harm=()):
    """Return 6 targets with five sources each, and cells of (source, target) where transfer does harm."""
    made = []
    for target in TRAIN:
        for arm, mean in {**CONTROLS, "selffer": 0.92}.items():
            made += runs(arm, target=target, source=target if arm == "selffer" else "", means=around(mean))
        for source in TRAIN:
            if source != target:
                mean = 0.88 if (source, target) in harm else 0.921
                made += runs("transfer", target=target, source=source, means=around(mean))
    return made


def test_one_harmed_cell_contradicts_no_harm_and_is_named():
    assert verdict("C6", matrix()).state == "supported"
    found = verdict("C6", matrix(harm=[("emoji", "letters")]))
    assert found.state == "contradicted"
    assert "emoji -> letters" in found.reason
    assert found.effect.difference == pytest.approx(-0.04)


def test_a_part_of_the_matrix_supports_nothing_but_can_contradict():
    part = [r for r in matrix() if r.target in ("letters", "digits")]
    assert verdict("C6", part).missing == ("runs: 10 of 30 pairs",)
    harmed = [r for r in matrix(harm=[("emoji", "letters")]) if r.target in ("letters", "digits")]
    assert verdict("C6", harmed).state == "contradicted"


def test_every_target_is_needed_for_selffer_to_cost_nothing():
    assert verdict("C5", matrix()).state == "inconclusive"  # a point below, exactly: neither is shown
    better = [r for r in matrix() if r.arm != "selffer"]
    for target in ("letters", "fashion", "scripts", "digits", "emoji", "clipart"):
        better += runs("selffer", target=target, source=target, means=around(0.935))
    assert verdict("C5", better).state == "supported"


def test_larger_sources_by_rank_over_sources():
    def with_gain(sign):
        made = [r for r in matrix() if r.arm != "transfer"]
        for target in TRAIN:
            for i, source in enumerate(TRAIN):
                if source != target:
                    noise = 0.004 * ((i * 7 + len(target)) % 3)
                    made += runs("transfer", target=target, source=source, means=around(0.9 - sign * 0.005 * i + noise))
        return made

    assert verdict("C7", with_gain(1)).state == "supported"
    assert verdict("C7", with_gain(-1)).state == "contradicted"
    effect = verdict("C7", with_gain(1)).effect
    assert effect.unit == "rho" and effect.sensitivity > 0.1 and effect.control.startswith("delta on letters, ")
    blind = [r for r in with_gain(1) if r.arm not in ("delta", "box")]
    assert verdict("C7", blind).missing == ("sensitivity: no run of delta or box",)


def test_sources_trained_for_unequal_steps_say_nothing_about_size():
    found = verdict("C7", [r for r in matrix_of_epochs()])
    assert found.state == "inconclusive"
    assert any("equally many steps" in text for text in found.missing)


def matrix_of_epochs():
    recipe = {"equal_steps": 0}
    made = []
    for target in TRAIN:
        for arm, mean in CONTROLS.items():
            made += runs(arm, target=target, means=around(mean), recipe=recipe)
        for i, source in enumerate(TRAIN):
            if source != target:
                made += runs("transfer", target=target, source=source, means=around(0.9 - 0.01 * i), recipe=recipe)
    return made


@pytest.mark.parametrize(
    ("gaps", "state"),
    [
        ({8: 0.09, 16: 0.06, 32: 0.03, 64: 0.001}, "supported"),
        (dict.fromkeys((4, 8, 16, 32, 64, 128, 256, 512), 0.02), "contradicted"),
        ({8: 0.09, 16: 0.07, 32: 0.05, 64: 0.03}, "inconclusive"),  # it falls, but does not vanish
    ],
)
def test_the_width_law(gaps, state):
    records = []
    for width, gap in gaps.items():
        arms = {**CONTROLS, "transfer": 0.9, "random": 0.9 - gap}
        records += setting(arms, arch=f"resmixer_{width}_18", spread=0.002)
    found = verdict("C13", records)
    assert found.state == state
    assert f"{len(gaps)} settings" in found.basis
    assert f"D / f^2 = {8 / 49:.2f}" in found.findings[0].note


def curve(shape):
    made = setting(CONTROLS)
    for n in (*range(1, 18, 2), 18):
        made += runs("transfer", source="fashion", means=np.roll(around(shape(n)), n * n), layers=n)
    return made


@pytest.mark.parametrize(
    ("shape", "state"),
    [
        (lambda n: 0.93, "supported"),
        (lambda n: 0.93 - 0.002 * n, "contradicted"),
        (lambda n: 0.93 if n < 10 else 0.93 + 0.012, "inconclusive"),  # a change with depth, though not a loss
    ],
)
def test_no_drop_with_depth_needs_the_last_point_and_the_slope(shape, state):
    assert verdict("C1", curve(shape)).state == state


@pytest.mark.parametrize("layers", [2, 12, 16])
def test_more_depths_with_fewer_seeds_change_no_verdict(layers):
    records = curve(lambda n: 0.93 - 0.002 * n)
    more = runs("transfer", source="fashion", means=around(0.95)[:3], layers=layers)
    before, after = verdict("C1", records), verdict("C1", records + more)
    assert (after.state, after.effect, after.missing) == ("contradicted", before.effect, before.missing)


@pytest.mark.parametrize(
    ("shape", "state"),
    [
        (lambda n: 0.90 + 0.005 * min(n, 13), "supported"),  # 12 of 18 layers are 8 of 12
        (lambda n: 0.90 + 0.005 * n, "contradicted"),
        (lambda n: 0.90 + 0.005 * min(n, 5), "inconclusive"),
    ],
)
def test_where_the_gain_flattens(shape, state):
    records = [r for r in curve(shape) if r.arm != "baseline"] + runs("baseline", means=around(0.90))
    assert verdict("C11", records).state == state


def test_the_mean_over_targets_adds_their_variances():
    records = setting({**CONTROLS, "transfer": 0.9, "random": 0.8})
    records += setting({**CONTROLS, "transfer": 0.9, "random": 0.88}, target="emoji", spread=0.01)
    [table] = tables_of(records)
    units = effects_of(table, "transfer", "random", controls=("delta",))
    both = mean_effect(units, "mean")
    assert both.difference == pytest.approx(0.06)
    assert both.error == pytest.approx(math.hypot(*(e.error for e in units)) / 2)
    e1, e2 = (e.error**2 / 4 for e in units)
    assert both.freedom == pytest.approx((e1 + e2) ** 2 / (e1**2 / units[0].freedom + e2**2 / units[1].freedom))


def test_filters_of_the_targets_own_base_runs_are_no_transfer_between_domains():
    records = runs("baseline", means=around(0.9))
    for record in runs("transfer", source="digits", means=around(0.8)):
        spec = replace(record.spec, source=f"run:{record.seed}")
        records.append(replace(record, spec=spec, hash=spec.hash))
    [table] = tables_of(records)
    assert table.arms == {"baseline", "selffer"}
    [table] = tables_of(runs("baseline", means=around(0.9)) + runs("transfer", source="digits", means=around(0.8)))
    assert table.arms == {"baseline", "transfer"}  # a bank that is called like the target


def test_runs_of_different_recipes_or_versions_are_never_compared():
    records = setting({**CONTROLS, "transfer": 0.9})
    records += setting({"random": 0.8}, recipe={"lr": 0.02})
    assert all(v.state == "inconclusive" for v in judge_runs(CLAIMS["C12"], records))
    records += setting({"random": 0.8}, training_version=1)
    assert all(v.state == "inconclusive" for v in judge_runs(CLAIMS["C12"], records))


def test_the_setting_with_most_evidence_is_shown_whatever_it_says():
    small = setting({**CONTROLS, "transfer": 0.9, "random": 0.8}, seeds=3)
    large = setting({**CONTROLS, "transfer": 0.9, "random": 0.9}, recipe={"lr": 0.02})
    first, second = judge_runs(CLAIMS["C12"], [*small, *large])
    assert (first.state, first.seeds, second.seeds) == ("contradicted", 5, 3)


def test_arms_are_compared_over_the_sources_that_both_have():
    records = setting({**CONTROLS, "transfer": 0.904, "shuffle": 0.904, "stack": 0.884})
    for source in ("letters", "emoji"):  # which no shuffled run has
        records += runs("transfer", source=source, means=around(0.80))
    assert verdict("C3", records).effect.difference == pytest.approx(0, abs=1e-9)
    assert verdict("C12", records + runs("random", means=around(0.8))).effect.difference == pytest.approx(0.104 / 3)
    records = [replace(r, source="fashion+convnext_32_12") if r.arm == "stack" else r for r in records]
    assert verdict("C9", records).effect.difference == pytest.approx(-0.02)  # of another network, but the same domain
    for own in ("fashion+resmixer_64_18", "fashion+resmixer_32_18"):  # its own architecture: not what C9 is about
        records += runs("stack", source=own, means=around(0.95))
    assert verdict("C9", records).effect.difference == pytest.approx(-0.02)


def test_a_curve_is_of_the_sources_that_it_has_at_every_depth():
    records = curve(lambda n: 0.93)
    for source in ("letters", "emoji"):
        records += runs("transfer", source=source, means=around(0.80), layers=18)
    assert verdict("C11", records).effect.difference == pytest.approx(0, abs=1e-9)


def test_a_setting_that_lets_nothing_be_judged_does_not_hide_another():
    records = []
    for width, gap in ((8, 0.09), (16, 0.06), (32, 0.03), (64, 0.001)):
        arms = {**CONTROLS, "transfer": 0.9, "random": 0.9 - gap}
        records += setting(arms, arch=f"resmixer_{width}_6", layers=6, spread=0.002)
    for target in TRAIN:  # more runs, but of one width
        for arm, mean in {**CONTROLS, "transfer": 0.9, "random": 0.85}.items():
            source = "fashion" if arm == "transfer" else ""
            records += runs(arm, target=target, source=source, means=around(mean))
    assert verdict("C13", records).state == "supported"


def test_a_run_that_is_at_two_places_counts_once():
    records = setting({**CONTROLS, "transfer": 0.9, "random": 0.8})
    assert verdict("C12", [*records, *records]).seeds == 5


def test_tuned_arms_each_take_their_best_rate():
    rates = {}
    for lr, keys, transfer in ((0.01, 0.90, 0.80), (0.001, 0.70, 0.885)):
        arms, recipe = {**CONTROLS, "keys-8": keys, "transfer": transfer}, {"lr": lr, "size": 224}
        rates[lr] = setting(arms, target="pets", recipe=recipe)
    found = verdict("C18", rates[0.01] + rates[0.001])
    assert found.effect.difference == pytest.approx(0.015)
    assert np.isclose(verdict("C18", rates[0.01]).effect.difference, 0.1)


def test_one_complete_statement_contradicts_whatever_the_others_lack():
    found = verdict("C1", setting({**CONTROLS, "transfer": 0.89}))  # one number of layers: no slope
    assert (found.state, found.missing) == ("contradicted", ())
    assert "transfer is below baseline by more than 1 point" in found.reason
    found = verdict("C16", setting({**CONTROLS, "keys-8": 0.88}))
    assert (found.state, found.missing) == ("contradicted", ())


def test_a_claim_is_judged_at_its_own_scales_alone():
    laptop = setting({**CONTROLS, "keys-8": 0.80, "transfer": 0.9})
    assert verdict("C18", laptop).missing == ("runs: keys-8, transfer", "scale: paper")
    assert verdict("C12", setting({**CONTROLS, "transfer": 0.9, "random": 0.8}), scale="gpu").state == "inconclusive"


def test_how_far_targets_differ_is_said_beside_the_interval_over_seeds():
    records = setting({**CONTROLS, "transfer": 0.9, "random": 0.8})
    records += setting({**CONTROLS, "transfer": 0.9, "random": 0.88}, target="emoji")
    found = verdict("C12", records)
    ends = stats.t.interval(0.95, 1, loc=6, scale=4)  # of 2 and 10: half their distance
    assert f"with the 2 targets as units {ends[0]:.1f} to {ends[1]:.1f}" in found.findings[0].note
    assert "from +2.0 (emoji) to +10.0 (digits)" in found.findings[0].note


def test_what_is_shown_to_be_false_is_not_called_a_want_of_seeds():
    arms = {**CONTROLS, "transfer": 0.92, "random": 0.80, "stack": 0.87}
    found = verdict("C9", setting(arms, spread=0.002))  # not equal, but far above random: the criterion has no word
    assert found.state == "inconclusive"
    assert found.missing[0].startswith("not shown that stack equals transfer within 1 point: -5.0")


def test_an_open_verdict_says_how_many_seeds_would_decide():
    """Student's interval of two arms of spread s over n seeds each is t(2n - 2) s sqrt(2 / n) wide on either side."""
    effect = Effect("digits", 0.002, -0.016, 0.020, error=0.008, freedom=8, seeds=(5, 5))
    wanted = next(n for n in range(6, 99) if stats.t.ppf(0.975, 2 * n - 2) * 0.008 * math.sqrt(5 / n) < 0.008)
    assert seeds_to_decide(effect, (-0.01, 0.01)) == wanted
    assert seeds_to_decide(effect, (-0.01, 0.01), tests=6) > wanted
    assert seeds_to_decide(replace(effect, test_error=0.0055), (-0.01, 0.01)) == 0  # that of the images remains
    assert seeds_to_decide(effect, (0.05,)) == 0  # it is decided

    found = verdict("C3", setting({**CONTROLS, "transfer": 0.904, "shuffle": 0.899}, spread=0.012))
    [count] = [finding.seeds_needed for finding in found.findings if finding.side == "supports"]
    assert f"about {count} seeds would settle it" in found.missing[0]
    assert found.command == f"mkfa claims run C3 --scale laptop --seeds {count}"
    more = verdict("C3", setting({**CONTROLS, "transfer": 0.904, "shuffle": 0.899}, spread=0.012, seeds=count))
    assert more.state == "supported"


def test_where_settings_scatter_more_than_their_errors_settings_are_asked_for_and_not_seeds():
    records = []
    for width, bump in ((8, 0.0), (16, -0.02), (32, 0.03), (64, -0.02), (128, 0.01)):
        advantage = 0.06 - 0.012 * (math.log2(width) - 3) + bump
        records += setting(
            {"baseline": 0.95, "delta": 0.5, "transfer": 0.8 + advantage, "random": 0.8}, arch=f"resmixer_{width}_18"
        )
    found = verdict("C13", records)
    assert found.state == "inconclusive"
    assert found.missing[0].startswith("settings: ") and "more seeds do not help" in found.missing[0]
    assert "--seeds" not in found.command
