"""The atlas finds planted clusters, places them by bank and depth, and records what made it."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score

from mkfa.banks.bank import Layer, Provenance, make_bank
from mkfa.banks.canonical import normalise
from mkfa.clusters.atlas import CLASS_GROUPS, CLASSES, build_atlas
from mkfa.errors import MkfaError
from mkfa.patterns.families import FAMILIES
from mkfa.patterns.named_sets import named_set
from mkfa.storage.result_files import read_arrays


def bank_of(owners, pattern, *, name="made", seed=0):
    """Return a bank with one layer per array of owners: noisy patterns with random gain, offset and sign."""
    rng = np.random.default_rng(seed)
    layers = []
    for i, owner in enumerate(owners):
        raw = pattern[owner] * rng.choice([-1, 1], (len(owner), 1)) + 0.06 * rng.standard_normal((len(owner), 25))
        raw = raw * rng.uniform(0.5, 2, (len(owner), 1)) + rng.standard_normal((len(owner), 1))
        layers.append((Layer(0, f"l{i}", -1, 0.0, 1, 5, 5), raw.reshape(-1, 5, 5).astype(np.float32), None))
    return make_bank(name, layers, Provenance())


def three_patterns():
    return named_set("eight", 5, 5).patterns[[4, 5, 7]].reshape(3, 25)


@pytest.fixture(scope="module")
def made():
    """Bank a has pattern 0 in its first layer and 1 in its last; bank b has only pattern 2."""
    pattern = three_patterns()
    owners = [np.zeros(80, int), np.ones(60, int)], [np.full(50, 2), np.full(50, 2)]
    banks = [bank_of(o, pattern, name=n, seed=i) for i, (o, n) in enumerate(zip(owners, "ab", strict=True))]
    return build_atlas(banks, clusters=3, seed=0), np.concatenate([*owners[0], *owners[1]])


def test_shares_say_where_each_planted_pattern_is(made):
    atlas, owner = made
    assert adjusted_rand_score(owner, atlas.clusters.label) > 0.99
    of = {p: int(np.bincount(atlas.clusters.label[owner == p]).argmax()) for p in range(3)}
    assert np.allclose(atlas.bank_share[:, of[2]], [0, 1])
    assert np.allclose(atlas.bank_share[:, of[0]], [80 / 140, 0])
    assert np.allclose(atlas.third_share[:, of[0]], [80 / 130, np.nan, 0], equal_nan=True)
    assert atlas.layer_rows.tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert np.allclose(atlas.layer_share[:, of[1]], [0, 1, 0, 0])
    assert np.allclose(np.nansum(atlas.class_share, axis=1), 1)


def test_classes_name_the_planted_families(made):
    atlas, owner = made
    for pattern, name in enumerate(("central d/dx", "central d/dy", "blob")):
        assert (atlas.filter_class[owner == pattern] == CLASSES.index(name)).mean() > 0.75
        j = int(np.bincount(atlas.clusters.label[owner == pattern]).argmax())
        assert atlas.class_share[j, CLASSES.index(name)] > 0.75
    assert atlas.prototype_r2.min() > 0.95


def test_every_family_has_a_colour_group():
    grouped = [name for _, members in CLASS_GROUPS for name in members]
    assert sorted(grouped) == sorted({f.name for f in FAMILIES})


def test_planted_clusters_recur_and_a_null_cloud_less():
    eight = np.linalg.qr(np.random.default_rng(0).standard_normal((25, 25)))[0][:8]
    stable = build_atlas([bank_of([np.arange(320) % 8], eight)], clusters=8).stability
    assert stable.seeds.min() == pytest.approx(1)
    assert stable.recurrence.min() > 0.95
    assert stable.null_seeds.mean() < 0.95
    assert len(stable.seeds) == stable.refits * (stable.refits - 1) // 2


def test_clusters_too_many_for_a_half_recur_less():
    atlas = build_atlas([bank_of([np.arange(150) % 3], three_patterns())], clusters=9)
    assert atlas.stability.recurrence.min() < 0.75


def test_written_atlas_is_the_atlas(made, tmp_path):
    atlas = made[0]
    atlas.save(tmp_path / "a.h5")
    arrays, attributes = read_arrays(tmp_path / "a.h5", kind="atlas")
    assert np.array_equal(arrays["prototype"].reshape(3, 25), atlas.clusters.prototype)
    assert np.array_equal(arrays["filters/cluster"], atlas.clusters.label)
    assert np.array_equal(arrays["choice/gap"], atlas.choice.criteria.gap)
    assert [c.decode() if isinstance(c, bytes) else c for c in arrays["prototype_class"]] == list(atlas.prototype_class)
    assert attributes["clusters"] == 3
    assert attributes["banks"] == {"a": 140, "b": 100}
    assert "map/position" not in arrays


def test_same_seed_same_atlas(made):
    pattern = three_patterns()
    banks = [
        bank_of([np.zeros(80, int), np.ones(60, int)], pattern, name="a"),
        bank_of([np.full(50, 2), np.full(50, 2)], pattern, name="b", seed=1),
    ]
    again = build_atlas(banks, clusters=3, seed=0)
    assert again == made[0]
    assert pickle.loads(pickle.dumps(again)) == again


def test_large_pools_are_fitted_on_a_sample_and_assigned_whole(monkeypatch):
    monkeypatch.setattr("mkfa.clusters.atlas._FIT_MOST", 60)
    owner = np.arange(240) % 3
    atlas = build_atlas([bank_of([owner], three_patterns())], clusters=3, sample=50)
    assert len(atlas.clusters.label) == 240
    assert adjusted_rand_score(owner, atlas.clusters.label) > 0.98
    assert (atlas.choice.sample, len(atlas.density_row)) == (50, 50)


@pytest.mark.slow
def test_the_whole_way_with_a_map():
    rng = np.random.default_rng(0)
    pattern = normalise(rng.standard_normal((4, 25)).astype(np.float32))[0]
    atlas = build_atlas([bank_of([rng.integers(4, size=200)], pattern)], seed=1, with_map=True)
    assert (atlas.choice.verdict, atlas.choice.clusters) == ("clusters", 4)
    assert atlas.map is not None
    assert atlas.map.position.shape == (200, 2)
    assert np.array_equal(atlas.map.row, np.arange(200))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"clusters": 0}, "clusters: 0 clusters are too few; give at least 1"),
        ({"clusters": 31}, "clusters: 31 clusters of 60 filters cannot be judged on halves; choose 1 to 30"),
        ({"clusters": 31}, "choose 1 to 30"),
        ({"sample": 5}, "sample: 5 filters are too few"),
        ({"draws": 18}, "draws: 18 null clouds are too few: p cannot reach 0.05; give at least 19"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(options, says):
    with pytest.raises(MkfaError, match=says):
        build_atlas([bank_of([np.zeros(60, int)], three_patterns())], **options)


def test_too_few_filters_are_refused():
    with pytest.raises(MkfaError, match="too few for an atlas"):
        build_atlas([bank_of([np.zeros(9, int)], three_patterns())])
