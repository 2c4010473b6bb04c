"""Many pairs at once, layer pairs and null filters; tests/similarity/test_measures.py tests each measure."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mkfa.banks.canonical import normalise
from mkfa.errors import UnknownNameError
from mkfa.similarity.measures.table import SAMPLED_MEASURES, choose
from mkfa.similarity.pairs import Pair, Plan, Sample, null_sample
from mkfa.similarity.score import make_plan, measured, score


def plan_for(size: tuple[int, int] = (3, 3), chosen: tuple[str, ...] = SAMPLED_MEASURES) -> Plan:
    return make_plan(size, chosen, threshold=0.8, bandwidth=0.3, rng=np.random.default_rng(0))


def sample(sizes: list[int], seed: int, depth: int = 1, size: tuple[int, int] = (3, 3)) -> Sample:
    rng = np.random.default_rng(seed)
    n, k = sum(sizes), size[0] * size[1]
    weight = (rng.standard_normal((depth, n, k)) + rng.standard_normal((depth, n, 1))).astype(np.float32)
    flat = [normalise(w) for w in weight]
    vector = np.stack([f[0] for f in flat])
    layer = np.repeat(np.arange(len(sizes)), sizes)
    return Sample(vector, layer, len(sizes), plan_for(size), drawn=depth > 1)


def test_a_batch_is_its_members():
    a, many = sample([40, 30], 1), sample([35, 35], 2, depth=5)
    whole = score(a, many)
    turned = score(many, a)
    for d in range(5):
        single = replace(many, vector=many.vector[d : d + 1])
        part = score(a, single)
        np.testing.assert_allclose(whole.values[d], part.values[0], atol=1e-5)
        np.testing.assert_allclose(whole.layers[d], part.layers[0], atol=1e-5)
        np.testing.assert_allclose(turned.values[d], part.values[0], atol=1e-4)
        np.testing.assert_allclose(turned.layers[d], part.layers[0].swapaxes(1, 2), atol=1e-5)


def only(full: Sample, layer: int) -> Sample:
    keep = full.layer == layer
    return replace(full, vector=full.vector[:, keep], layer=full.layer[keep])


def test_layer_pairs_are_the_measures_of_the_layers():
    a, b = sample([12, 5, 9], 3), sample([4, 20], 4)
    found = score(a, b).layers[0]
    for i in range(3):
        for j in range(2):
            alone = Pair(only(a, i), only(b, j))
            wanted = measured(alone, "coverage")[0], measured(alone, "mmd")[0], measured(alone, "energy")[0]
            np.testing.assert_allclose(found[:, i, j], wanted, atol=1e-5)


def test_layers_that_are_absent_or_single_are_nan_not_numbers():
    full = sample([12, 5, 9], 3)
    keep = full.layer != 1
    a = replace(full, vector=full.vector[:, keep], layer=full.layer[keep])
    found = score(a, sample([1, 20], 4)).layers[0]
    assert np.isnan(found[:, 1]).all()
    assert np.isnan(found[1:, :, 0]).all()  # one filter has no pair within its layer
    assert np.isfinite(found[0, [0, 2]]).all() and np.isfinite(found[:, [0, 2], 1]).all()


def test_only_what_is_asked_for_is_computed():
    a, b = sample([30, 20], 1), sample([25, 25], 2)
    everything = dict(zip(SAMPLED_MEASURES, score(a, b).values[0], strict=True))
    for name in SAMPLED_MEASURES:
        a, b = sample([30, 20], 1), sample([25, 25], 2)
        found = score(a, b, measures=[name])
        assert found.values.shape == (1, 1)
        assert found.values[0, 0] == pytest.approx(everything[name], abs=1e-6)
    assert not {"moment", "gram", "within", "slices"} & set(vars(sample([3, 3], 1)))
    a, b = sample([30, 20], 1), sample([25, 25], 2)
    score(a, b, measures=["coverage"])
    assert not {"moment", "gram", "within", "slices"} & set(vars(a))


def test_null_filters_are_canonical_and_flat_ones_replace_nothing():
    a = sample([10, 10], 1)
    drawn = np.random.default_rng(0).standard_normal((3, 20, 9)).astype(np.float32)
    drawn[1, 4] = 7.0  # flat: no shape to take
    null = null_sample(a, drawn)
    np.testing.assert_allclose(null.vector.mean(axis=2), 0, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(null.vector, axis=2), 1, rtol=1e-5)
    np.testing.assert_allclose(null.vector[1, 4], a.vector[0, 4])
    np.testing.assert_allclose(null.vector[0], normalise(drawn[0])[0], atol=1e-5)


def test_names_of_measures_are_checked_and_moments_expand():
    assert choose(("moments", "coverage")) == ("coverage", "bures", "frobenius", "angles")
    with pytest.raises(UnknownNameError, match="did you mean energy"):
        choose(("enrgy",))
