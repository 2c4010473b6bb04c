"""`with_norm` from the option to the runs: which get it, what they train, and who shares a run."""

from __future__ import annotations

import pytest

import mkfa
from mkfa.errors import MkfaError
from mkfa.results.runs import read_runs

SMALL = {"arch": "convmixer_4_2", "recipe": "smoke", "equal_steps": 2, "set": {"batch": 4}, "threads": 1, "jobs": 1}
MORE = {"seeds": 1, "device": "cpu", **SMALL}


def test_with_norm_freezes_norms_and_changes_no_other_run(tmp_path):
    plain = mkfa.transfer("letters", "digits", arms="transfer,random", layers=1, out=tmp_path, **MORE)
    before = {run.hash: run.result for run in read_runs(tmp_path)}
    normed = mkfa.transfer("letters", "digits", arms="transfer,random", layers=1, out=tmp_path, with_norm=True, **MORE)
    runs = {run.hash: run for run in read_runs(tmp_path)}
    [added] = set(runs) - set(before)
    assert (runs[added].arm, runs[added].spec.with_norm) == ("transfer", True)
    assert [run.spec.with_norm for key, run in runs.items() if key != added] == [False] * len(before)
    [same] = [run for run in runs.values() if run.arm == "transfer" and run.hash != added]
    trained = [runs[key].result.record["trained_parameters"] for key in (same.hash, added)]
    assert trained[0] - trained[1] == 2 * 4  # weights and biases of one batch norm
    assert "with_norm" not in same.spec.identity
    assert (plain.parameters["with_norm"], normed.parameters["with_norm"]) == (False, True)


def test_with_norm_is_refused_where_it_would_change_nothing_or_has_no_source(tmp_path):
    with pytest.raises(MkfaError, match="copy no layer as a whole"):
        mkfa.transfer("letters", "digits", arms="random,delta", layers=1, out=tmp_path, with_norm=True, **MORE)
    with pytest.raises(MkfaError, match=r"source letters\+convmixer_4_3.* no norm layers"):
        mkfa.transfer(
            "letters",
            "digits",
            arms="transfer",
            layers=1,
            out=tmp_path,
            with_norm=True,
            source_arch="convmixer_4_3",
            **MORE,
        )
    assert list(tmp_path.iterdir()) == []
