"""The assignment figure: what is drawn is what was counted."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from mkfa.figures.assign import draw
from mkfa.patterns.assigning import assign
from mkfa.patterns.summary import CURVE, examples, summarise

TITLES = ("central d/dx", "T - g Laplacian")


@pytest.fixture(scope="module")
def data():
    from mkfa.banks.bank import Layer, Provenance, make_bank

    rng = np.random.default_rng(0)
    layers = [
        (Layer(0, f"l{i}", 0, 0.0, 40, 5, 5), rng.standard_normal((40, 5, 5)).astype(np.float32), None)
        for i in range(4)
    ]
    bank = make_bank("made", layers, Provenance())
    return assign(bank, draws=99)


def test_bars_stack_to_one_and_curves_are_those_of_the_summary(data):
    figure = draw(data)
    shares, coverage = figure.subfigs[0].axes
    tops = [bar.get_y() + bar.get_height() for group in shares.containers for bar in group]
    assert max(tops) == pytest.approx(1) and len(shares.containers[0]) == 4
    assert [t.get_text() for t in shares.get_xticklabels()] == [f"{number}\n5x5" for number in (1, 2, 3, 4)]
    lines = {line.get_label(): line for line in coverage.get_lines()}
    assert {"filters", *(f"null: {name}" for name in ("shuffled", "gaussian", "blurred", "covariance"))} <= set(lines)
    assert lines["filters"].get_xdata() == pytest.approx(CURVE)
    assert lines["filters"].get_ydata() == pytest.approx(summarise(data).whole[0].curve)
    assert lines["null: blurred"].get_ydata() == pytest.approx(summarise(data).whole[2].null_curve)


def test_a_filter_and_its_model_share_a_scale_centred_at_zero(data):
    axes = [ax for ax in draw(data).subfigs[1].axes if ax.images]
    pairs = [example for side in examples(data) for example in side]
    n = len(pairs)
    assert len(axes) == 2 * n
    for above, below in zip(axes[:n], axes[n:], strict=True):
        low, high = above.images[0].get_clim()
        assert low == -high and below.images[0].get_clim() == (low, high)
    assert [ax.get_title() for ax in axes[:n]] == [f"{e.r2:.2f}" for e in pairs]


def test_captions_of_neighbours_do_not_touch_in_a_column(data, monkeypatch):
    """The longest captions that stand on a line of their own, all beside each other."""
    from mkfa.figures import assign as module

    def named(found):
        return tuple(tuple(replace(e, title=title) for e in side) for side, title in zip(found, TITLES, strict=True))

    monkeypatch.setattr(module, "examples", lambda assignment: named(examples(assignment)))
    figure = draw(data, width="column")
    figure.canvas.draw()
    axes = [ax for ax in figure.subfigs[-1].axes if ax.get_xlabel()]
    assert {ax.get_xlabel().replace("\n", " ") for ax in axes} == set(TITLES)
    rows = {}
    for ax in axes:
        rows.setdefault(round(ax.bbox.y0), []).append(ax.xaxis.label.get_window_extent())
    for boxes in rows.values():
        boxes.sort(key=lambda box: box.x0)
        assert len(boxes) > 1 and all(right.x0 - left.x1 > 3 for left, right in pairwise(boxes))
