"""Defaults that belong together stay together, and Python's are those of the command line."""

from __future__ import annotations

import inspect

import pytest

import mkfa
from mkfa.cli.transfer import transfer
from mkfa.cli.transfer_curve import transfer_curve
from mkfa.cli.transfer_matrix import transfer_matrix
from mkfa.experiments.planning import make_setting, plan_curve
from mkfa.training.recipe import load_recipe

CPU = {"device": "cpu"}


def test_the_network_chosen_by_device_comes_with_its_changes_to_the_recipe():
    setting, reason = make_setting(CPU)
    assert (setting.arch, setting.options) == ("convmixer_32_18", {"patch": 4})
    assert (setting.recipe.equal_steps, setting.recipe.batch, setting.recipe.lr) == (300, 32, 0.01)
    assert reason.startswith("Network convmixer_32_18, patches of 4, 300 steps of 32 images, as this is a CPU: ")


def test_another_network_without_a_recipe_is_trained_by_plain_fast_and_no_choice_is_told():
    setting, reason = make_setting({**CPU, "arch": "convnext_atto"})
    assert (setting.arch, setting.options, reason) == ("convnext_atto", {}, "")
    assert setting.recipe == load_recipe("fast")
    assert make_setting({**CPU, "arch": "convnext_atto", "recipe": "fast"})[0] == setting


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"recipe": "smoke"}, "convmixer_32_18, patches of 4, 60 steps of 64 images"),
        ({"patch": 2}, "convmixer_32_18, patches of 2, 300 steps of 32 images"),
        ({"equal_steps": 7, "set": {"batch": 5}}, "convmixer_32_18, patches of 4, 7 steps of 5 images"),
        ({"epochs": 2}, "convmixer_32_18, patches of 4, 2 epochs in batches of 32 images"),
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
        ("transfer-curve", "", ["transfer", "selffer", "random"]),
        ("transfer-curve", "convmixer_8_3", ["stack", "selffer", "random"]),
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
