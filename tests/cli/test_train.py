"""The training commands from the command line, on a packed domain made for the test."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from small import SMALL, call, options, pack_small_domain
from typer.testing import CliRunner

from mkfa.cli.app import app


@pytest.fixture
def domain(tmp_path: Path) -> Path:
    return pack_small_domain(tmp_path, "made")


def test_train_then_runs_then_compare(domain, tmp_path):
    out = tmp_path / "out"
    results = json.loads(call("train", domain, "--seeds", 2, "--out", out, "--json", *SMALL))["runs"]
    assert [r["state"] for r in results] == ["done", "done"]
    assert "made" in results[0]["banks"]
    listed = json.loads(call("runs", "--from", out, "--json"))["runs"]
    assert {r["hash"] for r in listed} == {r["run"]["hash"] for r in results}
    shown = json.loads(call("runs", "show", listed[0]["hash"][:8], "--from", out, "--json"))
    assert shown["result"]["top1_last"] == listed[0]["top1"]
    assert call("runs", "--from", out, "--csv").count("\n") == 4
    assert "done" in call("runs", "--from", out)
    banks = {b["name"] for b in json.loads(call("banks", "--json"))["banks"]}
    assert {"made", *results[1]["banks"]} <= banks


def test_a_finished_run_is_trained_again_once_its_folder_is_removed(domain, tmp_path):
    out = tmp_path / "out"
    words = ("train", domain, "--seeds", 1, "--out", out, *SMALL)
    [first] = json.loads(call(*words, "--json"))["runs"]
    assert "done (was there)" in call(*words)
    [folder] = (out / "runs").iterdir()
    shutil.rmtree(folder)
    again = call(*words)
    assert "done" in again and "was there" not in again
    [second] = json.loads(call(*words, "--json"))["runs"]
    assert (second["run"]["hash"], second["weights_sha256"]) == (first["run"]["hash"], first["weights_sha256"])
    told = " ".join(call("train", "--help").replace("│", " ").split())
    assert "There is no --force: a finished run of the same settings is taken over (to train it again, remove" in told


def test_a_curve_leaves_table_and_figure_and_a_second_call_trains_nothing(domain, tmp_path):
    out = tmp_path / "out"
    words = (
        "transfer-curve",
        *options(source="letters", target=domain, layers="0..2..2", arms="random,delta", seeds=2, out=out),
        *SMALL,
    )
    plan = json.loads(call(*words, "--estimate", "--json"))
    assert plan["estimate"]["runs"] == 6
    assert not list((out / "runs").glob("*/result.json"))
    table = call(*words)
    assert "Sensitivity: worst is" in table
    assert "Chance 0.333" in table
    assert {p.name for p in out.iterdir()} == {"runs", "curve.json", "curve.csv", "curve.png"}
    assert len((out / "curve.csv").read_text().splitlines()) == 8
    again = json.loads(call(*words, "--json"))
    assert [c["arm"] for c in again["cells"]] == ["random", "delta"]
    assert again["base"]["missing"] == 0
    assert json.loads(call(*words, "--estimate", "--json"))["estimate"]["done"] == 6


def test_transfer_from_a_bank_of_the_library(domain, tmp_path):
    call("train", domain, "--seeds", 1, "--out", tmp_path / "out", *SMALL)
    text = call(
        "transfer",
        *options(source="made", target=domain, arms="transfer", layers=2, seeds=1, out=tmp_path / "out"),
        *SMALL,
    )
    assert "transfer" in text


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--layers", "3..1"), "is empty"),
        (("--arms", "transfr"), "did you mean"),
        (("--layers", "9"), "choose"),
        (("--recipe", "slow"), "unknown recipe"),
        (("--source", "nowhere"), "nowhere"),
        (("--set", "lrr=1"), "no field"),
        (("--device", "tpu"), "not available on this machine"),
    ],
)
def test_wrong_requests_are_one_sentence(domain, tmp_path, words, told):
    from mkfa.errors import MkfaError

    base = (
        "transfer-curve",
        *options(source="letters", target=domain, layers="1", arms="random", seeds="1", out=tmp_path / "out"),
        *SMALL,
    )
    done = CliRunner().invoke(app, [str(w) for w in (*base, *words)])
    assert isinstance(done.exception, MkfaError)
    assert done.exception.exit_code == 2
    assert told in str(done.exception)
    assert not list((tmp_path / "out").glob("runs/*"))
