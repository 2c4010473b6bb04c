"""Chance is calibrated: a bank that is itself a null bank gets uniform p-values."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

import mkfa.similarity.replacement
import mkfa.threads
from mkfa.banks.bank import FilterBank, Kind, Layer, Provenance, make_bank
from mkfa.nulls.covariance import tap_covariance
from mkfa.nulls.draws import NULLS, draw_null
from mkfa.similarity.measures.table import DEFAULT_MEASURES, MEASURES
from mkfa.similarity.replacement import Side, draw_against
from mkfa.similarity.samples import Cloud, make_cloud, split
from mkfa.similarity.score import Pair, Plan, make_plan, score, take
from mkfa.stats.p_values import p_value


def bank_of(weight: np.ndarray, layers: int = 2, name: str = "b") -> FilterBank:
    parts = np.array_split(weight.astype(np.float32), layers)
    table = [(Layer(0, f"l{i}", i, 0, 0, 0, 0, (1, 1), (1, 1)), part, None) for i, part in enumerate(parts)]
    return make_bank(name, table, Provenance())


def side(cloud: Cloud, rows: np.ndarray, plan: Plan) -> Side:
    return Side(None, cloud, take(cloud, rows, plan))  # type: ignore[arg-type]


def structured(n: int, k: int, rng: np.random.Generator) -> np.ndarray:
    """Filters with skewed taps, so that shuffling is not the same as normal noise."""
    return rng.gamma(0.5, size=(n, k, k)).astype(np.float32)


def side_p_values(null: str, seeds: int, m: int, size: int = 3) -> np.ndarray:
    """Return p-values (seeds, 2, M) of pairs of banks that are draws of the null."""
    out = []
    for seed in range(seeds):
        rng = np.random.default_rng([7, seed])
        count = 600 if null == "covariance" else 60
        shapes = [structured(count, size, rng) for _ in range(2)]
        clouds = [make_cloud(bank_of(draw_null(null, s, rng)), Kind(size, size)) for s in shapes]
        plan = make_plan((size, size), DEFAULT_MEASURES, threshold=0.85, bandwidth=0.25, rng=rng)
        a, b = (side(c, split(c, 24, rng)[0], plan) for c in clouds)
        observed = score(a.sample, b.sample).values[0]
        draws = draw_against(NULLS[null], (a, b), m=m, seed=seed, advance=lambda _: None).values
        alike = np.array([MEASURES[name].alike_is_more for name in plan.measures])
        high, low = p_value(observed, draws, larger=True), p_value(observed, draws, larger=False)
        out.append(np.where(alike, high, low))
    return np.array(out)


@pytest.mark.slow
@pytest.mark.parametrize("null", ["gaussian", "shuffled", "blurred", "covariance"])
def test_two_null_banks_give_uniform_p(null: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(mkfa.similarity.replacement, "BATCH", 30)
    m = 39
    p = side_p_values(null, 200, m)
    jitter = np.random.default_rng(0).uniform(0, 1 / (m + 1), p.shape)  # a rank among m + 1 is uniform on a grid
    for i, name in enumerate(DEFAULT_MEASURES):
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
    observed = Pair(a.sample, b.sample).energy[0]
    assert Pair(*(side(c, np.arange(200), plan).sample for c in nulls)).energy[0] < observed < drawn.values.min()


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


@pytest.mark.parametrize("null", ["blurred", "covariance"])
def test_roots_draw_the_same_distribution_as_the_null(null: str):
    rng = np.random.default_rng(0)
    weight = structured(500, 5, rng)
    weight += 2 * weight[:, ::-1]
    make_root = NULLS[null].root
    assert make_root is not None
    root = make_root(weight)
    n = 40_000
    direct = tap_covariance(draw_null(null, np.repeat(weight, n // 500, axis=0), rng))
    mine = tap_covariance((rng.standard_normal((n, 25)).astype(np.float32) @ root.T).reshape(n, 5, 5))
    np.testing.assert_allclose(mine, direct, atol=0.004)
    assert np.abs(direct).max() > 0.04


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
