"""Engines by name: one from outside takes a module and a row; one that is missing leaves nothing behind."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import ClassVar

import pytest
from typer.testing import CliRunner

import mkfa
from mkfa.cli.app import app
from mkfa.engines import ray_cluster, slurm_queue
from mkfa.engines.choice import ENGINES, Row
from mkfa.engines.engine import Died, End, Engine, Place
from mkfa.engines.unit import Outcome
from mkfa.engines.work import work
from mkfa.engines.worker import Task
from mkfa.errors import MkfaError
from mkfa.experiments.planning import plan_train
from mkfa.images.opened import Domains
from mkfa.training.device import Execution
from mkfa.training.planned import PlannedRun
from mkfa.training.run import Report
from mkfa.training.stopping import Stop

SMALL = {"arch": "resmixer_8_2", "equal_steps": 2, "set": {"batch": 8}, "seeds": 2, "device": "cpu", "threads": 1}


class Toy:
    """Trains the folders that it is given one by one, and loses the first of them once."""

    calls: ClassVar[list[str]] = []

    def __init__(self, execution: Execution, domains: Domains, root: Path) -> None:
        self.execution, self.domains, self.root = execution, domains, root
        self.folders: list[tuple[PlannedRun, Path]] = []
        self.lost = False

    def __enter__(self) -> Toy:
        return self

    def __exit__(self, *_: object) -> None:
        self.calls.append("closed")

    def check(self, plan: Sequence[PlannedRun]) -> None:
        self.calls.append(f"check {len(plan)}")

    def places(self) -> list[Place]:
        return [Place(Execution(device="cpu", threads=1), f"toy{number}") for number in range(2)]

    def submit(self, planned: PlannedRun) -> bool:
        if len(self.folders) == 2:
            return False
        self.calls.append(f"submit seed {planned.spec.seed}")
        folder = Task.of(planned, self.domains, self.places()[0].execution).write(self.root)
        self.folders.append((planned, folder))
        return True

    def events(self, tell: Callable[[PlannedRun, Report], None], stop: Stop) -> list[tuple[PlannedRun, End]]:
        planned, folder = self.folders.pop(0)
        if not self.lost:
            self.lost = True
            return [(planned, Died("the toy broke"))]
        end = work(folder, stop=stop)
        assert isinstance(end, Outcome)
        return [(planned, Outcome(planned, end.state, True, end.result))]

    def stop(self) -> None:
        raise AssertionError("nobody asked")


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> type[Toy]:
    """Add an engine as somebody else would: a module of one's own, and a row."""
    module = ModuleType("toy_engine")
    module.open_engine = lambda execution, plan, *, domains, root: Toy(execution, domains, root)
    monkeypatch.setitem(sys.modules, "toy_engine", module)
    monkeypatch.setitem(ENGINES, "toy", Row("toy_engine", "toys"))
    monkeypatch.setattr(Toy, "calls", [])
    return Toy


def test_an_engine_from_outside_trains_what_any_verb_asks_for(tmp_path, toy):
    checked: Engine = toy(Execution(), Domains(32, 64), tmp_path)  # mypy: it is an engine
    assert checked.places()[0].node == "toy0"
    with pytest.warns(UserWarning, match="the toy broke; it is tried again from its checkpoint"):
        runs = mkfa.train("digits", engine="toy", out=tmp_path / "toy", **SMALL)
    assert toy.calls == ["check 2", "submit seed 0", "submit seed 1", "submit seed 0", "closed"]
    local = mkfa.train("digits", jobs=1, out=tmp_path / "local", **SMALL)
    assert [run.result.weights_sha256 for run in runs] == [run.result.weights_sha256 for run in local]


