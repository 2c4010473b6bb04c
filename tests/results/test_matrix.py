"""The matrix: its rows, what its controls say of its sensitivity, and what it says on the whole, against scipy."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from mkfa.errors import MkfaError
from mkfa.results.archive import PackedExperiment
from mkfa.results.gather import rebuild
from mkfa.results.matrix import make_matrix, sentence, tell_sensitivity
from mkfa.results.record import RunRecord
from mkfa.training.result import RunResult

DOMAINS = ["a", "b", "c"]


def run(source: str, target: str, arm: str, top1: float | None, *, seed: int = 0) -> RunRecord:
    result = None if top1 is None else RunResult.of({"state": "done", "top1_last": top1, "chance": 0.25})
    return RunRecord(source, target, arm, 0 if arm == "baseline" else 3, seed, result)


def whole(*, seeds: int = 2) -> list[RunRecord]:
    """Return the runs of three targets and four sources, the first being none of the targets, with both controls."""
    rng = np.random.default_rng(0)
    runs = [run(d, d, "baseline", 0.8, seed=s) for d in ["z", *DOMAINS] for s in range(seeds)]
    runs += [
        run(s, t, "selffer" if s == t else "transfer", rng.normal(0.75, 0.02), seed=seed)
        for s in ["z", *DOMAINS]
        for t in DOMAINS
        for seed in range(seeds)
    ]
    runs += [
        run("", t, arm, rng.normal(mean, 0.02), seed=seed)
        for arm, mean in (("random", 0.6), ("delta", 0.4))
        for t in DOMAINS
        for seed in range(seeds)
    ]
    return runs


def mean(runs: list[RunRecord], source: str, target: str, arm: str) -> float:
    return float(np.mean([r.result.top1_last for r in runs if (r.source, r.target, r.arm) == (source, target, arm)]))


def test_a_matrix_has_a_base_for_each_target():
    runs = [
        run("", "a", "baseline", 0.9),
        run("", "b", "baseline", 0.5),
        run("a", "b", "transfer", 0.6),
        run("a", "a", "selffer", 0.8),
        run("b", "b", "selffer", 0.5),
        run("b", "a", "transfer", 0.95),
    ]
    matrix = make_matrix(runs, domains=["a", "b"], parameters={})
    change = {(c.source, c.target): c.relative for c in matrix.cells}
    assert change == pytest.approx({("a", "a"): -0.1, ("a", "b"): 0.1, ("b", "a"): 0.05, ("b", "b"): 0.0})
    assert [(c.source, c.target) for c in matrix.cells] == [("a", "a"), ("a", "b"), ("b", "a"), ("b", "b")]
    assert (matrix.sources, matrix.controls) == (("a", "b"), ())


def test_rows_are_sources_in_order_and_controls_apart():
    matrix = make_matrix(whole()[::-1], domains=DOMAINS, sources=["z", *DOMAINS], parameters={})
    assert [(c.source, c.target) for c in matrix.cells] == [(s, t) for s in ("z", *DOMAINS) for t in DOMAINS]
    assert [(c.arm, c.target) for c in matrix.controls] == [(a, t) for a in ("delta", "random") for t in DOMAINS]
    assert list(matrix.bases) == DOMAINS
    assert all(c.seeds == (0, 1) for c in (*matrix.cells, *matrix.controls))
    with pytest.raises(MkfaError, match="source z: is not a row"):
        make_matrix(whole(), domains=DOMAINS, parameters={})


def test_sensitivity_is_of_the_worst_control_of_each_target():
    runs = whole()
    matrix = make_matrix(runs, domains=DOMAINS, sources=["z", *DOMAINS], parameters={})
    for target in DOMAINS:
        seen = matrix.sensitivity[target]
        assert seen is not None
        assert (seen.worst_arm, seen.drop) == ("delta", pytest.approx(0.8 - mean(runs, "", target, "delta")))
        groups = [c.top1 for c in (*matrix.cells, *matrix.controls) if c.target == target] + [(0.8, 0.8)]
        spread = math.sqrt(np.mean([np.var(g, ddof=1) for g in groups]))  # two seeds each: one degree of freedom
        assert (seen.spread, seen.distance) == (pytest.approx(spread), pytest.approx(seen.drop / spread))
    told = tell_sensitivity(matrix)
    assert f"a {100 * matrix.sensitivity['a'].drop:.1f} ({matrix.sensitivity['a'].distance:.1f} SD) by delta" in told
    assert "no control lies" not in told


def test_a_transfer_below_every_control_is_no_sensitivity():
    runs = [run("", t, "baseline", 0.8) for t in "ab"]
    runs += [run("a", "b", "transfer", 0.1), run("", "a", "random", 0.79), run("", "b", "random", 0.85)]
    matrix = make_matrix(runs, domains=["a", "b"], parameters={})
    assert {t: s.drop for t, s in matrix.sensitivity.items()} == pytest.approx({"a": 0.01, "b": -0.05})
    told = tell_sensitivity(matrix)
    assert "a 1.0 by random; b -5.0 by random; SDs over seeds need two seeds" in told
    assert "On b no control lies clearly below" in told


def test_a_target_whose_control_lies_within_the_seeds_is_named():
    runs = [run("", t, "baseline", v, seed=s) for t in "ab" for s, v in enumerate((0.78, 0.82))]
    runs += [run("", "a", "delta", v, seed=s) for s, v in enumerate((0.76, 0.80))]
    runs += [run("", "b", "delta", v, seed=s) for s, v in enumerate((0.36, 0.40))]
    matrix = make_matrix(runs, domains=["a", "b"], parameters={})
    assert "On a no control lies clearly below" in tell_sensitivity(matrix)
    two = [
        run("", "c", arm, v - drop, seed=s)
        for arm, drop in (("baseline", 0), ("delta", 0.08))
        for s, v in enumerate((0.78, 0.82))
    ]  # 2.8 SD: two seeds alone bring as much in one of twenty
    told = tell_sensitivity(make_matrix([*runs, *two], domains=["a", "b", "c"], parameters={}))
    assert "c 8.0 (2.8 SD) by delta" in told
    assert "On a, c no control lies clearly below" in told


def test_without_controls_the_sensitivity_is_unknown():
    runs = [r for r in whole() if r.source]
    matrix = make_matrix(runs, domains=DOMAINS, sources=["z", *DOMAINS], parameters={})
    assert matrix.sensitivity == dict.fromkeys(DOMAINS)
    assert "the matrix has no control (--controls)" in tell_sensitivity(matrix)
    unfinished = [*runs, run("", "a", "delta", None)]
    matrix = make_matrix(unfinished, domains=DOMAINS, sources=["z", *DOMAINS], parameters={})
    assert "no control is finished" in tell_sensitivity(matrix)
    matrix = make_matrix(
        [*unfinished, run("", "b", "delta", 0.3)], domains=DOMAINS, sources=["z", *DOMAINS], parameters={}
    )
    assert "Unknown on a, c: no control is finished" in tell_sensitivity(matrix)


def test_on_the_whole_against_scipy_with_targets_as_units():
    runs = whole()
    matrix = make_matrix(runs, domains=DOMAINS, sources=["z", *DOMAINS], parameters={})
    assert [(o.against, o.cells, o.targets, o.arm) for o in matrix.overall] == [
        (name, 9, 3, "transfer") for name in ("baseline", "selffer", "random")
    ]
    others = {
        "baseline": lambda t: 0.8,
        "selffer": lambda t: mean(runs, t, t, "selffer"),
        "random": lambda t: mean(runs, "", t, "random"),
    }
    for found in matrix.overall:
        cells = {
            t: [mean(runs, s, t, "transfer") - others[found.against](t) for s in ("z", *DOMAINS) if s != t]
            for t in DOMAINS
        }
        assert found.difference == pytest.approx(np.mean([v for values in cells.values() for v in values]))
        interval = ttest_1samp([np.mean(v) for v in cells.values()], 0).confidence_interval(0.95)
        assert (found.difference - found.half_width, found.difference + found.half_width) == pytest.approx(
            (interval.low, interval.high)
        )
    told = sentence(matrix.overall[2])
    assert told.startswith("transfer minus the control random of the same target: +")
    assert "mean of 9 cells off the diagonal" in told
    assert "(t over 3 targets as units); 0 is outside." in told


def test_cells_that_are_missing_leave_every_target_its_weight():
    runs = [run("", t, "baseline", 0.5) for t in DOMAINS]
    runs += [
        run("b", "a", "transfer", 0.52),
        run("c", "a", "transfer", None),
        run("a", "b", "transfer", 0.48),
        run("c", "b", "transfer", 0.47),
        run("a", "c", "transfer", None),
        run("", "b", "random", 0.525),
    ]
    base, random = make_matrix(runs, domains=DOMAINS, parameters={}).overall
    assert (base.difference, base.cells, base.targets) == (pytest.approx((0.02 - 0.025) / 2), 3, 2)
    assert "0 is inside: 2 targets are not conclusive" in sentence(base)
    assert (random.difference, random.cells, random.targets) == (pytest.approx(-0.05), 2, 1)
    assert math.isnan(random.half_width)
    assert "no interval (needs two targets)" in sentence(random)


def test_equal_targets_have_no_interval_and_nothing_done_has_no_summary():
    runs = [run("", t, "baseline", 0.5) for t in "ab"] + [run(s, t, "transfer", 0.5) for s, t in ("ab", "ba")]
    [base] = make_matrix(runs, domains=["a", "b"], parameters={}).overall
    assert "no interval, because the 2 targets do not differ, or too much for so few." in sentence(base)
    apart = [
        replace(r, result=run("", "", "", 0.9).result) if r.target == "b" and r.arm != "baseline" else r for r in runs
    ]
    [base] = make_matrix(apart, domains=["a", "b"], parameters={}).overall
    assert base.difference == pytest.approx(0.2) and math.isnan(base.half_width)  # t of two targets: 12.7 * 0.2
    assert "no interval, because the 2 targets do not differ, or too much for so few." in sentence(base)
    assert make_matrix(runs[:2], domains=["a", "b"], parameters={}).overall == ()


def packed(runs: list[RunRecord], **parameters: object) -> PackedExperiment:
    members = tuple(replace(r, hash=f"{i:016x}") for i, r in enumerate(runs))
    p = {"domains": DOMAINS, "arch": "net", "what": "depthwise", "layers": 3, "seeds": 2, **parameters}
    return PackedExperiment("m", "matrix", "mkfa transfer-matrix", p, members)


def test_what_was_packed_before_sources_had_a_name_is_read():
    runs = [r for r in whole() if r.source in DOMAINS]
    found = rebuild(packed(runs))
    assert found.sources == tuple(DOMAINS)
    assert found.controls == ()
    assert [(c.source, c.target) for c in found.cells] == [(s, t) for s in DOMAINS for t in DOMAINS]
    assert [o.against for o in found.overall] == ["baseline", "selffer"]


def test_what_is_packed_with_sources_is_rebuilt_with_them_or_refused():
    rows = ["z", *DOMAINS]
    made = make_matrix(whole(), domains=DOMAINS, sources=rows, parameters={})
    found = rebuild(packed(whole(), sources=rows))
    for name in ("sources", "cells", "controls", "bases", "sensitivity", "overall"):
        assert getattr(found, name) == getattr(made, name), name
    with pytest.raises(MkfaError, match="source z: is not a row"):
        rebuild(packed(whole()))
    with pytest.raises(MkfaError, match="not a complete matrix"):
        rebuild(packed(whole(), sources="z"))
