"""What a plan needs on the disk: counted from the plan, refused before anything starts, said in a dry run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from mkfa.cli.app import app
from mkfa.errors import MkfaError
from mkfa.experiments import disk
from mkfa.experiments.disk import disk_needs
from mkfa.experiments.planning import plan_curve, plan_train
from mkfa.training.folder import CHECKPOINT, RunFolder

SMALL = "--arch resmixer_16_2 --equal-steps 2 --set batch=8 --seeds 1 --device cpu --threads 1 --jobs 1"
OPTIONS = {
    "arch": "resmixer_16_2",
    "equal_steps": 2,
    "set": {"batch": 8},
    "seeds": 2,
    "device": "cpu",
    "threads": 1,
    "jobs": 1,
}
VERBS = {
    "train": f"train digits {SMALL}",
    "transfer": f"transfer --source fashion --target digits --layers 1 {SMALL}",
    "transfer-curve": f"transfer-curve --source fashion --target digits --layers 1,2 {SMALL}",
    "transfer-matrix": f"transfer-matrix --target digits,fashion --layers 1 {SMALL}",
    "transfer-sweep": "transfer-sweep --source fashion --target digits --steps 1,2 "
    + SMALL.replace("--equal-steps 2", ""),
    "claims run": f"claims run C15 {SMALL}",
    "reproduce": f"reproduce table1 {SMALL}",
}


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda _: SimpleNamespace(free=100_000))


@pytest.mark.parametrize("verb", VERBS)
def test_a_plan_that_is_larger_than_the_disk_is_refused_before_anything_is_written(tmp_path, own_home, full, verb):
    done = CliRunner().invoke(app, [*VERBS[verb].split(), "--out", str(tmp_path / "out")])
    told = str(done.exception)
    assert isinstance(done.exception, MkfaError) and done.exception.exit_code == 2, done.output
    assert "this plan: needs about" in told and "checkpoints" in told and "and 0.1 MB are free in" in told
    assert "free some space, or choose another --out" in told
    assert not (tmp_path / "out").exists()


def test_a_dry_run_says_what_is_needed_and_that_it_is_too_much(tmp_path, own_home, full):
    words = [*VERBS["transfer-curve"].split(), "--out", str(tmp_path / "out"), "--dry-run"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0 and "On disk: about" in done.stdout
    assert "larger than the disk" in done.stderr
    [need] = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)["disk"]
    assert need["needed"] == sum(need["parts"].values()) > need["free"] == 100_000


def test_what_runs_leave_is_what_was_counted(tmp_path, own_home):
    plan = plan_train("digits", {**OPTIONS, "out": tmp_path / "out"})
    [before] = disk_needs([plan], at_a_time=1)
    plan.carry_out()
    files = [path for path in (*tmp_path.rglob("*"), *own_home.rglob("*")) if path.is_file()]
    by_name = {name: sum(p.stat().st_size for p in files if p.name == name) for name in ("weights.pt", "bank.h5")}
    assert by_name["weights.pt"] <= before.parts["weights"] <= 1.5 * by_name["weights.pt"]
    library = sum(path.stat().st_size for path in files if path.parent.name == "banks")
    assert by_name["bank.h5"] + library <= before.parts["banks"] <= 2.5 * (by_name["bank.h5"] + library)
    folder = RunFolder(plan.root, plan.runs[0].spec)
    assert disk_needs([plan]) == () or all(need.needed == 0 for need in disk_needs([plan]))  # nothing is left
    assert not (folder.path / CHECKPOINT).exists()


def test_checkpoints_are_those_of_the_runs_at_a_time_and_each_is_there_twice_while_it_is_replaced(tmp_path, own_home):
    plan = plan_train("digits", {**OPTIONS, "seeds": 6, "out": tmp_path})
    one, four, many = (disk_needs([plan], at_a_time=n)[0].parts["checkpoints"] for n in (1, 4, 99))
    assert (four, many) == (4 * one, 6 * one)
    averaged = plan_train("digits", {**OPTIONS, "set": {"batch": 8, "ema": 0.9}, "out": tmp_path})
    assert disk_needs([averaged], at_a_time=1)[0].parts["checkpoints"] == one * 4 // 3


def test_images_that_are_not_packed_yet_count_and_are_not_packed_if_they_do_not_fit(tmp_path, own_home, full):
    for side in ("train", "test"):
        for name in "ab":
            (tmp_path / "images" / side / name).mkdir(parents=True)
            for number in range(4):
                pixels = np.full((64, 64, 3), 40 * number, np.uint8)
                Image.fromarray(pixels).save(tmp_path / "images" / side / name / f"{number}.png")
    with pytest.raises(MkfaError, match=r"packed images 0\.2 MB"):  # 16 images of 64 x 64 x 3
        plan_curve({**OPTIONS, "out": tmp_path / "out"}, source="digits", target=tmp_path / "images", layers=1)
    assert not list(own_home.rglob("*.h5")) and not (tmp_path / "out").exists()


@pytest.mark.parametrize("engine", ["local", "slurm"])
def test_runs_begun_on_another_kind_of_device_are_refused_before_anything_starts(
    tmp_path, own_home, monkeypatch, engine
):
    from mkfa.engines import slurm_jobs

    asked: list[str] = []

    def answer(words: list[str], **_: float) -> str:
        asked.append(words[0])
        return "a 2" if words[0] == "sinfo" else ""

    monkeypatch.setattr(slurm_jobs, "ask", answer)
    monkeypatch.setattr(shutil, "which", lambda name: name)
    plan = plan_train("digits", {**OPTIONS, "engine": engine, "out": tmp_path / "out"})
    folder = RunFolder(plan.root, plan.runs[1].spec)
    folder.prepare()
    folder.save(CHECKPOINT, {"step": 1, "device": "cuda"})
    with pytest.raises(MkfaError, match=r"seed 1: was started on cuda and cannot continue on cpu; pass --device cuda"):
        plan.carry_out()
    assert [path.name for path in plan.root.iterdir()] == [folder.path.name]  # the run of seed 0 was not begun
    assert "sbatch" not in asked


def test_a_free_folder_is_looked_up_where_it_will_be(tmp_path: Path, own_home):
    plan = plan_train("digits", {**OPTIONS, "out": tmp_path / "not" / "there" / "yet"})
    [need] = disk_needs([plan])
    assert need.folder == plan.root and need.free > 0
    assert not (tmp_path / "not").exists()
