"""What runs differ in, and the interval of two accuracies, against published values and scipy."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from mkfa.errors import MkfaError, WorkError
from mkfa.results.differences import compare_runs
from mkfa.results.runs import RunRecord, load_run
from mkfa.training.folder import RunFolder
from mkfa.training.result import encode_right
from mkfa.training.spec import RunSpec, as_record

RECIPE = {"lr": 0.004, "batch": 8}


def record(
    root: Path, top1: float | None, *, seed: int = 0, state: str = "done", right: str = "", **more: Any
) -> RunRecord:
    values = {"arch": "net", "domain": "made", "domain_digest": "d1", "recipe_name": "smoke", "recipe": RECIPE} | more
    spec = RunSpec(**values, seed=seed)
    folder = RunFolder(root, spec)
    folder.prepare()
    if state != "stopped":
        result = {
            "state": state,
            "run": as_record(spec),
            "test_images": 200,
            "chance": 0.1,
            "seconds": 1.5,
            "test_right": right,
        }
        folder.finish(result | ({} if top1 is None else {"top1_last": top1, "top1_best": top1}))
    return load_run(root, spec.hash)


def test_only_what_differs_is_shown_and_the_recipe_field_by_field(tmp_path):
    a = record(tmp_path, 0.5)
    b = record(tmp_path, 0.6, seed=1, recipe=RECIPE | {"lr": 0.01}, recipe_name="smoke-1", options={"patch": 4})
    found = compare_runs([a, b])
    assert found.differing == {"seed": (0, 1), "recipe.lr": (0.004, 0.01), "options.patch": (None, 4)}
    assert found.facts["top1_last"] == (0.5, 0.6)
    assert found.facts["trained_parameters"] == (None, None)


def test_two_runs_have_a_difference_and_more_have_none(tmp_path):
    runs = [record(tmp_path, top1, seed=i) for i, top1 in enumerate((0.5, 0.6, 0.7))]
    two = compare_runs(runs[:2]).difference
    assert (two.value, two.first, two.second, two.images) == (pytest.approx(-0.1), 100, 120, 200)
    assert math.isnan(two.low) and math.isnan(two.high)
    assert compare_runs(runs).difference is None
    note = compare_runs(runs[:2]).note
    assert "200 test images" in note and "did not record which images it got right" in note


def test_runs_that_recorded_their_answers_are_compared_image_by_image(tmp_path):
    """110 and 120 of 200 right, 5 of them only by the first, 15 only by the second."""
    first = [True] * 105 + [True] * 5 + [False] * 15 + [False] * 75
    second = [True] * 105 + [False] * 5 + [True] * 15 + [False] * 75
    runs = [record(tmp_path, sum(x) / 200, seed=i, right=encode_right(x)) for i, x in enumerate((first, second))]
    found = compare_runs(runs)
    two = found.difference
    assert two.value == pytest.approx(-10 / 200)
    wide = 1.959964 * math.sqrt(21 - 100 / 202) / 202  # Agresti and Min 2005, with 1/2 added to each cell
    assert (two.low, two.high) == pytest.approx((-10 / 202 - wide, -10 / 202 + wide))
    assert two.high < 0
    assert "5 only the first run got right, 15 only the second" in found.note


def test_no_difference_across_test_sets_or_with_a_diverged_run(tmp_path):
    a = record(tmp_path, 0.5)
    other = compare_runs([a, record(tmp_path, 0.6, domain="other", domain_digest="d2")])
    assert (other.difference, "different images" in other.note) == (None, True)
    diverged = compare_runs([a, record(tmp_path, None, seed=1, state="diverged")])
    assert (diverged.difference, "diverged" in diverged.note) == (None, True)
    assert diverged.facts["state"] == ("done", "diverged")


def test_one_run_one_run_twice_and_unfinished_ones_are_refused(tmp_path):
    a = record(tmp_path, 0.5)
    with pytest.raises(MkfaError, match="not enough"):
        compare_runs([a])
    with pytest.raises(MkfaError, match="named twice"):
        compare_runs([a, a])
    with pytest.raises(WorkError, match=r"is unfinished \(stopped\)"):
        compare_runs([a, record(tmp_path, None, seed=1, state="stopped")])
