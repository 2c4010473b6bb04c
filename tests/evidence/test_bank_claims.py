"""Claims about banks on planted banks: filters of the eight, of noise, and of two networks with one parent."""

from __future__ import annotations

import numpy as np
import pytest

import mkfa.evidence.bank_claims as module
from mkfa.banks.bank import Layer, Provenance, make_bank
from mkfa.evidence.bank_claims import judge_banks
from mkfa.evidence.claims import all_claims
from mkfa.patterns.dictionary import dictionary

CLAIMS = all_claims()


def bank(name, weight, *, training_set="made", layers=4):
    """Return a bank of filters of one size, in layers of equal size."""
    parts = np.split(weight.astype(np.float32), layers)
    rows = [
        (Layer(i, f"l{i}", 0, 0, len(part), *weight.shape[1:], (1, 1), (1, 1)), part, None)
        for i, part in enumerate(parts)
    ]
    return make_bank(name, rows, Provenance(training_set=training_set))


def keys(rng, count, noise):
    atoms = dictionary("eight", 7, 7).atoms.reshape(-1, 7, 7)
    chosen = atoms[rng.integers(0, len(atoms), count)]
    gain = rng.normal(1, 0.3, (count, 1, 1))
    return gain * (chosen + noise * rng.normal(0, 1 / 7, chosen.shape)) + rng.normal(0, 0.1, (count, 1, 1))


@pytest.fixture(autouse=True)
def few_draws(monkeypatch):
    monkeypatch.setattr(module, "DRAWS", 300)
    monkeypatch.setattr(module, "COMPARED", 99)


def test_filters_of_the_eight_support_and_their_covariance_noise_does_not():
    rng = np.random.default_rng(0)
    mixed = rng.permutation(np.concatenate([keys(rng, 250, 0.1), rng.normal(0, 0.1, (150, 7, 7))]))
    real = bank("real", mixed, layers=10)
    found = judge_banks(CLAIMS["C19"], [real])
    assert found.state == "supported"
    assert found.effect.difference > 0.3
    covariance = np.cov(keys(rng, 4000, 0.1).reshape(-1, 49).T)
    noise = bank("noise", rng.multivariate_normal(np.zeros(49), covariance, 400).reshape(-1, 7, 7), layers=10)
    assert judge_banks(CLAIMS["C19"], [real, noise]).state != "supported"


def test_small_kernels_take_no_part():
    small = bank("small", np.random.default_rng(0).normal(size=(80, 3, 3)))
    found = judge_banks(CLAIMS["C19"], [small])
    assert found.state == "inconclusive"
    assert "5x5 or larger" in found.missing[0]


def test_two_domains_that_share_patterns_are_closer_than_chance():
    rng = np.random.default_rng(1)
    a, b = (bank(n, keys(rng, 240, 0.15), training_set=n) for n in ("first", "second"))
    found = judge_banks(CLAIMS["C21"], [a, b])
    assert found.state == "supported"
    assert found.effect.p <= 0.05


def test_a_common_parent_explains_likeness_and_contradicts():
    rng = np.random.default_rng(2)
    weight = keys(rng, 240, 0.15)
    a = bank("parent", weight, training_set="one")
    b = bank("child", weight + rng.normal(0, 0.01, weight.shape), training_set="two")
    found = judge_banks(CLAIMS["C21"], [a, b])
    assert found.state == "contradicted"
    assert "common parent" in found.reason


def test_banks_of_one_training_set_are_no_two_domains():
    rng = np.random.default_rng(3)
    banks = [bank(n, keys(rng, 80, 0.15), training_set="same") for n in ("a", "b")]
    assert "two domains" in judge_banks(CLAIMS["C21"], banks).missing[0]


def test_without_names_the_banks_of_published_networks_are_judged():
    assert [bank.name for bank in module.banks_at_hand()] == [
        "efficientnet_lite0",
        "mobilenet_v2",
        "ppocrv4_det",
        "ppocrv4_rec",
    ]


def test_a_verdict_on_banks_says_what_it_rests_on_and_what_it_could_have_seen():
    rng = np.random.default_rng(0)
    mixed = rng.permutation(np.concatenate([keys(rng, 250, 0.1), rng.normal(0, 0.1, (150, 7, 7))]))
    effect = judge_banks(CLAIMS["C19"], [bank("real", mixed, layers=10)]).effect
    assert effect.sample == "400 filters of 10 layers; 300 draws of covariance, seed 0"
    planted = judge_banks(CLAIMS["C19"], [bank("real", keys(rng, 400, 0.0), layers=10)]).effect
    assert 0.8 < planted.difference <= planted.sensitivity < 1
    # 1.43 half widths: what is shown in 80 % of cases is (1.96 + .84) standard errors, half an interval 1.96
    assert effect.detectable > 1.4 * (effect.difference - effect.low) * 0.99

    a, b = (bank(n, keys(rng, 240, 0.15), training_set=n) for n in ("first", "second"))
    effect = judge_banks(CLAIMS["C21"], [a, b]).effect
    assert effect.sample.endswith("filters of each; 99 draws of covariance-layer, seed 0")
    assert 0 < effect.detectable < effect.difference < 1.5 * effect.sensitivity
    assert effect.control == "two halves of one network"
