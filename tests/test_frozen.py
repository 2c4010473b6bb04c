"""Frozen dictionaries pickle and refuse changes; dataclasses with arrays are compared by what they hold."""

from __future__ import annotations

import copy
import json
import pickle
from dataclasses import dataclass

import numpy as np
import pytest

import mkfa
from mkfa.frozen import ByContent, FrozenDict


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Held(ByContent):
    name: str
    values: np.ndarray
    more: FrozenDict[str, np.ndarray]


def held(name="a", value=1.0):
    return Held(name, np.array([value, np.nan]), FrozenDict({"x": np.arange(3)}))


def test_a_frozen_dictionary_is_a_dictionary_that_pickles_and_copies():
    made = FrozenDict({"a": [1]})
    for again in (pickle.loads(pickle.dumps(made)), copy.deepcopy(made), copy.copy(made)):
        assert again == made
        assert type(again) is FrozenDict
    assert copy.deepcopy(made)["a"] is not made["a"]
    assert json.dumps(made) == '{"a": [1]}'


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.__setitem__("a", 2),
        lambda d: d.update(a=2),
        lambda d: d.pop("a"),
        lambda d: d.__delitem__("a"),
        lambda d: d.clear(),
        lambda d: d.setdefault("b", 1),
    ],
)
def test_a_frozen_dictionary_refuses_changes(change):
    made = FrozenDict({"a": 1})
    with pytest.raises(TypeError, match="make a copy"):
        change(made)
    assert made == {"a": 1}


def test_equal_means_equal_arrays():
    assert held() == held() == pickle.loads(pickle.dumps(held())) == copy.deepcopy(held())
    assert held() != held("b")
    assert held() != held(value=2.0)
    assert held() != "a"
    assert len({held(), held(), held("b")}) == 2


def test_arrays_print_as_their_type_and_shape():
    group = mkfa.load_bank("efficientnet_lite0").groups[5, 5]
    assert repr(group).startswith("FilterGroup(weight=<float32 (6336, 5, 5)>, layer=<int32 (6336,)>")


def test_long_fields_print_as_their_size():
    made = Held("x" * 100, np.arange(2), FrozenDict({f"key {i}": np.arange(3) for i in range(9)}))
    assert repr(made) == f"Held(name='{'x' * 69}...', values=array([0, 1]), more=<9 by str>)"
    group = mkfa.claims("C6")["C6"].chosen
    assert len(repr(group)) < 800 and "findings=<2 of Finding>" in repr(group)
