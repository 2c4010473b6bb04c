"""The atlas figure shows prototypes about zero, shares as bars, and every sampled filter in each colouring."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mkfa.banks.bank import Layer, Provenance, make_bank
from mkfa.clusters.atlas import FilterMap, build_atlas
from mkfa.figures.atlas import draw


@pytest.fixture(scope="module")
def atlas():
    rng = np.random.default_rng(0)
    pattern = rng.standard_normal((2, 9))
    banks = []
    for name in ("one", "two"):
        raw = pattern[rng.integers(2, size=40)] + 0.1 * rng.standard_normal((40, 9))
        layer = Layer(0, "l", -1, 0.0, 1, 3, 3)
        banks.append(make_bank(name, [(layer, raw.reshape(-1, 3, 3).astype(np.float32), None)], Provenance()))
    return build_atlas(banks, clusters=2)


def titled(figure, text):
    return next(ax for ax in figure.axes if text in (ax.get_title(), ax.get_title(loc="left")))


def test_prototypes_and_shares(atlas):
    figure = draw(atlas)
    pictures = [ax for ax in figure.axes if ax.images]
    assert len(pictures) == 2
    for j, ax in enumerate(pictures):
        low, high = ax.images[0].get_clim()
        assert low == -high
        assert np.allclose(np.asarray(ax.images[0].get_array()), atlas.clusters.prototype[j].reshape(3, 3))
        assert ax.get_title() == f"{j + 1}: {atlas.clusters.size[j] / 80:.0%}"
    bars = next(ax for ax in figure.axes if ax.patches)
    assert [t.get_text() for t in bars.get_yticklabels()] == ["one", "two", "shallow", "middle", "deep"]
    expected = np.nan_to_num([*atlas.bank_share[:, 0], *atlas.third_share[:, 0]])
    assert np.allclose([p.get_width() for p in bars.patches], expected)
    assert bars.texts[3].get_text() == "–"  # one layer: no filter lies in the middle third


def test_three_colourings_of_the_same_points(atlas):
    position = np.random.default_rng(1).standard_normal((50, 2)).astype(np.float32)
    figure = draw(replace(atlas, map=FilterMap(np.arange(50), position)))
    for title in ("best fitting class", "depth of the layer", "bank"):
        points = np.asarray(titled(figure, title).collections[0].get_offsets())
        assert np.allclose(np.sort(points[:, 0]), np.sort(position[:, 0]))
    depth = titled(figure, "depth of the layer").collections[0]
    assert depth.get_clim() == (0, 1)
    legend = titled(figure, "bank").get_legend()
    assert [t.get_text() for t in legend.get_texts()] == ["one", "two"]
    small = [artist for artist in titled(figure, "best fitting class").artists if hasattr(artist, "xybox")]
    assert 3 <= len(small) <= 18
    assert all(np.isclose(position, artist.xy).all(axis=1).any() for artist in small)  # each at its filter's place
