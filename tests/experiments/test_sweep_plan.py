"""Plans of sweeps: settings, their runs, and requests that cannot be carried out."""

from __future__ import annotations

import pytest

from mkfa.errors import MkfaError
from mkfa.experiments.planning import plan_curve
from mkfa.experiments.sweep_plan import plan_sweep

PAIR = {"source": "fashion", "target": "digits"}


def test_with_nothing_named_it_is_the_width_law(tmp_path):
    plan = plan_sweep({"out": tmp_path}, **PAIR)
    settings = plan.parameters["settings"]
    assert [(s["width"], s["kernel"]) for s in settings] == [(w, k) for w in (8, 16, 32) for k in (3, 5, 7)]
    assert all(s["ratio"] == s["width"] / s["kernel"] ** 2 and s["steps"] == 150 for s in settings)
    assert len(plan.runs) == 9 * 3 * (2 + 3)  # two base runs, transfer, random, delta; three seeds
    arms = [run.spec.arm for run in plan.runs]
    assert arms.index("transfer") > max(i for i, arm in enumerate(arms) if arm == "baseline")
    assert plan.notes[0] == "9 settings. D / f^2 from 0.16 to 3.56."
    assert plan.kind == "sweep" and plan.warning == ""


def test_its_runs_are_those_of_a_transfer_at_that_setting(tmp_path):
    options = {"out": tmp_path, "recipe": "smoke", "seeds": 1}
    plan = plan_sweep({**options, "arch": "convmixer_8_2"}, **PAIR, channels=12, kernels=5, steps="30,60")
    alone = plan_curve(
        {**options, "arch": "convmixer_12_2", "kernel": 5, "equal_steps": 60},
        **PAIR,
        layers="all",
        arms="transfer,random,delta",
    )
    hashes = {run.spec.hash for run in plan.runs}
    assert {run.spec.hash for run in alone.runs} < hashes and len(hashes) == 2 * len(alone.runs)


def test_steps_alone_suit_any_network_and_its_narrowest_layer_counts(tmp_path):
    plan = plan_sweep({"out": tmp_path, "arch": "convnext_atto", "seeds": 1}, **PAIR, steps=[10, 20])
    assert [(s["width"], s["kernel"], s["steps"]) for s in plan.parameters["settings"]] == [(40, 7, 10), (40, 7, 20)]


def test_epochs_are_kept_where_no_steps_are_named(tmp_path):
    plan = plan_sweep({"out": tmp_path, "epochs": 2, "seeds": 1}, **PAIR, channels="4,8")
    assert {s["steps"] for s in plan.parameters["settings"]} == {0}
    assert {run.spec.recipe["epochs"] for run in plan.runs} == {2}


@pytest.mark.parametrize(
    ("options", "axes", "message"),
    [
        ({"arch": "convnext_atto"}, {"channels": "8,16"}, "--channels: needs a network whose width and kernels"),
        ({"kernel": 5}, {"kernels": "3,5"}, "--kernels: sets the same as --kernel"),
        ({"equal_steps": 5}, {"steps": "3,5"}, "--steps: sets the same as --equal-steps"),
        ({}, {"steps": "0,5"}, "--steps 0,5: has a 0"),
        ({}, {"kernels": "4"}, "is even"),
        ({}, {"channels": "8;16"}, "has '8;16' where a number or range is expected"),
        ({}, {"channels": "1..200"}, "200 settings: are more than 100"),
        ({}, {"layers": "1..3"}, "is not one number of layers"),
        ({"epochs": 3}, {"steps": "5,10"}, "--epochs 3: would change nothing"),
    ],
)
def test_what_cannot_be_planned_gets_a_sentence(tmp_path, options, axes, message):
    with pytest.raises(MkfaError, match=message):
        plan_sweep({"out": tmp_path, "seeds": 1, **options}, **PAIR, **axes).prepare()
