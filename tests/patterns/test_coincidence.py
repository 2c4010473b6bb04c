"""Classes that coincide at a kernel size, and the rows that they share."""

from __future__ import annotations

import numpy as np
import pytest

from mkfa.patterns.coincidence import MERGED, merged_classes, table_rows
from mkfa.patterns.dictionary import dictionary, same


def lost(size: int) -> dict[str, float]:
    out: dict[str, float] = {}
    for merge in merged_classes(size, size):
        assert 0 < merge.share <= 1 and merge.name != merge.into
        out[merge.name] = out.get(merge.name, 0) + merge.share
    return out


def test_merges_leave_most_classes_their_name():
    """Merging must not swallow the basis: at 7x7, 13 of 16 classes keep nine tenths of their range."""
    assert sum(lost(7).get(n, 0) <= 0.1 for n in dictionary("families", 7, 7).names) >= 13


@pytest.mark.parametrize("size", [3, 5, 7])
def test_a_class_that_is_no_pattern_of_its_own_has_no_row(size):
    rows = table_rows("families", [(size, size)])
    first = [name.split("/")[0] for name in rows.names]
    merged = {name for name in dictionary("families", size, size).names if lost(size).get(name, 0) >= MERGED}
    assert set(first) == set(dictionary("families", size, size).names) - merged
    assert {m.name for row in rows.merged for m in row} == merged
    centre_surround = {"dog", "centre_minus_laplacian"}
    assert merged == {3: {"laplacian", *centre_surround}, 5: centre_surround, 7: set()}[size]
    of, book = rows.of[size, size], dictionary("families", size, size)
    for index, name in enumerate(book.names):
        if book.start[index] < book.start[index + 1]:
            assert name in rows.names[of[index]].split("/")


def test_sizes_are_merged_each_for_itself():
    rows = table_rows("families", [(7, 7), (3, 3)])
    names = dictionary("families", 3, 3).names
    dog, gaussian = names.index("dog"), names.index("gaussian")
    assert rows.of[3, 3][dog] == rows.of[3, 3][gaussian] and rows.of[7, 7][dog] != rows.of[7, 7][gaussian]
    assert "DoG (7x7)" in rows.titles and rows.titles[gaussian] == "Gaussian, Laplacian, DoG"


def test_named_patterns_are_rows_of_their_own():
    rows = table_rows("eight", [(5, 5), (7, 7)])
    assert rows.names == dictionary("eight", 5, 5).names and not any(rows.merged)
    assert (rows.of[5, 5] == np.arange(8)).all()


def test_the_limit_is_two_standard_deviations_of_the_difference():
    """Simulated: two patterns whose R² is `same`, one with noise of 1 % of its energy."""
    rng = np.random.default_rng(0)
    for size in (3, 5, 7):
        taps, gap = size * size, 1 - same(size, size)
        basis = np.linalg.qr(np.c_[np.ones(taps), rng.standard_normal((taps, 2))])[0][:, 1:]
        a, b = basis[:, 0], np.sqrt(1 - gap) * basis[:, 0] + np.sqrt(gap) * basis[:, 1]
        noise = rng.standard_normal((20000, taps))
        noise -= noise.mean(axis=1, keepdims=True)
        filters = a + 0.1 * noise / np.linalg.norm(noise, axis=1, keepdims=True)
        energy = np.square(filters).sum(axis=1)
        difference = (np.square(filters @ a) - np.square(filters @ b)) / energy
        assert difference.mean() / difference.std() == pytest.approx(2, abs=0.1)
