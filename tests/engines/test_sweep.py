"""The rules of a sweep, with an engine that carries nothing out but says what a test wants."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from mkfa.banks.library import library_folder, load_bank
from mkfa.engines import sweep
from mkfa.engines.engine import Died, End, EngineError, Place
from mkfa.engines.serial import Serial
from mkfa.engines.sweep import carry_out
from mkfa.engines.unit import Outcome
from mkfa.errors import DeviceMemoryError, MkfaError, WorkError
from mkfa.experiments.needed_runs import Setting, plan_bases, plan_cells
from mkfa.experiments.sources import Source
from mkfa.images.opened import Domains
from mkfa.training.device import Execution
from mkfa.training.folder import CHECKPOINT, RESULT, RunFolder
from mkfa.training.planned import PlannedRun
from mkfa.training.recipe import load_recipe
from mkfa.training.run import Report
from mkfa.training.stopping import Stop, Stopped

ONE = Execution(device="cpu", threads=1)
MADE = Setting("convmixer_8_2", load_recipe("smoke", {"equal_steps": 4, "batch": 8}))


class Scripted:
    """Ends each submitted run at once, with the next of the events that the test gives for it, else done."""

    def __init__(self, domains: Domains, root: Path, places: int = 2, **script: list[object]) -> None:
        self.count, self.domains, self.root = places, domains, root
        self.script = script
        self.order: list[str] = []
        self.runs: list[PlannedRun] = []
        self.running: list[PlannedRun] = []
        self.stopped = False
        self.sizes: list[int] = []
        """Numbers of runs that were in progress together."""

    def check(self, plan: Sequence[PlannedRun]) -> None:
        pass

    def places(self) -> list[Place]:
        return [Place(ONE)] * self.count

    def submit(self, planned: PlannedRun) -> bool:
        if len(self.running) == self.count:
            return False
        for event in self.script.get(name_of(planned), [])[:1]:
            if isinstance(event, EngineError):
                raise event
        RunFolder(self.root, planned.spec).prepare()
        self.order.append(name_of(planned))
        self.runs.append(planned)
        self.running.append(planned)
        return True

    def events(self, tell: Callable[[PlannedRun, Report], None], stop: Stop) -> list[tuple[PlannedRun, End]]:
        ended, self.running = self.running, []
        self.sizes.append(len(ended))
        if self.stopped:
            return [(planned, Stopped()) for planned in ended]
        return [(planned, self._next(planned)) for planned in ended]

    def _next(self, planned: PlannedRun) -> object:
        events = self.script.get(name_of(planned), [])
        event = events.pop(0) if events else "done"
        if callable(event):
            event = event(planned)
        return Outcome(planned, event, True) if isinstance(event, str) else event

    def stop(self) -> None:
        self.stopped = True


def name_of(planned: PlannedRun) -> str:
    return f"{planned.spec.domain[0]}_{planned.spec.arm}{planned.spec.seed}"


@pytest.fixture(scope="module")
def domains() -> Domains:
    return Domains(MADE.recipe.size, MADE.recipe.max_size)


@pytest.fixture
def plan(domains: Domains, monkeypatch: pytest.MonkeyPatch) -> tuple[PlannedRun, ...]:
    """Return two base runs and, of each seed, an arm that borrows and one that does not; no bank is stored."""
    monkeypatch.setattr(sweep, "keep_bank", lambda outcome, *_: outcome)
    monkeypatch.setattr(sweep, "_LOOK", 0.05)
    origin = Source("letters", "letters")
    return plan_cells(MADE, domains, cells=[(origin, "digits", arm, 1) for arm in ("transfer", "random")], seeds=2)


def states(outcomes: tuple[Outcome, ...]) -> dict[str, str]:
    return {name_of(o.planned): o.state for o in outcomes}


def test_outcomes_come_in_order_and_a_borrower_waits_for_its_base_run(plan, domains, tmp_path):
    engine = Scripted(domains, tmp_path, places=8)
    outcomes = carry_out(plan, engine, stop=Stop())
    assert set(states(outcomes).values()) == {"done"}
    assert [o.planned for o in outcomes] == list(plan)
    at = engine.order.index
    assert max(at("l_baseline0"), at("l_baseline1"), at("d_random0")) < min(at("d_transfer0"), at("d_transfer1"))


def test_runs_that_others_wait_for_go_first_and_then_the_longest(domains, tmp_path, monkeypatch):
    """With two places and base runs of 4, 8 and 12 steps, the order of the plan would leave the longest for the end."""
    monkeypatch.setattr(sweep, "keep_bank", lambda outcome, *_: outcome)
    origin = Source("letters", "letters")

    def of(steps: int) -> Setting:
        return Setting("convmixer_8_2", load_recipe("smoke", {"equal_steps": steps, "batch": 8}))

    plan = [run for steps in (4, 8, 12) for run in plan_bases(of(steps), domains, names=["digits"], seeds=1)]
    plan += plan_cells(of(2), domains, cells=[(origin, "digits", "transfer", 1)], seeds=1)
    engine = Scripted(domains, tmp_path, places=1)
    carry_out(plan, engine, stop=Stop())
    lengths = [(name, run.spec.recipe["equal_steps"]) for name, run in zip(engine.order, engine.runs, strict=True)]
    assert lengths == [
        ("l_baseline0", 2),
        ("d_baseline0", 12),
        ("d_baseline0", 8),
        ("d_baseline0", 4),
        ("d_baseline0", 2),
        ("d_transfer0", 2),
    ]


def test_a_run_with_a_checkpoint_counts_by_what_is_left_of_it(domains, tmp_path, monkeypatch):
    monkeypatch.setattr(sweep, "keep_bank", lambda outcome, *_: outcome)
    plan = plan_bases(MADE, domains, names=["digits", "letters"], seeds=1)
    folder = RunFolder(tmp_path, plan[0].spec)
    folder.prepare()
    folder.save(CHECKPOINT, {"step": 3})
    engine = Scripted(domains, tmp_path, places=1)
    carry_out(plan, engine, stop=Stop())
    assert engine.order == ["l_baseline0", "d_baseline0"]


def test_a_failing_run_does_not_end_the_sweep(plan, domains, tmp_path):
    broken = MkfaError("net", "is wrong", "mend it")
    outcomes = carry_out(plan, Scripted(domains, tmp_path, d_random0=[broken]), stop=Stop())
    assert [s for s in states(outcomes).values() if s != "done"] == ["failed"]
    [failed] = [o for o in outcomes if o.state == "failed"]
    assert failed.planned.spec.label in failed.note
    assert "net: is wrong; mend it" in failed.note


def test_where_every_run_fails_the_first_error_is_the_sweeps(domains, tmp_path):
    plan = plan_bases(MADE, domains, names=["letters"], seeds=2)
    first, second = MkfaError("a", "is wrong", "x"), WorkError("b", "is wrong", "x")
    with pytest.raises(MkfaError) as raised:
        carry_out(plan, Scripted(domains, tmp_path, l_baseline0=[first], l_baseline1=[second]), stop=Stop())
    assert raised.value is first


@pytest.mark.parametrize("deaths", [1, 2, 3])
def test_a_run_whose_process_dies_is_tried_twice_more(plan, domains, tmp_path, deaths):
    said: list[str] = []
    engine = Scripted(domains, tmp_path, d_random1=[Died("it died") for _ in range(deaths)])
    outcomes = carry_out(plan, engine, stop=Stop(), notify=said.append)
    assert engine.order.count("d_random1") == min(deaths + 1, 3)
    assert states(outcomes)["d_random1"] == ("lost" if deaths == 3 else "done")
    assert len(said) == min(deaths, 2)
    assert all("from its checkpoint" in sentence for sentence in said)
    [run] = [p for p in plan if name_of(p) == "d_random1"]
    lines = (RunFolder(tmp_path, run.spec).path / "attempts.jsonl").read_text().splitlines()
    assert [json.loads(line)["event"] for line in lines] == ["it died"] * deaths


def test_where_memory_was_short_half_as_many_run_at_a_time(plan, domains, tmp_path):
    engine = Scripted(domains, tmp_path, places=4, l_baseline0=[Died("it was killed", memory=True)])
    said: list[str] = []
    carry_out(plan, engine, stop=Stop(), notify=said.append)
    assert engine.sizes[0] == 4 and max(engine.sizes[1:]) == 2
    assert said[0].endswith("it was killed; it is tried again with 2 runs at a time")


def test_a_run_for_which_a_device_has_too_little_memory_is_tried_with_fewer_beside_it(plan, domains, tmp_path):
    error = DeviceMemoryError("run x", "runs out of memory on cuda:0", "train fewer runs at a time")
    engine = Scripted(domains, tmp_path, places=2, l_baseline0=[error])
    assert set(states(carry_out(plan, engine, stop=Stop())).values()) == {"done"}
    assert engine.sizes[0] == 2 and max(engine.sizes[1:]) == 1
    engine = Scripted(domains, tmp_path / "alone", places=1, d_random0=[error])
    assert states(carry_out(plan, engine, stop=Stop()))["d_random0"] == "failed"


def test_a_run_stopped_by_someone_else_is_taken_up_again(plan, domains, tmp_path):
    outcomes = carry_out(plan, Scripted(domains, tmp_path, d_random0=[Stopped()]), stop=Stop())
    assert set(states(outcomes).values()) == {"done"}


def test_a_request_to_stop_ends_the_sweep_once_the_active_runs_have_saved_themselves(plan, domains, tmp_path):
    stop = Stop()

    def ask(planned: PlannedRun) -> str:
        stop.requested = True
        return "done"

    engine = Scripted(domains, tmp_path, places=1, l_baseline0=[ask])
    with pytest.raises(Stopped):
        carry_out(plan, engine, stop=stop)
    assert engine.order == ["l_baseline0"]


def test_a_sweep_whose_last_runs_were_stopped_is_stopped(domains, tmp_path):
    """Nothing waits then: the runs that saved themselves are what is left."""
    plan, stop = plan_bases(MADE, domains, names=["letters"], seeds=2), Stop()

    class Asked(Scripted):
        def submit(self, planned: PlannedRun) -> bool:
            taken = super().submit(planned)
            stop.requested = self.stopped = True
            return taken

    said: list[str] = []
    with pytest.raises(Stopped):
        carry_out(plan, Asked(domains, tmp_path), stop=stop, notify=said.append)
    assert said == []  # they are not taken for runs whose process died


def test_an_engine_that_starts_nothing_ends_the_sweep(plan, domains, tmp_path):
    error = EngineError("a training process", "cannot be started", "pass --jobs 1")
    with pytest.raises(EngineError):
        carry_out(plan, Scripted(domains, tmp_path, l_baseline0=[error]), stop=Stop())


def test_a_run_that_another_process_trains_is_waited_for_and_taken_over(plan, domains, tmp_path, monkeypatch):
    """The base run is busy elsewhere: its dependants wait, the other runs go on, and its result is taken over."""
    looks: list[bool] = []

    def locked(folder: Path) -> bool:
        looks.append(len(looks) < 3)
        if not looks[-1]:
            [base] = [p for p in plan if name_of(p) == "l_baseline0"]
            RunFolder(tmp_path, base.spec).finish({"state": "done", "top1_last": 0.5, "weights_sha256": "x"})
        return looks[-1]

    monkeypatch.setattr(sweep, "is_locked", locked)
    engine = Scripted(domains, tmp_path, l_baseline0=["running"])
    said: list[str] = []
    outcomes = carry_out(plan, engine, stop=Stop(), notify=said.append)
    assert set(states(outcomes).values()) == {"done"}
    assert [o.trained for o in outcomes if name_of(o.planned) == "l_baseline0"] == [False]
    assert engine.order[-1] == "d_transfer0"
    assert engine.order.count("l_baseline0") == 1
    assert "is being trained by another process, whose result is awaited" in said[0]


def test_a_run_that_another_process_left_unfinished_is_taken_up(plan, domains, tmp_path):
    engine = Scripted(domains, tmp_path, l_baseline0=["running", "done"])
    outcomes = carry_out(plan, engine, stop=Stop())
    assert set(states(outcomes).values()) == {"done"}
    assert engine.order.count("l_baseline0") == 2


def test_a_damaged_result_is_a_failed_run(plan, domains, tmp_path):
    [run] = [p for p in plan if name_of(p) == "d_random1"]
    RunFolder(tmp_path, run.spec).prepare()
    (RunFolder(tmp_path, run.spec).path / RESULT).write_text("{")
    outcomes = carry_out(plan, Scripted(domains, tmp_path), stop=Stop())
    assert states(outcomes)["d_random1"] == "failed"
    assert [s for s in states(outcomes).values()].count("done") == len(plan) - 1


def test_a_base_run_that_ended_while_its_driver_was_dead_gets_its_bank(domains, tmp_path):
    plan = plan_bases(MADE, domains, names=["letters"], seeds=1)
    carry_out(plan, Serial(ONE, domains, tmp_path), stop=Stop())
    kept = load_bank("letters")
    for path in library_folder().glob("*.h5"):
        path.unlink()
    (RunFolder(tmp_path, plan[0].spec).path / "bank.h5").unlink()
    [outcome] = carry_out(plan, Serial(ONE, domains, tmp_path), stop=Stop())
    assert not outcome.trained
    assert outcome.banks is not None
    again = load_bank("letters")
    for (_, a), (_, b) in zip(kept.iter_layers(), again.iter_layers(), strict=True):
        np.testing.assert_array_equal(a, b)
