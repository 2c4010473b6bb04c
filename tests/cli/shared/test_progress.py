"""What is seen of a sweep while it trains: steps, estimate, images per second, loss and accuracy of each run."""

from __future__ import annotations

import time

from mkfa.cli.shared import progress
from mkfa.cli.shared.progress import SweepBar
from mkfa.engines.unit import Outcome
from mkfa.training.planned import PlannedRun
from mkfa.training.result import RunResult
from mkfa.training.run import Report
from mkfa.training.spec import RunSpec


def planned(seed: int) -> PlannedRun:
    return PlannedRun(RunSpec("convmixer_8_2", "made", "digest", "smoke", {}, seed), "")


def outcome(seed: int, state: str = "done", **result: object) -> Outcome:
    return Outcome(planned(seed), state, True, RunResult.of({"state": state, **result}))


def words(bar: SweepBar) -> list[tuple[str, str]]:
    return [(task.description, task.fields["now"]) for task in bar.bar.tasks]


def test_it_shows_rate_loss_accuracy_and_what_is_left(monkeypatch):
    clock = iter([10.0, 10.0, 12.0, 12.0, 14.0, 14.0])
    monkeypatch.setattr(progress.time, "perf_counter", lambda: next(clock))
    bar = SweepBar(2, 20)
    bar.tell(planned(0), Report(1, 10, 32))
    assert words(bar) == [("runs 0/2, steps", ""), ("made convmixer_8_2 seed 0", "")]
    bar.tell(planned(0), Report(5, 10, 32, 0.75, 0.5))
    assert words(bar) == [
        ("runs 0/2, steps", "80 images/s"),  # five steps of 32 images in two seconds
        ("made convmixer_8_2 seed 0", "loss 0.750 top-1 0.500"),
    ]
    assert [(task.completed, task.total) for task in bar.bar.tasks] == [(5, 20), (5, 10)]


def test_a_run_that_goes_on_counts_only_what_this_call_trained():
    bar = SweepBar(1, 4)
    bar.tell(planned(0), Report(7, 10, 32))  # six steps lie in its checkpoint
    assert bar.images == 32
    assert [(task.completed, task.total) for task in bar.bar.tasks] == [(1, 4), (7, 10)]


def test_runs_that_end_are_counted_and_said_off_a_terminal(capsys):
    bar = SweepBar(2, 20)
    for step in range(1, 11):
        bar.tell(planned(0), Report(step, 10, 32, 0.1, 0.9))
    bar.ended(outcome(0, top1_last=0.9))
    for step in range(1, 5):
        bar.tell(planned(1), Report(step, 10, 32))
    bar.ended(outcome(1, "diverged", step=3))
    assert words(bar)[0][0] == "runs 2/2, steps"
    assert (bar.bar.tasks[0].completed, bar.bar.tasks[0].total, len(bar.bar.tasks)) == (14, 14, 1)
    told = capsys.readouterr().err.splitlines()
    assert told == [
        "made convmixer_8_2 seed 0: done, top-1 0.900",
        "mkfa: made convmixer_8_2 seed 1 diverged at step 3",
    ]


def test_there_is_an_estimate_once_steps_were_taken():
    bar = SweepBar(1, 1000)
    with bar:
        assert bar.bar.tasks[0].time_remaining is None
        for step in (1, 2, 3):
            time.sleep(0.01)
            bar.tell(planned(0), Report(step, 1000, 8))
        left = bar.bar.tasks[0].time_remaining
    assert left is not None
    assert left >= 0.01 * 900  # each of the steps took so long at least
