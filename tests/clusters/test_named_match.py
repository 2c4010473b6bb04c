"""Keys are compared to a named set up to sign and the symmetries of the square, beside chance."""

from __future__ import annotations

import numpy as np
import pytest

from mkfa.banks.bank import Kind
from mkfa.banks.canonical import normalise
from mkfa.clusters.named_match import best_cosine, match_keys, symmetries
from mkfa.patterns.named_sets import named_set

TURNS = [lambda p, k=k, f=f: np.rot90(p[..., ::-1] if f else p, k, axes=(-2, -1)) for k in range(4) for f in (0, 1)]


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize("sign", [1, -1])
def test_a_turned_flipped_negated_set_is_found_again(turn, sign):
    target = named_set("eight", 5, 5)
    keys = np.ascontiguousarray(sign * turn(target.patterns)).reshape(8, -1).astype(np.float32)
    match = match_keys(keys, Kind(5, 5), null_keys=[keys], rng=np.random.default_rng(0))
    assert np.allclose(match.cosine, 1, atol=1e-5)
    assert np.allclose(match.reverse, 1, atol=1e-5)
    assert np.allclose(match.partner, keys, atol=1e-3)  # turned and signed as the key
    assert match.covariance.tolist() == pytest.approx([1.0])


def test_symmetries_are_the_group_of_the_frame():
    pattern = np.random.default_rng(0).standard_normal((1, 3, 3)).astype(np.float32)
    expected = {turn(pattern).tobytes() for turn in TURNS}
    assert {s.reshape(1, 3, 3).tobytes() for s in symmetries(pattern)} == expected
    assert len(expected) == 8
    assert symmetries(np.zeros((2, 3, 5), np.float32)).shape == (4, 2, 15)


def test_a_mirrored_l_is_matched_only_with_the_flip():
    ell = np.zeros((1, 3, 3), np.float32)
    ell[0, :, 0], ell[0, 2, 1] = 1, 1
    unit = normalise(ell.reshape(1, 9))[0].reshape(1, 3, 3)
    turned = symmetries(unit)
    assert best_cosine(unit[:, :, ::-1].reshape(1, 9), turned)[0, 0] == pytest.approx(1, abs=1e-6)
    assert best_cosine(unit[:, :, ::-1].reshape(1, 9), turned[:1])[0, 0] < 0.9


def test_chance_is_what_random_sets_reach():
    rng = np.random.default_rng(0)
    noise = normalise(rng.standard_normal((6, 49)).astype(np.float32))[0]
    match = match_keys(noise, Kind(7, 7), null_keys=[], rng=rng)
    summary = match.summary()["keys_to_set"]
    assert summary["mean_cosine"] == pytest.approx(float(match.cosine.mean()))
    assert summary["blurred"]["p"] > 0.5  # white noise is less alike to smooth patterns than blurred noise is
    assert summary["covariance"]["draws"] == 0
    assert summary["covariance"]["mean"] is None
    again = match_keys(noise, Kind(7, 7), null_keys=[], rng=np.random.default_rng(1))
    assert again.blurred.mean() == pytest.approx(match.blurred.mean(), abs=0.01)
