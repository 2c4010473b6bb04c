"""The bank: its tables agree, kinds are kept apart."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace

import numpy as np
import pytest

from mkfa.banks.bank import FilterGroup, Kind, Layer, Provenance, make_bank
from mkfa.errors import BankError, MkfaError


def group_of(weight, layer=None):
    n = len(weight)
    rows = np.zeros(n, np.int32) if layer is None else np.asarray(layer, np.int32)
    return FilterGroup(np.asarray(weight, np.float32), rows, np.arange(n, dtype=np.int32))


def changed(bank, size, **fields):
    return {"groups": {**bank.groups, size: replace(bank.groups[size], **fields)}}


def test_layers_are_numbered_in_order_and_depth_runs_from_0_to_1(bank_maker):
    bank = bank_maker()
    assert [layer.index for layer in bank.layers] == [0, 1, 2]
    assert [layer.depth for layer in bank.layers] == [0.0, 0.5, 1.0]
    assert [layer.has_bias for layer in bank.layers] == [False, True, False]
    assert len(bank) == 24
    assert bank.kinds == (Kind(3, 3), Kind(5, 5))


def test_a_layer_is_read_back_as_it_was_put_in(bank_maker):
    rng = np.random.default_rng(1)
    parts = [rng.standard_normal((n, k, k)).astype(np.float32) for n, k in ((3, 3), (2, 5), (4, 3))]
    bank = make_bank("b", [(Layer(0, "", 0, 0.0, 0, 0, 0), w, None) for w in parts], Provenance())
    for (layer, weight), part in zip(bank.iter_layers(), parts, strict=True):
        assert np.array_equal(weight, part)
        assert np.array_equal(bank.of_layer(layer.index).channel, np.arange(len(part)))


def test_a_bias_is_nan_where_a_layer_of_the_size_has_none():
    weight = np.ones((2, 3, 3), np.float32)
    layer = Layer(0, "", 0, 0.0, 2, 3, 3)
    bank = make_bank("b", [(layer, weight, None), (layer, weight, np.array([1, 2], np.float32))], Provenance())
    assert np.array_equal(bank.groups[3, 3].bias, np.array([np.nan, np.nan, 1, 2], np.float32), equal_nan=True)


def test_dilated_filters_are_a_kind_of_their_own(bank_maker):
    bank = bank_maker(((3, 3, 3), (5, 3, 3)))
    layers = (bank.layers[0], replace(bank.layers[1], dilation=(2, 2)))
    bank = replace(bank, layers=layers)
    assert bank.kinds == (Kind(3, 3, 2, 2), Kind(3, 3))
    assert len(bank.of_kind(Kind(3, 3))) == 3
    assert np.array_equal(bank.of_kind(Kind(3, 3, 2, 2)).weight, bank.groups[3, 3].weight[3:])
    assert len(bank.of_kind(Kind(7, 7))) == 0


def test_unknown_dilation_counts_as_one_and_is_said(bank_maker):
    bank = bank_maker(((3, 3, 3),))
    assert not bank.unknown_dilation
    bank = replace(bank, layers=(replace(bank.layers[0], dilation=(-1, -1)),))
    assert bank.unknown_dilation
    assert bank.kinds == (Kind(3, 3),)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda b: {"layers": b.layers[::-1]}, "numbered"),
        (lambda b: {"layers": (replace(b.layers[0], channels=7), *b.layers[1:])}, "number of filters"),
        (lambda b: {"groups": {(3, 3): b.groups[3, 3]}}, "kernel sizes"),
        (lambda b: changed(b, (5, 5), bias=np.zeros(3, np.float32)), "biases"),
        (lambda b: changed(b, (3, 3), layer=b.groups[3, 3].layer[::-1]), "order"),
        (lambda b: changed(b, (3, 3), channel=np.zeros(1, np.int32)), "1 channel;"),
    ],
)
def test_tables_that_do_not_agree_are_refused(bank_maker, change, words):
    bank = bank_maker()
    with pytest.raises(BankError, match=words):
        replace(bank, **change(bank))


def test_a_bank_is_equal_to_its_copies_and_to_nothing_else(bank_maker):
    bank = bank_maker()
    for again in (pickle.loads(pickle.dumps(bank)), copy.deepcopy(bank), copy.copy(bank), bank_maker()):
        assert again == bank and hash(again) == hash(bank)
    assert bank_maker(seed=1) != bank
    assert replace(bank, name="other") != bank
    assert bank != "bank"
    weight = bank.groups[5, 5].weight.copy()
    weight[0, 0, 0] += 1
    assert replace(bank, **changed(bank, (5, 5), weight=weight)) != bank


def test_a_bank_prints_in_one_line_and_shows_its_layers(bank_maker):
    bank = bank_maker(name="<net>")
    assert repr(bank) == "<FilterBank: <net>, 3 depthwise layers, 12 filters of 3x3, 12 of 5x5>"
    assert [row["layer"] for row in bank.rows()] == [1, 2, 3]
    assert bank.rows()[0]["stride"] is None or "x" in bank.rows()[0]["stride"]
    html = bank._repr_html_()
    assert "&lt;net&gt;" in html and html.count("<tr>") == 4


def test_a_kind_is_read_from_text(bank_maker):
    bank = bank_maker()
    assert np.array_equal(bank.of_kind("5x5").weight, bank.groups[5, 5].weight)
    assert Kind.parse(" 7X7  dilated 3x3") == Kind(7, 7, 3, 3)
    assert Kind.parse(str(Kind(1, 11, 2, 2))) == Kind(1, 11, 2, 2)
    for text in ("5", "5x", "5by5", "", "5x5 dilated"):
        with pytest.raises(MkfaError, match="write height x width"):
            Kind.parse(text)
