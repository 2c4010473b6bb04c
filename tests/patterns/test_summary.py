"""Summaries of assignments: shares, coverage and intervals against counting by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mkfa.banks.bank import Layer, Provenance, make_bank
from mkfa.patterns.assigning import assign
from mkfa.patterns.dictionary import dictionary
from mkfa.patterns.families import FAMILIES
from mkfa.patterns.summary import CURVE, examples, summarise

GAUSSIAN = next(i for i, f in enumerate(FAMILIES) if f.name == "gaussian" and f.axes == ("x", "y"))


@pytest.fixture(scope="module")
def made():
    """Six layers: Gaussians in the first three, random filters in the others; one 3x3 layer; and its assignment."""
    rng, book, layers = np.random.default_rng(0), dictionary("families", 5, 5), []
    for i in range(6):
        place = np.column_stack([rng.uniform(0.8, 2, 30), rng.uniform(0.8, 2, 30), np.zeros(30)])
        weight = book.patterns(GAUSSIAN, place).reshape(30, 5, 5) if i < 3 else rng.standard_normal((30, 5, 5))
        layers.append((Layer(0, f"l{i}", 0, 0.0, 30, 5, 5), weight.astype(np.float32), None))
    layers.append((Layer(0, "small", 0, 0.0, 45, 3, 3), rng.standard_normal((45, 3, 3)).astype(np.float32), None))
    layers[4][1][:6] = 0
    bank = make_bank("made", layers, Provenance())
    return assign(bank, draws=500, seed=4)


def test_shares_are_counts_of_the_rows_in_which_classes_are_merged(made):
    summary = summarise(made)
    counts: dict[str, int] = {}
    for part in made.kinds:
        for label in part.fit.label[part.usable].tolist():
            name = made.names[label]
            if str(part.kind) == "3x3" and name in ("dog", "laplacian", "centre_minus_laplacian"):
                name = "gaussian"
            name = {"dog": "gaussian", "centre_minus_laplacian": "laplacian"}.get(name, name)  # at 5x5
            counts[name] = counts.get(name, 0) + 1
    assert summary.filters == sum(counts.values()) == 6 * 30 + 45 - 6
    assert sum(c.share for c in summary.classes) == pytest.approx(1)
    for each in summary.classes:
        assert each.filters == counts.pop(each.name.split("/")[0], 0)
        assert each.share == pytest.approx(each.filters / summary.filters)
        assert np.isnan(each.low) and np.isnan(each.high)  # seven layers are too few
    assert not counts
    assert sum(c.null_share for c in summary.classes) == pytest.approx(1)
    gaussian = summary.classes[1]
    assert gaussian.name == "gaussian/laplacian/dog" and gaussian.title == "Gaussian, Laplacian, DoG"
    assert {(m.name, m.size) for m in gaussian.merged} == {
        ("laplacian", "3x3"),
        ("centre_minus_laplacian", "3x3"),
        ("dog", "3x3"),
        ("dog", "5x5"),
    }
    assert gaussian.share > 0.4 and gaussian.median_r2 > 0.98 and gaussian.null_share < 0.4


def test_coverage_is_counted_three_ways_beside_every_null(made):
    found = made
    summary = summarise(replace(found, r2=0.7))
    part, coverage = found.kinds[0], summary.kinds[0].coverage
    r2 = part.fit.r2[part.usable]
    for null, each in zip(part.nulls, coverage, strict=True):
        assert each.null == null.name
        assert each.fixed == pytest.approx((r2 >= 0.7).mean())
        assert each.null_fixed == pytest.approx((null.r2 >= 0.7).mean())
        assert (null.r2 > each.threshold).mean() == pytest.approx(0.01, abs=0.002)
        assert each.beyond == pytest.approx((r2 > each.threshold).mean())
        assert each.curve == pytest.approx([(r2 >= np.float32(c)).mean() for c in CURVE])
        assert each.null_curve == pytest.approx([(null.r2 >= np.float32(c)).mean() for c in CURVE])
        assert each.null_median_r2 == pytest.approx(np.median(null.r2), abs=0.01)
    assert summary.kinds[0].median_p == pytest.approx(np.median(part.p[part.usable]))


def test_the_whole_bank_holds_each_size_to_its_own_null(made):
    found = made
    summary = summarise(found)
    limits = [np.quantile(k.nulls[0].r2, 0.99) for k in found.kinds]
    passed = sum(int((k.fit.r2[k.usable] > t).sum()) for k, t in zip(found.kinds, limits, strict=True))
    assert summary.whole[0].beyond == pytest.approx(passed / summary.filters)
    by_kind = [(k.filters, k.coverage[0].null_fixed) for k in summary.kinds]
    assert summary.whole[0].null_fixed == pytest.approx(sum(n * f for n, f in by_kind) / summary.filters)


def test_intervals_are_over_layers():
    """Half the layers are covered and half are not: over layers the interval is wide, over filters it would not be."""
    rng, book, layers = np.random.default_rng(0), dictionary("families", 5, 5), []
    for i in range(8):
        place = np.column_stack([rng.uniform(0.8, 2, 30), rng.uniform(0.8, 2, 30), np.zeros(30)])
        weight = book.patterns(GAUSSIAN, place).reshape(30, 5, 5) if i < 4 else rng.standard_normal((30, 5, 5))
        layers.append((Layer(0, f"l{i}", 0, 0.0, 30, 5, 5), weight.astype(np.float32), None))
    summary = summarise(assign(make_bank("made", layers, Provenance()), draws=500, seed=4))
    each = summary.whole[0]
    assert each.beyond == pytest.approx(0.5, abs=0.03)
    assert each.beyond_low < 0.25 and each.beyond_high > 0.75
    for row in summary.classes:
        if 25 <= row.filters <= 215:
            assert row.low < row.share < row.high
        else:
            assert np.isnan(row.low) and np.isnan(row.high)
    assert "from 8 layers on" in summary.interval_rule


def test_one_layer_has_no_interval(bank_maker):
    bank = bank_maker([(20, 3, 3)])
    summary = summarise(assign(bank, draws=99))
    assert np.isnan(summary.whole[0].fixed_low) and np.isnan(summary.classes[0].low)


def test_layers_are_in_order_and_say_what_is_dead(made):
    found, bank = made, made.bank
    layers = summarise(found).layers
    assert [layer.name for layer in layers] == [layer.name for layer in bank.layers]
    assert [layer.dead for layer in layers] == [0, 0, 0, 0, 6, 0, 0]
    assert layers[4].filters == 24 and layers[0].fixed > 0.95 and layers[3].fixed < 0.2
    assert all(sum(layer.shares) == pytest.approx(1) for layer in layers)


def test_a_layer_without_usable_filters_is_kept(bank_maker):
    rng = np.random.default_rng(0)
    layers = [
        (Layer(0, "live", 0, 0.0, 9, 3, 3), rng.standard_normal((9, 3, 3)).astype(np.float32), None),
        (Layer(0, "dead", 0, 0.0, 4, 3, 3), np.zeros((4, 3, 3), np.float32), None),
    ]
    bank = make_bank("half", layers, Provenance())
    summary = summarise(assign(bank, draws=99))
    assert summary.layers[1].filters == 0 and summary.layers[1].dead == 4 and np.isnan(summary.layers[1].median_r2)
    assert summary.unscored["dead"] == 4 and np.isfinite(summary.classes[0].share)


def test_examples_are_the_best_and_the_worst(made):
    found = made
    best, worst = examples(found, count=4)
    part = found.kinds[0]
    r2 = np.sort(part.fit.r2[part.usable])
    assert best[0].r2 == pytest.approx(r2[-1]) and [e.r2 for e in worst] == pytest.approx(r2[:4])
    assert len({e.title for e in best}) == len(best)
    for each in (*best, *worst):
        left = ((each.filter - each.model) ** 2).sum() / ((each.filter - each.filter.mean()) ** 2).sum()
        assert 1 - left == pytest.approx(each.r2, abs=1e-3)
