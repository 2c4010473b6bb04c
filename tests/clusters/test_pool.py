"""The pool holds exactly the usable filters of one kind and says what it leaves out."""

from __future__ import annotations

import numpy as np
import pytest

from mkfa.banks.bank import Kind, Layer, Provenance, make_bank
from mkfa.clusters.pool import count_kinds, find_kind, pool_banks
from mkfa.errors import MkfaError, UnknownNameError


def bank(name, *layers, seed=0):
    """Make a bank of random filters, one layer per (channels, kernel, dilation)."""
    rng = np.random.default_rng(seed)
    made = [
        (Layer(0, f"l{i}", -1, 0.0, n, k, k, dilation=(d, d)), rng.standard_normal((n, k, k), dtype=np.float32), None)
        for i, (n, k, d) in enumerate(layers)
    ]
    return make_bank(name, made, Provenance())


def test_takes_the_most_frequent_kind_and_names_the_rest():
    a, b = bank("a", (5, 3, 1), (8, 5, 1), (4, 5, 1)), bank("b", (3, 5, 1), (6, 7, 1))
    pool = pool_banks([a, b])
    assert pool.kind == Kind(5, 5)
    assert pool.sizes == (12, 3)
    assert dict(pool.other_kinds) == {"7x7": 6, "3x3": 5}
    assert pool.layer.tolist() == [1] * 8 + [2] * 4 + [0] * 3
    assert np.allclose(pool.depth, [0.5] * 8 + [1.0] * 4 + [0.0] * 3)
    assert pool.third.tolist() == [1] * 8 + [2] * 4 + [0] * 3
    assert "6 of 7x7" in " ".join(pool.notes)


def test_counts_dead_flat_and_nonfinite_filters():
    one = bank("a", (6, 3, 1))
    weight = one.groups[3, 3].weight
    weight[0], weight[1], weight[2, 1, 1] = 0, 2, np.nan
    pool = pool_banks([one])
    assert dict(pool.excluded[0]) == {"dead": 1, "flat": 1, "non-finite": 1}
    assert pool.channel.tolist() == [3, 4, 5]
    assert any("1 dead, 1 flat, 1 non-finite" in note for note in pool.notes)


def test_equal_names_are_told_apart():
    assert pool_banks([bank("a", (2, 3, 1)), bank("a", (2, 3, 1), seed=1)]).banks == ("a", "a (2)")


def test_dilations_are_never_mixed():
    one = bank("a", (2, 7, 1), (5, 7, 3))
    assert pool_banks([one]).kind == Kind(7, 7, 3, 3)
    assert len(pool_banks([one], kernel_size=Kind(7, 7))) == 2
    assert find_kind("7x7 dilated 3x3", [one]) == Kind(7, 7, 3, 3)
    assert find_kind("7x7", [one]) == Kind(7, 7)
    assert find_kind("5X5", [bank("b", (2, 5, 2))]) == Kind(5, 5, 2, 2)


def test_what_is_not_there_is_refused():
    one = bank("a", (2, 3, 1))
    with pytest.raises(UnknownNameError, match="choose one of '3x3' \\(2 filters\\)"):
        find_kind("9x9", [one])
    with pytest.raises(MkfaError, match="no bank was named"):
        pool_banks([])
    one.groups[3, 3].weight[:] = 0
    with pytest.raises(MkfaError, match="no usable filter of kernel 3x3"):
        pool_banks([one])
    assert count_kinds([one]) == {Kind(3, 3): 2}


def test_banks_of_one_parent_count_once():
    rng = np.random.default_rng(0)

    def made(name, weights):
        table = [(Layer(0, f"{name}{i}", -1, 0.0, 1, 5, 5), w.astype(np.float32), None) for i, w in enumerate(weights)]
        return make_bank(name, table, Provenance())

    weights = [rng.standard_normal((40, 5, 5)) for _ in range(3)]
    tuned = [w * rng.choice([-2, 0.5], (40, 1, 1)) + 0.1 * rng.standard_normal(w.shape) for w in weights]
    other = [rng.standard_normal((40, 5, 5)) for _ in range(3)]
    pool = pool_banks([made("a", weights), made("b", tuned), made("c", other)])
    assert pool.families == (("a", "b"),) and len(pool) == 360
    assert np.array_equal(pool.counted, pool.bank != 1)
    assert np.array_equal(pool.independent, pool.vector[pool.bank != 1])
    assert "a, b: one parent, so they count once" in pool.notes[1]
    assert pool.facts()["filters_counted"] == 240
    label = np.where(pool.bank == 0, 0, 1)
    assert pool.shares(label, 2).tolist() == [0.5, 0.5]
    alone = pool_banks([made("a", weights), made("c", other)])
    assert alone.families == () and alone.independent is alone.vector
    assert np.array_equal(alone.vector, pool.independent)


def test_a_family_counts_by_its_first_bank_that_has_filters_of_the_kind():
    rng = np.random.default_rng(0)

    def made(name, *weights):
        table = [
            (Layer(0, f"{name}{i}", -1, 0.0, 1, w.shape[1], w.shape[2]), w.astype(np.float32), None)
            for i, w in enumerate(weights)
        ]
        return make_bank(name, table, Provenance())

    shared = [rng.standard_normal((40, 3, 3)) for _ in range(3)]
    own, other = rng.standard_normal((40, 5, 5)), rng.standard_normal((40, 5, 5))
    pool = pool_banks([made("a", *shared), made("b", *shared, own), made("c", other)], kernel_size="5x5")
    assert pool.families == (("a", "b"),)
    assert pool.counted.all()  # A has no 5x5 filter that could stand for B's
    assert "What follows is of b" in pool.notes[1]
