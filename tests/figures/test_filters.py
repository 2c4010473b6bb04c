"""The figures show the data they are given."""

from __future__ import annotations

import numpy as np
import pytest

from mkfa.errors import MkfaError
from mkfa.figures.filters import PER_LAYER, compute, draw


def test_draws_usable_filters_of_first_middle_and_last_layer(bank_maker):
    bank = bank_maker(((40, 3, 3), (5, 5, 5), (6, 7, 7)))
    bank.groups[3, 3].weight[:5] = 0
    data = compute([bank], seed=1)
    first, middle, last = data.rows[0][1]
    assert first.filters.shape == (PER_LAYER, 3, 3)
    assert middle.filters.shape == (5, 5, 5)
    assert np.array_equal(last.filters, bank.groups[7, 7].weight)
    assert np.abs(first.filters).max(axis=(1, 2)).min() > 0
    known = {f.tobytes() for f in bank.groups[3, 3].weight}
    drawn = [f.tobytes() for f in first.filters]
    assert len(set(drawn)) == PER_LAYER
    assert set(drawn) <= known
    assert np.array_equal(compute([bank], seed=1).rows[0][1][0].filters, first.filters)
    assert not np.array_equal(compute([bank], seed=2).rows[0][1][0].filters, first.filters)


def test_every_mosaic_is_scaled_about_zero_and_holds_its_filters(bank_maker):
    data = compute([bank_maker(name="one"), bank_maker(name="two", seed=1)], seed=0)
    figure = draw(data)
    panels = [ax for ax in figure.axes if ax.get_title(loc="left")]
    assert len(panels) == 6
    for ax, sample in zip(panels, [s for _, row in data.rows for s in row], strict=True):
        assert ax.images[0].get_clim() == (-1, 1)
        sheet = np.asarray(ax.images[0].get_array())
        kh, kw = sample.filters.shape[1:]
        expected = sample.filters[0] / np.abs(sample.filters[0]).max()
        assert np.allclose(sheet[:kh, :kw], expected)
        assert ax.get_title(loc="left").splitlines()[-1] == sample.title
    assert [ax.get_title(loc="left").splitlines()[0] for ax in panels[::3]] == ["one", "two"]


def test_no_bank_is_refused():
    with pytest.raises(MkfaError, match="mkfa figure filters A B"):
        compute([], seed=0)


def test_a_layer_without_usable_filters_is_said(bank_maker):
    bank = bank_maker(((4, 3, 3),))
    bank.groups[3, 3].weight[:] = 0
    figure = draw(compute([bank], seed=0))
    assert "no usable filter" in {t.get_text() for ax in figure.axes for t in ax.texts}
