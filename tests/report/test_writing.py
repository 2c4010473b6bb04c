"""What can be named for a report, what is refused, what is computed, and what is written beside the page."""

from __future__ import annotations

import base64
import gzip
import json
import random
import re

import numpy as np
import pytest
from made import HOSTILE, claims, noise_bank, small_bank, sweep_record

from mkfa.banks.bank_file import write_analysis, write_bank
from mkfa.errors import MkfaError
from mkfa.patterns import assigning
from mkfa.patterns.assigning import assign
from mkfa.report.analyses import Analyses
from mkfa.report.facts import page_facts
from mkfa.report.html import SCRIPTS
from mkfa.report.inputs import Found, Inputs, NamedBank, sort_inputs
from mkfa.report.limits import Limits
from mkfa.report.sweeps import sweep_facts
from mkfa.report.writing import write_report
from mkfa.results.archive import bundled_file, read_experiments
from mkfa.results.gather import rebuild
from mkfa.similarity.comparing import compare
from mkfa.storage.result_files import read_arrays


def facts_of(path) -> dict:
    """Return the facts in a page."""
    (text,) = re.findall(r'id="data-facts">([^<]*)<', path.read_text("utf-8"))
    return json.loads(gzip.decompress(base64.b64decode(text)))


@pytest.fixture
def bank_file(tmp_path):
    """Return the file of a small bank, without analyses."""
    return write_bank(small_bank("net", 1), tmp_path / "net.h5")


