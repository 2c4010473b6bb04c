"""The calibration of tests/benchmarks runs, resumes, and finds what is known of a few structured banks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import scipy.stats
from scripts import load_script

FILE = Path(__file__).parent / "benchmarks" / "calibrate.py"


@pytest.fixture(scope="module")
def calibrate() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FILE.parent))  # it imports the file beside it
        yield load_script(FILE)


def column(calibrate: ModuleType, part: str, name: str) -> Any:
    return next(s for s in calibrate.settings() if (s.part, s.column) == (part, name))


def test_its_noise_has_the_steep_spectrum_of_trained_filters(calibrate: ModuleType):
    rows = np.concatenate(calibrate.noise([500] * 8, np.random.default_rng(0)))
    assert np.linalg.eigvalsh(rows.T @ rows / len(rows))[-1] == pytest.approx(0.38, abs=0.03)
    layers = calibrate.layered_noise([400] * 6, np.random.default_rng(3))
    moments = [x.T @ x / len(x) for x in layers]
    assert max(np.linalg.norm(m - moments[0]) for m in moments) > 0.3


def test_every_part_is_there_with_and_without_what_is_to_be_found(calibrate: ModuleType):
    names = {(s.part, s.column) for s in calibrate.settings()}
    for part in ("keys", "atlas"):
        assert {column for p, column in names if p == part} == {"0%", "5%", "10%", "25%", "0%, null covariance"}
    assert {"8 x 96, 0%", "8 x 96, 5%", "8 x 96, 10%", "8 x 96, 25%"} <= {c for p, c in names if p == "compare"}
    of_filters = {"compare", "exchange", "interval", "groups", "trend", "assign", "share", "keys", "atlas"}
    assert {p for p, _ in names} == of_filters | {"runs", "graft", "matrix"}
    assert len({s.stream for s in calibrate.settings()}) == len(list(calibrate.settings()))


def test_groups_of_banks_of_one_law_pass_seldom_and_of_two_often(calibrate: ModuleType):
    none, some = (column(calibrate, "groups", f"6 and 6, {share}") for share in ("0%", "25%"))
    p = [s.make(np.random.default_rng(i))["p PERMANOVA, coverage"] for s in (none, some) for i in range(3)]
    assert min(p[:3]) > 0.01 and max(p[3:]) <= 0.05


def test_a_run_that_was_broken_off_goes_on(calibrate: ModuleType, tmp_path: Path):
    rows, setting = tmp_path / "rows.jsonl", column(calibrate, "exchange", "8 x 64, 8 x 8")
    calibrate.run(rows, [setting], scale=3 / setting.count)
    whole = rows.read_text()
    assert whole.count("\n") == 3
    lines = whole.splitlines(keepends=True)
    rows.write_text(lines[0] + lines[1] + lines[2][:20])
    assert len(calibrate.read(rows)) == 2
    rows.write_text(lines[0] + lines[1])
    calibrate.run(rows, [setting], scale=3 / setting.count)
    assert rows.read_text() == whole
    text = calibrate.tables(calibrate.read(rows))
    assert "| p differ, coverage |" in text and "8 x 64, 8 x 8 (3)" in text


def test_rates_are_shares_of_small_p_and_of_intervals_that_hold_the_mean(calibrate: ModuleType):
    found = [
        {"p": p, "x|value": x, "x|low": x - 1, "x|high": x + 1}
        for p, x in ((0.05, 0.0), (0.5, 0.0), (0.01, 3.0), (1.0, 0.0))
    ]
    rates = calibrate.rates(found)
    assert rates["p"] == "0.500"
    assert rates["95 %: x"] == f"0.750 ({2 / (3.92 * 1.5):.2f})"  # the mean is 0.75
    found[0] |= {"x|low": float("nan"), "x|high": float("nan")}
    assert calibrate.rates(found)["95 %: x"] == f"0.667 ({2 / (3.92 * 1.5):.2f}), printed in 75%"


def test_made_runs_find_a_difference_that_is_there(calibrate: ModuleType):
    """Five seeds and 400 images tell five points from none, and a slope of half a point a layer."""
    none, some = (column(calibrate, "runs", f"5 seeds, {points} points") for points in (0, 5))
    p = [[s.make(np.random.default_rng(i))["p of a difference"] for i in range(4)] for s in (none, some)]
    assert min(p[0]) > 0.01 and np.median(p[1]) < 0.05
    curve = column(calibrate, "runs", "5 seeds, 0.5 points a layer").make(np.random.default_rng(1))
    assert curve["p of the slope"] < 0.01 and curve["slope|low"] < -0.005 < curve["slope|high"]


@pytest.mark.parametrize("part", ["keys", "atlas"])
def test_layers_of_noise_pass_the_null_of_all_layers_together_and_not_the_one_that_is_used(
    calibrate: ModuleType, part: str
):
    """With eight layers of 50 filters, each with the second moments of a layer of a trained network."""
    own = {s.column: s for s in calibrate.settings() if s.part == part and "own covariance" in s.table}
    none, pooled, some = (
        [min(own[name].make(np.random.default_rng([88, i])).values()) for i in (1, 3)]
        if part == "atlas"
        else [own[name].make(np.random.default_rng([88, i]))["p of the curve"] for i in (1, 3)]
        for name in ("0%", "0%, null covariance", "25%")
    )
    assert max(pooled) <= 0.05 < min(none) and max(some) <= 0.05


def test_several_banks_of_noise_whose_layers_differ_do_not_pass_the_primary_test(calibrate: ModuleType):
    none, some = (column(calibrate, "matrix", share) for share in ("0%", "25%"))
    assert min(none.make(np.random.default_rng(i))["any pair without shared filters, Holm"] for i in range(2)) > 0.05
    found = some.make(np.random.default_rng(0))
    assert found["the pair with shared filters, Holm"] <= 0.05 < found["any pair without shared filters, Holm"]


def test_shares_of_made_networks_are_without_the_error_of_small_layers(calibrate: ModuleType):
    """Layers of one share that differ by sampling alone get that share; layers that do differ keep theirs."""
    rng, sizes = np.random.default_rng(1), np.array([16, 16, 32, 64, 128, 256, 400, 400, 400, 400])
    same = rng.binomial(sizes, 0.1) / sizes
    differ = rng.binomial(sizes, np.linspace(0.05, 0.8, 10)) / sizes
    found = calibrate.without_sampling_error(sizes, np.stack([same, differ], axis=1))
    assert np.ptp(same) > 0.05 and np.ptp(found[:, 0]) < 0.03
    assert np.abs(found[4:, 1] - differ[4:]).max() < 0.02 < np.abs(found[:2, 1] - differ[:2]).min()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("part", "name"), [("compare", "8 x 32, 0%"), ("exchange", "4 x 8, 12 x 64"), ("exchange", "8 x 64, 8 x 8")]
)
def test_few_false_alarms(calibrate: ModuleType, tmp_path: Path, part: str, name: str):
    setting, n = column(calibrate, part, name), 20
    calibrate.run(tmp_path / "rows.jsonl", [setting], scale=n / setting.count)
    found = [json.loads(line)["found"] for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    for key in found[0]:
        alarms = sum(row[key] <= 0.05 for row in found)
        assert scipy.stats.binom.sf(alarms - 1, n, 0.05) > 1e-3, (key, alarms)
