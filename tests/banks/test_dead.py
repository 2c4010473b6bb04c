"""Dead filters: neither one large filter nor a majority of dead ones decides over the others."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mkfa
from mkfa.banks.bank import FilterBank, FilterGroup, Layer, Provenance, make_bank
from mkfa.banks.counts import count_kinds, dead_warning
from mkfa.banks.dead import dead_filters, dead_peaks, filter_peaks, sparse_peaks


def group_of(weight, layer=None):
    n = len(weight)
    layer = np.zeros(n, np.int32) if layer is None else np.asarray(layer, np.int32)
    return FilterGroup(np.asarray(weight, np.float32), layer, np.arange(n, dtype=np.int32))


def peaks_of(*parts) -> np.ndarray:
    return np.concatenate([np.atleast_1d(np.asarray(part, np.float32)) for part in parts])


def test_dead_is_under_one_percent_of_the_typical_peak():
    weight = np.zeros((7, 1, 2), np.float32)
    weight[:, 0, 0] = [-100, 0.99, 1.01, 0, -100, 100, 100]
    assert dead_filters(group_of(weight)).tolist() == [False, True, False, True, False, False, False]


def test_dead_is_judged_layer_by_layer_and_ignores_nonfinite_peaks():
    weight = np.zeros((7, 1, 2), np.float32)
    weight[:, 0, 0] = [np.inf, 1.0, 0.9, 0.5, 0.4, 0.6, 0.001]
    dead = dead_filters(group_of(weight, [0, 0, 0, 1, 1, 1, 1]))
    assert dead.tolist() == [False, False, False, False, False, False, True]


def test_a_layer_of_zeros_is_all_dead():
    assert dead_filters(group_of(np.zeros((3, 3, 3)))).all()
    assert dead_filters(group_of(np.zeros((0, 3, 3)))).tolist() == []


@pytest.mark.parametrize("factor", [30, 500, 1e4])
@pytest.mark.parametrize("outliers", [1, 3, 20])
@pytest.mark.parametrize("n", [2, 3, 16, 64, 1024])
def test_channels_that_folding_made_large_kill_no_other(n, outliers, factor):
    peaks = np.random.default_rng(n).uniform(0.3, 1.2, n).astype(np.float32)
    peaks[: min(outliers, n // 2)] *= np.float32(factor)
    assert not dead_peaks(peaks).any()
    if n > 2 * outliers and factor > 400:
        assert sparse_peaks(peaks).sum() == n - outliers  # the published rule


@pytest.mark.parametrize("share", [0.01, 0.3, 0.6, 0.95])
@pytest.mark.parametrize("size", [0, 1e-30, 1e-8, 3e-6])
def test_filters_that_weight_decay_shrank_are_dead_however_many(share, size):
    n = 200
    dead = np.arange(n) < share * n
    peaks = np.random.default_rng(1).uniform(0.1, 1.0, n).astype(np.float32)
    peaks[dead] *= np.float32(size)
    if size == 3e-6 and share == 0.95:  # neither most of the layer nor near zero in absolute terms
        return
    assert dead_peaks(peaks).tolist() == dead.tolist()


def test_a_folded_layer_with_dead_and_large_channels_loses_only_the_dead():
    rng = np.random.default_rng(2)
    peaks = peaks_of(rng.lognormal(0, 1, 300), np.full(40, 1e-9), rng.uniform(200, 2000, 30), 0.0)
    assert np.flatnonzero(dead_peaks(peaks)).tolist() == [*range(300, 340), 370]


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(-20, 20))
def test_the_scale_of_an_ordinary_layer_does_not_matter(seed, exponent):
    peaks = np.random.default_rng(seed).uniform(0.1, 1.0, 50)
    assert not dead_peaks((peaks * 10.0**exponent).astype(np.float32)).any()


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 30))
def test_peaks_are_the_largest_magnitudes(seed, n):
    weight = np.random.default_rng(seed).standard_normal((n, 3, 5)).astype(np.float32)
    assert np.array_equal(filter_peaks(weight), np.abs(weight).max(axis=(1, 2)))


def test_no_structured_filter_of_a_folded_network_is_dead():
    """The text networks come from graphs with folded normalisations; their dead filters are nearly zero."""
    for name, most in (("ppocrv4_det", 8), ("ppocrv4_rec", 31), ("efficientnet_lite0", 65), ("mobilenet_v2", 5)):
        bank = mkfa.load_bank(name)
        assert sum(count.dead for count in count_kinds(bank)) <= most
        assert dead_warning(bank) == ""


def bank_of(peaks: np.ndarray) -> FilterBank:
    weight = np.random.default_rng(0).standard_normal((len(peaks), 3, 3)).astype(np.float32) * peaks[:, None, None]
    return make_bank("x", [(Layer(0, "a", 0, 0.0, len(peaks), 3, 3), weight, None)], Provenance())


def test_many_dead_filters_are_said():
    peaks = np.ones(100, np.float32)
    peaks[:20] = 1e-9
    assert dead_warning(bank_of(peaks)) == ""
    peaks[20] = 0
    assert dead_warning(bank_of(peaks)).startswith("21 of 100 filters are dead")
