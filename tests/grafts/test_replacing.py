"""a f + b is the least-squares fit of the nearest filter."""

from __future__ import annotations

import numpy as np

from mkfa.banks.canonical import normalise
from mkfa.grafts.replacing import fit_layer, usable_by_layer


def test_gain_offset_and_choice_are_those_of_least_squares():
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((40, 5, 5)).astype(np.float32) + 0.3
    vocabulary = normalise(rng.standard_normal((7, 25)).astype(np.float32))[0]
    fit = fit_layer(weight, np.ones(40, bool), vocabulary)
    made = fit.weight()
    for i, w in enumerate(weight.reshape(40, -1).astype(np.float64)):
        errors, fitted = [], []
        for f in vocabulary.astype(np.float64):
            design = np.stack([f, np.ones(25)], 1)
            solution, *_ = np.linalg.lstsq(design, w, rcond=None)
            fitted.append(design @ solution)
            errors.append(np.square(w - fitted[-1]).sum())
        best = int(np.argmin(errors))
        assert fit.chosen[i] == best
        np.testing.assert_allclose(made[i].ravel(), fitted[best], atol=1e-5)
        centred = w - w.mean()
        assert abs(fit.cosine[i] - np.sqrt(1 - errors[best] / np.square(centred).sum())) < 1e-5


def test_filters_of_the_vocabulary_are_found_again_with_their_sign_and_offset():
    rng = np.random.default_rng(1)
    vocabulary = normalise(rng.standard_normal((50, 9)).astype(np.float32))[0]
    rows = rng.permutation(50)[:20]
    gain = rng.choice([-1, 1], 20) * 10.0 ** rng.uniform(-3, 3, 20)
    weight = (gain[:, None] * vocabulary[rows] + rng.standard_normal((20, 1)) * abs(gain[:, None])).astype(np.float32)
    fit = fit_layer(weight.reshape(20, 3, 3), np.ones(20, bool), vocabulary)
    assert fit.chosen.tolist() == rows.tolist()
    np.testing.assert_allclose(fit.weight().reshape(20, 9), weight, rtol=1e-5, atol=1e-6 * abs(gain).max())


def test_dead_and_flat_filters_stay(bank_maker):
    bank = bank_maker(((6, 3, 3),))
    weight = bank.of_layer(0).weight
    weight.flags.writeable = True
    weight[1], weight[4] = 0, 0.5
    usable = usable_by_layer(bank)[0]
    assert usable.tolist() == [True, False, True, True, False, True]
    vocabulary = normalise(np.random.default_rng(5).standard_normal((3, 9)).astype(np.float32))[0]
    fit = fit_layer(weight, usable, vocabulary)
    made = fit.weight()
    assert np.array_equal(made[[1, 4]], weight[[1, 4]]) and fit.chosen[[1, 4]].tolist() == [-1, -1]
    assert not np.allclose(made[0], weight[0])


def test_a_threshold_replaces_only_filters_that_are_near_enough():
    rng = np.random.default_rng(2)
    weight = rng.standard_normal((30, 3, 3)).astype(np.float32)
    fit = fit_layer(weight, np.ones(30, bool), normalise(rng.standard_normal((4, 9)).astype(np.float32))[0])
    near = fit.cosine >= 0.6
    assert 0 < near.sum() < 30
    made = fit.weight(0.6)
    assert np.array_equal(made[~near], weight[~near]) and np.array_equal(made[near], fit.weight()[near])
