"""Lists of banks, domains, runs and layers are results like all others, and sequences like the tuples they hold."""

from __future__ import annotations

import copy
import csv
import json
import pickle
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import jsonschema
import pytest

import mkfa
from mkfa.results.archive import bundled_file

SCHEMA = json.loads(files("mkfa.storage").joinpath("result_schema.json").read_text("utf-8"))
OLD = Path(__file__).parent / "old_files"
LISTS = {
    "banks": mkfa.list_banks,
    "domains": mkfa.list_domains,
    "runs": lambda: mkfa.read_runs(OLD / "sweep"),
    "layers": lambda: mkfa.layer_quality("ppocrv4_det", draws=5),
}


@pytest.fixture(params=LISTS)
def name(request, monkeypatch, tmp_path):
    monkeypatch.setenv("MKFA_HOME", str(tmp_path / "home"))
    return request.param


def test_a_list_is_a_sequence_that_equals_its_tuple(name):
    found = LISTS[name]()
    things = getattr(found, name)
    assert isinstance(found, Sequence) and type(things) is tuple
    assert [*found] == [*things] and len(found) == len(things) > 2
    assert found == things and things == found and found != things[:-1] and found != [*things]
    assert found[0] is things[0] and found[-1] is things[-1] and things[1] in found and found.index(things[1]) == 1
    assert type(found[:2]) is type(found) and found[:2] == things[:2]
    assert type(found + found) is type(found) and found + found == things + things == found + things
    assert hash(found) == hash(things)
    assert pickle.loads(pickle.dumps(found)) == copy.deepcopy(found) == copy.copy(found) == found


def test_a_list_prints_in_one_line_and_as_a_table(name):
    found = LISTS[name]()
    assert repr(found) == f"<{type(found).__name__}: {found.headline()}>" and len(repr(found)) < 100
    rows, frame, page = found.rows(), found.to_frame(), found._repr_html_()
    assert len(rows) == len(frame) == len(found) == page.count("<tr>") - 1
    key = next(iter(rows[0]))
    assert rows[0][key] == getattr(found[0], key) == frame[key][0]
    assert f"<tr><td>{rows[0][key]}</td>" in page


def test_a_list_is_written_as_the_schema_says(name, tmp_path):
    found = LISTS[name]()
    written = json.loads(found.save(tmp_path / "list.json").read_text())
    jsonschema.validate(written, SCHEMA)
    entry = SCHEMA["$defs"][found.KIND]
    assert written["format"] == f"mkfa.{found.KIND}" and len(written[name]) == len(found)
    heading, *lines = found.save(tmp_path / "list.csv").read_text().splitlines()
    assert json.loads(heading.removeprefix("# "))["format"] == f"mkfa.{found.KIND}"
    rows = list(csv.DictReader(lines))
    assert len(rows) == len(found) and set(entry["x-csv"]) <= set(rows[0])
    key = entry["x-csv"][0]
    assert [row[key] for row in rows] == [str(row[key]) for row in written[name]]


def test_headlines_count(name):
    said = {
        "banks": "10 banks, 10 bundled and 0 in the library",
        "domains": "16 domains, 6 bundled and 10 not here",
        "runs": "17 runs: 17 done",
        "layers": "14 layers, least variance entropy 0.26 of that of random filters, in layer 10",
    }
    assert LISTS[name]().headline() == said[name]


def test_a_bank_that_cannot_be_read_is_in_the_list_with_the_reason(monkeypatch, tmp_path):
    monkeypatch.setenv("MKFA_HOME", str(tmp_path))
    (tmp_path / "banks").mkdir()
    (tmp_path / "banks" / "a.h5").write_bytes(b"no bank")
    found = mkfa.list_banks()
    assert found[0].name == "a" and "a.h5" in found.rows()[0]["error"] and found.rows()[1]["error"] is None


def test_runs_of_several_places_are_one_list():
    one, other = mkfa.read_runs(OLD / "sweep"), mkfa.read_runs("bundled")
    both = mkfa.read_runs([OLD / "sweep", bundled_file()])
    assert both == one + other and len(one) > 0
    assert mkfa.read_runs(str(OLD / "sweep")) == one and len(mkfa.read_runs([])) == 0


def test_a_long_list_says_in_a_notebook_how_many_rows_are_left_out():
    runs = mkfa.read_runs("bundled")
    page = runs._repr_html_()
    assert len(runs) > 200 and page.count("<tr>") == 201
    assert f"<p>The first 200 of {len(runs):,} rows; to_frame() and save() have all.</p>" in page


def test_entries_of_lists_and_lists_stand_for_banks(monkeypatch, tmp_path):
    monkeypatch.setenv("MKFA_HOME", str(tmp_path))
    listed = [entry for entry in mkfa.list_banks() if entry.name.startswith("ppocrv4")]
    assert [mkfa.load_bank(entry).name for entry in listed] == ["ppocrv4_det", "ppocrv4_rec"]
    assert mkfa.read_bank(listed[0]) == mkfa.load_bank("ppocrv4_det")
    banks = mkfa.BankList(tuple(listed))
    options = {"draws": 19, "kernel_size": "3x3", "measures": "energy", "nulls": "gaussian"}
    assert mkfa.compare_many(banks, **options) == mkfa.compare_many(["ppocrv4_det", "ppocrv4_rec"], **options)
    sources = [files("mkfa.data").joinpath("ppocr_cls.safetensors"), "nosuch.pt"]
    harvested = mkfa.harvest_all([str(source) for source in sources])
    assert mkfa.load_bank(harvested[0]).name == "ppocr_cls"
    assert harvested.rows()[0]["error"] is None and "nosuch.pt" in harvested.rows()[1]["error"]
    assert len(mkfa.find_keys(harvested[:1], kernel_size="5x5", keys=2, most=4, candidates=8, sample=60).pool) > 60


def test_claims_are_found_by_number_and_by_id():
    found = mkfa.claims()
    assert [claim.id for claim in found] == [row["id"] for row in found.rows()] and len(found) == 22
    assert found["C12"] is found[[claim.id for claim in found].index("C12")]
    assert type(found[:2]) is mkfa.Claims and [claim.id for claim in found[:2]] == ["C1", "C2"]
    with pytest.raises(mkfa.MkfaError, match=r"^C99: is not among these claims; choose one of C1, C2"):
        found["C99"]
    one = found["C12"]
    assert repr(one) == f"<Judgement: C12, {one.chosen.state}: {one.sentence}>"
    assert f"<td>{one.chosen.state}</td>" in one._repr_html_()


def test_runs_go_into_a_report(tmp_path):
    runs = mkfa.read_runs(OLD / "sweep")
    mkfa.write_report(runs, tmp_path / "runs.html", compute=False)
    [sweep] = json.loads((tmp_path / "runs_data" / "report.json").read_text())["sweeps"]
    assert [run["hash"] for run in sweep["runs"]] == [run.hash for run in runs]
