"""Plans, sweeps and what they leave: banks, borrowed filters, lists of runs."""

from __future__ import annotations

import contextlib
import json
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mkfa.banks.bank_file import Analysis, write_analysis, write_bank
from mkfa.banks.library import library_folder, load_bank
from mkfa.engines.estimate import estimate_on
from mkfa.engines.serial import Serial
from mkfa.engines.sweep import carry_out
from mkfa.errors import MkfaError, UnknownNameError, WorkError
from mkfa.experiments.needed_runs import Domains, Setting, Source, base_run, check_arms, plan_bases, plan_cells
from mkfa.images import load as domain_module
from mkfa.images.domain import Domain
from mkfa.results.gather import records_of
from mkfa.results.runs import find_run, list_runs, load_run, run_details
from mkfa.training.base_runs import RUN_PREFIX, store_bank, trained_network
from mkfa.training.device import Execution
from mkfa.training.folder import TASK, WEIGHTS, RunFolder, RunLocked
from mkfa.training.planned import PlannedRun
from mkfa.training.recipe import load_recipe
from mkfa.training.run import compute_alone, train_run
from mkfa.training.stopping import Stop, Stopped

SMOKE = load_recipe("smoke")

ONE = Execution(device="cpu", threads=1)


def made_domain(name: str) -> Domain:
    rng = np.random.default_rng(len(name))
    y = np.arange(36) % 3
    x = rng.integers(0, 160, (36, 16, 16, 1)) + 30 * y[:, None, None, None]
    x = x.astype(np.uint8)
    return Domain(name, ("a", "b", "c"), x[:24], y[:24], x[24:], y[24:], f"digest of {name}")


@pytest.fixture
def domains(monkeypatch: pytest.MonkeyPatch) -> Domains:
    monkeypatch.setattr(domain_module, "load_domain", lambda name, *, size=None, **_: made_domain(name))
    return Domains(SMOKE.size, SMOKE.max_size)


def experiment(**more: object) -> Setting:
    return Setting("convmixer_8_3", load_recipe("smoke", {"equal_steps": 3, "batch": 8}), **more)


def work(plan: tuple[PlannedRun, ...], domains: Domains, root: Path) -> tuple:
    return carry_out(plan, Serial(ONE, domains, root), stop=Stop())


def curve_plan(domains: Domains, **more: object) -> tuple[PlannedRun, ...]:
    origin = Source("letters", "letters")
    cells = [(origin, "emoji", arm, n) for arm in ("transfer", "selffer", "random") for n in (0, 1, 3)]
    return plan_cells(experiment(**more), domains, cells=cells, seeds=2)


def test_a_plan_has_base_runs_first_and_each_run_once(domains):
    plan = curve_plan(domains)
    assert [p.spec.arm for p in plan[:4]] == ["baseline"] * 4
    assert {(p.spec.domain, p.spec.seed) for p in plan[:4]} == {(d, s) for d in ("emoji", "letters") for s in (0, 1)}
    assert len({p.spec.hash for p in plan}) == len(plan) == 4 + 3 * 2 * 2
    needs = {(p.spec.arm, p.source_run.domain if p.source_run else None) for p in plan[4:]}
    assert needs == {("transfer", "letters"), ("selffer", "emoji"), ("random", None)}
    assert all(p.source_run is None or p.source_run.seed == p.spec.seed for p in plan)


@pytest.mark.parametrize("what", ["depthwise", "pointwise"])
def test_a_sweep_trains_borrows_and_then_skips(domains, tmp_path, what):
    plan = curve_plan(domains, what=what)
    first = work(plan, domains, tmp_path)
    assert all(o.state == "done" and o.trained for o in first)
    assert not any(o.trained for o in work(plan, domains, tmp_path))
    assert estimate_on(Serial(ONE, domains, tmp_path), plan).seconds is None
    for o in first[4:]:
        assert len(o.result.record["planted"]) == 64
        assert o.result.record["trained_parameters"] < o.result.record["parameters"]
    assert {f.result.state for f in records_of(plan, tmp_path)} == {"done"}
    specs = [o.planned.spec for o in first[4:]]
    borrowed = {(s.arm, s.layers, s.seed): o.result.record["planted"] for s, o in zip(specs, first[4:], strict=True)}
    assert len(set(borrowed.values())) == len(borrowed)


