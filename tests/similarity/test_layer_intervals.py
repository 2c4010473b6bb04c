"""Intervals over layers: against closed forms, and how often they hold the mean over fresh pairs of banks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest
import scipy.stats

import mkfa
from mkfa.banks.bank import Kind, Layer, Provenance, make_bank
from mkfa.banks.canonical import normalise
from mkfa.nulls.covariance import sample_covariance, sphere_covariance, tap_covariance
from mkfa.nulls.draws import draw_null
from mkfa.similarity.layer_intervals import FEWEST, UNLIKE, layer_intervals, no_interval, unlike
from mkfa.similarity.measures.table import DEFAULT_MEASURES, MEASURES, SAMPLED_MEASURES
from mkfa.similarity.pairs import Plan, Sample, take
from mkfa.similarity.samples import Cloud, make_cloud, split
from mkfa.similarity.score import make_plan, score
from mkfa.stats.intervals import welch

WITH = ("coverage",)


def layered_cloud(layers: int, each: int, seed: int, k: int = 3) -> Cloud:
    """Layers around centres of their own, so that filters within a layer are alike."""
    rng = np.random.default_rng(seed)
    table = []
    for i in range(layers):
        centre = rng.standard_normal((1, k, k))
        weight = (centre + 0.5 * rng.standard_normal((each, k, k))).astype(np.float32)
        table.append((Layer(0, f"l{i}", 0, 0, 0, k, k), weight, None))
    return make_cloud(make_bank("b", table, Provenance()), Kind(k, k))


def plan_of(measures: tuple[str, ...], k: int = 3) -> Plan:
    return make_plan((k, k), measures, threshold=0.9, bandwidth=0.25, rng=np.random.default_rng(0))


def whole(cloud: Cloud, plan: Plan) -> Sample:
    return take(cloud, np.arange(len(cloud)), plan)


def tap(rows: np.ndarray) -> float:
    return float(np.square(rows[:, 0]).mean(dtype=np.float64))


def layer_means(sample: Sample) -> np.ndarray:
    return np.array([tap(sample.vector[0, sample.layer == i]) for i in range(sample.layers)])


@contextmanager
def measure(score: Callable[[np.ndarray, np.ndarray], float]) -> Iterator[tuple[Sample, Sample]]:
    """Register a measure and give banks of 9 layers of 12 filters and 11 of 20."""
    mkfa.register(mkfa.Measure("mine", "", score, interval=True))
    try:
        plan = plan_of(("mine",))
        yield whole(layered_cloud(9, 12, 1), plan), whole(layered_cloud(11, 20, 2), plan)
    finally:
        MEASURES.unregister("mine")


def test_the_interval_of_a_difference_of_means_is_welchs_of_the_means_of_layers():
    """Layers of A and of B do not interplay in it: nothing is taken off."""
    with measure(lambda a, b: tap(a) - tap(b)) as (a, b):
        value = np.array([tap(a.vector[0]) - tap(b.vector[0])])
        low, high = layer_intervals(a, b, value)
    expected = welch(layer_means(a).tolist(), layer_means(b).tolist())
    assert (low[0], high[0]) == pytest.approx(
        (expected.difference - expected.half_width, expected.difference + expected.half_width), rel=1e-5
    )


def test_the_interplay_of_a_product_of_means_counts_once():
    """var(x) var(y) / (m n) is taken off the jackknife, which counts it twice."""
    centre = 0.1

    def product(a: np.ndarray, b: np.ndarray) -> float:
        return (tap(a) - centre) * (tap(b) - centre)

    with measure(product) as (a, b):
        x, y = layer_means(a) - centre, layer_means(b) - centre
        low, high = layer_intervals(a, b, np.array([x.mean() * y.mean()]))
    one, other = y.mean() ** 2 * x.var(ddof=1) / len(x), x.mean() ** 2 * y.var(ddof=1) / len(y)
    chosen = np.linspace(0, len(x) - 1, 8).round().astype(int), np.linspace(0, len(y) - 1, 8).round().astype(int)
    interplay = x[chosen[0]].var(ddof=1) * y[chosen[1]].var(ddof=1) / (len(x) * len(y))
    square = max(one + other - interplay, (one + other) / 2)
    assert interplay > 0.05 * (one + other)
    freedom = (one + other) ** 2 / (one**2 / (len(x) - 1) + other**2 / (len(y) - 1))
    half = scipy.stats.t.ppf(0.975, freedom) * np.sqrt(square)
    assert (high[0] - low[0]) / 2 == pytest.approx(half, rel=1e-4)


def test_a_measure_that_no_layer_changes_has_no_interval_of_width_0():
    with measure(lambda a, b: 0.5) as (a, b):
        assert np.isnan(layer_intervals(a, b, np.array([0.5]))).all()


def test_an_interval_ends_where_the_measure_does():
    plan = plan_of(("coverage",))
    a, b = (whole(layered_cloud(8, 12, seed), plan) for seed in (1, 2))
    (low,), (high,) = layer_intervals(a, b, np.array([1.0]))
    assert high == 1 > low


def test_only_measures_whose_intervals_hold_have_one():
    plan = plan_of(SAMPLED_MEASURES)
    a, b = (whole(layered_cloud(8, 12, seed), plan) for seed in (1, 2))
    interval = layer_intervals(a, b, score(a, b).values[0])
    printed = np.isfinite(interval).all(axis=0)
    assert tuple(np.array(SAMPLED_MEASURES)[printed]) == WITH
    assert np.isnan(interval[:, ~printed]).all()


def test_each_measure_without_an_interval_says_why():
    enough = no_interval(DEFAULT_MEASURES, (FEWEST, 12), shared=False)
    assert tuple(name for name, why in zip(DEFAULT_MEASURES, enough, strict=True) if not why) == WITH
    assert enough[DEFAULT_MEASURES.index("pca_kl")] == "it is computed on all filters"
    assert no_interval(WITH, (FEWEST - 1, 12), shared=False) == (
        "intervals need 8 layers of each bank, and one has 7",
    ) * len(WITH)
    assert all("not independent" in why for why in no_interval(WITH, (12, 12), shared=True))
    assert no_interval(WITH, (12, 12), shared=False, apart=2.34) == (
        "the banks are 2.3 times as far apart as layers of one, and intervals hold up to 1.7",
    ) * len(WITH)


def test_banks_are_unlike_by_the_distance_to_the_other_over_that_within():
    """Filter by filter; those of the same layer do not count."""
    a, b = (whole(layered_cloud(3, 4, seed), plan_of(WITH)) for seed in (1, 2))
    x, y = a.vector[0], b.vector[0]
    own = [
        np.mean([1 - np.abs(v[s.layer != s.layer[i]] @ v[i]).max() for i in range(len(v))]) for s, v in ((a, x), (b, y))
    ]
    across = [np.mean([1 - np.abs(y @ f).max() for f in x]), np.mean([1 - np.abs(x @ f).max() for f in y])]
    assert unlike(a, b) == pytest.approx(sum(across) / sum(own), rel=1e-4)
    assert unlike(a, b) == pytest.approx(unlike(b, a), rel=1e-5)


def patterned_cloud(layers: int, each: int, rng: np.random.Generator, *seeds: int) -> Cloud:
    """Noisy copies of twelve smooth patterns, an equal number of each seed, in proportions that differ by layer."""
    draws = [draw_null("blurred", np.empty((12, 5, 5), np.float32), np.random.default_rng(seed)) for seed in seeds]
    patterns = normalise(np.concatenate([x[: 12 // len(seeds)] for x in draws]).reshape(12, -1))[0]
    table = []
    for i in range(layers):
        chosen = rng.choice(12, each, p=rng.dirichlet(np.full(12, 0.5)))
        weight = patterns[chosen] * rng.choice([-1, 1], (each, 1)) + 0.12 * rng.standard_normal((each, 25))
        table.append((Layer(0, f"l{i}", 0, 0, 0, 5, 5), weight.reshape(-1, 5, 5).astype(np.float32), None))
    return make_cloud(make_bank("b", table, Provenance()), Kind(5, 5))


def test_banks_of_other_patterns_are_too_unlike_for_an_interval_and_those_of_half_the_patterns_are_not():
    """Between patterns and noise coverage's intervals held the mean in 86 % of 400 pairs, between others in 98 %."""
    covariance = sphere_covariance(tap_covariance(mkfa.load_bank("efficientnet_lite0").of_kind("5x5").weight))
    plan, apart = plan_of(("coverage",), 5), []
    for seed in range(5):
        rng = np.random.default_rng([8, seed])
        noise = normalise(sample_covariance(covariance, 8 * 24, rng))[0].reshape(8, 24, 5, 5)
        table = [(Layer(0, f"l{i}", 0, 0, 0, 5, 5), w.astype(np.float32), None) for i, w in enumerate(noise)]
        a = whole(patterned_cloud(8, 24, rng, 99), plan)
        others = (
            make_cloud(make_bank("b", table, Provenance()), Kind(5, 5)),
            patterned_cloud(8, 24, rng, 98),
            patterned_cloud(8, 24, rng, 99, 98),
        )
        apart.append([unlike(a, whole(cloud, plan)) for cloud in others])
    noisy, other, half = np.array(apart).T
    assert min(noisy.min(), other.min()) > UNLIKE > half.max(), apart


