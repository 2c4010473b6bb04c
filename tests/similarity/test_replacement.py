"""Chance is calibrated: a bank that is itself a null bank gets uniform p-values."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

import mkfa
import mkfa.similarity.replacement
import mkfa.threads
from mkfa.banks.bank import FilterBank, Kind, Layer, Provenance, make_bank
from mkfa.nulls.covariance import sample_covariance, sphere_covariance, tap_covariance
from mkfa.nulls.draws import NULLS, draw_null
from mkfa.similarity.measures.table import MEASURES, SAMPLED_MEASURES
from mkfa.similarity.pairs import Pair, Plan, take
from mkfa.similarity.replacement import Side, draw_against
from mkfa.similarity.samples import Cloud, make_cloud, split
from mkfa.similarity.score import make_plan, measured, score
from mkfa.stats.p_values import p_value


def bank_of(weight: np.ndarray, layers: int = 2, name: str = "b") -> FilterBank:
    parts = np.array_split(weight.astype(np.float32), layers)
    table = [(Layer(0, f"l{i}", i, 0, 0, 0, 0, (1, 1), (1, 1)), part, None) for i, part in enumerate(parts)]
    return make_bank(name, table, Provenance())


def side(cloud: Cloud, rows: np.ndarray, plan: Plan) -> Side:
    return Side(None, cloud, np.sort(rows), take(cloud, rows, plan))  # type: ignore[arg-type]


def structured(n: int, k: int, rng: np.random.Generator) -> np.ndarray:
    """Filters with skewed taps, so that shuffling is not the same as normal noise."""
    return rng.gamma(0.5, size=(n, k, k)).astype(np.float32)


def covariances(name: str = "efficientnet_lite0", size: int = 5) -> list[np.ndarray]:
    """Return for each layer of a bundled bank the covariance of normal filters with its second moment; it is steep."""
    cloud = make_cloud(mkfa.load_bank(name), Kind(size, size))
    filters = cloud.vector.reshape(-1, size, size)
    return [sphere_covariance(tap_covariance(filters[cloud.layer == i])) for i in range(len(cloud.layers))]


def side_p_values(null: str, seeds: int, m: int, size: int = 3) -> np.ndarray:
    """Return p-values (seeds, 2, M) of pairs of banks that are draws of the null."""
    out = []
    layers = covariances()
    for seed in range(seeds):
        rng = np.random.default_rng([7, seed])
        if null == "covariance":
            both = [[sample_covariance(np.mean(layers, axis=0), 32, rng) for _ in range(8)] for _ in "ab"]
        elif null == "covariance-layer":
            both = [[sample_covariance(layers[rng.integers(9)], 64, rng) for _ in range(8)] for _ in "ab"]
        else:
            both = [np.split(draw_null(null, structured(60, size, rng), rng), 2) for _ in "ab"]
        k = int(both[0][0][0].size ** 0.5)
        n = len(both[0]) * 12
        banks = [bank_of(np.concatenate(x).reshape(-1, k, k), layers=len(x)) for x in both]
        clouds = [make_cloud(bank, Kind(k, k)) for bank in banks]
        plan = make_plan((k, k), SAMPLED_MEASURES, threshold=0.85, bandwidth=0.25, rng=rng)
        a, b = (side(c, split(c, n, rng)[0], plan) for c in clouds)
        observed = score(a.sample, b.sample).values[0]
        draws = draw_against(NULLS[null], (a, b), m=m, seed=seed, advance=lambda _: None).values
        alike = np.array([MEASURES[name].alike_is_more for name in plan.measures])
        high, low = p_value(observed, draws, larger=True), p_value(observed, draws, larger=False)
        out.append(np.where(alike, high, low))
    return np.array(out)


@pytest.mark.slow
@pytest.mark.parametrize("null", ["gaussian", "shuffled", "blurred"])
def test_two_null_banks_give_uniform_p(null: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(mkfa.similarity.replacement, "BATCH", 30)
    m = 39
    p = side_p_values(null, 200, m)
    jitter = np.random.default_rng(0).uniform(0, 1 / (m + 1), p.shape)  # a rank among m + 1 is uniform on a grid
    for i, name in enumerate(SAMPLED_MEASURES):
        if name == "coverage_at":
            continue  # a share of 48 filters has ties: conservative, tested below
        for side in (0, 1):
            test = scipy.stats.kstest(p[:, side, i] - jitter[:, side, i], "uniform")
            assert test.pvalue > 1e-3, (name, side, test)
    larger = p.max(axis=1)  # what is reported: valid at every level, conservative
    for level in (0.05, 0.1, 0.25, 0.5):
        rejected = (larger <= level).sum(axis=0)
        assert (scipy.stats.binom.sf(rejected - 1, 200, level) > 1e-4).all(), (level, rejected)


def test_one_bank_stays_where_the_other_is_replaced():
    """Two unlike structured banks are farther apart than two null banks, so that replacing both would tell nothing."""
    rng = np.random.default_rng(0)
    raw = [rng.standard_normal((200, 25)) for _ in range(2)]
    raw[0][:, :5] *= 4
    raw[1][:, :5] *= 3
    clouds = tuple(make_cloud(bank_of(x.reshape(-1, 5, 5)), Kind(5, 5)) for x in raw)
    nulls = [make_cloud(bank_of(rng.standard_normal((200, 5, 5))), Kind(5, 5)) for _ in range(2)]
    plan = make_plan((5, 5), ("energy",), threshold=0.9, bandwidth=0.25, rng=rng)
    a, b = (side(c, np.arange(200), plan) for c in clouds)
    drawn = draw_against(NULLS["gaussian"], (a, b), m=19, seed=0, advance=lambda _: None)
    observed = measured(Pair(a.sample, b.sample), "energy")[0]
    assert (
        measured(Pair(*(side(c, np.arange(200), plan).sample for c in nulls)), "energy")[0]
        < observed
        < drawn.values.min()
    )


def test_draws_do_not_depend_on_processors_or_batches(monkeypatch: pytest.MonkeyPatch):
    rng = np.random.default_rng(0)
    clouds = tuple(make_cloud(bank_of(structured(60, 3, rng)), Kind(3, 3)) for _ in range(2))
    plan = make_plan((3, 3), ("coverage", "energy"), threshold=0.9, bandwidth=0.25, rng=rng)
    a, b = (side(c, split(c, 20, rng)[0], plan) for c in clouds)
    found = []
    for processors, batch in ((1, 1), (2, 4), (3, 7)):
        monkeypatch.setattr(mkfa.threads, "cores", lambda processors=processors: processors)
        monkeypatch.setattr(mkfa.similarity.replacement, "BATCH", batch)
        seen: list[float] = []
        found.append(draw_against(NULLS["shuffled"], (a, b), m=10, seed=3, advance=seen.append))
        assert sum(seen) == 10
    for other in found[1:]:
        np.testing.assert_allclose(other.values, found[0].values, atol=1e-6)
        np.testing.assert_allclose(other.curve, found[0].curve, atol=1e-6)


@pytest.mark.parametrize(("null", "seeds"), [("covariance", 30), ("covariance-layer", 20)])
def test_noise_of_a_trained_banks_covariance_is_no_closer_than_chance(null: str, seeds: int):
    """Neither by measures of single patterns nor by those of second moments, although the moment is estimated."""
    rejected = (side_p_values(null, seeds, 19).max(axis=1) <= 0.05).sum(axis=0)
    assert (scipy.stats.binom.sf(rejected - 1, seeds, 0.05) > 1e-3).all(), dict(
        zip(SAMPLED_MEASURES, rejected, strict=True)
    )


@pytest.mark.parametrize("null", ["blurred", "covariance", "covariance-layer"])
def test_banks_are_replaced_by_draws_of_the_null(null: str):
    """What replaces a bank in a comparison has the second moment of what other verbs draw, from the same layers."""
    cloud = make_cloud(mkfa.load_bank("efficientnet_lite0"), Kind(5, 5))
    rows = np.sort(split(cloud, 192, np.random.default_rng(0))[0])
    sizes = np.bincount(cloud.layer)
    seen: list[np.ndarray] = []

    def moment(a: np.ndarray, b: np.ndarray) -> float:
        seen.append(b.T @ b / len(b))
        return 0.0

    mkfa.register(mkfa.Measure("moment", "", moment, by_layer=False))
    try:
        plan = make_plan((5, 5), ("moment",), threshold=0.9, bandwidth=0.25, rng=np.random.default_rng(0))
        a = b = side(cloud, rows, plan)
        draw_against(NULLS[null], (a, b), m=150, seed=0, advance=lambda _: None)
    finally:
        MEASURES.unregister("moment")
    mine = np.mean([m for m in seen if not np.allclose(m, b.sample.moment[0])], axis=0)
    even = np.concatenate([np.flatnonzero(cloud.layer == i)[np.arange(4000) % n] for i, n in enumerate(sizes)])
    direct = tap_covariance(draw_null(null, cloud.vector[even].reshape(-1, 5, 5), np.random.default_rng(1)))
    np.testing.assert_allclose(np.linalg.eigvalsh(mine)[-3:], np.linalg.eigvalsh(direct)[-3:], rtol=0.06)


@pytest.mark.parametrize("exponent", [-70, 66])
def test_shuffled_filters_do_not_depend_on_their_scale(exponent: int):
    """Powers of two whose squares leave float32 give the very draws of filters of ordinary size."""
    rng = np.random.default_rng(0)
    weight = structured(40, 3, rng)
    found = []
    for scale in (1.0, 2.0**exponent):
        clouds = [make_cloud(bank_of(weight[part] * scale), Kind(3, 3)) for part in (slice(0, 20), slice(20, 40))]
        plan = make_plan((3, 3), ("coverage", "mmd"), threshold=0.85, bandwidth=0.25, rng=np.random.default_rng(1))
        a, b = (side(c, np.arange(20), plan) for c in clouds)
        found.append(draw_against(NULLS["shuffled"], (a, b), m=5, seed=0, advance=lambda _: None).values)
    assert np.allclose(*found, atol=1e-6)
