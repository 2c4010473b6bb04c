"""How long a plan takes: frozen layers, checkpoints, runs at a time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mkfa.engines.engine import Place, Timing
from mkfa.engines.estimate import count_steps, estimate, time_run
from mkfa.engines.schedule import Job, makespan
from mkfa.experiments.needed_runs import Setting, plan_cells
from mkfa.experiments.sources import Source
from mkfa.images.domain import Domain
from mkfa.images.opened import Domains
from mkfa.results.gather import records_of
from mkfa.training.device import Execution
from mkfa.training.folder import CHECKPOINT, RESULT, RunFolder
from mkfa.training.recipe import load_recipe
from mkfa.training.spec import RunSpec

SMOKE = load_recipe("smoke")

ONE = Execution(device="cpu", threads=1)


@pytest.fixture
def domains() -> Domains:
    """Return two domains of 24 training and 12 test images, without files."""
    found = Domains(SMOKE.size, SMOKE.max_size)
    for name in ("letters", "emoji"):
        x, y = np.zeros((36, 16, 16, 1), np.uint8), np.arange(36) % 3
        found._read[name] = Domain(name, ("a", "b", "c"), x[:24], y[:24], x[24:], y[24:], f"digest of {name}")
    return found


def experiment(**more: object) -> Setting:
    return Setting("convmixer_8_3", load_recipe("smoke", {"equal_steps": 10, "batch": 8}), **more)


def priced(spec: RunSpec) -> Timing:
    """A step of a base run takes 4 s, with all three layers frozen 1 s; an image 0.5 s."""
    return Timing(4.0 - spec.layers, 0.5)


def test_frozen_layers_checkpoints_and_what_is_done_make_it_shorter(domains, tmp_path):
    cells = [(Source("letters", "letters"), "emoji", arm, n) for arm in ("random", "transfer+") for n in (1, 3)]
    plan = plan_cells(experiment(), domains, cells=cells, seeds=1)
    asked: list[RunSpec] = []

    def timer(spec: RunSpec) -> Timing:
        asked.append(spec)
        return priced(spec)

    def told(jobs: int = 1) -> tuple[int, int, float | None]:
        found = estimate(plan, domains, root=tmp_path, places=(Place(ONE),) * jobs, timer=timer)
        assert (found.runs, found.jobs, found.threads) == (6, jobs, 1)
        return found.done, found.steps, found.seconds

    testing = 4 * 12 * 0.5  # 10 steps of 3 an epoch: evaluated after 3, 6, 9 and 10
    base, shallow, deep = 40 + testing, 30 + testing, 10 + testing
    assert told() == (0, 60, pytest.approx(4 * base + shallow + deep))  # transfer+ freezes nothing
    assert {(spec.arm, spec.layers) for spec in asked} == {("baseline", 0), ("random", 3)}
    assert len(asked) == 2  # one network, one size: timed once
    assert told(6) == (0, 60, pytest.approx(2 * base))  # transfer+ waits for the base run of letters
    emoji, random_3 = plan[0], next(p for p in plan if (p.spec.arm, p.spec.layers) == ("random", 3))
    RunFolder(tmp_path, emoji.spec).prepare()
    RunFolder(tmp_path, emoji.spec).finish({"state": "done"})
    half = RunFolder(tmp_path, random_3.spec)
    half.prepare()
    half.save(CHECKPOINT, {"step": 7})
    assert told() == (1, 43, pytest.approx(3 * base + shallow + 3 * 1 + 2 * 12 * 0.5))
    for p in plan[1:]:
        RunFolder(tmp_path, p.spec).prepare()
        RunFolder(tmp_path, p.spec).finish({"state": "done"})
    assert told() == (6, 0, None)


def test_a_damaged_checkpoint_counts_as_none(tmp_path):
    folder = RunFolder(tmp_path, RunSpec("a", "b", "c", "d", {}, 0))
    folder.prepare()
    assert folder.begun() == 0
    (folder.path / CHECKPOINT).write_bytes(b"no checkpoint")
    assert folder.begun() == 0


def test_runs_are_laid_out_in_order_as_soon_as_they_may():
    tasks = [Job("a", 2), Job("b", 3), Job("c", 4, "a"), Job("d", 1), Job("e", 1, "b")]
    assert makespan(tasks, 1) == 11
    assert makespan(tasks, 2) == 6  # a, c beside b, d, e
    assert makespan(tasks, 5) == 6  # a, then c
    assert makespan([Job("x", 2, "over already")], 3) == 2


@given(
    st.lists(st.integers(1, 50), min_size=1, max_size=12), st.lists(st.integers(1, 50), max_size=12), st.integers(1, 5)
)
def test_it_lies_between_the_bounds_of_scheduling(bases, arms, jobs):
    tasks = [Job(f"b{i}", s) for i, s in enumerate(bases)]
    tasks += [Job(f"a{i}", s, f"b{i % len(bases)}") for i, s in enumerate(arms)]
    total = sum(t.seconds for t in tasks)
    chain = max([*bases, *(s + bases[i % len(bases)] for i, s in enumerate(arms))])
    found = makespan(tasks, jobs)
    # Graham 1966: any list schedule ends within work / jobs and the part of the longest chain
    assert max(chain, total / jobs) <= found <= total / jobs + (1 - 1 / jobs) * chain + 1e-9


def test_timing_writes_nothing_and_trains_a_throwaway(domains, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    [plan] = plan_cells(experiment(), domains, cells=[(Source("emoji", "emoji"), "emoji", "random", 0)], seeds=1)
    found = time_run(plan.spec, domains, execution=ONE)
    assert 0 < found.image < found.step
    assert not list(Path().iterdir())


def test_a_damaged_result_is_neither_left_to_train_nor_an_error_before_the_sweep(domains, tmp_path):
    cells = [(Source("letters", "letters"), "emoji", "random", n) for n in (1, 3)]
    plan = plan_cells(experiment(), domains, cells=cells, seeds=1)
    assert count_steps(plan, domains, root=tmp_path).steps == 30
    folder = RunFolder(tmp_path, plan[-1].spec)
    folder.prepare()
    (folder.path / RESULT).write_text("{")
    assert count_steps(plan, domains, root=tmp_path).steps == 20
    assert [record.result for record in records_of(plan, tmp_path)] == [None] * 3
