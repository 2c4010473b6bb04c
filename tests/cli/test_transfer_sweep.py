"""`mkfa transfer-sweep`: plan, results, resumption, and its result drawn again."""

from __future__ import annotations

import json

import pytest
from small import call, options, pack_small_domain, refused


@pytest.fixture
def words(tmp_path):
    pair = pack_small_domain(tmp_path, "here"), pack_small_domain(tmp_path, "there")
    given = options(source=pair[0], target=pair[1], channels="4,8", kernels="3,5", seeds=2, out=tmp_path / "out")
    small = options(arch="resmixer_8_2", recipe="smoke", equal_steps=3, threads=1, device="cpu", jobs=1)
    return ("transfer-sweep", *given, *small, "--set", "batch=8")


def test_a_sweep_is_planned_trained_once_told_and_drawn_again(words, tmp_path):
    planned = call(*words, "--dry-run")
    assert "4 settings. D / f^2 from 0.16 to 0.89." in planned and "Nothing was trained." in planned
    assert not (tmp_path / "out").exists()
    told = call(*words)
    assert "40 runs, 0 done" in told
    assert "4 x 3x3" in told and "8 x 5x5" in told
    assert "Transfer minus random changes by" in told
    assert "Sensitivity: worst is" in told
    out = tmp_path / "out"
    assert {p.name for p in out.iterdir()} == {"runs", "sweep.json", "sweep.csv", "sweep.png"}
    found = json.loads(call(*words, "--json"))
    assert [(p["width"], p["kernel"]) for p in found["points"]] == [(4, 3), (4, 5), (8, 3), (8, 5)]
    assert all(len(cell["top1"]) == 2 for p in found["points"] for cell in p["curve"]["cells"])
    assert "40 runs, 40 done" in call(*words)
    assert len((out / "sweep.csv").read_text().splitlines()) == 2 + 4 * 4 * 2
    call("runs", "pack", tmp_path / "sweep.json.gz", "--result", out / "sweep.json")
    again = call("runs", "draw", tmp_path / "sweep.json.gz", "--out", tmp_path / "again.png")
    assert "Transfer minus random changes by" in again
    assert (tmp_path / "again.png").stat().st_size > 10_000


def test_requests_that_cannot_be_carried_out(words):
    assert "--kernels" in str(refused(*words, "--kernel", 3))
    assert "unknown arm" in str(refused(*words, "--arms", "transfr"))
