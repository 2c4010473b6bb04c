"""The test images' part of an interval: closed forms, and coverage over experiments with new seeds and new images."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import norm

from mkfa.results.cells import make_cell, sensitivity
from mkfa.results.contrasts import contrasts_of, sentence
from mkfa.results.curve import make_curve
from mkfa.results.image_error import NONE, Answers, error_of_difference, image_variance
from mkfa.results.record import RunRecord
from mkfa.stats.intervals import welch
from mkfa.training.result import RunResult, decode_right, encode_right


def runs(arm: str, answers: np.ndarray, *, layers: int = 0, recorded: bool = True, source: str = "") -> list[RunRecord]:
    """Return a run a seed from answers, (seeds, images) of 0 and 1."""
    made = []
    for seed, right in enumerate(answers):
        text = encode_right(right.tolist()) if recorded else ""
        result = RunResult("done", float(right.mean()), float(right.mean()), test_images=len(right), test_right=text)
        made.append(RunRecord(source or "t" if arm == "baseline" else source, "t", arm, layers, seed, result))
    return made


def experiment(rng: np.random.Generator, *, images: int = 200, seeds: int = 8, gap: float = 0.0):
    """Draw hard and easy images, and seeds that differ, for two arms; return the answers of both."""
    hardness = rng.normal(1.5, 1.2, images)
    answers = []
    for shift in (0.0, gap):
        own = rng.normal(0, 1.5, images)  # images that this arm finds easier than others do
        level = rng.normal(shift, 0.1, (seeds, 1))
        answers.append((rng.random((seeds, images)) < 1 / (1 + np.exp(-hardness - own - level))).astype(float))
    return answers


def test_answers_are_kept_bit_by_bit():
    for count in (1, 7, 8, 9, 1000):
        right = (np.random.default_rng(count).random(count) < 0.7).tolist()
        assert decode_right(encode_right(right), count) == tuple(right)
    assert decode_right("", 10) == decode_right("????", 10) == decode_right(encode_right([True]), 10) == ()


@pytest.mark.slow
def test_intervals_hold_the_truth_over_new_seeds_and_new_images():
    """Both arms are equally good on the whole; seeds alone hold that in far fewer than 95 % of experiments."""
    rng, held, alone = np.random.default_rng(0), 0, 0
    count = 400
    for _ in range(count):
        a, b = experiment(rng)
        base = make_cell(runs("baseline", rng.permutation(a)), a.mean(1))
        cells = [make_cell(runs(arm, x, layers=1), a.mean(1)) for arm, x in (("transfer", a), ("random", b))]
        everything = [*runs("transfer", a, layers=1), *runs("random", b, layers=1)]
        [c] = [c for c in contrasts_of(base, cells, runs=everything) if c.against == "random"]
        held += abs(c.difference) <= c.half_width
        alone += abs(c.difference) <= c.seeds_half_width
        assert c.test_error_exact
    assert 0.93 <= held / count <= 0.985
    assert alone / count < 0.9


def test_the_variance_is_that_of_the_differences_by_image():
    """Unbiased: over many experiments, variance of the difference = seeds' part + images' part."""
    rng = np.random.default_rng(1)
    differences, parts = [], []
    for _ in range(1500):
        a, b = experiment(rng, images=60, seeds=3)
        differences.append(a.mean() - b.mean())
        seeds = sum(x.mean(1).var(ddof=1) / len(x) for x in (a, b))
        parts.append(seeds + image_variance(a, -b))
    assert np.mean(parts) == pytest.approx(np.var(differences), rel=0.12)


def test_equal_answers_have_no_error_and_opposite_ones_have_most():
    a = np.tile(np.arange(100) % 2, (3, 1)).astype(float)
    assert image_variance(a, -a) == 0
    assert image_variance(a, -(1 - a)) == pytest.approx(np.var(2 * a[0] - 1, ddof=1) / 100)


def test_runs_without_answers_get_the_binomial_bound():
    a, b = np.zeros((3, 1000)), np.zeros((3, 1000))
    for seed in range(3):
        a[seed, : 900 + 10 * seed], b[seed, : 700 + 20 * seed] = 1, 1
    base, other = runs("baseline", a, recorded=False), runs("delta", b, layers=2, recorded=False)
    error = error_of_difference(Answers.of(base), Answers.of(other))
    expected = 0.91 * 0.09 / 1000 + 0.72 * 0.28 / 1000
    assert (error.variance, error.exact, error.images) == (pytest.approx(expected), False, 1000)
    cell = make_cell(other, a.mean(1), base_runs=base)
    assert cell.test_error == pytest.approx(math.sqrt(expected))
    assert cell.half_width > max(cell.seeds_half_width, norm.ppf(0.975) * math.sqrt(expected))
    variances = [np.var(x.mean(1), ddof=1) / 3 for x in (a, b)]
    freedom = (sum(variances) + expected) ** 2 / sum(v**2 / 2 for v in variances)
    from scipy.stats import t

    assert cell.half_width == pytest.approx(t.ppf(0.975, freedom) * math.sqrt(sum(variances) + expected))
    exact = make_cell(runs("delta", b, layers=2), a.mean(1), base_runs=runs("baseline", a))
    assert exact.test_error_exact
    assert exact.test_error < cell.test_error  # errors on the same images


def test_unknown_numbers_of_images_add_nothing():
    plain = [RunRecord("", "t", "random", 1, s, RunResult("done", 0.5 + s / 100, 0.5)) for s in range(3)]
    assert error_of_difference(Answers.of(plain), Answers.of(plain)) == NONE
    cell = make_cell(plain, [0.6, 0.62, 0.61], base_runs=plain)
    assert cell.half_width == cell.seeds_half_width == pytest.approx(welch(cell.top1, [0.6, 0.62, 0.61]).half_width)


def test_what_could_be_seen_is_said_and_is_seen_in_four_of_five():
    """Power at the detectable difference, over simulated experiments of equal spread."""
    rng = np.random.default_rng(2)
    detectable = (2.306 + 0.889) * 0.01 * math.sqrt(2 / 5)  # Student's t for 8 degrees of freedom: .975 and .8
    samples = [welch(rng.normal(0, 0.01, 5), rng.normal(0, 0.01, 5)).detectable for _ in range(500)]
    assert np.median(samples) == pytest.approx(detectable, rel=0.1)
    found = [welch(rng.normal(detectable, 0.01, 5), rng.normal(0, 0.01, 5)).p < 0.05 for _ in range(2000)]
    assert np.mean(found) == pytest.approx(0.8, abs=0.04)


def test_a_curve_says_its_resolution_and_an_arm_that_must_hurt_and_does_not():
    from mkfa.cli.shared.result_tables import sensitivity as told

    rng = np.random.default_rng(3)
    a, better = experiment(rng, images=500, gap=0.5)
    worse = a * (rng.random(500) < 0.7)
    everything = [*runs("baseline", a), *runs("delta", better, layers=1), *runs("delta", worse, layers=2)]
    curve = make_curve(everything, parameters={})
    found = curve.sensitivity
    assert (found.worst_arm, found.worst_layers, found.above) == ("delta", 2, ("delta at 1 layer",))
    assert found.detectable == pytest.approx(
        np.median([welch(c.top1, curve.base.top1, further=c.test_error**2).detectable for c in curve.cells])
    )
    text = told(found)
    assert f"a true difference from the base of {100 * found.detectable:.1f} points or more would show" in text
    assert "Above the base, although the arm must hurt: delta at 1 layer" in text
    assert "(Welch, 8 seeds; over seeds and test images)" in sentence(curve.contrasts[0])
    assert sensitivity(curve.base, curve.cells[1:]).above == ()
