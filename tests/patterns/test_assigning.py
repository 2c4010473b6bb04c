"""Assigning a bank: what is stored, what is left out, p-values and nulls."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kstest

from mkfa.banks.bank import Kind, Layer, Provenance, make_bank
from mkfa.banks.bank_file import read_analyses, write_analysis, write_bank
from mkfa.errors import MkfaError, UnknownNameError
from mkfa.patterns.assigning import assign
from mkfa.patterns.dictionary import dictionary, version
from mkfa.patterns.families import FAMILIES
from mkfa.patterns.fit import models
from mkfa.stats.p_values import p_value

GAUSSIAN = next(i for i, f in enumerate(FAMILIES) if f.name == "gaussian" and f.axes == ("x", "y"))


@pytest.fixture
def mixed_bank():
    """Three layers: 5x5, 3x3, 5x5 dilated; with planted Gaussians, a dead, a flat and a non-finite filter."""
    rng = np.random.default_rng(0)
    book = dictionary("families", 5, 5)
    place = np.column_stack([rng.uniform(0.8, 2, 40), rng.uniform(0.8, 2, 40), np.zeros(40)])
    first = (book.patterns(GAUSSIAN, place) * rng.uniform(-2, 2, (40, 1)) + 0.3).reshape(40, 5, 5)
    first[3] = 1e-5
    first[4] = 0.3
    first[5, 0, 0] = np.nan
    second = rng.standard_normal((30, 3, 3))
    third = rng.standard_normal((20, 5, 5))
    layers = [
        (Layer(0, "a", 0, 0.0, 40, 5, 5, (1, 1), (1, 1), 1), first.astype(np.float32), None),
        (Layer(0, "b", 0, 0.0, 30, 3, 3, (1, 1), (1, 1), 1), second.astype(np.float32), None),
        (Layer(0, "c", 0, 0.0, 20, 5, 5, (1, 1), (2, 2), 1), third.astype(np.float32), None),
    ]
    return make_bank("mixed", layers, Provenance())


def test_kinds_are_kept_apart_and_unusable_filters_counted(mixed_bank):
    found = assign(mixed_bank, draws=200)
    assert [str(k.kind) for k in found.kinds] == ["5x5", "3x3", "5x5 dilated 2x2"]
    first = found.kinds[0]
    assert first.unscored == {"dead": 1, "flat": 1, "non-finite": 1} and len(found) == 87
    assert (first.fit.label[3:6] == -1).all() and np.isnan(first.p[3:6]).all()
    assert set(found.names[i] for i in first.fit.label[first.usable]) == {"gaussian"}
    assert found.kinds[2].row.tolist() == list(range(40, 60))


def test_gain_and_offset_rebuild_the_filter(mixed_bank):
    part = assign(mixed_bank, draws=200).kinds[0]
    book = dictionary("families", 5, 5)
    pattern = models(part.fit, book) * np.sign(part.fit.cosine)[:, None]  # undo the sign: gain carries it
    rebuilt = part.gain[:, None] * pattern + part.offset[:, None]
    weight = mixed_bank.of_kind(part.kind).weight.reshape(40, 25)
    assert rebuilt[part.usable] == pytest.approx(weight[part.usable], abs=0.02)
    assert (part.gain[part.usable] < 0).any() and (part.gain[part.usable] > 0).any()


def test_p_is_that_of_the_chosen_null(mixed_bank):
    found = assign(mixed_bank, null="blurred", draws=300, seed=5)
    for part in found.kinds:
        assert [n.name for n in part.nulls] == ["blurred", "shuffled", "gaussian", "covariance"]
        assert all(len(n.r2) == 300 and (np.diff(n.r2) >= 0).all() for n in part.nulls)
        expected = p_value(part.fit.r2[part.usable], part.nulls[0].r2[:, None], larger=True)
        assert part.p[part.usable] == pytest.approx(expected)


def test_p_of_random_filters_is_uniform(bank_maker):
    bank = bank_maker([(400, 5, 5)])
    part = assign(bank, null="gaussian", draws=4000, seed=1).kinds[0]
    assert kstest(part.p, "uniform").pvalue > 0.01


def test_the_same_seed_gives_the_same_and_another_seed_other_nulls(mixed_bank):
    a, b, c = (assign(mixed_bank, draws=99, seed=s).kinds[0].nulls[0].r2 for s in (0, 0, 1))
    assert (a == b).all() and (a != c).any()


def test_the_work_is_what_the_progress_bar_counts(mixed_bank):
    done = []
    assign(mixed_bank, draws=99, progress=lambda *counts: done.append(counts))
    assert done[-1] == (87 + 3 * 4 * 99, 90 + 3 * 4 * 99)  # three filters cannot be fitted


@pytest.mark.parametrize(
    ("asked", "kinds"),
    [
        ("3x3", [1]),
        ("5x5", [0, 2]),
        ("5x5 dilated 2x2", [2]),
        (["5X5  dilated 2x2", "3x3"], [1, 2]),
        ("5x5, 3x3,", [0, 1, 2]),
        (Kind(3, 3), [1]),
        (None, [0, 1, 2]),
    ],
)
def test_only_the_sizes_that_are_asked_for_are_assigned_and_as_among_all(mixed_bank, asked, kinds):
    whole, done = assign(mixed_bank, draws=99, seed=3), []
    found = assign(mixed_bank, draws=99, seed=3, kernel_size=asked, progress=lambda *counts: done.append(counts))
    assert found.kinds == tuple(whole.kinds[i] for i in kinds)
    left = {str(k.kind): "not asked for" for i, k in enumerate(whole.kinds) if i not in kinds}
    assert dict(found.skipped) == left == found.to_dict()["assignments"][0]["skipped"]
    assert done[-1][1] == sum(len(whole.kinds[i].layer) for i in kinds) + len(kinds) * 4 * 99


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ("7x7", "kernel size 7x7: mixed has no filter of it; choose from 5x5, 3x3, 5x5 dilated 2x2."),
        (5, "kernel size 5: mixed has no"),
        ([], "kernel size: names nothing; name a size"),
        (" ,", "kernel size: names nothing"),
    ],
)
def test_a_size_that_is_not_there_is_refused(mixed_bank, asked, says):
    with pytest.raises(MkfaError) as caught:
        assign(mixed_bank, draws=99, kernel_size=asked)
    assert str(caught.value).startswith(says)


def test_what_is_stored_can_be_read_row_by_row(mixed_bank, tmp_path):
    path = write_bank(mixed_bank, tmp_path / "mixed.h5")
    for basis in ("families", "eight"):
        found = assign(mixed_bank, basis=basis, draws=99, seed=3)
        write_analysis(path, found.analysis())
    stored = read_analyses(path)
    assert set(stored) == {"assign-families", "assign-eight"}
    analysis = stored["assign-families"]
    assert analysis.parameters["basis_version"] == version("families") == 2
    assert analysis.parameters["seed"] == 3 and analysis.parameters["draws"] == 99
    assert analysis.parameters["classes"][analysis.arrays["5x5.label"][0]] == "gaussian"
    assert analysis.arrays["5x5.label"].shape == (60,) and analysis.arrays["3x3.label"].shape == (30,)
    assert (analysis.arrays["5x5.label"][3:6] == -1).all() and np.isnan(analysis.arrays["5x5.r2"][3:6]).all()
    assert np.isfinite(analysis.arrays["5x5.r2"][40:]).all()
    part = assign(mixed_bank, draws=99, seed=3).kinds[2]
    assert analysis.arrays["5x5.r2"][40:] == pytest.approx(part.fit.r2)
    assert analysis.arrays["null.5x5 dilated 2x2.shuffled"].shape == (99,)


def test_what_cannot_be_asked_is_refused(mixed_bank, bank_maker):
    with pytest.raises(UnknownNameError, match="families"):
        assign(mixed_bank, basis="family")
    with pytest.raises(UnknownNameError, match="shuffled"):
        assign(mixed_bank, null="shuffle")
    with pytest.raises(MkfaError, match="at least 99"):
        assign(mixed_bank, draws=10)
    with pytest.raises(MkfaError, match="architecture"):
        assign(mixed_bank, null="init")
    dead = make_bank("dead", [(Layer(0, "a", 0, 0.0, 4, 3, 3), np.zeros((4, 3, 3), np.float32), None)], Provenance())
    with pytest.raises(MkfaError, match="live filters"):
        assign(dead, draws=99)
    assert set(assign(bank_maker([(5, 3, 3), (5, 1, 2)]), basis="eight", draws=99).skipped) == {"1x2"}


def test_the_untrained_network_is_a_null(bank_maker, monkeypatch):
    bank, untrained = bank_maker([(150, 5, 5)], seed=1), bank_maker([(150, 5, 5)], seed=2)
    seeds = []
    monkeypatch.setattr("mkfa.nulls.untrained.init_bank", lambda bank, seed: seeds.append(seed) or untrained)
    found = assign(bank, null="init", draws=120, seed=7).kinds[0]
    assert seeds == [7] and found.nulls[0].name == "init" and len(found.nulls) == 5
    expected = assign(untrained, draws=120).kinds[0].fit.r2
    assert set(found.nulls[0].r2.round(4)) <= set(expected.round(4)) and len(found.nulls[0].r2) == 120
