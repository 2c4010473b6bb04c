"""Key filters: planted ones are found exactly, a null library has none."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from mkfa.banks.bank import Layer, Provenance, make_bank
from mkfa.banks.canonical import normalise
from mkfa.clusters.count import null_clouds
from mkfa.clusters.keys import COVERED, Curve, choose_count, elimination_order, find_keys
from mkfa.clusters.lines import assign_lines
from mkfa.errors import MkfaError
from mkfa.storage.result_files import read_arrays


def patterns(k, seed=0):
    return normalise(np.random.default_rng(seed).standard_normal((k, 25)).astype(np.float32))[0]


def planted_bank(k, n=800, *, noise=0.3, seed=0):
    """Return a bank of two layers whose filters are k patterns with random gain, offset and sign, and noise."""
    rng = np.random.default_rng((seed, 1))
    raw = patterns(k, seed)[rng.integers(k, size=n)] + noise / 5 * rng.standard_normal((n, 25))
    raw = raw * rng.choice([-1, 1], (n, 1)) * rng.uniform(0.5, 2, (n, 1)) + 0.3 * rng.standard_normal((n, 1))
    return bank_of(raw)


def bank_of(raw, name="planted"):
    weight = np.asarray(raw, np.float32).reshape(2, -1, 5, 5)
    return make_bank(name, [(Layer(0, f"l{i}", -1, 0.0, 1, 5, 5), w, None) for i, w in enumerate(weight)], Provenance())


@pytest.mark.parametrize("k", [4, 9])
def test_planted_keys_are_found_exactly(k):
    keys = find_keys([planted_bank(k)], most=14, candidates=40, draws=19)
    assert keys.chosen == "elbow"
    assert len(keys.clusters.prototype) == k
    assert np.abs(keys.clusters.prototype @ patterns(k).T).max(axis=0).min() > 0.99
    assert keys.p == pytest.approx(0.05)
    assert keys.coverage > 0.99
    assert keys.curve.lead.argmax() == k - 1
    assert np.all(keys.curve.cross_r2[1:] <= keys.curve.null_r2[1:] + 0.02)


def test_a_null_library_has_no_keys():
    planted_filters = normalise(planted_bank(6).groups[5, 5].weight.reshape(-1, 25))[0]
    cloud = null_clouds(planted_filters)(np.random.default_rng(2))
    keys = find_keys([bank_of(cloud)], most=8, candidates=20, draws=19)
    assert (keys.chosen, len(keys.clusters.prototype)) == ("none", 1)
    assert keys.p > 0.05
    assert np.abs(keys.curve.lead).max() < 0.03


def test_greedy_elimination_is_that_of_the_definition():
    r2 = np.random.default_rng(0).random((50, 7)).astype(np.float32)
    alive, expected = list(range(7)), []
    while len(alive) > 1:
        gone = max(alive, key=lambda j: r2[:, [i for i in alive if i != j]].max(axis=1).astype(np.float64).sum())
        alive.remove(gone)
        expected.append(gone)
    assert elimination_order(r2).tolist() == [*expected, *alive]


def test_elimination_keeps_the_best_pair_where_greed_can_find_it():
    # two candidates explain all, four others nothing that they do not
    r2 = np.full((40, 6), 0.1, np.float32)
    r2[:20, 2], r2[20:, 4] = 1, 1
    kept = elimination_order(r2)[-2:]
    assert set(kept.tolist()) == {2, 4}
    best = max(itertools.combinations(range(6), 2), key=lambda pair: r2[:, pair].max(axis=1).sum())
    assert set(best) == {2, 4}


def test_the_number_is_where_the_lead_is_nearly_the_largest():
    flat = np.zeros(5)
    real, null = np.array([0.2, 0.5, 0.70, 0.72, 0.74]), np.array([0.2, 0.3, 0.40, 0.42, 0.45])
    curve = Curve(real, flat, null, flat, flat, flat)
    assert choose_count(curve, 0.05, nulls=19)[:2] == (3, "elbow")
    assert choose_count(curve, 0.3, nulls=19)[:2] == (1, "none")
    assert choose_count(curve, 0.05, nulls=19, count=5)[:2] == (5, "given")


def test_all_filters_are_measured_though_keys_are_found_on_a_sample(tmp_path):
    keys = find_keys([planted_bank(3)], most=4, candidates=10, sample=100, keys=3, seed=4)
    assert (keys.sample, len(keys.clusters.label)) == (100, 800)
    r2 = np.square(assign_lines(keys.pool.vector, keys.clusters.prototype)[1])
    assert keys.clusters.energy == pytest.approx(float(r2.mean()), rel=1e-5)
    assert keys.coverage == pytest.approx(float((r2 >= COVERED).mean()))
    keys.save(tmp_path / "k.h5")
    arrays, attributes = read_arrays(tmp_path / "k.h5", kind="keys")
    assert np.array_equal(arrays["key"].reshape(3, 25), keys.clusters.prototype)
    assert np.array_equal(arrays["filters/key"], keys.clusters.label)
    assert attributes["seed"] == 4
    assert attributes["match"] == keys.to_dict()["match"]


def test_gain_offset_and_sign_of_the_filters_do_not_matter():
    bank = planted_bank(3, 200)
    weight = bank.groups[5, 5].weight
    other = bank_of(-7 * weight + 5)
    one, two = (find_keys([b], most=4, candidates=10, keys=3) for b in (bank, other))
    assert np.abs(one.clusters.prototype @ two.clusters.prototype.T).max(axis=1).min() > 0.999


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            {"keys": 50, "candidates": 10},
            r"keys: 50 keys are out of reach; choose 1 to 10 \(at most half as many as .* or as candidates: 10\)",
        ),
        ({"sample": 3}, "sample: 3 filters are too few"),
        ({"draws": 5}, "draws: 5 null libraries are too few: p cannot reach 0.05; give at least 19"),
        ({"nulls": 18, "keys": 3}, "draws: 18 null libraries are too few"),
        ({"most": 0}, "most"),
        ({"candidates": 0}, "candidates: 0 prototypes are too few"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(options, says):
    with pytest.raises(MkfaError, match=says):
        find_keys([planted_bank(3, 100)], **options)


@pytest.mark.parametrize("size", [(1, 5), (11, 1)])
def test_kernels_of_one_row_or_column_have_keys_beside_the_patterns_that_fit_in(size, tmp_path):
    rng = np.random.default_rng(0)
    layers = [(Layer(0, f"l{i}", -1, 0.0, 1, *size), rng.standard_normal((30, *size)), None) for i in range(2)]
    layers = [(layer, weight.astype(np.float32), bias) for layer, weight, bias in layers]
    keys = find_keys([make_bank("strips", layers, Provenance())], keys=2, candidates=10)
    along = "x" if size[0] == 1 else "y"
    assert len(keys.match.labels) == 5 and all(
        "d/d" not in label or f"d/d{along}" in label for label in keys.match.labels
    )
    assert "5 patterns of 'eight' that kernels of one row or column can have (not " in keys.match.shapes_in_words()
    keys.save(tmp_path / "keys.json")


def test_too_few_filters_are_refused():
    with pytest.raises(MkfaError, match="too few for keys"):
        find_keys([planted_bank(3, 10)])


def test_a_fine_tuned_copy_changes_no_key():
    """Keys of a bank and its copy are those of the bank alone; the copy's filters get their keys all the same."""
    bank = planted_bank(3, 200)
    copy = bank_of(2 * bank.groups[5, 5].weight + 0.01, "copy")
    one, two = (find_keys(banks, most=4, candidates=10, keys=3) for banks in ([bank], [bank, copy]))
    assert two.pool.families == (("planted", "copy"),)
    assert np.array_equal(one.clusters.prototype, two.clusters.prototype) and one.p == two.p
    assert (one.clusters.energy, one.coverage) == (two.clusters.energy, two.coverage)
    assert np.array_equal(two.clusters.label[:200], two.clusters.label[200:])
    assert [r["share"] for r in one.rows()] == [r["share"] for r in two.rows()]


def test_null_libraries_of_another_null_stand_under_its_name():
    options = {"kernel_size": "5x5", "keys": 2, "most": 3, "candidates": 6, "sample": 80}
    usual, layered = (find_keys([planted_bank(6)], null=null, **options) for null in ("covariance", "covariance-layer"))
    assert usual.to_dict()["null"] == "covariance" and layered.to_dict()["null"] == "covariance-layer"
    assert np.array_equal(usual.clusters.prototype, layered.clusters.prototype)
    assert not np.array_equal(usual.curve.null_r2, layered.curve.null_r2)
    assert set(layered.to_dict()["match"]["one_to_one"]) >= {"blurred", "covariance-layer"}
    smooth = find_keys([planted_bank(6)], null="blurred", **options)
    assert set(smooth.to_dict()["match"]["one_to_one"]) >= {"blurred", "blurred-keys"}
