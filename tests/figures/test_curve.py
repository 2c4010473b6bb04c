"""The curve's figure where there are more series than colours."""

from __future__ import annotations

from mkfa.figures.curve import COLOURS, draw
from mkfa.training.arms import ARMS
from mkfa.training.results import Finished, make_curve

P = {"source": "a", "target": "b", "arch": "net", "what": "depthwise", "layers": [1, 2], "seeds": 2}


def test_every_arm_has_a_line_and_a_colour_of_its_own_also_beside_one_more():
    names = [*ARMS, "first-5"]
    runs = [Finished("b" if arm == "baseline" else "a", "b", arm, 0 if arm == "baseline" else layers, seed,
                     {"state": "done", "top1_last": 0.5 + 0.01 * seed + 0.01 * i, "chance": 0.1})
            for i, arm in enumerate(names) for layers in (1, 2) for seed in (0, 1)]  # fmt: skip
    [axes] = draw(make_curve(runs, parameters=P)).axes
    lines = {str(line.get_label()): line.get_color() for line in axes.lines if line.get_label() in names}
    assert set(lines) == set(names) - {"baseline"}
    assert lines["first-5"] in COLOURS.values()
    assert len({colour for name, colour in lines.items() if name in ARMS}) == len(ARMS) - 1