@pytest.mark.parametrize("others", [(99,), (99, 98)])
def test_intervals_hold_the_mean_over_other_pairs_of_banks(others: tuple[int, ...]):
    """The neighbours in the other bank and the sample are part of what varies; the calibration has more pairs."""
    plan = plan_of(WITH, 5)
    values, intervals = [], []
    for seed in range(60):
        rng = np.random.default_rng([3, others[-1], seed])
        clouds = patterned_cloud(8, 32, rng, 99), patterned_cloud(8, 32, rng, *others)
        a, b = (take(c, split(c, 96, rng)[0], plan) for c in clouds)
        values.append(score(a, b).values[0])
        intervals.append(layer_intervals(a, b, values[-1]))
    mean = np.mean(values, axis=0)
    low, high = np.array(intervals).swapaxes(0, 1)
    held = ((low <= mean) & (mean <= high)).mean(axis=0)
    assert (held >= 0.87).all(), dict(zip(WITH, held, strict=True))
    assert ((high - low).mean(axis=0) < 1.7 * 3.92 * np.std(values, axis=0)).all()


def test_one_layer_has_no_interval():
    plan = plan_of(WITH)
    one, more = whole(layered_cloud(1, 30, 1), plan), whole(layered_cloud(5, 6, 2), plan)
    value = np.full(len(WITH), 0.5)
    assert np.isnan(layer_intervals(one, more, value)).all() and np.isnan(layer_intervals(more, one, value)).all()
