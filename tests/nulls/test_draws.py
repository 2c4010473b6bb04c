"""Nulls keep what they say they keep and destroy the rest."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage, stats

from mkfa.banks.bank import Layer, Provenance, make_bank
from mkfa.banks.canonical import normalise
from mkfa.errors import MkfaError, UnknownNameError
from mkfa.nulls.covariance import tap_covariance
from mkfa.nulls.draws import DEFAULT_NULLS, NULLS, Null, draw_null
from mkfa.nulls.untrained import init_bank


def smooth_filters(n, k, seed):
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((n, k + 8, k + 8))
    return ndimage.gaussian_filter(noise, (0, 1.2, 0.6))[:, 4:-4, 4:-4].astype(np.float32)


@pytest.mark.parametrize("null", DEFAULT_NULLS)
def test_same_seed_same_draw_and_another_seed_another(null):
    weight = smooth_filters(50, 5, 0)
    first, again, other = (draw_null(null, weight, np.random.default_rng(s)) for s in (1, 1, 2))
    assert first.shape == weight.shape
    assert first.dtype == np.float32
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_shuffled_keeps_each_filters_values_and_not_their_places():
    weight = smooth_filters(200, 5, 0)
    drawn = draw_null("shuffled", weight, np.random.default_rng(0))
    assert np.array_equal(np.sort(drawn.reshape(200, -1)), np.sort(weight.reshape(200, -1)))
    assert (drawn != weight).mean() > 0.9


def test_covariance_is_that_of_the_canonical_filters_and_their_negatives():
    weight = smooth_filters(4000, 5, 0)
    vector = normalise(weight.reshape(4000, -1))[0]
    assert np.allclose(tap_covariance(weight), np.cov(np.vstack([vector, -vector]).T, bias=True), atol=1e-6)


def test_blurred_has_the_correlation_of_a_smoothed_field():
    drawn = draw_null("blurred", np.zeros((20000, 5, 5), np.float32), np.random.default_rng(0))
    assert np.allclose(drawn.std(axis=0), drawn.std(), rtol=0.03)  # stationary: no border effect
    near = np.corrcoef(drawn[:, 2, 2], drawn[:, 2, 3])[0, 1]
    # two taps one pixel apart: T(1; 2t) / T(0; 2t), the semigroup property of the discrete Gaussian, t = 1
    from scipy.special import ive

    assert near == pytest.approx(ive(1, 2.0) / ive(0, 2.0), abs=0.02)


def test_gaussian_taps_are_independent_and_normal():
    drawn = draw_null("gaussian", np.zeros((3000, 3, 3), np.float32), np.random.default_rng(5)).reshape(-1, 9)
    assert stats.kstest(drawn.ravel(), "norm").pvalue > 0.01
    assert np.abs(np.corrcoef(drawn.T) - np.eye(9)).max() < 0.1


def test_a_root_is_the_only_way_such_a_null_is_drawn():
    """`draw` beside `root` would be a second implementation of one distribution."""
    null = Null("two", "", draw=lambda weight, rng: np.full_like(weight, np.nan), root=lambda weight: 2 * np.eye(9))
    drawn = null.sample(np.zeros((4000, 3, 3), np.float32), np.random.default_rng(0))
    assert drawn.std() == pytest.approx(2, rel=0.02)


def test_nulls_are_given_all_filters_their_layers_and_the_rows_they_replace():
    seen = []

    def fit(weight, layer, rows):
        seen.append((weight.shape, layer.tolist(), rows.tolist()))
        return lambda rng: weight[rows]

    null, weight = Null("seen", "", fit=fit), smooth_filters(4, 3, 0)
    assert np.array_equal(null.prepare(weight, np.array([0, 0, 1, 1]), np.array([3, 1]))(None), weight[[3, 1]])
    null.sample(weight, np.random.default_rng(0))
    assert seen == [((4, 3, 3), [0, 0, 1, 1], [3, 1]), ((4, 3, 3), [0, 0, 0, 0], [0, 1, 2, 3])]


def test_unknown_null_offers_the_nearest():
    with pytest.raises(UnknownNameError, match="did you mean shuffled"):
        draw_null("shufled", smooth_filters(2, 3, 0), np.random.default_rng(0))


def test_streams_of_the_built_in_nulls_never_change():
    assert {name: NULLS[name].stream for name in (*DEFAULT_NULLS, "init")} == {
        "shuffled": 0,
        "gaussian": 1,
        "blurred": 2,
        "covariance": 3,
        "init": 4,
    }
    assert Null("other", "").stream > 4


def test_init_needs_an_architecture(bank_maker):
    with pytest.raises(MkfaError, match="--arch"):
        init_bank(bank_maker(), 0)


@pytest.mark.slow
def test_init_is_the_untrained_network_by_seed():
    import timm
    import torch

    model = timm.create_model("convnext_atto", pretrained=False)
    names = [n for n, m in model.named_modules() if getattr(m, "groups", 1) > 1]
    state = model.state_dict()
    layers = [(Layer(0, f"{n}.weight", 0, 0.0, 0, 0, 0), state[f"{n}.weight"][:, 0].numpy(), None) for n in names]
    bank = make_bank("atto", layers, Provenance(architecture="convnext_atto.d2_in1k"))
    drawn, other = init_bank(bank, 7), init_bank(bank, 8)
    torch.manual_seed(7)
    expected = timm.create_model("convnext_atto", pretrained=False).state_dict()[f"{names[3]}.weight"][:, 0].numpy()
    assert np.array_equal(drawn.of_layer(3).weight, expected)
    assert not np.array_equal(other.of_layer(3).weight, expected)