@pytest.fixture
def nothing_is_computed(monkeypatch):
    """Let the test fail if an analysis is computed."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("an analysis was computed")

    monkeypatch.setattr(assigning, "assign", refuse)
    monkeypatch.setattr("mkfa.similarity.comparing.compare", refuse)
    monkeypatch.setattr("mkfa.clusters.atlas.build_atlas", refuse)


def refused(*items, out, **options) -> MkfaError:
    """Return the error of a report that cannot be written; nothing is there then."""
    before = {path: path.read_bytes() for path in out.parent.rglob("*") if path.is_file()}
    with pytest.raises(MkfaError) as error:
        write_report(list(items), out, **options)
    assert {path: path.read_bytes() for path in out.parent.rglob("*") if path.is_file()} == before
    assert str(error.value).count(". ") <= 1
    return error.value


def test_what_cannot_be_shown_gets_a_sentence(tmp_path, bank_file):
    out = tmp_path / "r.html"
    assert "nothing was named" in str(refused(out=out))
    assert "is not a bank file" in str(refused("no-such-bank", out=out))
    assert "net: nothing analysed yet; run 'mkfa assign net'" in str(refused(bank_file, out=out, compute=False))
    (tmp_path / "empty").mkdir()
    assert "nothing analysed yet: it has neither results nor runs" in str(refused(tmp_path / "empty", out=out))
    assert "end the name in .html" in str(refused(bank_file, out=tmp_path / "r.pdf"))
    assert "the folder" in str(refused(bank_file, out=tmp_path / "no" / "r.html"))
    (tmp_path / "a.json").write_text("[1, 2")
    assert "is damaged" in str(refused(tmp_path / "a.json", out=out))
    (tmp_path / "a.json").write_text('{"format": "mkfa.doctor"}')
    assert "is of format mkfa.doctor" in str(refused(tmp_path / "a.json", out=out))
    (tmp_path / "a.h5").write_bytes(b"x")
    assert "is not an HDF5 file" in str(refused(tmp_path / "a.h5", out=out))
    assert "is not in 20 to 20,000" in str(refused(bank_file, out=out, map_filters=20_001))
    assert "is not in 1 to" in str(refused(bank_file, out=out, most_filters=0))
    assert "no bank has filters of this size" in str(refused(bank_file, out=out, kernel_size="9x9"))


def test_files_that_exist_are_kept(tmp_path, bank_file):
    out = tmp_path / "r.html"
    write_report([bank_file, "bundled"], out, compute=False)
    before = out.read_bytes()
    assert "exists already" in str(refused(bank_file, "bundled", out=out, compute=False))
    out.unlink()
    assert "exists already" in str(refused(bank_file, "bundled", out=out, compute=False))  # its data
    write_report([bank_file, "bundled"], out, compute=False, data=False)
    made = write_report([bank_file, "bundled"], out, compute=False, overwrite=True)
    assert len(out.read_bytes()) == made.bytes == len(before)


def test_the_file_of_a_bank_is_never_the_page(tmp_path, bank_file):
    assert "end the name in .html" in str(refused(bank_file, out=bank_file, overwrite=True))


def test_a_stored_assignment_is_shown_and_none_is_computed(tmp_path, bank_file, monkeypatch):
    bank = small_bank("net", 1)
    made = assign(bank, draws=199)
    write_analysis(bank_file, made.analysis())
    monkeypatch.setattr(assigning, "assign", lambda *_, **__: pytest.fail("computed again"))
    report = write_report([bank_file], tmp_path / "r.html", compute=False)
    facts = facts_of(tmp_path / "r.html")
    (shown,) = facts["assignments"]
    summary = made.to_dict()["assignments"][0]
    assert [row["share"] for row in shown["classes"]] == pytest.approx(
        [row["share"] for row in summary["classes"]], abs=1e-5
    )
    assert [row["null_share"] for row in shown["classes"]] == pytest.approx(
        [row["null_share"] for row in summary["classes"]], abs=1e-5
    )
    assert [row["beyond"] for row in shown["coverage"]] == pytest.approx(
        [row["beyond"] for row in summary["whole"]], abs=1e-5
    )
    assert any("no map" in text for text in report.left_out)


def test_results_that_are_given_are_not_computed_again(tmp_path, nothing_is_computed):
    one, other = small_bank("one", 1), small_bank("other", 2)
    comparison = compare(one, other, draws=19, sample=16, kernel_size="3x3", measures="coverage")
    comparison.save(tmp_path / "c.json")
    for item in (comparison, tmp_path / "c.json"):
        inputs = sort_inputs([one, other, item])
        assert [found.kind for found in inputs.results] == ["comparison"]
    report = write_report([one, other, tmp_path / "c.json"], tmp_path / "r.html", compute=False)
    assert report.sections == ("filters", "comparisons")
    facts = facts_of(tmp_path / "r.html")
    kind = comparison.kinds[0]
    shown = facts["comparisons"][0]["kinds"][0]
    assert np.array(shown["layers"]["measures"][0]["value"]) == pytest.approx(kind.layer_value[0], abs=1e-4)
    assert shown["measures"][0]["nulls"][0]["p"] == pytest.approx(kind.nulls[0].p[0], abs=1e-5)
    assert not any("not compared" in text for text in report.left_out)


@pytest.mark.slow
def test_missing_analyses_are_computed_with_progress(tmp_path):
    told = []
    banks = [small_bank("one", 1), small_bank("other", 2)]
    report = write_report(
        banks, tmp_path / "r.html", draws=19, map_filters=60, progress=lambda done, total: told.append((done, total))
    )
    assert report.sections == ("filters", "map", "comparisons", "patterns")
    assert told and all(total is None or done <= total + 1e-6 for done, total in told)
    facts = facts_of(tmp_path / "r.html")
    assert facts["maps"][0]["points"] == 60
    assert facts["comparisons"][0]["draws"] == 19
    assert "A map shows 60 of up to 140 filters of its kernel size, drawn at random." in report.left_out


def test_only_so_many_pairs_are_compared_and_the_page_says_so(tmp_path, monkeypatch):
    banks = [small_bank(f"net{i}", i) for i in range(3)]
    monkeypatch.setattr(assigning, "assign", lambda *_, **__: None)
    monkeypatch.setattr(
        "mkfa.clusters.atlas.build_atlas", lambda *_, **__: (_ for _ in ()).throw(MkfaError("a", "b", "c"))
    )
    report = write_report(banks, tmp_path / "r.html", draws=19, most_pairs=1)
    assert len(facts_of(tmp_path / "r.html")["comparisons"]) == 1
    assert "Compared: 1 of 3 pairs of banks, those first that were named first." in report.left_out


def test_a_million_filters_get_a_sentence():
    bank = noise_bank(1_000_000, side=3, layers=100)
    facts, _ = page_facts(Inputs(banks=[NamedBank(bank)]), Analyses(assignments=[None]), Limits())
    assert sum(group["shown"] for group in facts["groups"]) == 200_000
    assert facts["limits"][0]["sentence"] == (
        "Here: 200,000 of 1,000,000 filters; each layer gives as many, evenly over its channels."
    )


def test_banks_of_one_name_are_told_apart(tmp_path):
    banks = [small_bank("net", 1), small_bank("net", 2)]
    write_report([*banks, "bundled"], tmp_path / "r.html", compute=False)
    assert [bank["name"] for bank in facts_of(tmp_path / "r.html")["banks"]] == ["net", "net (2)"]


def test_the_map_of_another_bank_of_that_name_is_not_taken(tmp_path, made):
    one, other = made.banks
    assert facts_of(made.path)["maps"][0]["banks"] == [one.name, other.name]
    smaller = noise_bank(20, side=3, layers=2, name="other")
    report = write_report([one, smaller, made.atlas], tmp_path / "r.html", compute=False)
    assert facts_of(tmp_path / "r.html")["maps"][0]["banks"] == [one.name]
    assert report.sections == ("filters", "map")


def test_the_command_has_no_paths_of_this_machine(tmp_path, monkeypatch):
    monkeypatch.setattr("mkfa.storage.heading._command", ["mkfa report /home/somebody/nets/net.h5"])
    write_report("bundled", tmp_path / "r.html")
    assert facts_of(tmp_path / "r.html")["command"] == "mkfa report net.h5"


def test_no_text_of_a_stranger_stands_in_the_page_as_it_is(made):
    text = made.path.read_text("utf-8")
    assert "<img" not in text
    assert text.count("</script") == text.count("<script")
    assert all(re.fullmatch("[A-Za-z0-9+/=]*", data) for data in re.findall(r'type="text/plain"[^>]*>([^<]*)<', text))
    assert "http://www.w3.org/2000/svg" in text
    assert re.findall(r"https?://(?!www\.w3\.org/2000/svg)", text) == []
    assert HOSTILE in json.dumps(facts_of(made.path)).encode().decode("unicode_escape")


def test_the_data_beside_the_page_are_what_it_shows(made):
    folder = made.path.with_name("page_data")
    arrays, attributes = read_arrays(folder / "filters.h5", kind="report_data")
    assert len(attributes["banks"]) == 2
    assert (arrays["1/3x3/weight"] == made.banks[1].of_kind("3x3").weight).all()
    assert len(arrays["map/0/3x3/position"]) == len(made.map.row)
    lines = (folder / "verdicts.csv").read_text().splitlines()
    assert len(lines) == 2 + 2 * 3
    facts = json.loads((folder / "report.json").read_text())
    assert facts["format"] == "mkfa.report_data"
    assert {path.name for path in folder.iterdir()} == {path.rsplit("/")[-1] for path in made.report.data}


def test_damaged_results_never_break_the_page():
    """Whatever stands in the JSON of a result, the facts are made, or the file is refused."""
    rng = random.Random(0)
    experiments = {one.kind: json.loads(json.dumps(rebuild(one).to_dict())) for one in read_experiments(bundled_file())}
    junk = [None, "x", -1, 1e400, True, [], {}, [[1, "x"]], {"a": None}, HOSTILE, "#" * 5000]

    def spoil(value, depth=0):
        if rng.random() < 0.03 * (depth > 0):
            return rng.choice(junk)
        if isinstance(value, dict):
            return {key: spoil(one, depth + 1) for key, one in value.items()}
        return [spoil(one, depth + 1) for one in value] if isinstance(value, list) else value

    for _ in range(60):
        for kind, record in experiments.items():
            facts = sweep_facts(Found(kind, "file", spoil(record)), most_runs=10)
            json.dumps(facts, allow_nan=False)
    for _ in range(100):
        inputs = Inputs(results=[Found("claims", "file", spoil(claims()))])
        json.dumps(page_facts(inputs, Analyses(), Limits())[0], allow_nan=False)


def test_every_script_is_joined():
    from importlib.resources import files

    there = {path.name for path in files("mkfa.report").joinpath("page").iterdir()}
    assert there == {*SCRIPTS, "page.html", "page.css"}


def test_bundled_is_runs_verdicts_and_a_graft(tmp_path):
    report = write_report("bundled", tmp_path / "r.html", data=False)
    facts = facts_of(tmp_path / "r.html")
    assert {"grafts", "verdicts", "sweeps"} <= {key for key, value in facts.items() if value}, report.sections
    assert [one["network"] for one in facts["grafts"]] == ["mobilenet_v2"]


def test_a_curve_says_its_answer(tmp_path):
    write_report("bundled", tmp_path / "r.html", data=False)
    curve = next(one for one in facts_of(tmp_path / "r.html")["sweeps"] if one["from"] == "digits-18-layers")
    assert curve["sentences"][0].startswith("How many layers may be frozen before more than a point is lost")
    assert curve["sentences"][1].startswith("Sensitivity: the worst arm, delta at 18 layers, lies 41.8 points below")


def test_a_sweep_over_widths_is_shown_and_written(tmp_path):
    (tmp_path / "sweep.json").write_text(json.dumps(sweep_record()))
    write_report(tmp_path / "sweep.json", tmp_path / "r.html")
    (shown,) = facts_of(tmp_path / "r.html")["sweeps"]
    assert [point["ratio"] for point in shown["points"]] == [0.64, 1.28]
    assert [arm["label"] for arm in shown["arms"]] == ["transfer", "random"]
    assert shown["sentences"] == [
        "transfer minus random changes by -5.0 points with each doubling of D / f^2 (95 % interval -6.0 to -4.0, 2 "
        "seeds, 2 settings); the line reaches 1 point at D / f^2 = 2.20 (95 % interval 1.90 to 3.00), beyond the "
        "settings that were trained."
    ]
    assert len((tmp_path / "r_data" / "points.csv").read_text().splitlines()) == 2 + 2 * 3
