"""The paper's values are those of the paper, and in the direction that it prints them."""

from __future__ import annotations

import pytest

from mkfa.errors import MkfaError
from mkfa.evidence.paper import citation, paper_curves, paper_matrix, tables


def test_a_row_of_the_file_is_a_target_and_its_entries_are_sources():
    table = paper_matrix("depthwise")
    assert (table.table, table.model) == ("Table 2", "convnext_femto")
    # target Food: filters of small data sets cost up to nine points; source Food on Pets: a gain
    food = [87.6, 87.3, 86.1, 83.6, 81.8, 78.2, 79.1]
    assert [table.top1(s, "Food") for s in table.sources] == food
    assert (table.top1("Food", "Pets"), table.top1("Pets", "Food")) == (61.9, 78.2)
    assert (table.change("Food", "Pets"), table.change("Pets", "Food")) == pytest.approx((9.5, -9.1))
    assert all(table.change(t, t) == 0 for t in table.targets)


def test_bases_are_plain_training_and_not_selffer():
    table = paper_matrix("depthwise")
    assert table.bases == {"Food": 87.6, "Sketch": 66.6, "Cifar10": 96.9, "STL10": 80.4, "Pets": 36.3, "Flowers": 66.0}
    assert table.top1("Pets", "Pets") == 52.4


def test_pointwise_is_table_5():
    table = paper_matrix("pointwise")
    assert table.table == "Table 5"
    assert [table.top1(s, "Pets") for s in table.sources] == [31.8, 41.2, 36.6, 36.3, 39.1, 43.6, 33.2]


@pytest.mark.parametrize("what", ["depthwise", "pointwise"])
def test_matrices_are_whole(what):
    table = paper_matrix(what)
    assert len(table.sources) * len(table.targets) == 42
    assert set(table.accuracy) == set(table.targets)
    assert all(
        set(row) == set(table.sources) and all(0 < v < 100 for v in row.values()) for row in table.accuracy.values()
    )


def test_curves_hold_what_is_said_and_no_points():
    curves = {c.figure: c for c in paper_curves("depthwise")}
    assert curves == {c.figure: c for c in paper_curves("conv")}
    assert (curves["Figure 2b"].worst, curves["Figure 2b"].layers, curves["Figure 2b"].named) == (92.5, 49, (40, 49))
    assert [curves[f].worst for f in ("Figure 2c", "Figure 4")] == [None, None]
    assert curves["Figure 4"].named == (8, 12)
    assert "2412.16751" in citation()
    assert tables()["units"] == "top-1 accuracy, percent"


def test_what_the_paper_has_not_is_refused_with_what_it_has():
    with pytest.raises(MkfaError, match=r"no matrix of conv layers.*depthwise or pointwise"):
        paper_matrix("conv")
    with pytest.raises(MkfaError, match=r"no curve of pointwise layers.*Table 5"):
        paper_curves("pointwise")
