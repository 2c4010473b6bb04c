"""The table of figures is complete, and every figure draws into axes or a figure that it is given."""

from __future__ import annotations

import pkgutil
import subprocess
import sys
from importlib import import_module
from inspect import signature

import pytest
from matplotlib.figure import Figure

import mkfa.figures
from mkfa.errors import MkfaError
from mkfa.evidence.paper import paper_curves, paper_matrix, paper_rows
from mkfa.figures import FIGURES, curve, filters, layer, matrix, scenarios, sweep
from mkfa.results.archive import bundled_file, find_experiment, read_experiments
from mkfa.results.gather import rebuild
from mkfa.results.sweep import Sweep


def experiment(name):
    return rebuild(find_experiment(read_experiments(bundled_file()), name))


def test_the_table_lists_every_module_that_draws_a_figure():
    modules = {m.name: import_module(f"mkfa.figures.{m.name}") for m in pkgutil.iter_modules(mkfa.figures.__path__)}
    assert set(FIGURES) == {name for name, module in modules.items() if hasattr(module, "draw")}
    assert all(hasattr(modules[f.name], "compute") for f in FIGURES.values() if f.from_banks)


def test_the_table_loads_no_heavy_library():
    code = "import sys, mkfa.figures; print(sorted({'numpy', 'matplotlib', 'torch'} & set(sys.modules)))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_takes_axes_or_a_figure(name):
    parameters = signature(import_module(f"mkfa.figures.{name}").draw).parameters
    assert len({"ax", "fig"} & set(parameters)) == 1 and "width" in parameters


def test_figures_of_one_panel_draw_into_axes(bank_maker):
    for module, data in (
        (layer, layer.compute(bank_maker(), 1)),
        (matrix, experiment("matrix-18-layers")),
        (curve, experiment("digits-18-layers")),
    ):
        figure = Figure(layout="constrained")
        ax, other = figure.subplots(1, 2)
        assert module.draw(data, ax=ax) is figure
        assert ax.has_data() and not other.has_data()
        figure.draw_without_rendering()


def test_a_sweep_draws_into_a_part_of_a_figure():
    whole = Figure(layout="constrained", figsize=(7, 8))
    upper, lower = whole.subfigures(2, 1)
    found = next(e for e in read_experiments(bundled_file()) if e.kind == "sweep")
    assert sweep.draw(rebuild(found), fig=lower) is whole
    assert sweep.draw(Sweep((), (), {"source": "a", "target": "b", "arch": "c"}), fig=upper) is whole
    assert len(lower.axes) >= 2 and not upper.axes and len(upper.texts) == 1
    whole.draw_without_rendering()


def test_figures_of_several_panels_draw_into_a_part_of_a_figure(bank_maker):
    whole = Figure(layout="constrained", figsize=(8, 8))
    upper, lower = whole.subfigures(2, 1)
    assert filters.draw(filters.compute([bank_maker()], seed=0), fig=upper) is whole
    assert scenarios.draw(experiment("fashion-digits"), fig=lower, paper=paper_rows(sources=False, what="depthwise"))
    assert len(upper.axes) == 4 and len(lower.subfigs) == 2
    whole.draw_without_rendering()


def test_the_papers_panels_do_not_fit_into_one():
    ax = Figure().add_subplot()
    with pytest.raises(MkfaError, match="ax is one panel"):
        matrix.draw(experiment("matrix-18-layers"), ax, paper=paper_matrix("depthwise"))
    with pytest.raises(MkfaError, match="ax is one panel"):
        curve.draw(experiment("digits-18-layers"), ax, paper=paper_curves("depthwise"))


@pytest.mark.parametrize("number", [0, 4])
def test_layers_are_numbered_from_one(bank_maker, number):
    bank = bank_maker(((4, 3, 3),) * 3)
    assert ", layer 3 (3x3)" in layer.compute(bank, 3).title
    with pytest.raises(MkfaError, match="choose one from 1 to 3"):
        layer.compute(bank, number)


def test_unusable_filters_of_a_layer_are_crossed(bank_maker):
    bank = bank_maker()
    weight = bank.of_layer(0).weight
    weight.flags.writeable = True
    weight[2] = 0
    data = layer.compute(bank, 1)
    assert "crossed: dead" in data.title
    assert len(layer.draw(data).axes[0].lines) == 1
