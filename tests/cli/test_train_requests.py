"""Requests to the training commands that cannot be carried out: one sentence, early; and several runs at a time."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer
from small import SMALL, pack_small_domain
from typer.testing import CliRunner

from mkfa.cli.app import app
from mkfa.cli.shared import training as trainer
from mkfa.errors import MkfaError


@pytest.fixture
def domain(tmp_path: Path) -> Path:
    return pack_small_domain(tmp_path, "made")


def refused(*words: object) -> tuple[str, str]:
    """Return the sentence with which a request is refused (exit code 2), and what was printed before."""
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert isinstance(done.exception, MkfaError), done.output
    assert done.exception.exit_code == 2
    return str(done.exception), done.stdout


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("transfer-curve", "--arms", ""), "--arms: names nothing;"),
        (("transfer-curve", "--arms", "random,,delta"), "has an empty name in it;"),
        (("transfer-curve", "--layers", ""), "--layers: names no number;"),
        (("transfer-matrix", "--target", " "), "--target: names nothing;"),
        (("transfer-matrix", "--target", "digits"), "--target digits: does not name two or more different domains;"),
        (("transfer-matrix", "--target", "digits,emoji,digits"), "does not name two or more different domains;"),
        (("transfer-matrix", "--target", "digits,emoji", "--layers", "1,2"), "--layers 1,2: is not one number of"),
        (
            ("transfer-matrix", "--target", "digits,emoji", "--layers", "0"),
            "--layers 0: sets no layer, so that there is nothing but base runs",
        ),
        (("harvest", ""), "a network: is empty;"),
        (("runs", "--json", "--csv"), "--json and --csv: are two forms of one list;"),
        (("runs", "--experiment", "a", "compare", "--by", "arm"), "--experiment: before compare is an option of"),
        (("runs", "--json", "show", "abc"), "--json: before show is an option of the list"),
        (("runs", "--from", "x", "draw", "bundled"), "--from: before draw is an option of the list"),
        (("train", "digits", "--strategy", "stack"), "--strategy stack: is not a strategy; choose from auto, alone,"),
        (
            ("train", "digits", "--strategy", "graph", "--device", "cpu"),
            "--strategy graph: needs CUDA, and the device is",
        ),
        (("train", "digits", "--strategy", "alone", "--engine", "slurm"), "--strategy: is for --engine local;"),
        (("train", "digits", "--recipe", "smoke", "--epochs", "5"), "--epochs 5: would change nothing, as every run"),
        (("train", "digits", "--epochs", "5", "--equal-steps", "9"), "as every run takes 9 optimiser steps"),
        (("train", "digits", "--arch", "convmixer_8_2", "--kernel", "4"), "--kernel 4: is even:"),
        (
            ("train", "digits", "--arch", "convmixer_8_2", "--kernel", "1"),
            "choose at least two channels, one layer, 3x3 kernels",
        ),
    ],
)
def test_it_is_one_sentence(words, told):
    sentence, printed = refused(*words)
    assert told in sentence
    assert printed == ""


@pytest.mark.parametrize(
    "words",
    [
        ("train", "digits", "--threads", "100000"),
        ("train", "digits", "--jobs", "-1"),
        ("train", "digits", "--seeds", "0"),
        ("domains", "pack", "digits", "--workers", "-1"),
    ],
)
def test_numbers_out_of_range_are_refused_by_the_parser(words):
    done = CliRunner().invoke(app, list(words))
    assert done.exit_code == 2
    assert words[-2] in done.output
    assert "Invalid value" in done.output


@pytest.mark.parametrize("words", [("--target", "nosuch"), ("--layers", "0..99"), ("--layers", "19")])
def test_nothing_is_said_of_the_setting_before_it_is_refused(words):
    sentence, printed = refused("transfer-curve", *words)
    assert "nosuch: unknown domain" in sentence or "has 18 depthwise layers; choose from 1 to 18" in sentence
    assert printed == ""


def test_more_layers_than_a_networks_name_tells_are_refused_without_building_it(domain, monkeypatch):
    from mkfa.training import run as engine

    monkeypatch.setattr(engine, "build", lambda *_: pytest.fail("a network was built"))
    words = ("transfer", "--source", "letters", "--target", domain, "--arms", "random", *SMALL)
    assert "has 2 depthwise layers" in refused(*words, "--layers", "0..3")[0]
    assert (
        "has 2 depthwise layers"
        in refused("transfer-matrix", "--target", f"digits,{domain}", "--layers", "3", *SMALL)[0]
    )


@pytest.mark.parametrize("below", ["", "below"])
def test_a_file_as_out_is_a_wrong_request(domain, tmp_path, below):
    (tmp_path / "file").write_text("mine")
    sentence, _ = refused("train", domain, "--out", tmp_path / "file" / below, *SMALL)
    assert str(tmp_path / "file") in sentence
    assert (tmp_path / "file").read_text() == "mine"


def test_out_that_is_named_like_a_file_is_no_folder_for_runs(domain, tmp_path):
    sentence, _ = refused("train", domain, "--out", tmp_path / "curve.json", *SMALL)
    assert "curve.json" in sentence and f"--out {tmp_path / 'curve'}" in sentence.replace("\n", " ")
    assert [path.name for path in tmp_path.iterdir()] == [Path(domain).name]


def test_tensorboard_that_is_missing_is_said_before_any_training(domain, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    sentence, _ = refused("train", domain, "--out", tmp_path / "out", "--tensorboard", *SMALL)
    assert "pip install 'mkfa[tensorboard]'" in sentence
    assert not (tmp_path / "out").exists()


def test_tensorboard_writes_a_folder_of_events_into_each_run(domain, tmp_path):
    pytest.importorskip("tensorboard")
    done = CliRunner().invoke(
        app, ["train", str(domain), "--out", str(tmp_path), "--tensorboard", "--seeds", "2", *SMALL]
    )
    assert done.exit_code == 0, done.output
    assert len(list(tmp_path.glob("runs/*/events/*tfevents*"))) == 2


@pytest.mark.slow
def test_two_runs_at_a_time_from_the_command_line(domain, tmp_path):
    def train(*words: str) -> str:
        done = CliRunner().invoke(app, ["train", str(domain), "--seeds", "2", *words, *SMALL], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.stdout

    plan = json.loads(train("--jobs", "2", "--out", str(tmp_path / "two"), "--estimate", "--json"))["estimate"]
    assert (plan["jobs"], plan["threads"]) == (2, 1)
    text = train("--jobs", "2", "--out", str(tmp_path / "two"))
    assert "2 runs at a time, 1 thread each" in text
    train("--out", str(tmp_path / "one"))

    def digests(name: str) -> list[str]:
        results = [json.loads(p.read_text()) for p in (tmp_path / name).glob("runs/*/result.json")]
        return sorted(r["weights_sha256"] for r in results)

    assert len(digests("two")) == 2
    assert digests("two") == digests("one")


def test_stacked_runs_from_the_command_line(domain, tmp_path):
    words = ["train", str(domain), "--seeds", "2", "--strategy", "stacked", "--jobs", "2", "--out", str(tmp_path)]
    done = CliRunner().invoke(app, [*words, *SMALL], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "2 runs at a time, 1 thread each, stacked." in done.stdout
    for path in tmp_path.glob("runs/*/result.json"):
        how = json.loads(path.read_text())["execution"]["strategy"]
        assert how == {"strategy": "stacked", "runs_at_a_time": 2, "timed": []}


def test_a_lost_run_makes_the_exit_code_1_and_nothing_else_does():
    made = [SimpleNamespace(state=s) for s in ("done", "diverged", "impossible", "running")]
    trainer.exit_code(made)
    with pytest.raises(typer.Exit) as stop:
        trainer.exit_code([*made, SimpleNamespace(state="lost")])
    assert stop.value.exit_code == 1


def test_a_plan_says_how_many_runs_at_a_time():
    assert trainer.at_a_time(2, 1) == "2 runs at a time, 1 thread each"
    assert trainer.at_a_time(1, 4) == "One run at a time, 4 threads"
    assert trainer.at_a_time(1, 0) == "One run at a time"  # of orders: nobody knows yet


def test_a_dry_run_decodes_nothing_and_leaves_nothing(tmp_path, own_home):
    from PIL import Image

    for side in ("train", "test"):
        for name in ("a", "b"):
            (tmp_path / "set" / side / name).mkdir(parents=True)
            for i in range(2):
                Image.new("RGB", (8, 8), (40 * i, 0, 0)).save(tmp_path / "set" / side / name / f"{i}.png")
    words = ["train", str(tmp_path / "set"), "--arch", "convmixer_8_2", "--recipe", "smoke", "--seeds", "2"]
    done = CliRunner().invoke(app, [*words, "--device", "cpu", "--out", str(tmp_path / "out"), "--dry-run"])
    assert done.exit_code == 0, done.output
    assert "2 runs, 0 done" in done.stdout
    assert not (tmp_path / "out").exists()
    assert not list(own_home.rglob("*.h5"))
