"""The paper's values stand in panels of their own, and ours are drawn as without them."""

from __future__ import annotations

import numpy as np
import pytest

from mkfa.evidence.paper import paper_curves, paper_matrix
from mkfa.figures import curve as curve_figure
from mkfa.figures import matrix as matrix_figure
from mkfa.results.curve import make_curve
from mkfa.results.matrix import make_matrix
from mkfa.results.record import RunRecord
from mkfa.training.result import RunResult


def done(source: str, target: str, arm: str, layers: int, top1: float) -> RunRecord:
    return RunRecord(source, target, arm, layers, 0, RunResult.of({"state": "done", "top1_last": top1, "chance": 0.1}))


def test_the_papers_table_is_a_second_panel_about_its_own_selffer():
    runs = [done("", t, "baseline", 0, 0.5) for t in "ab"]
    runs += [done(s, t, "transfer", 1, v) for s, t, v in (("a", "a", 0.5), ("a", "b", 0.6), ("b", "a", 0.45))]
    found = make_matrix(runs, domains=["a", "b"], parameters={"what": "depthwise", "arch": "net", "seeds": 1})
    alone = matrix_figure.draw(found)
    both = matrix_figure.draw(found, paper=paper_matrix("depthwise"))
    ours, theirs = (ax for ax in both.axes if ax.images)
    assert [t.get_text() for t in ours.texts] == [t.get_text() for t in alone.axes[0].texts]
    np.testing.assert_array_equal(ours.images[0].get_array(), alone.axes[0].images[0].get_array())
    change = theirs.images[0].get_array()
    assert change.shape == (7, 6)
    sources = [t.get_text() for t in theirs.get_yticklabels()]
    targets = [t.get_text() for t in theirs.get_xticklabels()]
    assert targets[0] == "Food\n87.6"
    assert change[sources.index("Food"), targets.index("Pets\n36.3")] == pytest.approx(9.5)
    assert change[sources.index("Pets"), 0] == pytest.approx(-9.1)
    texts = {t.get_position(): t.get_text() for t in theirs.texts}
    assert texts[0, sources.index("Pets")] == "78.2\n↓ 9.1"
    assert texts[4, sources.index("Pets")] == "52.4\n= 0.0"
    title = theirs.get_title(loc="left")
    assert all(word in title for word in ("Table 2", "convnext_femto", "300 epochs", "selffer", "2412.16751"))
    both.canvas.draw()


def test_the_papers_curves_are_words_and_no_points():
    runs = [done("", "b", "baseline", 0, 0.8), done("a", "b", "transfer", 1, 0.79)]
    found = make_curve(runs, parameters={"source": "a", "target": "b", "arch": "net"})
    alone, both = curve_figure.draw(found), curve_figure.draw(found, paper=paper_curves("depthwise"))
    ours, words = both.axes
    for one, other in zip(ours.get_lines(), alone.axes[0].get_lines(), strict=True):
        np.testing.assert_array_equal(one.get_xydata(), other.get_xydata())
    assert len(words.get_lines()) == 1  # below the heads
    said = " ".join(t.get_text().replace("\n", " ") for t in words.texts)
    assert all(text in said for text in ("Figure 2b", "resnet50", "lowest at any n: 92.5 %"))
    assert "no significant drop at any n, no trend with n" in said
    assert "stabilises after 8" in said
    both.canvas.draw()
