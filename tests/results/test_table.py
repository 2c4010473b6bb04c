"""The table of scenarios: rows, what they are called, and their figures against scipy and values by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import ttest_ind

from mkfa.errors import MkfaError
from mkfa.evidence.paper import paper_rows
from mkfa.results.curve import make_curve
from mkfa.results.record import RunRecord
from mkfa.results.table import as_scenarios
from mkfa.training.result import RunResult

BASE = (0.80, 0.82, 0.81)
SHUFFLE = (0.77, 0.79, 0.76)


def runs(arm: str, values: tuple[float | None, ...], source: str = "a", layers: int = 4) -> list[RunRecord]:
    return [
        RunRecord(
            "b" if arm == "baseline" else source,
            "b",
            arm,
            0 if arm == "baseline" else layers,
            seed,
            None if top1 is None else RunResult.of({"state": "done", "top1_last": top1, "chance": 0.1}),
        )
        for seed, top1 in enumerate(values)
    ]


def test_rows_are_held_against_the_base():
    table = as_scenarios(
        make_curve(
            [
                *runs("baseline", BASE),
                *runs("transfer", (0.81, 0.80, 0.82)),
                *runs("shuffle", SHUFFLE),
                *runs("random", (0.5, 0.52, 0.54), ""),
            ],
            parameters={"x": 1},
        )
    )
    assert [row.label for row in table.scenarios] == ["transfer", "shuffle", "random"]
    shuffle = table.scenarios[1]
    test = ttest_ind(SHUFFLE, BASE, equal_var=False)
    interval = test.confidence_interval(0.95)
    assert shuffle.p == pytest.approx(test.pvalue)
    assert shuffle.cell.relative + shuffle.cell.half_width == pytest.approx(interval.high)
    spread = math.sqrt(np.mean([np.var(v, ddof=1) for v in (BASE, (0.81, 0.80, 0.82), SHUFFLE, (0.5, 0.52, 0.54))]))
    assert shuffle.spreads == pytest.approx((np.mean(SHUFFLE) - np.mean(BASE)) / spread)
    assert table.sensitivity.worst_arm == "random"
    assert {(c.series, c.against) for c in table.contrasts} >= {("shuffle", "random"), ("transfer", "random")}
    assert table.parameters == {"x": 1}


def test_one_seed_has_no_p_and_no_spread():
    [row] = as_scenarios(
        make_curve([*runs("baseline", (0.8,)), *runs("transfer", (0.7, None))], parameters={})
    ).scenarios
    assert row.cell.relative == pytest.approx(-0.1)
    assert math.isnan(row.p)
    assert math.isnan(row.spreads)
    assert row.cell.missing == 1


@pytest.mark.parametrize(
    ("rows", "labels"),
    [
        (
            [("transfer", "a"), ("shuffle", "a"), ("random", ""), ("selffer", "b")],
            ["transfer", "shuffle", "random", "selffer"],
        ),
        (
            [("stack", "a+net"), ("stack", "c+net"), ("selffer", "b"), ("random", "")],
            ["a+net", "c+net", "selffer", "random"],
        ),
        (
            [("stack", "a"), ("stack", "b"), ("shuffle", "a"), ("shuffle", "b"), ("random", "")],
            ["stack, a", "stack, b", "shuffle, a", "shuffle, b", "random"],
        ),
    ],
)
def test_rows_are_called_by_what_tells_them_apart(rows, labels):
    all_runs = [*runs("baseline", BASE), *(r for arm, source in rows for r in runs(arm, (0.5, 0.6), source))]
    assert [row.label for row in as_scenarios(make_curve(all_runs, parameters={})).scenarios] == labels


def test_what_is_not_over_has_a_row_all_the_same():
    curve = make_curve([*runs("baseline", (None,)), *runs("transfer", (None,)), *runs("delta", (0.2,))], parameters={})
    table = as_scenarios(curve)
    assert [row.cell.missing for row in table.scenarios] == [1, 0]
    assert table.base.missing == 1


def test_the_papers_rows():
    one = paper_rows(sources=False, what="depthwise")
    assert one.table == "Table 1"
    assert dict(one.rows)["shuffle transferred"] == pytest.approx(86.2)
    assert one.base == pytest.approx(86.9)
    other = paper_rows(sources=True, what="depthwise")
    assert dict(other.rows)["ImageNet+convnext_tiny"] == pytest.approx(67.0)
    assert dict(other.rows)["hornet_tiny on Food"] == pytest.approx(55.5)
    assert (other.base, len(other.rows)) == (pytest.approx(36.3), 9)
    with pytest.raises(MkfaError, match="no table of scenarios of conv layers"):
        paper_rows(sources=False, what="conv")