def test_what_was_borrowed_is_the_base_runs(domains, tmp_path):
    from mkfa.engines.unit import borrow
    from mkfa.training.run import build

    plan = curve_plan(domains)
    work(plan[:4], domains, tmp_path)
    transfer = next(p for p in plan if p.spec.arm == "transfer" and p.spec.layers == 3)
    source = trained_network(tmp_path, transfer.source_run, domains["letters"]).state_dict()
    model, _ = build(transfer.spec, domains["emoji"], borrow(transfer, domains, tmp_path))
    for i in range(3):
        name = f"blocks.{i}.0.fn.0.weight"
        assert model.state_dict()[name].equal(source[name])


def test_an_estimate_counts_what_is_left(domains, tmp_path):
    plan = curve_plan(domains)
    work(plan[:2], domains, tmp_path)
    found = estimate_on(Serial(ONE, domains, tmp_path), plan)
    assert (found.runs, found.done, found.steps) == (16, 2, 14 * 3)
    assert found.seconds > 0


def test_a_base_run_leaves_its_bank_under_its_name_and_the_domains(domains, tmp_path):
    plan = plan_bases(experiment(), domains, names=["letters"], seeds=2)
    outcomes = work(plan, domains, tmp_path)
    recipe = experiment().recipe.name
    assert outcomes[0].banks.names == (f"letters+convmixer_8_3+{recipe}+s0", "letters")
    assert outcomes[1].banks.names == (f"letters+convmixer_8_3+{recipe}+s1",)
    bank = load_bank("letters")
    assert bank.provenance.source == RUN_PREFIX + plan[0].spec.hash
    weights = trained_network(tmp_path, plan[0].spec, domains["letters"]).state_dict()
    np.testing.assert_array_equal(bank.of_layer(1).weight, weights["blocks.1.0.fn.0.weight"].numpy()[:, 0])
    assert (len(bank.layers), bank.provenance.training_set) == (3, "letters")


def test_a_bank_harvested_from_elsewhere_keeps_its_name(domains, tmp_path, bank_maker):
    path = library_folder(create=True) / "letters.h5"
    write_bank(bank_maker(name="letters"), path)
    [outcome] = work(plan_bases(experiment(), domains, names=["letters"], seeds=1), domains, tmp_path)
    assert "letters" not in outcome.banks.names
    assert "made-0" in outcome.banks.note
    assert load_bank("letters").provenance.source == "made-0"


@pytest.mark.parametrize("state", ["in use", "not a bank", "damaged"])
def test_a_bank_that_cannot_be_read_keeps_its_name(domains, tmp_path, bank_maker, opened_elsewhere, state):
    path = write_bank(bank_maker(name="letters"), library_folder(create=True) / "letters.h5")
    if state != "in use":
        path.write_bytes(b"my notes" if state == "not a bank" else path.read_bytes()[:-900])
    with opened_elsewhere(path) if state == "in use" else contextlib.nullcontext():
        before = path.read_bytes()
        [outcome] = work(plan_bases(experiment(), domains, names=["letters"], seeds=1), domains, tmp_path)
        assert outcome.state == "done" and "letters" not in outcome.banks.names
        assert "letters stays as it is, since its bank cannot be read" in outcome.banks.note
        assert path.read_bytes() == before


def test_a_bank_of_an_earlier_run_is_replaced_and_its_analyses_are_named(domains, tmp_path):
    plan = plan_bases(experiment(), domains, names=["letters"], seeds=1)
    work(plan, domains, tmp_path)
    write_analysis(library_folder() / "letters.h5", Analysis("assign.gaussian", {"best": np.arange(3)}, {}))
    other = Setting("convmixer_8_3", load_recipe("smoke", {"equal_steps": 4, "batch": 8}))
    [outcome] = work(plan_bases(other, domains, names=["letters"], seeds=1), domains, tmp_path)
    assert "letters" in outcome.banks.names
    assert outcome.banks.note == "letters: The analyses stored in the former bank are gone: assign.gaussian."


def test_weights_that_are_not_those_of_the_run_are_refused(domains, tmp_path):
    plan = plan_bases(experiment(), domains, names=["letters"], seeds=1)
    work(plan, domains, tmp_path)
    folder = RunFolder(tmp_path, plan[0].spec)
    state = folder.load(WEIGHTS)
    state["head.bias"] += 1
    folder.save(WEIGHTS, state)
    with pytest.raises(WorkError, match="not what the run ended with"):
        trained_network(tmp_path, plan[0].spec, domains["letters"])
    (folder.path / WEIGHTS).unlink()
    with pytest.raises(WorkError, match="missing"):
        store_bank(tmp_path, replace(plan[0].spec), replace(domains["letters"], name="other"))


