"""Names of vocabularies, their controls, and what is drawn."""

from __future__ import annotations

import numpy as np
import pytest

from mkfa.banks.bank import Kind
from mkfa.banks.usable import usable_filters
from mkfa.errors import MkfaError, UnknownBankError
from mkfa.grafts.vocabulary import Drawer, controls_of, find_vocabulary
from mkfa.nulls.covariance import tap_covariance
from mkfa.patterns.named_sets import named_set

THREE, FIVE = Kind(3, 3), Kind(5, 5)


@pytest.fixture
def own(bank_maker):
    return bank_maker(((60, 3, 3), (80, 5, 5)), seed=1, name="mine")


def names(vocabularies):
    return [v.name for v in vocabularies]


def test_names_and_controls(own, bank_maker):
    other = bank_maker(((50, 3, 3),), seed=2, name="other")
    asked = [find_vocabulary(other, own)]
    assert names(controls_of(asked, own)) == [
        "gaussian",
        "shuffled:other",
        "blurred",
        "covariance:other",
        "keys:own",
        "delta",
    ]
    asked = [find_vocabulary("keys:ppocrv4_rec", own), find_vocabulary("eight", own)]
    assert names(controls_of(asked, own)) == [
        "keys:gaussian",
        "keys:shuffled:ppocrv4_rec",
        "keys:blurred",
        "keys:covariance:ppocrv4_rec",
        "gaussian",
        "shuffled:own",
        "blurred",
        "covariance:own",
        "keys:own",
        "delta",
    ]
    assert "keys:own" not in names(controls_of([find_vocabulary("keys:own", own)], own))
    assert names(controls_of([find_vocabulary("gaussian", own)], own)) == ["keys:own", "delta"]


@pytest.mark.parametrize("name", ["keys:eight", "keys:delta", "keys:keys:own"])
def test_a_set_of_one_size_has_no_keys(own, name):
    with pytest.raises(MkfaError, match="which has one size"):
        find_vocabulary(name, own)


def test_an_unknown_name_is_refused_with_what_there_is(own):
    with pytest.raises(UnknownBankError, match="or one of own, eight"):
        find_vocabulary("mobilenet_v3", own)


def test_random_choices_are_nested_and_repeat(own):
    drawer, vocabulary = Drawer(0), find_vocabulary("own", own)
    small, large = drawer.draw(vocabulary, THREE, 5), drawer.draw(vocabulary, THREE, 20)
    assert np.array_equal(small, large[:5])
    assert np.array_equal(large, Drawer(0).draw(vocabulary, THREE, 20))
    assert not np.array_equal(large, drawer.draw(vocabulary, THREE, 20, number=1))
    assert not np.array_equal(large, Drawer(1).draw(vocabulary, THREE, 20))
    everything = drawer.draw(vocabulary, THREE, 10**6)
    assert len(everything) == vocabulary.size(THREE) == 60
    known = {row.tobytes() for row in usable_filters(own, THREE).vector}
    assert {row.tobytes() for row in everything} == known


@pytest.mark.parametrize("name", ["own", "gaussian", "blurred", "shuffled", "covariance", "basis", "eight", "delta"])
@pytest.mark.parametrize("kind", [THREE, FIVE])
def test_every_vocabulary_is_in_canonical_form(own, name, kind):
    found = Drawer(0).draw(find_vocabulary(name, own), kind, 16)
    assert found.shape == ({"eight": 8, "delta": 1}.get(name, 16), kind.kh * kind.kw)
    assert np.abs(found.mean(1)).max() < 1e-6 and np.abs(np.linalg.norm(found, axis=1) - 1).max() < 1e-5


def test_keys_are_as_many_as_asked_and_explain_more_than_random_filters(own):
    drawer, bank = Drawer(0), find_vocabulary("efficientnet_lite0", own)
    keys = drawer.draw(find_vocabulary("keys:efficientnet_lite0", own), FIVE, 8)
    random = drawer.draw(bank, FIVE, 8)
    vector = usable_filters(bank.bank, FIVE).vector
    assert keys.shape == (8, 25)
    assert np.abs(vector @ keys.T).max(1).mean() > 0.05 + np.abs(vector @ random.T).max(1).mean()


def test_the_covariance_null_has_the_banks_second_moment(own):
    vocabulary = find_vocabulary("covariance:efficientnet_lite0", own)
    drawn = Drawer(0).draw(vocabulary, FIVE, 10**6)
    moment = tap_covariance(usable_filters(vocabulary.bank, FIVE).weight)
    assert np.abs(drawn.T @ drawn / len(drawn) - moment).max() < 0.02
    own_moment = tap_covariance(usable_filters(own, FIVE).weight)
    assert np.abs(drawn.T @ drawn / len(drawn) - own_moment).max() > 0.03


def test_noise_of_two_sizes_is_not_mixed_up_and_has_the_largest_banks_number(own):
    """Controls of keys of a large bank, and of eight, have one name for noise but other numbers of filters."""
    asked = [find_vocabulary(n, own) for n in ("keys:ppocrv4_rec", "keys:efficientnet_lite0", "eight")]
    controls = {v.name: v for v in controls_of(asked, own)}
    drawer = Drawer(0)
    for name, count in (("keys:gaussian", 6336), ("gaussian", 80)):
        assert len(drawer.draw(controls[name], FIVE, 10**6)) == pytest.approx(count, rel=0.05)


def test_eight_and_delta_are_what_they_say(own):
    eight = Drawer(0).draw(find_vocabulary("eight", own), FIVE, 100)
    patterns = named_set("eight", 5, 5).patterns.reshape(8, 25)
    assert np.abs(np.abs(eight @ patterns.T).max(1) - 1).max() < 1e-5
    delta = Drawer(0).draw(find_vocabulary("delta", own), FIVE, 3)[0].reshape(5, 5)
    assert delta.argmax() == 12 and np.allclose(np.delete(delta.ravel(), 12), -delta[2, 2] / 24)
