"""A figure or table beside the paper's values: rows of the same data share a row, and numbers are never combined."""

from __future__ import annotations

import math

import pytest
from planted_runs import around, runs, setting

from mkfa.errors import MkfaError
from mkfa.evidence.programme import find_entry, programme
from mkfa.evidence.reproduction import compare_with_paper, data_set_sizes


def test_at_laptop_scale_no_row_has_both():
    records = setting({"baseline": 0.93, "transfer": 0.91, "shuffle": 0.90})
    found = compare_with_paper(programme()["table1"], "laptop", records)
    ours = [v for v in found.values if v.seeds]
    paper = [v for v in found.values if v.paper == v.paper]
    assert len(ours) == 3 and len(paper) == 4 and not {id(v) for v in ours} & {id(v) for v in paper}
    assert sorted(v.paper for v in paper) == pytest.approx([0.862, 0.869, 0.869, 0.869])
    assert all(math.isnan(v.paper) for v in ours)
    assert "different data" in found.note
    assert (found.runs, found.done) == (15, 15)


def test_at_paper_scale_the_papers_value_stands_in_a_column_of_its_own():
    recipe = {"size": 224, "max_size": 0, "equal_steps": 0}
    more = {"arch": "convnext_femto", "recipe": recipe, "layers": 12}
    records = runs("transfer", target="pets", source="food", means=around(0.60), **more)
    records += runs("selffer", target="pets", source="pets", means=around(0.50), **more)
    records += runs("baseline", target="pets", means=around(0.40), **more)
    found = compare_with_paper(programme()["table2"], "paper", records)
    rows = {(v.arm, v.source, v.target): v for v in found.values}
    assert len(rows) == 42 + 6
    both = rows["transfer", "food", "pets"]
    assert (both.ours, both.paper, both.seeds) == (pytest.approx(0.60), pytest.approx(0.619), 5)
    assert both.low < 0.6 < both.high
    assert rows["selffer", "pets", "pets"].paper == pytest.approx(0.524)
    assert rows["baseline", "", "pets"].paper == pytest.approx(0.363)
    assert math.isnan(rows["transfer", "pets", "food"].ours)
    assert "same data" in found.note


def test_a_figure_without_printed_values_says_what_the_paper_says():
    found = compare_with_paper(programme()["figure2b"], "laptop", [])
    assert found.values == ()
    [saying] = found.sayings
    assert "last 10 of 49" in saying and "92.5 %" in saying


def test_sizes_of_data_sets_are_the_papers_rounded():
    for row in data_set_sizes():
        assert row["classes"] == row["paper_classes"]
        assert row["train"] == pytest.approx(row["paper_train"], rel=0.09)


def test_the_same_in_several_settings_has_a_row_for_each_and_says_which():
    """Sources of other networks are base runs of one domain; sweeps over widths repeat every arm."""
    records = []
    for i, arch in enumerate(("resmixer_16_18", "convnext_32_12")):
        records += runs("baseline", target="fashion", means=around(0.70 + 0.05 * i), arch=arch)
    records += setting({"baseline": 0.93, "stack": 0.91})
    found = compare_with_paper(programme()["table3"], "laptop", records)
    bases = {label: v.ours for label, v in zip(found.labels(), found.values, strict=True) if v.target == "fashion"}
    assert bases == {
        "baseline, fashion (resmixer_16_18, 32 px, 150 steps)": pytest.approx(0.70),
        "baseline, fashion (convnext_32_12, 32 px, 150 steps)": pytest.approx(0.75),
    }
    assert sum(v.arm == "stack" and v.seeds > 0 for v in found.values) == 1


@pytest.mark.parametrize("name", ["figure1", "Figure 2a", "fig. 3"])
def test_figures_whose_numbers_are_unknown_say_so(name):
    with pytest.raises(MkfaError, match="its numbers are not known"):
        find_entry(name)
