"""Groups over seeds: means and intervals against scipy, and what may not be thrown together is kept apart."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import ttest_ind

from mkfa.errors import MkfaError, UnknownNameError
from mkfa.results.groups import group_runs
from mkfa.results.runs import RunRecord, list_runs, load_run
from mkfa.training.folder import RunFolder
from mkfa.training.spec import RunSpec, as_record

BASE = (0.80, 0.84, 0.82)
TRANSFER = (0.70, 0.79, 0.73)


def run(root: Path, top1: float | None, seed: int, **more: Any) -> RunRecord:
    values = {"arch": "net", "domain": "made", "domain_digest": "d1", "recipe_name": "smoke", "recipe": {"lr": 0.1}}
    spec = RunSpec(**(values | more), seed=seed)
    folder = RunFolder(root, spec)
    folder.prepare()
    if top1 is not None:
        folder.finish({"state": "done", "run": as_record(spec), "top1_last": top1, "test_images": 50, "chance": 0.1})
    return load_run(root, spec.hash)


@pytest.fixture
def runs(tmp_path) -> tuple[RunRecord, ...]:
    lender = {"domain": "other", "domain_digest": "d2"}
    for seed in range(3):
        run(tmp_path, BASE[seed], seed)
        base = run(tmp_path, 0.9, seed, **lender)
        run(tmp_path, TRANSFER[seed], seed, arm="transfer", layers=2, source=f"run:{base.spec.hash}")
        run(tmp_path, 0.5, seed, arm="random", layers=2)
        run(tmp_path, None if seed else 0.4, seed, arm="random", layers=10)
    return list_runs(tmp_path)


def by_values(table: Any) -> dict[tuple[Any, ...], Any]:
    return {tuple(g.values.values()): g for g in table.groups}


def test_groups_are_means_over_seeds_with_welchs_interval_against_their_own_base(runs):
    tables = {t.setting["domain"]: t for t in group_runs(runs, ["arm", "layers"])}
    assert set(tables) == {"made", "other"}
    table = tables["made"]
    assert (table.columns, table.added, table.test_images, table.chance) == (("arm", "layers"), (), 50, 0.1)
    groups = by_values(table)
    assert list(groups) == [("baseline", 0), ("random", 2), ("random", 10), ("transfer", 2)]
    found = groups["transfer", 2]
    interval = ttest_ind(TRANSFER, BASE, equal_var=False).confidence_interval(0.95)
    width = found.cell.seeds_half_width
    assert (found.cell.relative - width, found.cell.relative + width) == pytest.approx(tuple(interval))
    shares = [np.mean(TRANSFER), np.mean(BASE)]  # of 50 test images, whose answers are not recorded
    assert found.cell.test_error == pytest.approx(np.sqrt(sum(p * (1 - p) / 50 for p in shares)))
    assert found.cell.half_width > width
    assert (found.cell.mean, found.cell.std, found.cell.seeds) == (
        pytest.approx(np.mean(TRANSFER)),
        pytest.approx(np.std(TRANSFER, ddof=1)),
        (0, 1, 2),
    )
    assert math.isnan(groups["baseline", 0].cell.relative)
    short = groups["random", 10]
    assert (short.cell.seeds, short.cell.missing, short.cell.relative) == ((0,), 2, pytest.approx(0.4 - 0.82))
    assert math.isnan(short.cell.half_width)
    assert [g.values["arm"] for g in tables["other"].groups] == ["baseline"]


def test_runs_that_differ_in_more_are_kept_apart_and_the_field_is_shown(runs, tmp_path):
    for seed in range(2):
        run(tmp_path, 0.3, seed, arm="random", layers=2, what="pointwise")
    table = next(t for t in group_runs(list_runs(tmp_path), ["arm"]) if t.setting["domain"] == "made")
    assert (table.columns, table.added) == (("arm", "layers", "what"), ("layers", "what"))
    groups = by_values(table)
    assert groups["random", 2, "pointwise"].cell.top1 == (0.3, 0.3)
    assert groups["random", 2, "depthwise"].cell.top1 == (0.5, 0.5, 0.5)


def test_seeds_of_one_source_are_one_group_and_two_sources_are_two(runs, tmp_path):
    elsewhere = [run(tmp_path, 0.9, s, domain="third", domain_digest="d3") for s in range(2)]
    for seed, base in enumerate(elsewhere):
        run(tmp_path, 0.6, seed, arm="transfer", layers=2, source=f"run:{base.spec.hash}")
    table = next(t for t in group_runs(list_runs(tmp_path), ["arm", "layers"]) if t.setting["domain"] == "made")
    assert table.added == ("source",)
    groups = by_values(table)
    assert groups["transfer", 2, "other"].cell.top1 == TRANSFER
    assert groups["transfer", 2, "third"].cell.top1 == (0.6, 0.6)


def test_sources_of_one_network_with_other_options_are_two(tmp_path):
    lender = {"arch": "mixer", "domain": "other", "domain_digest": "d2"}
    for kernel, top1 in ((5, 0.6), (7, 0.8)):
        for seed in range(2):
            base = run(tmp_path, 0.9, seed, **lender, options={"kernel": kernel})
            run(tmp_path, top1, seed, arm="stack", layers=2, source=f"run:{base.spec.hash}")
    [table] = [t for t in group_runs(list_runs(tmp_path), ["source"]) if t.setting["domain"] == "made"]
    assert {source: (g.cell.mean, g.cell.seeds) for (source,), g in by_values(table).items()} == {
        "other+mixer:kernel=5": (0.6, (0, 1)),
        "other+mixer:kernel=7": (0.8, (0, 1)),
    }


def test_recipes_and_networks_have_their_own_base_also_in_one_table(tmp_path):
    for arch, shift in (("net", 0.0), ("net2", 0.3)):
        for seed in range(2):
            run(tmp_path, 0.5 + shift, seed, arch=arch)
            run(tmp_path, 0.4 + shift, seed, arch=arch, arm="random", layers=1)
    found = list_runs(tmp_path)
    assert [t.setting["arch"] for t in group_runs(found, ["arm"])] == ["net", "net2"]
    [table] = group_runs(found, ["arch", "arm"])
    changes = {g.values["arch"]: g.cell.relative for g in table.groups if g.values["arm"] == "random"}
    assert changes == pytest.approx({"net": -0.1, "net2": -0.1})


def test_two_recipes_of_one_name_are_two_settings(tmp_path):
    for lr in (0.1, 0.2):
        run(tmp_path, lr, 0, recipe={"lr": lr})
    labels = [t.setting["recipe"] for t in group_runs(list_runs(tmp_path), ["arm"])]
    assert len(set(labels)) == 2
    assert all(label.startswith("smoke#") for label in labels)


def test_a_run_in_two_experiments_counts_once(runs):
    once, twice = group_runs(runs, ["arm"]), group_runs((*runs, *runs), ["arm"])
    assert [[g.cell.seeds for g in t.groups] for t in once] == [[g.cell.seeds for g in t.groups] for t in twice]


def test_fields_are_checked(runs):
    with pytest.raises(UnknownNameError, match="did you mean layers"):
        group_runs(runs, ["layer"])
    with pytest.raises(MkfaError, match="nothing to average over"):
        group_runs(runs, ["seed"])
    with pytest.raises(MkfaError, match="names no field"):
        group_runs(runs, ["arm", ""])
    with pytest.raises(MkfaError, match="no runs: were found"):
        group_runs([], ["arm"])
