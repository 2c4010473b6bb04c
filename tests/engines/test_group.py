"""Runs that are trained together in one process: their folders are as if each had been alone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mkfa.engines.fastest import Choice
from mkfa.engines.group import Together, kind_of
from mkfa.engines.serial import Serial
from mkfa.engines.sweep import carry_out
from mkfa.engines.unit import Outcome
from mkfa.errors import DeviceMemoryError
from mkfa.experiments.needed_runs import Setting, plan_bases, plan_cells
from mkfa.experiments.sources import Source
from mkfa.images.opened import Domains
from mkfa.training import strategies
from mkfa.training.device import Execution
from mkfa.training.draws import Draws
from mkfa.training.folder import ATTEMPTS, CHECKPOINT, METRICS, RESULT, RunFolder, load_tensors, read_metrics
from mkfa.training.planned import PlannedRun
from mkfa.training.recipe import load_recipe
from mkfa.training.run import Report
from mkfa.training.step import Step
from mkfa.training.stopping import Stop, Stopped

ONE = Execution(device="cpu", threads=1)
OFTEN = replace(ONE, checkpoint_seconds=0.0)
MADE = Setting("convmixer_8_2", load_recipe("smoke", {"equal_steps": 12, "batch": 8, "drop_path": 0.2}))
FILES = {"spec.json", METRICS, RESULT, ATTEMPTS, "lock"}


@pytest.fixture(scope="module")
def domains() -> Domains:
    return Domains(MADE.recipe.size, MADE.recipe.max_size)


@pytest.fixture(scope="module")
def plan(domains: Domains) -> tuple[PlannedRun, ...]:
    """Return base runs on two domains and, of each seed, an arm that borrows and one that does not."""
    origin = Source("letters", "letters")
    return plan_cells(MADE, domains, cells=[(origin, "scripts", arm, 1) for arm in ("transfer", "random")], seeds=2)


@pytest.fixture(scope="module")
def bases(domains: Domains) -> tuple[PlannedRun, ...]:
    return plan_bases(MADE, domains, names=["scripts"], seeds=3)


def carried_out(plan, domains, root: Path, *, count: int = 3, name: str = "stacked", how: Execution = ONE, **more):
    engine = Together(how, name, count, domains, root) if count else Serial(how, domains, root)
    with engine:
        return carry_out(plan, engine, stop=more.pop("stop", Stop()), **more)


def by_hash(outcomes: tuple[Outcome, ...]) -> dict[str, Outcome]:
    return {outcome.planned.spec.hash: outcome for outcome in outcomes}


def digests(outcomes: tuple[Outcome, ...]) -> dict[int, str]:
    return {o.planned.spec.seed: o.result.weights_sha256 for o in outcomes}


@pytest.mark.parametrize("name", ["alone", "stacked"])
def test_a_sweep_leaves_the_folders_and_banks_of_single_runs(plan, domains, tmp_path, name):
    alone = by_hash(carried_out(plan, domains, tmp_path / "alone", count=0))
    together = by_hash(carried_out(plan, domains, tmp_path / "together", name=name))
    assert len(plan) == 8
    assert alone.keys() == together.keys()
    for key, one in alone.items():
        other = together[key]
        assert (one.state, other.state) == ("done", "done")
        assert (one.banks is None, one.banks and one.banks.names) == (
            other.banks is None,
            other.banks and other.banks.names,
        )
        paths = [RunFolder(tmp_path / where, one.planned.spec).path for where in ("alone", "together")]
        assert {p.name for p in paths[0].iterdir()} == {p.name for p in paths[1].iterdir()} > FILES - {"lock"}
        for mine, theirs in zip(*(read_metrics(path / METRICS) for path in paths), strict=True):
            assert mine == pytest.approx(theirs, abs=2e-3)
        kept = [json.loads((path / RESULT).read_text()) for path in paths]
        assert kept[0].keys() == kept[1].keys()
        assert (
            kept[0]["planted"] == kept[1]["planted"] or one.planned.spec.source
        )  # borrowed filters differ by rounding
        if name == "alone":
            assert one.result.weights_sha256 == other.result.weights_sha256


@pytest.mark.parametrize(("first", "second"), [("stacked", "alone"), ("alone", "stacked"), ("stacked", "stacked")])
def test_a_stopped_run_goes_on_under_any_strategy(bases, domains, tmp_path, first, second):
    stop = Stop()

    def tell(_planned: PlannedRun, report: Report) -> None:
        stop.requested |= report.step == 5

    with pytest.raises(Stopped):
        carried_out(bases, domains, tmp_path / "parts", name=first, stop=stop, tell=tell)
    folders = [RunFolder(tmp_path / "parts", planned.spec) for planned in bases]
    assert all(5 <= folder.begun() <= 6 for folder in folders)
    saved = load_tensors(folders[0].path / CHECKPOINT)
    assert all(t.untyped_storage().nbytes() == t.nbytes for t in saved["model"].values())  # not its neighbours' too
    parts = carried_out(bases, domains, tmp_path / "parts", name=second)
    whole = carried_out(bases, domains, tmp_path / "whole", count=0)
    for one, other in zip(parts, whole, strict=True):
        assert one.state == "done"
        assert one.result.record["resumed"] == 1
        assert one.result.loss_test == pytest.approx(other.result.loss_test, abs=1e-4)


def test_a_diverged_run_ends_as_such_and_leaves_its_neighbours_as_they_were(bases, domains, tmp_path, monkeypatch):
    healthy = digests(carried_out(bases, domains, tmp_path / "healthy"))
    real = Step.prepare
    sick = bases[1].spec

    def spoilt(self: Step, number: int, index: torch.Tensor, draws: Draws):
        batch = real(self, number, index, draws)
        if number == 4 and self.seed == seeds[1]:
            batch.images.fill_(float("nan"))
        return batch

    from mkfa.training.run import network_seed

    seeds = [network_seed(planned.spec) for planned in bases]
    monkeypatch.setattr(Step, "prepare", spoilt)
    outcomes = carried_out(bases, domains, tmp_path / "sick")
    assert [o.state for o in outcomes] == ["done", "diverged", "done"]
    assert RunFolder(tmp_path / "sick", sick).result().step == 4
    for o in (outcomes[0], outcomes[2]):
        assert o.result.weights_sha256 == healthy[o.planned.spec.seed]


def test_short_memory_makes_the_group_smaller(bases, domains, tmp_path, monkeypatch):
    sizes = []
    real = strategies.Stacked.step

    def scarce(self, batches):
        sizes.append(len(batches))
        if len(batches) > 1 and len(sizes) > 3:
            raise torch.OutOfMemoryError
        return real(self, batches)

    monkeypatch.setattr(strategies.Stacked, "step", scarce)
    outcomes = carried_out(bases, domains, tmp_path, how=OFTEN)
    assert [o.state for o in outcomes] == ["done"] * 3
    assert sizes[:5] == [3, 3, 3, 3, 1]
    assert set(sizes[4:]) == {1}
    assert all(o.result.record["resumed"] == 1 for o in outcomes)
    lines = (RunFolder(tmp_path, bases[0].spec).path / ATTEMPTS).read_text()
    assert "set aside with its group" in lines


def test_a_run_that_is_too_large_by_itself_fails_with_a_sentence(bases, domains, tmp_path, monkeypatch):
    def scarce(_self, _batches):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(strategies.Stacked, "step", scarce)
    with pytest.raises(DeviceMemoryError, match="runs out of memory on cpu with batches of 8 images; pass --strategy"):
        carried_out(bases, domains, tmp_path)


def test_an_error_of_one_run_ends_that_run_only(bases, domains, tmp_path, monkeypatch):
    from mkfa.training import run as module

    real = module.Run.evaluate

    def broken(self, *args, **kwargs):
        if self.spec.seed == 1:
            raise ValueError("planted")
        return real(self, *args, **kwargs)

    monkeypatch.setattr(module.Run, "evaluate", broken)
    outcomes = carried_out(bases, domains, tmp_path)
    assert [o.state for o in outcomes] == ["done", "failed", "done"]
    assert "unexpected ValueError: planted" in outcomes[1].note


def test_only_runs_of_one_kind_are_trained_together(plan, domains, tmp_path):
    other = replace(plan[0], spec=replace(plan[0].spec, arch="convmixer_8_3"))
    wider = replace(plan[0], spec=replace(plan[0].spec, recipe={**plan[0].spec.recipe, "batch": 4}))
    offset = [replace(p, spec=replace(p.spec, arm="random-2", layers=n)) for p, n in ((plan[0], 1), (plan[0], 2))]
    assert len({kind_of(p.spec, domains) for p in plan if p.spec.domain == "scripts"}) == 1
    assert len({kind_of(p.spec, domains) for p in (plan[0], other, wider, *offset)}) == 5
    with Together(ONE, "stacked", 3, domains, tmp_path) as engine:
        assert engine.takes(other)
        engine.submit(plan[0])
        assert not engine.takes(other)
        assert [engine.submit(p) for p in plan[1:4]] == [True, True, False]


def test_the_choice_is_in_the_result(bases, domains, tmp_path):
    choice = Choice("stacked", 2, ({"strategy": "stacked", "runs": 2, "images_per_second": 9.0},))
    how = replace(ONE, chosen=choice.record)
    (outcome, *_) = carried_out(bases[:1], domains, tmp_path, count=2, how=how)
    assert outcome.result.record["execution"]["strategy"] == choice.record
