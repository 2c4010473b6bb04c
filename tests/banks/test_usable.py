"""Usable filters: computed once for each bank and kind, with their places and the reasons for the rest."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest

import mkfa.banks.usable
from mkfa.banks.bank import Kind, Layer, Provenance, make_bank
from mkfa.banks.canonical import canonical
from mkfa.banks.usable import usable_filters


@pytest.fixture
def flawed():
    weight = np.random.default_rng(0).standard_normal((6, 3, 3)).astype(np.float32)
    weight[0], weight[1], weight[2, 0, 0] = 0, 3, np.inf
    layers = [
        (Layer(0, "a", 0, 0, 0, 3, 3, (1, 1), (2, 2)), weight[3:], None),
        (Layer(0, "b", 0, 0, 0, 3, 3, (1, 1), (1, 1)), weight, None),
    ]
    return make_bank("flawed", layers, Provenance())


def test_dead_flat_and_nonfinite_filters_are_left_out_and_counted(flawed):
    found = usable_filters(flawed, Kind(3, 3))
    assert found.row.tolist() == found.channel.tolist() == [3, 4, 5]
    assert found.layer.tolist() == [1, 1, 1]
    assert found.excluded == {"dead": 1, "flat": 1, "non-finite": 1}
    assert found.dead.tolist() == [True, False, False, False, False, False]
    np.testing.assert_array_equal(found.weight, flawed.of_kind("3x3").weight[found.row])
    rebuilt = found.gain[:, None] * found.vector + found.offset[:, None]
    np.testing.assert_allclose(rebuilt, found.weight.reshape(3, 9), atol=1e-5)
    assert len(usable_filters(flawed, "3x3 dilated 2x2")) == 3


def test_a_kind_that_the_bank_does_not_have_gives_none(flawed):
    found = usable_filters(flawed, "7x7")
    assert found.vector.shape == (0, 49) and found.weight.shape == (0, 7, 7)
    assert found.excluded == {"dead": 0, "flat": 0, "non-finite": 0}


def test_each_bank_and_kind_is_computed_once(flawed, monkeypatch):
    calls = []

    def counted(group):
        calls.append(len(group))
        return canonical(group)

    monkeypatch.setattr(mkfa.banks.usable, "canonical", counted)
    found = usable_filters(flawed, "3x3")
    assert usable_filters(flawed, Kind(3, 3)) is found and calls == [6]
    other = replace(flawed, name="other")
    assert usable_filters(other, "3x3") is not found and usable_filters(other, "3x3") == found
    assert len(pickle.dumps(flawed)) == len(pickle.dumps(replace(flawed)))  # what was computed stays behind


def test_filters_that_others_share_cannot_be_changed(flawed):
    for name in ("vector", "weight", "gain", "row", "dead"):
        with pytest.raises(ValueError, match="read-only"):
            getattr(usable_filters(flawed, "3x3"), name)[0] = 1
    flawed.groups[3, 3].weight[0, 0, 0] = 1  # the bank's own arrays are as they were
