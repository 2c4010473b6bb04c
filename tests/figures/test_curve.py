"""The curve's figure where there are more series than colours."""

from __future__ import annotations

from itertools import pairwise

import pytest

from mkfa.arms.arms import ARMS
from mkfa.figures.curve import draw
from mkfa.results.curve import make_curve
from mkfa.results.record import RunRecord
from mkfa.training.result import RunResult

P = {"source": "a", "target": "b", "arch": "net", "what": "depthwise", "layers": [1, 2], "seeds": 2}


def test_every_arm_has_a_line_of_its_own_look_also_beside_one_more():
    names = [*ARMS, "first-5"]
    runs = [
        RunRecord(
            "b" if arm == "baseline" else "a",
            "b",
            arm,
            0 if arm == "baseline" else layers,
            seed,
            RunResult.of({"state": "done", "top1_last": 0.5 + 0.01 * seed + 0.01 * i, "chance": 0.1}),
        )
        for i, arm in enumerate(names)
        for layers in (1, 2)
        for seed in (0, 1)
    ]
    [axes] = draw(make_curve(runs, parameters=P)).axes
    lines = {str(line.get_label()): line for line in axes.lines if line.get_label() in names}
    assert set(lines) == set(names) - {"baseline"}
    looks = {(line.get_color(), str(line._dash_pattern), line.get_marker()) for line in lines.values()}
    assert len(looks) == len(lines)
    assert lines["first-5"].get_color() == lines["first-k"].get_color()


def _curve(delta: float, transfer: float = -0.05, deepest: int = 2):
    base = RunResult.of({"state": "done", "top1_last": 0.7, "chance": 0.1})
    runs = [RunRecord("", "b", "baseline", 0, seed, base) for seed in (0, 1)]
    runs += [
        RunRecord(
            "a",
            "b",
            arm,
            layers,
            seed,
            RunResult.of({"state": "done", "top1_last": 0.7 + drop * layers, "chance": 0.1}),
        )
        for arm, drop in (("transfer", transfer / deepest), ("delta", delta / deepest))
        for layers in range(1, deepest + 1)
        for seed in (0, 1)
    ]
    return make_curve(runs, parameters=P | {"layers": list(range(1, deepest + 1))})


def test_an_arm_that_must_hurt_and_falls_much_deeper_gives_the_others_a_closer_panel():
    whole, closer = draw(_curve(-0.5)).axes
    assert whole.get_ylim()[0] < -50
    low, high = closer.get_ylim()
    assert -8 < low < -5
    assert 0 < high < 3
    below = [t.get_text() for t in closer.texts]
    assert below == ["−50.0", "−25.0"]  # what lies below this panel has an arrowhead with its value
    assert sum(line.get_marker() == "v" for line in closer.lines) == 2


@pytest.mark.parametrize(("width", "layers", "named"), [("page", 18, 16), ("column", 18, 16), ("page", 36, 17)])
def test_values_below_the_closer_panel_do_not_touch(width, layers, named):
    figure = draw(_curve(-0.5, deepest=layers), width=width)
    figure.canvas.draw()
    closer = figure.axes[1]
    boxes = [text.get_window_extent() for text in closer.texts]
    assert sum(line.get_marker() == "v" for line in closer.lines) >= len(boxes) >= named
    assert closer.texts[0].get_text() == "−50.0"  # the last has its value
    boxes.sort(key=lambda box: box.x0)
    assert all(left.x1 <= right.x0 for left, right in pairwise(boxes))


def test_a_bar_that_goes_on_below_the_closer_panel_ends_there_in_an_open_arrowhead():
    """delta: 5 +- 10 points below the base at one layer, 60 at two; the others within 4."""
    spread = {0: -0.1 / 2**0.5, 1: 0.1 / 2**0.5}
    arms = {"transfer": (-0.02, -0.03), "selffer": (-0.01, -0.01), "random": (-0.03, -0.04), "delta": (-0.03, -0.6)}
    runs = [
        RunRecord(
            "a",
            "b",
            arm,
            layers,
            seed,
            RunResult.of({"state": "done", "top1_last": 0.7 + drops[layers - 1] + (arm == "delta") * spread[seed]}),
        )
        for arm, drops in arms.items()
        for layers in (1, 2)
        for seed in (0, 1)
    ]
    base = RunResult.of({"state": "done", "top1_last": 0.7})
    runs += [RunRecord("", "b", "baseline", 0, seed, base) for seed in (0, 1)]
    figure = draw(make_curve(runs, parameters=P))
    closer, bottom = figure.axes[1], figure.axes[1].get_ylim()[0]
    assert bottom > -13
    bars = [segment for c in closer.collections for segment in getattr(c, "get_segments", list)()]
    assert min(low for (_, low), _ in bars) == bottom and len(bars) == 7  # none of delta's point below the panel
    heads = [line for line in closer.lines if line.get_marker() == "v" and line.get_markerfacecolor() == "white"]
    assert [list(line.get_ydata()) for line in heads] == [[bottom]]
    figure.canvas.draw()
    assert closer.bbox.width > 100  # the layout holds


def test_where_all_arms_fall_alike_one_panel_shows_them():
    assert len(draw(_curve(-0.08)).axes) == 1
    assert len(draw(_curve(-0.5, transfer=-0.4)).axes) == 1


def test_the_spread_of_many_arms_stands_side_by_side():
    runs = [
        RunRecord("a", "b", arm, layers, seed, RunResult.of({"state": "done", "top1_last": 0.5 + 0.02 * seed}))
        for arm in ("transfer", "selffer", "random", "delta")
        for layers in (1, 2, 3)
        for seed in (0, 1)
    ]
    base = RunResult.of({"state": "done", "top1_last": 0.7})
    runs += [RunRecord("", "b", "baseline", 0, seed, base) for seed in (0, 1)]
    [many] = draw(make_curve(runs, parameters=P)).axes
    bars = [(round(x, 6), round(high - low, 6)) for c in many.collections for (x, low), (_, high) in c.get_segments()]
    assert len(bars) == len({x for x, _ in bars}) == 12  # no bar hides another
    assert {length for _, length in bars} == {round(200 * 0.01 * 2**0.5, 6)}  # from one deviation below to one above
    assert [n for n in many.get_xticks() if abs(n - round(n)) > 1e-9] == []
    few = [run for run in runs if run.arm != "delta"]
    [axes] = draw(make_curve(few, parameters=P)).axes
    assert all(set(line.get_xdata()) <= {0, 1, 2, 3} for line in axes.lines)
