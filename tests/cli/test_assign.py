"""`mkfa assign` from the command line."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from mkfa.banks.bank_file import Analysis, read_analyses, write_analysis, write_bank
from mkfa.banks.library import list_banks
from mkfa.cli.app import app
from mkfa.errors import MkfaError
from mkfa.storage.result_files import read_arrays

FAST = ("--draws", "99")


@pytest.fixture
def run():
    def call(*arguments: object):
        return CliRunner().invoke(app, ["assign", *map(str, arguments)], catch_exceptions=True)

    return call


@pytest.fixture
def path(bank_maker, tmp_path):
    return write_bank(bank_maker([(30, 3, 3), (20, 5, 5), (25, 5, 5)]), tmp_path / "made.h5")


def test_it_prints_stores_and_says_where(run, path):
    done = run(path, *FAST, "--by-layer")
    assert done.exit_code == 0, done.output
    assert max(map(len, done.output.splitlines())) <= max(100, len(str(path)) + 60)
    for words in (
        "75 filters",
        "shuffled",
        "covariance",
        "above null's 1 %",
        "At 3x3 chance is high",
        "seed 0",
        "Median p of a filter's R²",
        "99 filters for each size and null",
        "carry another's name",
        "Gaussian, Laplacian, DoG",
        "DoG (5x5 80 %, 3x3 94 %)",
        "entropy",
    ):
        assert words in " ".join(done.output.split())
    assert list(read_analyses(path)) == ["assign-families"]
    assert run(path, *FAST, "--basis", "all").exit_code == 0
    assert sorted(read_analyses(path)) == ["assign-eight", "assign-families", "assign-wide"]


def test_a_result_of_an_older_version_of_the_basis_is_not_replaced_in_silence(run, path):
    write_analysis(path, Analysis("assign-families", {}, {"basis": "families"}))
    assert "replaces a result of version 1 of the basis families" in " ".join(run(path, *FAST).output.split())
    assert read_analyses(path)["assign-families"].parameters["basis_version"] == 2
    assert "replaces" not in run(path, *FAST).output


def test_columns_of_a_table_are_named_by_what_they_merge(run, path, tmp_path):
    assert run(path, *FAST, "--no-store", "--out", tmp_path / "o.csv").exit_code == 0
    header = next(line for line in (tmp_path / "o.csv").read_text().splitlines() if not line.startswith("#")).split(",")
    assert "gaussian/laplacian/dog" in header and "gaussian" not in header and "basis_version" in header


def test_tables_are_100_columns_wide_for_real_names(run):
    done = run("efficientnet_lite0", *FAST, "--by-layer", "--basis", "all")
    assert done.exit_code == 0, done.output
    assert max(len(line.rstrip()) for line in done.output.splitlines()) <= 100


def test_a_bundled_bank_stays_as_it_is(run, tmp_path):
    entry = next(e for e in list_banks() if e.bundled and e.name == "ppocrv4_det")
    before = entry.path.read_bytes()
    done = run("ppocrv4_det", *FAST, "--out", tmp_path / "o.h5")
    assert done.exit_code == 0, done.output
    assert "bundled bank stays as it is" in done.output and entry.path.read_bytes() == before
    arrays, attributes = read_arrays(tmp_path / "o.h5", kind="assignment")
    assert attributes["bank"] == "ppocrv4_det" and attributes["assign-families"]["draws"] == 99
    assert any(name.endswith(".r2") and np.isfinite(a).any() for name, a in arrays.items())


def test_no_store_leaves_the_file(run, path):
    before = path.read_bytes()
    assert "--no-store" in run(path, *FAST, "--no-store").output
    assert path.read_bytes() == before


def test_some_sizes_alone_are_assigned_and_not_stored(run, path, tmp_path):
    before = path.read_bytes()
    done = run(path, *FAST, "--kernel-size", "3x3", "--out", tmp_path / "o.json")
    assert done.exit_code == 0 and path.read_bytes() == before
    text = " ".join(done.output.split())
    assert "30 filters, basis families" in text and "Left out: 5x5 (not asked for)." in text
    assert "Not stored: a bank keeps assignments of all its sizes." in text
    [found] = json.loads((tmp_path / "o.json").read_text())["assignments"]
    assert [kind["kind"] for kind in found["kinds"]] == ["3x3"] and found["skipped"] == {"5x5": "not asked for"}
    assert run(path, *FAST, "--kernel-size", "5x5,3x3").exit_code == 0
    assert list(read_analyses(path)) == ["assign-families"]


def test_json_has_every_number_beside_its_null(run, path, tmp_path):
    done = run(path, *FAST, "--json", "--no-store", "--seed", 3, "--null", "blurred", "--out", tmp_path / "o.json")
    facts = json.loads(done.output)
    assert json.loads((tmp_path / "o.json").read_text())["assignments"] == facts["assignments"]
    summary = facts["assignments"][0]
    assert (summary["seed"], summary["null"], summary["draws"]) == (3, "blurred", 99)
    assert summary["whole"][0]["null"] == "blurred" and len(summary["whole"]) == 4
    assert len(summary["whole"][0]["null_curve"]) == 101
    assert len(facts["quality"]) == 3 and facts["quality"][0]["random"] > 0


def test_a_figure_is_written(run, path, tmp_path):
    done = run(path, *FAST, "--no-store", "--figure", tmp_path / "f.png")
    assert done.exit_code == 0 and (tmp_path / "f.png").read_bytes().startswith(b"\x89PNG")


def test_wrong_requests_are_refused_before_any_work(run, path, tmp_path):
    (tmp_path / "there.h5").write_bytes(b"mine")
    for arguments, words in [
        (("nothing_of_that_name",), "is not a bank file"),
        ((path, "--basis", "familes"), "families"),
        ((path, "--null", "shufled"), "shuffled"),
        ((path, "--draws", "5"), "at least 99"),
        ((path, "--kernel-size", "7x7"), "choose from 5x5, 3x3"),
        ((path, "--out", tmp_path / "there.h5"), "--force"),
        ((path, "--out", tmp_path / "o.txt"), "end the name in"),
        ((path, "--figure", tmp_path / "no" / "f.png"), "does not exist"),
    ]:
        done = run(*arguments)
        assert isinstance(done.exception, MkfaError), arguments
        assert words in str(done.exception) and done.exception.exit_code == 2
    assert (tmp_path / "there.h5").read_bytes() == b"mine"
    assert read_analyses(path) == {}


def test_force_does_not_replace_the_bank_by_its_result(run, path):
    before = path.read_bytes()
    done = run(path, *FAST, "--out", path, "--force")
    assert "is a bank that the result is made from" in str(done.exception)
    assert path.read_bytes() == before


def test_a_limit_that_few_filters_exceed_is_never_shown_as_one():
    from mkfa.cli.assign import _limit

    assert [_limit(x) for x in (0.3249, 0.9949, 0.99996, 0.9951)] == ["0.32", "0.99", "0.9999", "0.9951"]


def test_classes_and_nulls_that_are_level_are_all_named(bank_maker):
    from mkfa.cli.assign import _most_frequent, _sentences
    from mkfa.patterns.assigning import assign
    from mkfa.patterns.summary import summarise

    assert _most_frequent(["dx", "dy", "delta"], [0.2, 0.4, 0.4]) == "dy 40 %, delta 40 %"
    assert _most_frequent(["dx", "dy", "delta", "DoG"], [0.25] * 4) == "dx 25 %, dy 25 %, 2 more"
    assert _most_frequent(["dx", "dy"], [1.0, 0.0]) == "dx 100 %"
    summary = summarise(assign(bank_maker([(30, 3, 3)]), draws=99))
    first, *_, last = summary.whole
    level = replace(summary, whole=(replace(first, beyond=0.3), replace(last, beyond=0.3)))
    assert f"against {first.null} and {last.null} filters, the hardest nulls, 30.0 %." in _sentences(level)[0]
    lower = replace(summary, whole=(replace(first, beyond=0.3), replace(last, beyond=0.2)))
    assert f"against {last.null} filters, the hardest null, 20.0 %." in _sentences(lower)[0]
