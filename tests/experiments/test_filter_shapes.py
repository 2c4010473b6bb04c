"""Channels and kernel sizes of networks, and D / f^2."""

from __future__ import annotations

import pytest

from mkfa.experiments.filter_shapes import filter_shapes, tell_ratios, width_ratios
from mkfa.experiments.options import make_setting
from mkfa.experiments.planning import plan_curve
from mkfa.images.load import load_domain
from mkfa.networks.layers import spatial_layers
from mkfa.training.run import build


@pytest.mark.parametrize(
    "options",
    [
        {"arch": "resmixer_12_3"},
        {"arch": "resmixer_12_3", "kernel": 5},
        {"arch": "convmixer_10_2"},
        {"arch": "convnext_16_2", "kernel": 9},
        {"arch": "convnext_atto"},
        {"arch": "mobilenetv2_050"},
    ],
)
def test_shapes_are_those_of_the_network_that_is_built(options):
    from mkfa.experiments.needed_runs import base_run

    domain = load_domain("digits")
    setting, _ = make_setting(options | {"recipe": "smoke"})
    model, _ = build(base_run(setting, domain, 0), domain, None)
    wanted = [(len(m.weight), *m.weight.shape[2:]) for _, m in spatial_layers(model)]
    assert list(filter_shapes(setting, domain)) == wanted


def test_ratios_of_a_convnext_tiny():
    shapes = [(c, 7, 7) for c in (96, 192, 384, 768)]
    assert [round(ratio, 2) for ratio in width_ratios(shapes)] == [1.96, 15.67]
    assert (
        "96 to 768 channels, 7x7 kernels): mixing channels can imitate any filters up to input rank 1"
        in tell_ratios(shapes)
    )


def test_a_network_without_depthwise_layers_has_none_and_every_plan_says_it(tmp_path):
    setting, _ = make_setting({"arch": "resnet10t", "recipe": "smoke"})
    assert filter_shapes(setting, load_domain("digits")) == () and tell_ratios(()) == ""
    options = {"arch": "resmixer_49_2", "recipe": "smoke", "out": tmp_path, "seeds": 1}
    plan = plan_curve(options, source="fashion", target="digits", layers="all", arms="random")
    assert plan.parameters["width_ratio"] == (1.0, 1.0)
    assert any(note.startswith("D / f^2 = 1.00 (49 channels") for note in plan.notes)