def test_nothing_is_borrowed_from_a_diverged_run(domains, tmp_path):
    plan = curve_plan(domains)
    for p in plan[:4]:
        folder = RunFolder(tmp_path, p.spec)
        folder.prepare()
        folder.finish({"state": "diverged", "step": 1})
    states = {(o.planned.spec.arm, o.state) for o in work(plan, domains, tmp_path)}
    assert states == {
        ("baseline", "diverged"),
        ("transfer", "impossible"),
        ("selffer", "impossible"),
        ("random", "done"),
    }


def test_arms_are_checked_before_any_work():
    check_arms(["transfer", "first-5", "delta"], what="depthwise")
    for arms, what in ((["transfr"], "depthwise"), (["baseline"], "depthwise"), (["delta"], "conv"), (["random"], "x")):
        with pytest.raises(MkfaError):
            check_arms(arms, what=what)


def test_runs_are_listed_with_their_state(domains, tmp_path):
    specs = [base_run(experiment(), domains["letters"], seed) for seed in range(6)]
    work(plan_bases(experiment(), domains, names=["letters"], seeds=1), domains, tmp_path)
    for spec in specs[1:]:
        RunFolder(tmp_path, spec).prepare()
    RunFolder(tmp_path, specs[2]).fail(WorkError("disk", "is full", "free some"))
    RunFolder(tmp_path, specs[3]).finish({"state": "diverged", "step": 3})
    RunFolder(tmp_path, specs[5]).write_json(TASK, {})  # as in the queue of a cluster
    with RunFolder(tmp_path, specs[4]).lock():
        entries = {e.seed: e for e in list_runs(tmp_path)}
    assert [entries[s].state for s in range(6)] == ["done", "stopped", "failed", "diverged", "running", "waiting"]
    assert entries[2].error == "disk: is full; free some."
    assert [entries[s].row()["top1"] is None for s in range(5)] == [False, True, True, True, True]
    assert find_run(tmp_path, specs[0].hash[:10]).name == specs[0].hash
    details = run_details(load_run(tmp_path, specs[0].hash))
    assert details["result"]["state"] == "done"
    json.dumps(details["metrics"])
    with pytest.raises(UnknownNameError):
        find_run(tmp_path, "zzz")


def test_a_run_that_failed_once_is_running_when_it_is_taken_up_and_stopped_after(domains, tmp_path):
    spec = base_run(experiment(), domains["letters"], 0)
    folder = RunFolder(tmp_path, spec)
    folder.prepare()
    folder.fail(WorkError("disk", "is full", "free some"))
    with folder.lock():
        [entry] = list_runs(tmp_path)
    assert (entry.state, entry.error) == ("running", "")
    stop = Stop()
    stop.requested = True
    with pytest.raises(Stopped):
        compute_alone(train_run(spec, domains["letters"], source=None, root=tmp_path, stop=stop))
    [entry] = list_runs(tmp_path)
    assert (entry.state, entry.error) == ("stopped", "")


def test_a_look_at_a_run_does_not_keep_it_from_being_trained(domains, tmp_path):
    import fcntl

    folder = RunFolder(tmp_path, base_run(experiment(), domains["letters"], 0))
    with folder.lock():
        pass
    with (folder.path / "lock").open() as look:  # as `is_locked` does, only longer
        fcntl.flock(look, fcntl.LOCK_SH)
        timer = threading.Timer(0.05, fcntl.flock, (look, fcntl.LOCK_UN))
        timer.start()
        with folder.lock():
            pass
        timer.join()
    with folder.lock(), pytest.raises(RunLocked, match="trained by another process"), folder.lock():
        pass


def test_the_paper_recipe_runs_as_a_whole(domains, tmp_path):
    """Crops, RandAugment, erasing, mixing, stochastic depth, at a size that the images are scaled to."""
    recipe = load_recipe("paper", {"equal_steps": 2, "batch": 8, "size": 24})
    plan = plan_bases(Setting("convmixer_8_3", recipe), domains, names=["emoji"], seeds=1)
    [outcome] = work(plan, domains, tmp_path)
    assert outcome.state == "done"
