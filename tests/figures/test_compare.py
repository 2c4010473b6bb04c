"""The figures of comparisons show the numbers of the result."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mkfa.banks.bank import FilterBank, Layer, Provenance, make_bank
from mkfa.figures.compare import LIMITS, draw
from mkfa.similarity.comparing import compare_many
from mkfa.similarity.matrix import Comparisons
from mkfa.similarity.settings import PAIR_NULLS


def bank(name: str, seed: int) -> FilterBank:
    rng, shared = np.random.default_rng(seed), np.random.default_rng(9).standard_normal((5, 5, 5))
    layers = [(Layer(0, "stem", 0, 0, 0, 3, 3), rng.standard_normal((4, 3, 3)).astype(np.float32), None)]
    for i in range(3):
        weight = shared[rng.integers(0, 5, 30)] + 0.3 * rng.standard_normal((30, 5, 5))
        layers.append((Layer(0, f"{name}{i}", 0, 0, 0, 5, 5, (1, 1), (1, 1)), weight.astype(np.float32), None))
    return make_bank(name, layers, Provenance())


@pytest.fixture(scope="module")
def three() -> Comparisons:
    banks = [bank(name, i) for i, name in enumerate("abc")]
    return compare_many(banks, draws=19, sample=32, splits=2)


def test_layer_pairs_curves_and_places(three: Comparisons):
    result = three.done[0]
    kind = result.kinds[0]
    figure = draw(result)
    pairs, curves, places = figure.axes[:3]
    np.testing.assert_allclose(pairs.images[0].get_array(), kind.layer_value[0])
    low, high = pairs.images[0].get_clim()  # floor and every null lie on the bar
    for level in (kind.layer_floor[0].mean(), *(n.layer_mean[0].mean() for n in kind.nulls)):
        assert low <= level <= high
    assert pairs.get_xlabel() == "layer of b" and pairs.get_ylabel() == "layer of a"
    assert [t.get_text() for t in pairs.get_xticklabels()] == ["2", "3", "4"]  # layer 1 is of another kernel size
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == [*PAIR_NULLS, "floor (halves)", "a in b", "b in a"]
    drawn = {line.get_label(): line.get_ydata() for line in curves.lines}
    np.testing.assert_allclose(drawn["a in b"], kind.curve[0])
    np.testing.assert_allclose(drawn["covariance-layer"], kind.nulls[3].curve[0])
    assert [t.get_text() for t in places.get_yticklabels()] == [name for name in kind.measures if name != "pca_kl"]
    figure.draw_without_rendering()


def test_matrix_shows_fractions_with_the_floor_on_the_diagonal(three: Comparisons):
    matrices = three.matrices
    figure = draw(three)
    shown = figure.axes[0].images[0].get_array()
    np.testing.assert_allclose(np.diag(shown), 0)
    assert np.isfinite(shown[0, 1]) and shown[0, 1] == pytest.approx(matrices[0].fraction[0, 1])
    assert [t.get_text() for t in figure.axes[0].get_xticklabels()] == ["a", "b", "c"]
    figure.draw_without_rendering()


def test_values_beyond_the_axis_and_layers_without_filters_are_marked(three: Comparisons):
    result = three.done[0]
    kind = result.kinds[0]
    value, fraction = kind.layer_value.copy(), kind.fraction.copy()
    value[:, 1], fraction[0] = np.nan, 7
    figure = draw(replace(result, kinds=(replace(kind, layer_value=value, fraction=fraction),)))
    pairs, _, places = figure.axes[:3]
    assert "hatched: no usable filter" in pairs.get_title(loc="left")
    assert any(patch.get_hatch() for patch in pairs.patches)
    heads = [line for line in places.lines if line.get_marker() == ">" and line.get_markerfacecolor() == "black"]
    assert [list(line.get_xdata()) for line in heads] == [[LIMITS[1]]]
    assert "7.0" in [text.get_text() for text in places.texts]
    figure.draw_without_rendering()


def test_a_measure_without_a_place_has_no_row_and_is_named(three: Comparisons):
    result = three.done[0]
    kind = result.kinds[0]
    fraction = kind.fraction.copy()
    fraction[[0, 4]] = np.nan
    figure = draw(replace(result, kinds=(replace(kind, fraction=fraction),)))
    figure.draw_without_rendering()
    places = figure.axes[2]
    kept = [name for i, name in enumerate(kind.measures) if i not in (0, 4) and name != "pca_kl"]
    assert [t.get_text() for t in places.get_yticklabels()] == kept
    assert places.get_title(loc="left").endswith(f"\nno place: {kind.measures[0]}, 1 more")
    none = replace(kind, fraction=np.full_like(fraction, np.nan))
    assert not draw(replace(result, kinds=(none,))).axes[2].axison


def test_values_of_nulls_beyond_the_axis_cover_nothing(three: Comparisons):
    result = three.done[0]
    kind = result.kinds[0]
    far = replace(kind.nulls[2], mean=kind.floor + 4 * (kind.ceiling - kind.floor))
    nulls = (*kind.nulls[:2], far, *kind.nulls[3:])
    figure = draw(replace(result, kinds=(replace(kind, nulls=nulls),)))
    figure.draw_without_rendering()
    places = figure.axes[2]
    values = [text for text in places.texts if text.get_text() == "4.0"]
    assert values and all(text.get_window_extent().x0 >= places.bbox.x1 for text in values)