def test_its_help_and_its_estimate_are_those_of_any_engine(tmp_path, toy):
    words = "train digits --engine toy --arch resmixer_8_2 --equal-steps 2 --set batch=8 --seeds 2 --estimate"
    done = CliRunner().invoke(app, [*words.split(), "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    said = " ".join(done.stdout.split())
    assert "2 runs at a time on 2 nodes, 1 thread each, timed on this machine; others may be faster or slower" in said
    assert toy.calls == ["check 2", "closed"]
    bad = CliRunner().invoke(app, ["train", "digits", "--engine", "tyo"])
    assert f"is not an engine; choose from {', '.join(ENGINES)}" in str(bad.exception) and "toy" in ENGINES


def _without_ray(monkeypatch: pytest.MonkeyPatch, _: Path) -> dict[str, str]:
    def missing() -> None:
        raise ImportError("ray")

    monkeypatch.setattr(ray_cluster, "_ray", missing)
    return {"engine": "ray"}


def _without_cluster(monkeypatch: pytest.MonkeyPatch, _: Path) -> dict[str, str]:
    fake = ModuleType("ray")
    fake.is_initialized = lambda: False
    monkeypatch.setattr(ray_cluster, "_ray", lambda: fake)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return {"engine": "ray", "address": f"127.0.0.1:{free.getsockname()[1]}"}


def _without_slurm(monkeypatch: pytest.MonkeyPatch, _: Path) -> dict[str, str]:
    monkeypatch.setattr(slurm_queue.shutil, "which", lambda _: None)
    return {"engine": "slurm"}


def _without_answer(monkeypatch: pytest.MonkeyPatch, folder: Path) -> dict[str, str]:
    for name in ("sbatch", "squeue", "sinfo"):
        (folder / name).write_text("#!/bin/sh\necho Unable to contact slurm controller >&2\nexit 1\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return {"engine": "slurm"}


@pytest.mark.parametrize(
    ("lacking", "sentence"),
    [
        (_without_ray, r"--engine ray: needs the package ray; install it: pip install 'mkfa\[ray\]'"),
        (_without_cluster, r"--address 127.0.0.1:\d+: no Ray cluster answers there"),
        (_without_slurm, "--engine slurm: needs Slurm's sbatch, which this machine does not have"),
        (_without_answer, r"--engine slurm: finds no Slurm that answers \(squeue failed: Unable to contact slurm"),
    ],
)
def test_an_engine_that_is_missing_is_one_sentence_and_nothing_is_written(
    tmp_path, own_home, monkeypatch, lacking, sentence
):
    (tmp_path / "bin").mkdir()
    options = lacking(monkeypatch, tmp_path / "bin")
    plan = plan_train("digits", {**SMALL, **options, "out": tmp_path / "out"})
    before = sorted(own_home.rglob("*"))
    for use in (plan.carry_out, plan.estimate):
        with pytest.raises(MkfaError, match=sentence):
            use()
    words = [word for key, value in options.items() for word in (f"--{key}", value)]
    done = CliRunner().invoke(app, ["train", "digits", "--out", str(tmp_path / "out"), *words])
    assert isinstance(done.exception, MkfaError) and done.exception.exit_code == 2
    assert not (tmp_path / "out").exists() and sorted(own_home.rglob("*")) == before


@pytest.mark.parametrize(
    "verb",
    [
        "train digits",
        "transfer",
        "transfer-curve",
        "transfer-matrix",
        "transfer-sweep",
        "claims run C15",
        "reproduce table1",
    ],
)
def test_every_verb_that_trains_takes_an_engine(tmp_path, monkeypatch, verb):
    words = {"transfer": ["--source", "fashion", "--target", "digits"]}.get(verb, [])
    engine = ["--engine", "slurm", "--sbatch", "--partition x", "--out", str(tmp_path / "out")]
    monkeypatch.setattr(slurm_queue.shutil, "which", lambda _: None)
    done = CliRunner().invoke(app, [*verb.split(), *words, *engine])
    assert "needs Slurm's sbatch" in str(done.exception), done.output
    assert not (tmp_path / "out").exists()
