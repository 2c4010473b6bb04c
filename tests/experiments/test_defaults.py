"""Defaults that belong together stay together, and Python's are those of the command line."""

from __future__ import annotations

import inspect

import pytest

import mkfa
from mkfa.cli.transfer import transfer
from mkfa.cli.transfer_curve import transfer_curve
from mkfa.cli.transfer_matrix import transfer_matrix
from mkfa.experiments.options import make_setting
from mkfa.experiments.planning import plan_curve
from mkfa.training.recipe import load_recipe

CPU = {"device": "cpu"}


def test_the_default_network_comes_with_its_changes_to_the_recipe():
    setting, reason = make_setting(CPU)
    assert (setting.arch, setting.options) == ("resmixer_32_18", {})
    assert (setting.recipe.equal_steps, setting.recipe.batch, setting.recipe.lr) == (150, 32, 0.01)
    assert reason.startswith("Network resmixer_32_18, 150 steps of 32 images: ")
    assert make_setting({"device": "cuda"}) == (setting, reason)  # results of all devices can be compared


def test_another_network_without_a_recipe_is_trained_by_plain_fast_and_no_choice_is_told():
    setting, reason = make_setting({**CPU, "arch": "convnext_atto"})
    assert (setting.arch, setting.options, reason) == ("convnext_atto", {}, "")
    assert setting.recipe == load_recipe("fast")
    assert make_setting({**CPU, "arch": "convnext_atto", "recipe": "fast"})[0] == setting


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"recipe": "smoke"}, "resmixer_32_18, 60 steps of 64 images"),
        ({"patch": 2}, "resmixer_32_18, patches of 2, 150 steps of 32 images"),
        ({"equal_steps": 7, "set": {"batch": 5}}, "resmixer_32_18, 7 steps of 5 images"),
        ({"epochs": 2}, "resmixer_32_18, 2 epochs in batches of 32 images"),
    ],
)
def test_the_sentence_tells_what_is_trained(asked, told):
    setting, reason = make_setting({**CPU, **asked})
    assert told in reason
    if "recipe" in asked:
        assert setting.recipe == load_recipe(asked["recipe"])


@pytest.mark.parametrize(
    ("verb", "source_arch", "arms"),
    [
        ("transfer", "", ["transfer"]),
        ("transfer", "convmixer_8_3", ["stack"]),
        ("transfer-curve", "", ["transfer", "selffer", "random", "delta"]),
        ("transfer-curve", "convmixer_8_3", ["stack", "selffer", "random", "delta"]),
    ],
)
def test_arms_that_are_not_named_fit_the_sources_network(verb, source_arch, arms):
    options = {**CPU, "arch": "convmixer_4_2", "recipe": "smoke", "source_arch": source_arch, "seeds": 1}
    plan = plan_curve(options, source="letters", target="digits", layers=1, verb=verb)
    assert plan.parameters["arms"] == arms


@pytest.mark.parametrize(
    ("python", "command"),
    [(mkfa.transfer, transfer), (mkfa.transfer_curve, transfer_curve), (mkfa.transfer_matrix, transfer_matrix)],
)
def test_python_has_the_defaults_of_the_command_line(python, command):
    theirs = inspect.signature(command).parameters
    for name, parameter in inspect.signature(python).parameters.items():
        if name in theirs:
            assert parameter.default == theirs[name].default, name


def test_a_curve_without_a_word_tries_six_depths_of_the_default_network_with_an_arm_that_must_hurt():
    plan = plan_curve(CPU, source="fashion", target="digits", layers="3..18..3")
    assert inspect.signature(mkfa.transfer_curve).parameters["layers"].default == "3..18..3"
    assert plan.parameters["layers"] == (3, 6, 9, 12, 15, 18)
    assert len(plan.runs) == 2 * 3 + 6 * 4 * 3
    assert plan.warning == ""
