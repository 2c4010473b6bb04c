"""Canonical form: zero mean, unit norm, nothing lost, nothing divided by zero."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import mkfa.banks.canonical
from mkfa.banks.bank import FilterGroup
from mkfa.banks.canonical import canonical, normalise


def group_of(weight):
    n = len(weight)
    return FilterGroup(np.asarray(weight, np.float32), np.zeros(n, np.int32), np.arange(n, dtype=np.int32))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([(3, 3), (1, 11), (7, 7)]), st.floats(-30, 30))
def test_filters_are_rebuilt_from_their_canonical_form(seed, size, exponent):
    rng = np.random.default_rng(seed)
    weight = ((rng.standard_normal((20, *size)) + rng.standard_normal()) * 10.0**exponent).astype(np.float32)
    form = canonical(group_of(weight))
    assert form.usable.all()
    assert np.allclose(form.vector.sum(axis=1), 0, atol=1e-5)
    assert np.allclose((form.vector**2).sum(axis=1), 1, atol=1e-5)
    rebuilt = form.gain[:, None].astype(np.float64) * form.vector + form.offset[:, None]
    assert np.allclose(rebuilt, weight.reshape(20, -1), rtol=1e-4, atol=1e-5 * 10.0**exponent)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.01, 100), st.floats(-5, 5))
def test_gain_and_offset_do_not_change_the_vector_and_sign_flips_it(seed, gain, offset):
    weight = np.random.default_rng(seed).standard_normal((10, 5, 5)).astype(np.float32)
    plain = canonical(group_of(weight))
    moved = canonical(group_of(-gain * weight - offset * gain))
    assert np.allclose(moved.vector, -plain.vector, atol=1e-4)
    assert np.array_equal(moved.sign, -plain.sign)


def test_what_cannot_be_normalised_is_named_and_zero():
    weight = np.random.default_rng(0).standard_normal((5, 3, 3)).astype(np.float32)
    weight[1], weight[2], weight[3, 0, 0] = 0, 0.7, np.nan
    form = canonical(group_of(weight))
    assert form.dead.tolist() == [False, True, False, False, False]
    assert form.flat.tolist() == [False, False, True, False, False]
    assert form.nonfinite.tolist() == [False, False, False, True, False]
    assert form.usable.tolist() == [True, False, False, False, True]
    assert not form.vector[~form.usable].any()
    assert np.isfinite(form.vector).all()


def test_blocks_of_rows_give_what_all_rows_give(monkeypatch):
    rows = np.random.default_rng(0).standard_normal((100, 25)).astype(np.float32)
    rows[7], rows[40, 3] = 2, np.nan
    whole = normalise(rows)
    monkeypatch.setattr(mkfa.banks.canonical, "BLOCK", 13)
    for one, other in zip(whole, normalise(rows), strict=True):
        np.testing.assert_array_equal(one, other)


def test_no_filters_are_no_problem():
    form = canonical(group_of(np.zeros((0, 3, 3))))
    assert form.vector.shape == (0, 9)
    assert form.sign.shape == (0,)


def test_a_norm_that_float32_cannot_hold_is_not_finite():
    weight = np.full((2, 5, 5), 3e38, np.float32)
    weight[:, ::2] *= -1
    weight[1] /= 50
    form = canonical(group_of(weight))
    assert form.nonfinite.tolist() == [True, False] and form.usable.tolist() == [False, True]
    assert not form.vector[0].any() and np.isfinite(form.gain).all()
