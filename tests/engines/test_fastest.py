"""Which strategy is taken: what was asked for, or the fastest of those timed."""

from __future__ import annotations

import json

import pytest
import torch

from mkfa.engines import fastest, group, processes
from mkfa.engines.fastest import check_networks, check_strategy, choose
from mkfa.errors import MkfaError
from mkfa.experiments.needed_runs import Setting, plan_bases
from mkfa.experiments.options import make_execution
from mkfa.images.opened import Domains
from mkfa.storage.folders import home
from mkfa.training.device import Execution
from mkfa.training.recipe import load_recipe

ONE = Execution(device="cpu", threads=1)
RECIPE = load_recipe("smoke", {"equal_steps": 4, "batch": 8})
MADE = Setting("convmixer_8_2", RECIPE)
RATES = {
    ("alone", 1): 100.0,
    **{("processes", k): rate for k, rate in ((1, 90), (2, 150), (4, 152))},
    **{("graph", k): rate for k, rate in ((1, 300), (2, 310))},
    **{("stacked", k): rate for k, rate in ((1, 80), (2, 160), (4, 320))},
}


@pytest.fixture(scope="module")
def domains() -> Domains:
    return Domains(RECIPE.size, RECIPE.max_size)


@pytest.fixture(scope="module")
def plan(domains):
    return plan_bases(MADE, domains, names=["scripts"], seeds=9)


@pytest.fixture
def on_a_device(monkeypatch):
    """Make the choice as if the device were a GPU, and return what is timed, by a table of rates."""
    timed = []

    def timer(name, _spec, count):
        timed.append((name, count))
        if (name, count) not in RATES:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return 8 * count / RATES[name, count], 1000 * count

    monkeypatch.setattr(Execution, "kind", "cuda")
    return timed, timer


def test_the_fastest_of_the_first_steps_is_kept(plan, domains, on_a_device):
    timed, timer = on_a_device
    choice = choose(ONE, plan, domains, devices=1, timer=timer)
    assert (choice.strategy, choice.count) == ("stacked", 4)
    saturated = [("processes", 4), ("graph", 2)]
    assert timed == [("alone", 1), ("processes", 1), ("processes", 2), saturated[0], ("graph", 1), saturated[1]] + [
        ("stacked", k) for k in (1, 2, 4, 8)
    ]
    assert choice.record["timed"][-1] == {
        "strategy": "stacked",
        "runs": 8,
        "images_per_second": None,
        "bytes": None,
        "problem": "CUDA out of memory",
    }
    assert choice.record["timed"][-2]["bytes"] == 4000
    again = choose(ONE, plan, domains, devices=1, timer=timer)
    assert again == choice
    assert len(timed) == 10  # found in the file
    assert len(json.loads((home() / fastest.FILE).read_text())["timed"]) == 1


def test_another_batch_or_fewer_runs_are_another_question(plan, domains, on_a_device):
    timed, timer = on_a_device
    choose(ONE, plan, domains, devices=1, timer=timer)
    count = len(timed)
    larger = plan_bases(
        Setting("convmixer_8_2", load_recipe("smoke", {"batch": 16})), domains, names=["scripts"], seeds=9
    )
    choose(ONE, larger, domains, devices=1, timer=timer)
    assert len(timed) == 2 * count
    two = choose(ONE, plan[:2], domains, devices=1, timer=timer)
    assert (two.strategy, two.count) == ("graph", 2)


def test_several_devices_share_the_runs_and_one_of_them_is_timed(plan, domains, on_a_device):
    timed, timer = on_a_device
    choice = choose(ONE, plan[:4], domains, devices=2, timer=timer)
    assert (choice.strategy, choice.count) == ("graph", 2)
    assert max(count for _, count in timed) == 2
    asked = Execution(device="cpu", strategy="stacked", jobs=5)
    assert choose(asked, plan, domains, devices=2, timer=timer).count == 3


def test_a_damaged_file_is_made_anew(plan, domains, on_a_device):
    _, timer = on_a_device
    home().mkdir(parents=True, exist_ok=True)
    (home() / fastest.FILE).write_text("{")
    assert choose(ONE, plan, domains, devices=1, timer=timer).strategy == "stacked"


@pytest.mark.parametrize(("options", "runs", "devices"), [({}, 2, 2), ({}, 1, 1), ({"jobs": 3}, 9, 1)])
def test_nothing_is_timed_where_processes_are_the_answer(plan, domains, on_a_device, options, runs, devices):
    timed, timer = on_a_device
    made = Execution(device="cpu", **options)
    assert choose(made, plan[:runs], domains, devices=devices, timer=timer).strategy == "processes"
    assert not timed


def test_on_a_cpu_nothing_is_timed(plan, domains):
    def timer(*_):
        raise AssertionError

    assert choose(ONE, plan, domains, devices=1, timer=timer) == fastest.Choice("processes", 0)
    asked = Execution(device="cpu", strategy="stacked", jobs=2)
    assert choose(asked, plan, domains, devices=1, timer=timer) == fastest.Choice("stacked", 2)


def test_the_engine_is_that_of_the_strategy(plan, domains, tmp_path):
    made = {name: Execution(device="cpu", threads=1, strategy=name) for name in ("auto", "alone", "stacked")}
    made["stacked"] = Execution(device="cpu", threads=1, strategy="stacked", jobs=2)
    opened = {name: processes.open_engine(how, plan[:3], domains=domains, root=tmp_path) for name, how in made.items()}
    assert type(opened["alone"]).__name__ == "Serial"
    assert isinstance(opened["stacked"], group.Together)
    assert len(opened["stacked"].places()) == 2
    said = {name: engine.places()[0].execution.chosen["strategy"] for name, engine in opened.items()}
    assert said == {"auto": "processes", "alone": "alone", "stacked": "stacked"}


def test_steps_of_groups_are_really_timed(plan, domains, tmp_path):
    asked = Execution(device="cpu", threads=1, strategy="stacked")
    (place, *_) = processes.open_engine(asked, plan[:2], domains=domains, root=tmp_path).places()
    timed = place.execution.chosen["timed"]
    assert [row["runs"] for row in timed] == [1, 2]
    assert all(row["images_per_second"] > 0 for row in timed)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"strategy": "stack"}, "--strategy stack: is not a strategy; choose from auto, alone, processes"),
        ({"strategy": "graph"}, "--strategy graph: needs CUDA, and the device is cpu; take stacked"),
        ({"strategy": "alone", "jobs": 2}, "--strategy alone: trains one run at a time, and --jobs asks for 2"),
        ({"strategy": "stacked", "compile": True}, "--strategy stacked: does not compile networks, as --compile asks"),
    ],
)
def test_what_does_not_go_together_is_refused(options, sentence):
    with pytest.raises(MkfaError, match=sentence):
        check_strategy(Execution(device="cpu", **options))


def test_networks_without_a_grouped_form_are_refused_for_stacking_only(domains):
    hornets = plan_bases(Setting("lcnet_035", RECIPE), domains, names=["scripts"], seeds=1)
    check_networks(ONE, hornets, domains)
    with pytest.raises(MkfaError, match="has no grouped form; choose another strategy"):
        check_networks(Execution(device="cpu", strategy="stacked"), hornets, domains)


def test_a_strategy_is_for_this_machine_only():
    with pytest.raises(MkfaError, match="--strategy: is for --engine local"):
        make_execution({"engine": "slurm", "strategy": "stacked"})
    assert make_execution({"strategy": "stacked"}).strategy == "stacked"
