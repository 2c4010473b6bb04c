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
    assert match.answers["keys_to_set"].nulls["covariance-layer"].tolist() == pytest.approx([1.0])
    assert match.answers["one_to_one"].mean_cosine == pytest.approx(1, abs=1e-5)


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
    assert summary["covariance-layer"]["draws"] == 0
    assert summary["covariance-layer"]["mean"] is None
    again = match_keys(noise, Kind(7, 7), null_keys=[], rng=np.random.default_rng(1))
    means = [m.answers["keys_to_set"].nulls["blurred"].mean() for m in (match, again)]
    assert means[0] == pytest.approx(means[1], abs=0.01)


def eight(k: int = 7) -> np.ndarray:
    return named_set("eight", k, k).patterns.reshape(8, -1).astype(np.float32)


def test_up_to_symmetry_the_published_eight_are_three_shapes():
    match = match_keys(eight(), Kind(7, 7), null_keys=[], rng=np.random.default_rng(0))
    assert match.shapes == [[1, 2, 3, 4], [5, 6], [7, 8]]
    assert match.alike[:4, :4].min() > 0.97 and match.alike[4, 5] > 0.97 and match.alike[6, 7] > 0.95
    assert "'eight' are 3 shapes (|cos| within them: 1, 2, 3, 4: 0.98 to 1.00; 5, 6: 0.98; 7, 8: 0.96)" in (
        match.shapes_in_words()
    )


def test_one_key_does_not_stand_for_several_patterns():
    """Eight copies of one one-sided edge are near a pattern each, but match one of three shapes and one of eight."""
    copies = np.repeat(eight()[:1], 8, axis=0)
    match = match_keys(copies, Kind(7, 7), null_keys=[], rng=np.random.default_rng(0))
    value = {question: answer.mean_cosine for question, answer in match.answers.items()}
    assert value["keys_to_set"] == pytest.approx(1, abs=1e-5)
    shapes = [match.reverse[:4].mean(), match.reverse[4:6].mean(), match.reverse[6:].mean()]
    assert value["shapes_to_keys"] == pytest.approx(np.mean(shapes)) and value["shapes_to_keys"] < 0.75
    assert value["one_to_one"] == pytest.approx(match.reverse.mean())
    assert value["one_to_one_as_oriented"] < 0.55
    assert sorted(match.assigned.tolist()) == list(range(8))


def test_only_the_oriented_match_sees_the_orientations():
    """The eight, shuffled and signed, are found in their orientations; all turned to point one way they are not."""
    rng = np.random.default_rng(0)
    order = rng.permutation(8)
    match = match_keys(-eight()[order], Kind(7, 7), null_keys=[], rng=rng)
    assert match.assigned.tolist() == order.tolist()
    oriented = match.answers["one_to_one_as_oriented"].summary()
    assert oriented["mean_cosine"] == pytest.approx(1, abs=1e-5) and oriented["turned"]["p"] <= 0.01
    same_way = symmetries(eight().reshape(8, 7, 7))
    target = eight()[3]
    turned = np.stack([t[np.abs(t @ target).argmax()] for t in same_way.swapaxes(0, 1)])
    match = match_keys(turned, Kind(7, 7), null_keys=[], rng=rng)
    assert match.answers["one_to_one"].mean_cosine == pytest.approx(1, abs=1e-5)
    oriented = match.answers["one_to_one_as_oriented"].summary()
    assert oriented["mean_cosine"] < 0.9 and oriented["turned"]["p"] > 0.05


def test_fewer_keys_than_patterns_and_more_are_assigned_once():
    for rows, found in (([6, 0, 4], [6, 0, 4]), ([0, 1, 2, 3, 4, 5, 6, 7, 7, 0], None)):
        match = match_keys(eight()[rows], Kind(7, 7), null_keys=[], rng=np.random.default_rng(0))
        assert (match.assigned >= 0).sum() == min(len(rows), 8) == np.isfinite(match.assigned_cosine).sum()
        assert found is None or match.assigned.tolist() == found
        assert match.answers["one_to_one_as_oriented"].mean_cosine == pytest.approx(1, abs=1e-5)
