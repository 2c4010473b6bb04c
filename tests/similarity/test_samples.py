"""The filters of a bank as clouds: even samples, disjoint halves, and what is left out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mkfa.banks.bank import FilterBank, Kind, Layer, Provenance, make_bank
from mkfa.errors import MkfaError
from mkfa.similarity.samples import (
    allocate,
    common_kinds,
    left_out,
    make_cloud,
    same_filters,
    sample_size,
    shared_filters,
    split,
    split_layers,
)

Maker = Callable[..., FilterBank]


@given(st.lists(st.integers(0, 40), min_size=1, max_size=12), st.data())
def test_allocation_uses_up_n_and_respects_capacities(capacity: list[int], data: st.DataObject):
    room = np.array(capacity)
    n = data.draw(st.integers(0, int(room.sum())))
    share = allocate(n, room)
    assert share.sum() == n
    assert (share <= room).all() and (share >= 0).all()


def test_allocation_is_even_where_it_can_be():
    assert allocate(12, np.array([50, 50, 50])).tolist() == [4, 4, 4]
    assert allocate(13, np.array([2, 50, 50])).tolist() == [2, 6, 5]
    # too few for every layer: pairs from evenly spread ones, rather than single filters
    share = allocate(6, np.full(9, 10))
    assert sorted(share.tolist()) == [0] * 6 + [2] * 3 and share[0] and share[-1]


def test_halves_are_disjoint_with_equal_layers(bank_maker: Maker):
    cloud = make_cloud(bank_maker([(30, 5, 5), (7, 5, 5), (9, 5, 5)]), Kind(5, 5))
    first, second = split(cloud, 15, np.random.default_rng(0))
    assert len(set(first) | set(second)) == 30
    assert np.bincount(cloud.layer[first]).tolist() == np.bincount(cloud.layer[second]).tolist()


def test_layers_split_by_parity(bank_maker: Maker):
    cloud = make_cloud(bank_maker([(8, 3, 3)] * 4), Kind(3, 3))
    rows = split_layers(cloud, 10, np.random.default_rng(0))
    assert rows is not None
    assert set(cloud.layer[rows[0]]) == {0, 2} and set(cloud.layer[rows[1]]) == {1, 3}
    assert split_layers(cloud, 17, np.random.default_rng(0)) is None


def test_sample_is_what_both_can_give_twice(bank_maker: Maker):
    small, large = (make_cloud(bank_maker([(n, 3, 3)] * 3), Kind(3, 3)) for n in (11, 200))
    assert sample_size(small, large, 256) == 15
    assert sample_size(large, large, 256) == 256
    assert sample_size(large, large, 2) == 12  # every layer gives four


def test_dilation_separates_kinds_and_what_is_left_out_is_said():
    rng = np.random.default_rng(0)
    dead = rng.standard_normal((40, 5, 5)).astype(np.float32)
    dead[:3] *= 1e-5
    dead[4] = 1.5

    def layer(dilation: int) -> Layer:
        return Layer(0, f"d{dilation}", 0, 0, 0, 5, 5, (1, 1), (dilation, dilation))

    a = make_bank("a", [(layer(1), dead, None), (layer(3), dead[4:] + 0, None)], Provenance())
    b = make_bank("b", [(layer(1), dead[::-1].copy(), None), (layer(1), dead[10:12].copy(), None)], Provenance())
    assert common_kinds(a, b) == (Kind(5, 5),)
    lines = [str(x) for x in left_out(a, b, common_kinds(a, b))]
    assert "a: 36 filters of 5x5 dilated 3x3 in 1 layer left out, b has none" in lines
    assert any(x.startswith("a: 3 filters of 5x5 left out, dead") for x in lines)
    assert "a: 1 filter of 5x5 left out, flat" in lines
    assert "b: 2 filters of 5x5 in 1 layer left out, under 4 usable filters in the layer" in lines


def test_no_common_kind_names_both(bank_maker: Maker):
    a, b = bank_maker([(9, 3, 3)], name="one"), bank_maker([(9, 5, 5), (9, 7, 7)], name="two")
    with pytest.raises(MkfaError, match=r"one has 3x3; two has 5x5, 7x7"):
        common_kinds(a, b)
    with pytest.raises(MkfaError, match="among 3x3"):
        common_kinds(b, b, [(3, 3)])


def test_shared_filters_are_counted_bit_for_bit(bank_maker: Maker):
    a = make_cloud(bank_maker([(20, 3, 3)], seed=1), Kind(3, 3))
    weight = a.weight[::-1].copy()
    weight[:5] *= 1.0001
    b = make_cloud(make_bank("b", [(Layer(0, "x", 0, 0, 0, 3, 3), weight, None)], Provenance()), Kind(3, 3))
    assert shared_filters(a, b) == 15
    assert same_filters(a, a) and not same_filters(a, b)
