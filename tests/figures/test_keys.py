"""The figure of keys shows the curves and each key over its partner."""

from __future__ import annotations

import numpy as np

from mkfa.banks.bank import Layer, Provenance, make_bank
from mkfa.clusters.keys import find_keys
from mkfa.figures.keys import draw


def test_curves_and_keys():
    rng = np.random.default_rng(0)
    raw = rng.standard_normal((3, 9))[rng.integers(3, size=120)] + 0.1 * rng.standard_normal((120, 9))
    layer = Layer(0, "l", -1, 0.0, 1, 3, 3)
    bank = make_bank("one", [(layer, raw.reshape(-1, 3, 3).astype(np.float32), None)], Provenance())
    keys = find_keys([bank], keys=3, most=6, candidates=12, draws=19)
    figure = draw(keys)
    explained = figure.axes[0]
    drawn = {line.get_label(): np.asarray(line.get_ydata()) for line in explained.lines}
    assert np.allclose(drawn["these filters, their own keys"], keys.curve.r2)
    assert np.allclose(drawn["covariance-layer null, its own keys (mean of 19)"], keys.curve.null_r2)
    assert np.allclose(drawn["covariance-layer null, the real keys"], keys.curve.cross_r2)
    pictures = [ax for ax in figure.axes if ax.images]
    shown = [np.asarray(ax.images[0].get_array()).ravel() for ax in pictures]
    assert np.allclose(shown[:3], keys.clusters.prototype)
    assert np.allclose(shown[3:], keys.match.partner)
    assert all(ax.images[0].get_clim()[0] == -ax.images[0].get_clim()[1] for ax in pictures)
    assert f"{keys.match.cosine[1]:.2f}" in pictures[4].get_title()
