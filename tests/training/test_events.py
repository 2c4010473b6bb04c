"""TensorBoard events: the metrics again, whatever was killed, and with the package's own reader."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mkfa.engines.serial import Serial
from mkfa.engines.sweep import carry_out
from mkfa.errors import MkfaError
from mkfa.images.domain import Domain
from mkfa.images.opened import Domains
from mkfa.training.device import Execution
from mkfa.training.events import EVENTS, FILE, TAGS, check_tensorboard
from mkfa.training.folder import METRICS, RunFolder
from mkfa.training.planned import PlannedRun
from mkfa.training.recipe import load_recipe
from mkfa.training.run import compute_alone, train_run
from mkfa.training.spec import RunSpec
from mkfa.training.stopping import Stop

ON = Execution(device="cpu", threads=1, events=True)
OFF = replace(ON, events=False)
RECIPE = load_recipe("smoke", {"equal_steps": 11, "batch": 8})
SPEC = RunSpec("convmixer_8_2", "made", "digest", RECIPE.name, RECIPE.identity, 0)


def domain() -> Domain:
    rng, y = np.random.default_rng(0), np.arange(24) % 3
    x = (rng.integers(0, 160, (24, 16, 16, 1)) + 30 * y[:, None, None, None]).astype(np.uint8)
    return Domain("made", ("a", "b", "c"), x[:16], y[:16], x[16:], y[16:], "digest")


def train(root: Path, execution: Execution, **more: object) -> dict:
    return compute_alone(train_run(SPEC, domain(), source=None, root=root, execution=execution, **more))


def scalars(root: Path) -> dict[str, list[tuple[int, float]]]:
    """Return what TensorBoard's own reader finds: steps and values by tag, and the times in order."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    reader = accumulator.EventAccumulator(str(RunFolder(root, SPEC).path / EVENTS))
    reader.Reload()
    found = {tag: reader.Scalars(tag) for tag in reader.Tags()["scalars"]}
    assert all(e.wall_time > 1e9 for events in found.values() for e in events)
    return {tag: [(e.step, e.value) for e in events] for tag, events in found.items()}


def expected(root: Path) -> dict[str, list[tuple[int, float]]]:
    rows = [json.loads(line) for line in (RunFolder(root, SPEC).path / METRICS).read_text().splitlines()]
    assert [r["step"] for r in rows] == [2, 4, 6, 8, 10, 11]
    return {tag: [(r["step"], pytest.approx(r[key], rel=1e-6)) for r in rows] for key, tag in TAGS}


def test_the_events_are_the_metrics(tmp_path):
    pytest.importorskip("tensorboard")
    train(tmp_path, ON)
    found = scalars(tmp_path)
    rates = found.pop("images/s")
    assert found == expected(tmp_path)
    assert [step for step, _ in rates] == [2, 4, 6, 8, 10, 11]
    assert all(1 < rate < 1e7 for _, rate in rates)


class Killed(BaseException):
    """As a kill: nothing of the run's own gets to run."""


def kill_at(step: int) -> object:
    def tell(report: object) -> None:
        if report.step == step:
            raise Killed

    return tell


def test_killed_and_resumed_there_is_no_epoch_twice_and_none_missing(tmp_path):
    pytest.importorskip("tensorboard")
    often = replace(ON, checkpoint_seconds=0.0)
    with pytest.raises(Killed):
        train(tmp_path, often, tell=kill_at(3))  # a checkpoint of step 3
    with pytest.raises(Killed):
        train(tmp_path, ON, tell=kill_at(9))  # epochs up to step 8 are written, the checkpoint is of step 3
    assert [step for step, _ in scalars(tmp_path)["top-1"]] == [2, 4, 6, 8]
    train(tmp_path, ON)
    found = scalars(tmp_path)
    assert [step for step, _ in found.pop("images/s")] == [2, 4, 6, 8, 10, 11]
    assert found == expected(tmp_path)


def test_going_on_without_them_leaves_none_that_are_out_of_date(tmp_path):
    pytest.importorskip("tensorboard")
    with pytest.raises(Killed):
        train(tmp_path, replace(ON, checkpoint_seconds=0.0), tell=kill_at(5))
    assert scalars(tmp_path)
    train(tmp_path, OFF)
    folder = RunFolder(tmp_path, SPEC).path
    assert not (folder / EVENTS).exists()
    domains = Domains(RECIPE.size, RECIPE.max_size)
    domains._read["made"] = domain()
    for _ in range(2):  # a run that is over gets them from its metrics, once
        carry_out([PlannedRun(SPEC, "")], Serial(ON, domains, tmp_path), stop=Stop())
    assert scalars(tmp_path) == expected(tmp_path)  # without rates: they are not known any more
    before = (folder / EVENTS / FILE).stat().st_mtime_ns
    carry_out([PlannedRun(SPEC, "")], Serial(ON, domains, tmp_path), stop=Stop())
    assert (folder / EVENTS / FILE).stat().st_mtime_ns == before


def test_a_checkpoint_of_before_there_were_events_goes_on(tmp_path):
    pytest.importorskip("tensorboard")
    with pytest.raises(Killed):
        train(tmp_path, replace(OFF, checkpoint_seconds=0.0), tell=kill_at(5))
    folder = RunFolder(tmp_path, SPEC)
    saved = folder.load("checkpoint.pt")
    folder.save("checkpoint.pt", {k: v for k, v in saved.items() if k not in ("marks", "marked")})
    train(tmp_path, ON)
    found = scalars(tmp_path)
    assert [step for step, _ in found.pop("images/s")] == [6, 8, 10, 11]
    assert found == expected(tmp_path)


def test_a_missing_package_is_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(MkfaError, match=r"not installed; pip install 'mkfa\[tensorboard\]'"):
        check_tensorboard()
