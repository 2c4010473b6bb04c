"""The table of scenarios draws the numbers that it is given, and the paper's apart from ours."""

from __future__ import annotations

import numpy as np
import pytest

from mkfa.evidence.paper import paper_rows
from mkfa.figures.scenarios import draw
from mkfa.results.curve import make_curve
from mkfa.results.record import RunRecord
from mkfa.results.table import as_scenarios
from mkfa.training.result import RunResult

P = {"source": "a", "target": "b", "arch": "net", "what": "depthwise"}


def done(arm: str, seed: int, top1: float) -> RunRecord:
    return RunRecord(
        "a",
        "b",
        arm,
        0 if arm == "baseline" else 4,
        seed,
        RunResult.of({"state": "done", "top1_last": top1, "chance": 0.1}),
    )


def table(seeds: int = 2):
    runs = [
        done(arm, s, top1 + 0.01 * s)
        for arm, top1 in (("baseline", 0.8), ("transfer", 0.78), ("shuffle", 0.5))
        for s in range(seeds)
    ]
    return as_scenarios(make_curve(runs, parameters=P))


def texts(ax) -> list[str]:
    return [t.get_text() for t in ax.texts]


def test_rows_have_accuracy_change_interval_p_and_seeds():
    figure = draw(table())
    rows, dots = figure.axes
    found = texts(rows)
    assert found[:5] == ["", "top-1 ± SD (%)", "change [95 %]", "p", "seeds"]
    assert found[5:10] == ["baseline", "80.5 ± 0.7", "", "", "2"]
    # two seeds a side of equal spread: 2 degrees of freedom, t = 4.303, standard error 0.7071 points
    assert found[10:15] == ["transfer", "78.5 ± 0.7", "−2.0 [−5.0, +1.0]", ".106", "2"]
    means = [line.get_xdata()[0] for line in dots.get_lines() if line.get_marker() == "o"]
    np.testing.assert_allclose(means, [0, -2, -30], atol=1e-9)
    spans = [line.get_xdata() for line in dots.get_lines() if line.get_linewidth() == 1.4]
    np.testing.assert_allclose(spans[0], [-2 - 4.3027 * 0.70711, -2 + 4.3027 * 0.70711], atol=1e-3)
    own = [line.get_xdata() for line in dots.get_lines() if line.get_marker() == "|"]
    np.testing.assert_allclose(own[2], [-30.5, -29.5], atol=1e-9)
    [edge] = [line for line in dots.get_lines() if line.get_marker() == "<"]
    assert list(edge.get_ydata()) == [2]  # far below the others, and beyond the axis
    assert any(text.get_text().startswith("−") for text in dots.texts)  # its value stands beside the arrowhead
    assert dots.get_xlim()[0] > -10
    assert "sensitivity" in figure.subfigs[0].get_suptitle()
    figure.canvas.draw()


def test_one_seed_has_no_interval():
    rows, dots = draw(table(seeds=1)).axes
    assert texts(rows)[10:15] == ["transfer", "78.0", "−2.0", "–", "1"]
    assert not [line for line in dots.get_lines() if line.get_linewidth() == 1.4]


@pytest.mark.parametrize("sources", [False, True])
def test_the_papers_rows_stand_in_a_panel_of_their_own(sources):
    paper = paper_rows(sources=sources, what="depthwise")
    figure = draw(table(), paper=paper)
    ours, _, theirs, dots = figure.axes
    assert texts(ours) == texts(draw(table()).axes[0])
    assert texts(theirs)[3:6] == ["baseline", f"{paper.base:.1f}", "+0.0"]
    means = [line.get_xdata()[0] for line in dots.get_lines() if line.get_marker() == "o"]
    np.testing.assert_allclose(means, [top1 - paper.base for _, top1 in paper.rows])
    assert paper.table in figure.subfigs[1].get_suptitle()
    figure.canvas.draw()
