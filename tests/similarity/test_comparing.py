"""Comparing banks: planted likeness is found, chance is not taken for it, and the records agree."""

from __future__ import annotations

import copy
import csv
import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mkfa
from mkfa.banks.bank import FilterBank, Layer, Provenance, make_bank
from mkfa.errors import MkfaError
from mkfa.similarity.chance import pair_p
from mkfa.similarity.comparing import compare, compare_many, distinct_names
from mkfa.similarity.comparison import Comparison
from mkfa.similarity.kind_comparison import fraction
from mkfa.similarity.measures.pca_kl import pca_kl, peak_scaled
from mkfa.similarity.measures.table import DEFAULT_MEASURES, MEASURES
from mkfa.similarity.settings import PAIR_NULLS, make_settings
from mkfa.similarity.wording import in_words, strictest
from mkfa.stats.p_values import holm
from mkfa.storage.records import to_json
from mkfa.storage.result_files import read_arrays

QUICK: dict[str, Any] = {"draws": 99, "splits": 4, "sample": 96}


def planted(
    name: str,
    seed: int,
    *,
    protos: int = 6,
    proto_seed: int = 0,
    smooth: bool = False,
    k: int = 5,
    layers: int = 4,
    each: int = 80,
    noise: float = 0.15,
    **provenance: str,
) -> FilterBank:
    """A bank around prototypes, with random sign, gain and offset."""
    centre = np.random.default_rng([1, proto_seed]).standard_normal((protos, k, k))
    if smooth:
        y, x = np.mgrid[:k, :k] - (k - 1) / 2
        centre *= np.exp(-(x**2 + y**2) / 3)
    rng = np.random.default_rng([2, seed])
    table = []
    for i in range(layers):
        shape = centre[rng.integers(0, protos, each)] + noise * rng.standard_normal((each, k, k))
        gain = rng.choice([-1, 1], (each, 1, 1)) * rng.uniform(0.5, 2, (each, 1, 1))
        weight = gain * shape + rng.normal(size=(each, 1, 1))
        table.append((Layer(0, f"{name}.{i}", i // 2, 0, 0, k, k, (1, 1), (1, 1)), weight.astype(np.float32), None))
    return make_bank(name, table, Provenance(**provenance))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def shared() -> Comparison:
    return compare(planted("a", 1), planted("b", 2), **QUICK)


def test_shared_prototypes_are_found_beyond_second_moments(shared: Comparison):
    kind = shared.kinds[0]
    assert [n.null for n in kind.nulls] == list(PAIR_NULLS) and kind.measures == DEFAULT_MEASURES
    for null in kind.nulls:
        for measure in ("coverage", "coverage_at", "matching", "mmd", "energy"):
            assert null.p[kind.row(measure)] == 1 / (1 + null.draws[kind.row(measure)]), (null.null, measure)
        assert null.draws[kind.row("coverage")] == 99 and null.draws[kind.row("matching")] == 39
    moments = next(n for n in kind.nulls if n.null == "covariance-layer")
    assert moments.p[kind.row("frobenius")] > 0.05  # the null has the same second moments
    judged = [i for i, name in enumerate(kind.measures) if name != "pca_kl"]
    assert np.isfinite(kind.value[judged]).all() and np.isnan(kind.interval).all()  # of four layers
    assert kind.no_interval[0] == "intervals need 8 layers of each bank, and one has 4"
    words = " ".join(in_words(kind, shared.a, shared.b))
    assert "closer than chance under shuffled, gaussian, blurred and covariance-layer (p <= 0.010)" in words
    assert "do not differ more than layers exchanged at random" in words


def test_one_test_is_primary_and_the_rest_is_labelled_exploratory(shared: Comparison):
    kind = shared.kinds[0]
    i, layered = kind.row("coverage"), next(n for n in kind.nulls if n.null == "covariance-layer")
    assert kind.primary == {
        "measure": "coverage",
        "null": "covariance-layer",
        "value": kind.value[i],
        "null_mean": layered.mean[i],
        "p": layered.p[i],
        "m": 99,
    }
    rows = [r for r in shared.rows() if r["role"] == "primary"]
    assert [(r["scope"], r["measure"], r["null"]) for r in rows] == [("bank", "coverage", "covariance-layer")]
    words = " ".join(in_words(kind, "a", "b"))
    assert "primary test, coverage under covariance-layer, gives p = 0.010" in words
    assert "Chance alone gives 0.5 of 10 under each null" in words
    other = compare(planted("a", 1), planted("b", 2), **QUICK | {"draws": 19}, nulls="gaussian").kinds[0]
    assert other.primary is None and "was not asked for" in " ".join(in_words(other, "a", "b"))


def test_the_place_is_also_given_on_the_scale_of_the_most_alike_null(shared: Comparison):
    kind = shared.kinds[0]
    for i, measure in enumerate(kind.measures):
        if measure == "pca_kl":
            assert kind.strictest[i] == "" and np.isnan(kind.fraction_strictest[i])
            continue
        means = {n.null: n.mean[i] for n in kind.nulls}
        best = max if MEASURES[measure].alike_is_more else min
        assert means[kind.strictest[i]] == best(means.values())
        assert strictest(kind, measure).null == kind.strictest[i]
        place = (kind.value[i] - kind.floor[i]) / (means[kind.strictest[i]] - kind.floor[i])
        assert kind.fraction_strictest[i] == pytest.approx(place, nan_ok=True) or np.isnan(kind.fraction_strictest[i])
    i = kind.row("coverage")
    assert f"{kind.fraction_strictest[i]:.0%} of the way to the strictest null, {kind.strictest[i]}" in (
        " ".join(in_words(kind, "a", "b"))
    )


def test_pca_kl_is_a_value_of_all_filters_without_chance(shared: Comparison):
    """Histograms of 70 bins are noise at 96 filters, so that no sampled value is given."""
    a, b = (planted(name, seed).groups[5, 5].weight.reshape(-1, 25) for name, seed in (("a", 1), ("b", 2)))
    kind = shared.kinds[0]
    i = kind.row("pca_kl")
    assert kind.value[i] == kind.all_filters["pca_kl"] == pytest.approx(pca_kl(peak_scaled(a), peak_scaled(b)))
    for part in (kind.interval[:, i], kind.floor[i], kind.floor_layers[i], kind.ceiling[i], kind.fraction[i]):
        assert np.isnan(part).all()
    assert all(np.isnan(n.p[i]) and np.isnan(n.mean[i]) and n.draws[i] == 0 for n in kind.nulls)
    assert kind.facts(0.9)["measures"]["pca_kl"]["filters"] == (320, 320)
    alone = compare(planted("a", 1), planted("b", 2), **QUICK | {"draws": 19}, measures="pca_kl").kinds[0]
    assert alone.measures == ("coverage", "pca_kl") and alone.value[1] == kind.value[i]


def test_layer_pairs_survive_the_correction_over_all_pairs(shared: Comparison):
    kind = shared.kinds[0]
    for null in kind.nulls:
        assert null.layer_p.shape == (3, 4, 4)
        assert (null.layer_p_max >= null.layer_p - 1e-6).all() and (null.layer_p_holm >= null.layer_p - 1e-6).all()
    gaussian = next(n for n in kind.nulls if n.null == "gaussian")
    assert (gaussian.layer_p_max[0] <= 0.05).all()
    assert (gaussian.layer_p_holm[0] > 0.05).all()  # 16 pairs at 99 draws: Holm cannot
    place = fraction(kind.layer_value, kind.layer_floor, gaussian.layer_mean)
    assert place.shape == (3, 4, 4) and abs(np.median(place[0])) < 0.2
    assert kind.stages_a == ("stage 0", "stage 1") and gaussian.stage_p.shape == (3, 2, 2)


def test_unlike_smooth_banks_are_close_to_each_other_but_not_to_noise():
    a = planted("a", 1, smooth=True, proto_seed=1, protos=40)
    b = planted("b", 2, smooth=True, proto_seed=2, protos=40)
    result = compare(a, b, **QUICK)
    kind = result.kinds[0]
    by_name = {n.null: n for n in kind.nulls}
    row = kind.row("energy")
    assert by_name["gaussian"].p[row] == 0.01 and by_name["shuffled"].p[row] == 0.01
    assert by_name["covariance-layer"].p[row] > 0.05  # nothing shared but smoothness, which is second moments
    assert strictest(kind, "energy").null in ("covariance-layer", "blurred")


def test_unrelated_prototypes_are_not_close():
    a, b = planted("a", 1, proto_seed=1, protos=3, layers=6), planted("b", 2, proto_seed=2, protos=3, layers=6)
    result = compare(a, b, **QUICK)
    kind = result.kinds[0]
    assert (np.array([n.p[kind.row("energy")] for n in kind.nulls]) > 0.05).all()
    assert (np.array([n.p_farther[kind.row("energy")] for n in kind.nulls]) <= 0.05).any()
    words = " ".join(in_words(kind, result.a, result.b))
    assert "Their layers differ more than layers exchanged at random" in words


def test_a_bank_against_itself_lies_at_the_floor():
    a = planted("a", 1)
    result = compare(a, a, draws=39, splits=16, sample=128)
    kind = result.kinds[0]
    assert kind.same and any("disjoint halves" in note for note in result.notes)
    for measure in ("coverage", "matching", "transport", "mmd", "energy", "bures", "responses"):
        scatter = 0.3 if measure == "transport" else 0.1  # of one split into halves; the mean over seeds is 0
        assert abs(kind.fraction[kind.row(measure)]) < scatter, measure
    # copies would have given perfect coverage
    assert kind.value[kind.row("coverage")] < 0.999
    assert all(p > 0.05 for p in kind.exchange.p.values())


def test_two_null_banks_have_no_place_between_floor_and_ceiling(bank_maker: Callable[..., FilterBank]):
    a, b = (bank_maker([(60, 5, 5)] * 3, seed=s, name=f"n{s}") for s in (1, 2))
    settings: dict[str, Any] = dict(draws=39, measures=("coverage", "energy"))
    kind = compare(a, b, **settings).kinds[0]
    gaussian = next(n for n in kind.nulls if n.null == "gaussian")
    assert np.isnan(gaussian.fraction).all() and (gaussian.p_sides > 0.02).all()


def test_copied_filters_are_noticed():
    a = planted("a", 1)
    layers = [(layer, weight, None) for layer, weight in a.iter_layers()]
    layers[0] = (layers[0][0], layers[0][1] * np.float32(1.5), None)
    result = compare(a, make_bank("b", layers, Provenance()), **QUICK)
    assert result.kinds[0].shared == 240
    assert "5x5: 240 of 320 filters of a occur in b bit for bit" in result.notes


def test_order_sign_gain_and_offset_of_a_bank_do_not_matter():
    a, b = planted("a", 1), planted("b", 2)
    settings: dict[str, Any] = dict(draws=19, sample=160, nulls=("gaussian",), measures=("coverage", "energy", "bures"))
    rng = np.random.default_rng(0)
    moved = []
    for layer, weight in b.iter_layers():
        n = len(weight)
        other = rng.choice([-2.0, 0.5], (n, 1, 1)) * (weight + rng.normal(size=(n, 1, 1)))
        moved.append((layer, other.astype(np.float32), None))
    one, other = (compare(a, x, **settings).kinds[0] for x in (b, make_bank("b", moved, Provenance())))
    np.testing.assert_allclose(one.value, other.value, atol=1e-4)
    np.testing.assert_allclose(one.nulls[0].p, other.nulls[0].p)


def test_the_seed_decides_everything_and_is_recorded():
    a, b = planted("a", 1), planted("b", 2)
    settings: dict[str, Any] = dict(draws=19, splits=2, sample=64, seed=5)
    one, two = (compare(a, b, **settings) for _ in range(2))
    assert one == two
    other = compare(a, b, draws=19, splits=2, sample=64, seed=6)
    assert not np.array_equal(one.kinds[0].value, other.kinds[0].value)
    assert one.settings.seed == 5 and one.attributes()["settings"].seed == 5


def test_a_measure_of_ones_own_has_the_same_values_by_layer_as_a_built_in_one():
    def own_coverage(a: np.ndarray, b: np.ndarray) -> float:
        cosine = np.abs(a @ b.T)
        return float(cosine.max(axis=0).mean() + cosine.max(axis=1).mean()) / 2

    mkfa.register(mkfa.Measure("own", "", own_coverage, alike_is_more=True))
    try:
        kind = compare(planted("a", 1), planted("b", 2), **QUICK, nulls="gaussian", measures="coverage,own").kinds[0]
    finally:
        MEASURES.unregister("own")
    (built_in, first), (mine, second) = kind.by_layer
    assert (first, second) == ("coverage", "own")
    null = kind.nulls[0]
    for array in (kind.layer_value, kind.layer_floor, kind.stage_value, null.layer_mean, null.layer_p, null.stage_p):
        np.testing.assert_allclose(array[mine], array[built_in], atol=2e-6)
    assert {"bank", "stage", "layer"} == {row["scope"] for row in kind.rows() if row["measure"] == "own"}


def test_a_measure_may_have_no_values_by_layer():
    mkfa.register(mkfa.Measure("whole_only", "", lambda a, b: float(len(a)), by_layer=False))
    try:
        kind = compare(planted("a", 1), planted("b", 2), **QUICK, nulls="gaussian", measures="whole_only").kinds[0]
    finally:
        MEASURES.unregister("whole_only")
    assert kind.by_layer == [] and {row["scope"] for row in kind.rows()} == {"bank"}


def test_draws_may_still_be_called_permutations():
    a, b = planted("a", 1, layers=2, each=20), planted("b", 2, layers=2, each=20)
    options: dict[str, Any] = dict(measures="energy", nulls="gaussian", splits=1)
    assert compare(a, b, permutations=21, **options) == compare(a, b, draws=21, **options)


def test_progress_ends_at_the_total():
    a, b = planted("a", 1, layers=2, each=20), planted("b", 2, layers=2, each=20)
    seen: list[tuple[float, float | None]] = []
    options = {"nulls": "gaussian,shuffled", "measures": "coverage"}
    compare(a, b, draws=21, progress=lambda *done: seen.append(done), **options)
    assert seen[-1] == (42, 42)


def test_several_kinds_are_compared_apart_and_the_rest_is_said(bank_maker: Callable[..., FilterBank]):
    a = bank_maker([(40, 3, 3), (40, 5, 5), (30, 7, 7)], seed=1, name="a")
    b = bank_maker([(40, 3, 3), (90, 5, 5)], seed=2, name="b")
    settings: dict[str, Any] = dict(draws=19, measures=("coverage", "pca_kl"))
    result = compare(a, b, **settings)
    assert [str(k.kind) for k in result.kinds] == ["3x3", "5x5"]
    assert [k.n for k in result.kinds] == [20, 20]
    assert "a: 30 filters of 7x7 in 1 layer left out, b has none" in map(str, result.left_out)
    settings: dict[str, Any] = dict(draws=19, measures=("coverage",), kernel_size="5x5")
    only = compare(a, b, **settings)
    assert [str(k.kind) for k in only.kinds] == ["5x5"]
    assert any("3x3" in str(x) and "not asked for" in str(x) for x in only.left_out)


@pytest.mark.parametrize("case", ["dead", "few", "none"])
def test_what_cannot_be_compared_is_one_sentence(case: str, bank_maker: Callable[..., FilterBank]):
    a = bank_maker([(40, 5, 5)], name="a")
    if case == "none":
        b, text = bank_maker([(40, 3, 3)], name="b"), "a has 5x5; b has 3x3"
    else:
        some = np.random.default_rng(0).random((9, 5, 5), np.float32)
        weight = np.zeros((40, 5, 5), np.float32) if case == "dead" else some
        b = make_bank("b", [(Layer(0, "x", 0, 0, 0, 5, 5, (1, 1), (1, 1)), weight, None)], Provenance())
        text = f"5x5: 40 in a, {0 if case == 'dead' else 9} in b"
    with pytest.raises(MkfaError, match=text):
        compare(a, b, **QUICK)


def test_a_layer_with_one_filter_and_a_bank_of_one_layer_do_not_break(bank_maker: Callable[..., FilterBank]):
    a, b = bank_maker([(1, 5, 5), (40, 5, 5)], name="a"), bank_maker([(60, 5, 5)], seed=3, name="b")
    result = compare(a, b, draws=19)
    kind = result.kinds[0]
    assert np.isfinite(kind.value).all() and kind.layers_a == ("blocks.1.conv.weight",)
    assert "too few layers" in " ".join(in_words(kind, result.a, result.b))
    assert any("under 4 usable filters" in str(x) for x in result.left_out)


def test_nonfinite_filters_are_left_out():
    a = planted("a", 1)
    group = a.groups[5, 5]
    weight = group.weight.copy()
    weight[3, 0, 0] = np.nan
    layers = [(layer, weight[i * 80 : i * 80 + 80], None) for i, layer in enumerate(a.layers)]
    result = compare(make_bank("n", layers, Provenance()), planted("b", 2), **QUICK)
    assert result.kinds[0].usable[0] == 319
    assert "n: 1 filter of 5x5 left out, not finite" in map(str, result.left_out)
    assert np.isfinite(result.kinds[0].value).all()


def test_transport_has_the_same_directions_with_every_seed(monkeypatch: pytest.MonkeyPatch):
    import mkfa.similarity.comparing as comparing

    seen, make_plan = [], comparing.make_plan

    def record(*arguments: Any, **options: Any) -> Any:
        seen.append(make_plan(*arguments, **options))
        return seen[-1]

    monkeypatch.setattr(comparing, "make_plan", record)
    for seed in (1, 2):
        compare(planted("a", 1), planted("b", 2), seed=seed, measures="transport", nulls="gaussian", draws=19)
    assert seen[0].theta.shape == (25, 64) and np.array_equal(seen[0].theta, seen[1].theta)


def test_the_former_option_bootstrap_is_accepted_and_said_to_do_nothing():
    with pytest.warns(FutureWarning, match="bootstrap is no longer used"):
        with_it = compare(planted("a", 1), planted("b", 2), bootstrap=99, **QUICK)
    without = compare(planted("a", 1), planted("b", 2), **QUICK)
    assert to_json(with_it.rows()) == to_json(without.rows())
    assert np.array_equal(with_it.kinds[0].interval, without.kinds[0].interval, equal_nan=True)


BAD: list[tuple[dict[str, object], str]] = [
    ({"draws": 18}, "draws 18: is less than 19"),
    ({"sample": 15}, "sample 15: is less than 16"),
    ({"splits": 0}, "splits 0: is less than 1"),
    ({"threshold": 1.5}, "threshold 1.5: is not"),
    ({"bandwidth": -1.0}, "bandwidth -1.0: is not positive"),
    ({"nulls": ()}, "nulls: names nothing"),
    ({"measures": " ,"}, "measures: names nothing"),
    ({"kernel_size": "5by5"}, "is not a kernel size"),
    ({"kernel_size": (5, 5)}, "kernel size 5: is not a kernel size"),
    ({"ceiling": "gausian"}, "did you mean gaussian"),
    ({"measures": "moment"}, "did you mean moments"),
    ({"nulls": ("gausian",)}, "did you mean gaussian"),
    ({"measures": ("cover",)}, "did you mean coverage"),
]


@pytest.mark.parametrize(("change", "says"), BAD)
def test_settings_are_checked(change: dict[str, object], says: str):
    with pytest.raises(MkfaError, match=says):
        make_settings(**change)  # type: ignore[arg-type]


def test_pairs_are_adjusted_for_the_largest_of_each_draw():
    """Against a loop; and the chance that any of many null pairs passes is the level."""
    rng = np.random.default_rng(0)
    scale = np.exp(rng.normal(size=(3, 4, 5)))
    hits = 0
    for trial in range(200):
        everything = rng.standard_normal((40, 2, 3, 4, 5)) * scale
        plain, adjusted = pair_p(everything[0, 0], np.concatenate([everything[1:, :1]] * 2, axis=1))
        if trial == 0:
            part = everything[:, 0]
            z = (part - part.mean(0)) / part.std(0)
            top = z.max(axis=(2, 3))
            for i, x, y in np.ndindex(3, 4, 5):
                assert plain[i, x, y] == pytest.approx((z[:, i, x, y] >= z[0, i, x, y]).mean())
                assert adjusted[i, x, y] == pytest.approx((top[:, i] >= z[0, i, x, y]).mean())
        hits += bool((adjusted[0] <= 0.1).any())
    assert 8 <= hits <= 34  # 20 expected; 200 draws of a binomial with p = 0.1


def test_fraction_runs_from_floor_to_ceiling_in_either_direction():
    assert fraction([0.9, 0.1], [0.9, 0.1], [0.3, 0.7]).tolist() == [0, 0]
    assert fraction([0.3, 0.4], [0.9, 0.1], [0.3, 0.7]).tolist() == pytest.approx([1, 0.5])
    assert np.isnan(fraction(0.5, 0.2, 0.2))


def test_each_measure_runs_in_the_direction_that_is_said_of_it(shared: Comparison):
    kind = shared.kinds[0]
    rises = {
        name for name, floor, ceiling in zip(kind.measures, kind.floor, kind.ceiling, strict=True) if floor > ceiling
    }
    assert rises == {measure.name for measure in MEASURES.values() if measure.alike_is_more}


def test_many_banks_make_a_matrix_and_seeds_a_floor(bank_maker: Callable[..., FilterBank]):
    same = {"architecture": "net", "training_set": "letters"}
    banks = [planted("a", 1, **same), planted("b", 2, **same), planted("c", 3, proto_seed=9)]
    banks.append(bank_maker([(9, 3, 3)], name="d"))
    settings: dict[str, Any] = dict(draws=39, splits=2, sample=64, measures=("coverage", "energy"))
    result = compare_many(banks, **settings)
    assert [r is None for r in result.pairs] == [False, False, True, False, True, True] and len(result.skipped) == 3
    coverage, energy = result.matrices
    assert coverage.names == ("a", "b", "c", "d") and energy.measure == "energy"
    np.testing.assert_allclose(coverage.value, coverage.value.T)
    assert np.isnan(coverage.value[3]).all() and np.isnan(coverage.value.diagonal()).all()
    assert coverage.seed_floor == result.done[0].kinds[0].value[0]
    assert coverage.fraction_of_seeds[0, 1] == 0 and coverage.fraction_of_seeds[0, 2] > 0.3
    assert coverage.p_holm[1, 0, 1] == pytest.approx(3 * 0.025)
    assert pickle.loads(pickle.dumps(result)) == result and "3 of 6 pairs" in repr(result)
    assert [bank.name for bank in distinct_names([banks[0], banks[0], banks[1]])] == ["a (1)", "a (2)", "b"]


def test_banks_of_one_parent_count_once():
    """A fine-tuned copy adds no evidence: with it, one test is left of three pairs, and its larger p stands."""
    a, c = planted("a", 1), planted("c", 3, proto_seed=9)
    rng = np.random.default_rng(0)
    tuned = [(x, (w + 0.02 * rng.standard_normal(w.shape)).astype(np.float32), None) for x, w in a.iter_layers()]
    options: dict[str, Any] = dict(draws=39, splits=2, sample=64, measures="coverage")
    result = compare_many([a, make_bank("b", tuned, Provenance()), c], **options)
    assert result.families == (("a", "b"),) and result.tests == 1
    same, *others = result.primary
    assert (same.a, same.b) == ("a", "b") and np.isnan(same.p_holm)
    assert [t.p_holm for t in others] == [max(t.p for t in others)] * 2
    matrix = result.matrices[0]
    assert np.isnan(matrix.p_holm[:, 0, 1]).all()
    np.testing.assert_allclose(matrix.p_holm[:, 0, 2], matrix.p[:, :2, 2].max(axis=1))
    assert "a and b have a common parent" in result.done[0].notes[0]
    assert [pair.notes[0].split(" was found")[0] for pair in result.done[1:]] == [
        "No common parent of a and c",
        "No common parent of b and c",
    ]
    data = json.loads(json.dumps(result.to_dict()))
    assert data["families"] == [["a", "b"]] and len(data["primary"]) == 3
    assert [pair["lineage"]["found"] for pair in data["comparisons"]] == [True, False, False]


def test_primary_tests_are_adjusted_over_pairs_and_kernel_sizes():
    banks = [planted(name, seed, proto_seed=seed) for seed, name in enumerate("abc")]
    options: dict[str, Any] = dict(draws=39, splits=2, sample=64, measures="coverage")
    result = compare_many(banks, **options, nulls="covariance-layer")
    assert result.families == () and result.tests == 3
    assert [t.p_holm for t in result.primary] == pytest.approx(holm([t.p for t in result.primary]).tolist())
    assert [(t.a, t.b, t.kind) for t in result.primary] == [("a", "b", "5x5"), ("a", "c", "5x5"), ("b", "c", "5x5")]


def test_records_tables_and_arrays_say_the_same(shared: Comparison, tmp_path: Path):
    kind = shared.kinds[0]
    data = json.loads(shared.save(tmp_path / "r.json").read_text())["comparisons"][0]["kinds"][0]
    mean = data["measures"]["energy"]["nulls"]["blurred"]["mean"]
    assert mean == pytest.approx(kind.nulls[2].mean[kind.row("energy")])
    assert np.array(data["layers"]["mmd"]["nulls"]["shuffled"]["p_max"]).shape == (4, 4)
    rows = list(csv.DictReader(shared.save(tmp_path / "r.csv").read_text().splitlines()[1:]))
    assert len(rows) == 4 * (11 + 3 * 4 + 3 * 16)
    row = next(r for r in rows if r["scope"] == "layer" and r["measure"] == "energy" and r["null"] == "gaussian")
    assert float(row["value"]) == pytest.approx(float(kind.layer_value[2, 0, 0]), abs=1e-5)
    assert float(row["p_max"]) == pytest.approx(float(kind.nulls[1].layer_p_max[2, 0, 0]), abs=1e-5)
    assert row["m"] == "99" and row["filters"] == str(kind.n)
    arrays, attributes = read_arrays(shared.save(tmp_path / "r.h5"), kind="comparison")
    np.testing.assert_array_equal(arrays["a and b/5x5/gaussian/layer_mean"], kind.nulls[1].layer_mean)
    assert [str(x) for x in shared.to_arrays()["a and b/5x5/layers_a"]] == ["a.0", "a.1", "a.2", "a.3"]
    pair = attributes["pairs"][0]["kinds"][0]
    assert pair["nulls"]["gaussian"] == 99 and pair["in_words"] == in_words(kind, shared.a, shared.b)


def test_a_comparison_prints_in_one_line_and_survives_pickle(shared: Comparison):
    assert repr(shared).startswith("<Comparison: a and b, 5x5 coverage 0.")
    assert "<td>gaussian</td>" in shared._repr_html_()
    assert pickle.loads(pickle.dumps(shared)) == shared == copy.deepcopy(shared)


def test_a_measure_has_an_interval_or_a_sentence_that_says_why_not():
    banks = [planted(name, seed, layers=8, each=24) for name, seed in (("a", 1), ("b", 2))]
    result = compare(*banks, nulls="gaussian", draws=19)
    kind, measures = result.kinds[0], result.to_dict()["comparisons"][0]["kinds"][0]["measures"]
    printed = ("coverage",)
    for i, name in enumerate(kind.measures):
        facts = measures[name]
        assert (facts["no_interval"] is None) == (name in printed)
        if name in printed:
            assert facts["low"] < facts["value"] < facts["high"]
        else:
            assert facts["low"] is None and facts["high"] is None and kind.no_interval[i] == facts["no_interval"]
    assert measures["mmd"]["no_interval"].startswith("simulated intervals held the mean in less than 92 %")
    same = compare(banks[0], banks[0], nulls="gaussian", draws=19, measures="coverage").kinds[0]
    assert np.isnan(same.interval).all() and same.no_interval == ("the layers of the two banks are not independent",)


def test_a_bank_of_one_layer_is_said_to_have_no_covariances_of_layers():
    one, many = planted("one", 1, layers=1), planted("many", 2)
    quick: dict[str, Any] = dict(draws=19, splits=1, sample=32, measures="coverage")
    text = "all filters are of one layer, so that covariance-layer is covariance"
    assert f"one, 5x5: {text}" in compare(one, many, **quick).notes
    assert not any(text in note for note in compare(one, many, **quick, nulls="covariance").notes)


def test_all_nulls_that_fewest_measures_pass_are_named(shared: Comparison):
    kind = shared.kinds[0]
    passed = {n.null: int((n.p <= 0.05).sum()) for n in kind.nulls}
    few, p = [n for n in passed if n != "blurred"], np.where(np.arange(len(kind.measures)) < 2, 0.01, 0.5)
    tied = replace(kind, nulls=tuple(replace(n, p=p if n.null in few[:2] else np.zeros_like(p)) for n in kind.nulls))
    names = " and ".join(kind.measures[:2])
    assert f"fewest under {few[0]} ({names}) and {few[1]} ({names})." in " ".join(in_words(tied, "a", "b"))
    same = replace(kind, nulls=tuple(replace(n, p=p) for n in kind.nulls))
    assert "fewest" not in " ".join(in_words(same, "a", "b"))


def test_a_null_more_alike_than_halves_of_one_network_gives_no_place():
    options: dict[str, Any] = dict(draws=19, sample=64, measures="coverage", nulls="gaussian,blurred")
    kind = compare("resmixer_fashion", "resmixer_clipart", **options).kinds[0]
    gaussian, blurred = kind.nulls
    assert blurred.low[0] > kind.floor[0] > gaussian.high[0]
    assert np.isfinite(gaussian.fraction[0])
    assert np.isnan(blurred.fraction[0]) and np.isnan(kind.fraction_strictest[0])
    assert "at no measurable place before the strictest null, blurred" in " ".join(in_words(kind, "a", "b"))
