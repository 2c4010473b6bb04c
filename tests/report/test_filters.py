"""Weights in 8 bits are right to half a step, and each layer gives as many filters where there are too many."""

from __future__ import annotations

import numpy as np

from mkfa.banks.bank import Layer, Provenance, make_bank
from mkfa.report.filters import COARSE_LEVELS, FINE, LEVELS, LOG_STEP, choose_filters, levels_for, quantise


def bank_of(*sizes: int, name: str = "net", side: int = 3):
    rng = np.random.default_rng(len(sizes))
    parts = [
        (Layer(0, f"layer{i}", -1, 0.0, 1, side, side), rng.standard_normal((n, side, side)).astype(np.float32), None)
        for i, n in enumerate(sizes)
    ]
    return make_bank(name, parts, Provenance())


def test_weights_come_back_to_half_a_step_whatever_their_size():
    rng = np.random.default_rng(0)
    weight = (rng.standard_normal((500, 7, 7)) * 10.0 ** rng.uniform(-20, 20, (500, 1, 1))).astype(np.float32)
    for levels in (LEVELS, COARSE_LEVELS):
        steps, logarithm = quantise(weight, levels)
        assert np.abs(steps).max(axis=1).tolist() == [levels] * 500
        back = steps / levels * np.exp(logarithm.astype(float) * LOG_STEP)[:, None]
        top = np.abs(weight).max(axis=(1, 2))[:, None]
        assert (np.abs(back - weight.reshape(500, -1)) / top).max() <= 0.5 / levels + LOG_STEP


def test_filters_without_a_scale_are_zero():
    weight = np.zeros((3, 3, 3), np.float32)
    weight[1, 0, 0], weight[2, 1, 1] = np.nan, np.inf
    steps, logarithm = quantise(weight)
    assert not steps.any()
    assert logarithm.tolist() == [-32768] * 3


def test_each_layer_gives_as_many_evenly_over_its_channels():
    bank = bank_of(10, 100, 1000)
    (shown,) = choose_filters([bank], 210)
    assert np.bincount(shown.layer).tolist() == [10, 100, 100]
    assert shown.channel[shown.layer == 2].tolist() == list(range(0, 1000, 10))
    assert not shown.whole
    (every,) = choose_filters([bank], 1110)
    assert every.whole
    assert len(every.row) == 1110


def test_filters_on_the_map_are_always_shown():
    bank = bank_of(1000)
    wanted = np.array([1, 3, 999])
    (shown,) = choose_filters([bank], 10, wanted={(0, bank.kinds[0]): wanted})
    assert np.isin(wanted, shown.row).all()
    assert len(shown.row) == 13


def test_large_pages_have_coarser_steps():
    assert (levels_for(FINE), levels_for(FINE + 1)) == (LEVELS, COARSE_LEVELS)
