"""The curve and the matrix draw the numbers that they are given."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from mkfa.colours import contrast
from mkfa.figures import curve as curve_figure
from mkfa.figures import matrix as matrix_figure
from mkfa.results.archive import bundled_file, find_experiment, read_experiments
from mkfa.results.curve import make_curve
from mkfa.results.gather import rebuild
from mkfa.results.matrix import make_matrix
from mkfa.results.record import RunRecord
from mkfa.training.result import RunResult


def done(source: str, target: str, arm: str, layers: int, seed: int, top1: float) -> RunRecord:
    return RunRecord(
        source, target, arm, layers, seed, RunResult.of({"state": "done", "top1_last": top1, "chance": 0.1})
    )


def test_the_curve_draws_points_bands_base_and_chance():
    runs = [done("", "b", "baseline", 0, s, 0.8 + 0.01 * s) for s in (0, 1)]
    runs += [
        done("a", "b", arm, n, s, 0.8 - drop * n + 0.01 * s)
        for arm, drop in (("transfer", 0.01), ("delta", 0.3))
        for n in (2, 1)
        for s in (0, 1)
    ]
    found = make_curve(runs, parameters={"source": "a", "target": "b", "arch": "net"})
    figure = curve_figure.draw(found)
    ax = figure.axes[0]  # the second shows transfer closer
    lines = {line.get_label(): line for line in ax.get_lines()}
    np.testing.assert_array_equal(lines["transfer"].get_xdata(), [1, 2])
    np.testing.assert_allclose(lines["transfer"].get_ydata(), [-1, -2])
    np.testing.assert_allclose(lines["delta"].get_ydata(), [-30, -60])
    texts = [t.get_text() for t in ax.texts]
    assert "chance" in texts
    assert "the base's 80.5 %" in ax.get_ylabel()
    assert any(np.allclose(line.get_ydata(), 100 * (0.1 - 0.805)) for line in ax.get_lines())
    assert "2 seeds" in ax.get_title(loc="left")
    figure.canvas.draw()


def test_two_sources_of_an_arm_have_a_line_each():
    runs = [done("", "b", "baseline", 0, 0, 0.8), done("", "b", "random", 1, 0, 0.5)]
    names = ("a rather long name of a source", "another long name of a source")
    runs += [done(source, "b", "stack", n, 0, 0.7 + i / 10) for i, source in enumerate(names) for n in (1, 2)]
    found = make_curve(runs, parameters={"source": ", ".join(names), "target": "b", "arch": "net"})
    [ax] = curve_figure.draw(found).axes
    lines = {line.get_label(): line for line in ax.get_lines() if line.get_marker() != "None"}
    assert list(lines) == ["random", *(f"stack {name}" for name in names)]
    np.testing.assert_allclose(lines[f"stack {names[1]}"].get_ydata(), [0, 0], atol=1e-9)
    assert len({line.get_color() for line in lines.values()}) == 3
    assert ax.get_title(loc="left").startswith("2 sources → b")


def test_a_curve_far_above_chance_says_where_chance_is():
    runs = [done("", "b", "baseline", 0, 0, 0.8), done("a", "b", "transfer", 1, 0, 0.79)]
    figure = curve_figure.draw(make_curve(runs, parameters={"source": "a", "target": "b", "arch": "net"}))
    assert "chance 10.0 %, below the axis" in [t.get_text() for t in figure.axes[0].texts]


def test_the_matrix_draws_each_pair_about_zero():
    runs = [done("", t, "baseline", 0, 0, 0.5) for t in "ab"]
    runs += [done(s, t, "transfer", 1, 0, v) for s, t, v in (("a", "a", 0.5), ("a", "b", 0.6), ("b", "a", 0.45))]
    runs.append(RunRecord("b", "b", "selffer", 1, 0, None))
    found = make_matrix(runs, domains=["a", "b"], parameters={"what": "depthwise", "arch": "net", "seeds": 1})
    figure = matrix_figure.draw(found)
    ax = figure.axes[0]
    image = ax.images[0]
    np.testing.assert_allclose(image.get_array().filled(np.nan), [[0, 10], [-5, np.nan]], atol=1e-9)
    assert image.get_clim() == pytest.approx((-10, 10))
    assert {t.get_text() for t in ax.texts} == {"50.0\n= 0.0", "60.0\n↑ 10.0", "45.0\n↓ 5.0"}
    figure.canvas.draw()


def with_controls(drop: float) -> Figure:
    runs = [done("", t, "baseline", 0, 0, 0.5) for t in "ab"]
    runs += [done(s, t, "transfer", 1, 0, v) for s, t, v in (("z", "a", 0.48), ("a", "b", 0.6), ("b", "a", 0.45))]
    runs += [done("", t, "delta", 1, 0, 0.5 - drop) for t in "ab"]
    parameters = {"what": "depthwise", "arch": "net", "seeds": 1}
    return matrix_figure.draw(make_matrix(runs, domains=["a", "b"], sources=["z", "a", "b"], parameters=parameters))


@pytest.mark.parametrize(("drop", "limit", "clipped"), [(0.15, 15, False), (0.19, 19, False), (0.21, 10, True)])
def test_controls_are_rows_below_a_line_and_do_not_take_the_colours(drop, limit, clipped):
    figure = with_controls(drop)
    ax, bar = figure.axes
    assert [t.get_text() for t in ax.get_yticklabels()] == ["z", "a", "b", "(delta)"]
    [line] = ax.get_lines()
    assert line.get_ydata() == pytest.approx([2.5, 2.5])
    change = ax.images[0].get_array().filled(np.nan)
    np.testing.assert_allclose(change[3], [-100 * drop] * 2)
    np.testing.assert_allclose(change[0], [-2, np.nan])
    assert ax.images[0].get_clim() == pytest.approx((-limit, limit))
    assert (f"clipped at {limit:.1f}" in bar.get_ylabel()) == clipped
    assert ax.images[0].colorbar.extend == ("min" if clipped else "neither")
    assert "controls" in ax.get_title(loc="left")
    figure.canvas.draw()


def test_without_controls_no_line_is_drawn():
    runs = [done("", t, "baseline", 0, 0, 0.5) for t in "ab"] + [done("a", "b", "transfer", 1, 0, 0.2)]
    parameters = {"what": "depthwise", "arch": "net", "seeds": 1}
    [ax, bar] = matrix_figure.draw(make_matrix(runs, domains=["a", "b"], parameters=parameters)).axes
    assert not ax.get_lines()
    assert "clipped" not in bar.get_ylabel()
    assert "controls" not in ax.get_title(loc="left")


def test_numbers_on_coloured_squares_can_be_read():
    found = rebuild(find_experiment(read_experiments(bundled_file()), "matrix-18-layers"))
    [ax, _] = matrix_figure.draw(found).axes
    picture = ax.images[0]
    change = picture.get_array()
    assert len(ax.texts) > 40
    for text in ax.texts:
        column, row = text.get_position()
        square = to_hex(picture.cmap(picture.norm(change[int(row), int(column)])))
        assert contrast(to_hex(text.get_color()), square) >= 4.5
