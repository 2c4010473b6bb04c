"""One bank, name or path does wherever several are taken, and a list where one is wanted is one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import mkfa
from mkfa.banks.library import load_bank, load_banks
from mkfa.evidence.claims import all_claims
from mkfa.figures import filters, layer
from mkfa.readers.collect import expand_sources
from mkfa.results.archive import bundled_file
from mkfa.several import as_several

NAME = "ppocrv4_det"


def forms() -> list:
    bank = load_bank(NAME)
    return [NAME, bank, [NAME], (one for one in [bank])]


def test_a_text_a_path_and_a_bank_are_one_thing():
    bank, harvests = load_bank(NAME), mkfa.Harvests(())
    assert as_several(NAME) == (NAME,)
    assert as_several(Path(NAME)) == (Path(NAME),)
    assert as_several(bank) == (bank,)
    assert as_several(harvests) == (harvests,)  # although it can be iterated


def test_lists_and_other_iterables_are_several():
    assert as_several([1, 2]) == as_several((1, 2)) == as_several(iter([1, 2])) == as_several({1: "", 2: ""}) == (1, 2)
    assert as_several(()) == ()


def test_one_bank_does_for_load_banks():
    path = next(entry.path for entry in mkfa.list_banks() if entry.name == NAME)
    assert [[one.name for one in load_banks(form)] for form in [*forms(), path, str(path)]] == [[NAME]] * 6


def test_one_bank_does_for_an_atlas_and_keys():
    how = {"kernel_size": "3x3", "sample": 40}
    for form in (NAME, load_bank(NAME)):
        assert mkfa.build_atlas(form, clusters=4, **how).pool.banks == (NAME,)
        assert mkfa.find_keys(form, keys=4, most=6, candidates=8, draws=19, **how).pool.banks == (NAME,)


def test_one_bank_is_counted_as_one_where_two_are_needed():
    for form in forms():
        with pytest.raises(mkfa.MkfaError, match="needs two banks, got 1"):
            mkfa.compare_many(form)


def test_one_bank_does_for_a_group():
    named = {"a": NAME, "b": load_bank("mobilenet_v2")}
    found = mkfa.compare_groups(named, kernel_size="3x3", draws=19, measures="frobenius")
    assert dict(found.groups) == {"a": (NAME,), "b": ("mobilenet_v2",)}
    with pytest.raises(mkfa.MkfaError, match="groups: is a str; map the name"):
        mkfa.compare_groups(NAME)


@pytest.mark.parametrize("form", ["nosuch.pt", Path("nosuch.pt"), ["nosuch.pt"], [Path("nosuch.pt")]])
def test_one_source_is_harvested_as_one(form, monkeypatch, tmp_path):
    monkeypatch.setenv("MKFA_HOME", str(tmp_path))
    assert expand_sources(form) == ("nosuch.pt",)
    found = mkfa.harvest_all(form)
    assert repr(found) == "<Harvests: 1 failed>" and found[0].source == "nosuch.pt"


def test_one_bank_and_one_place_do_for_claims():
    share = next(claim.id for claim in all_claims().values() if claim.supports[0].rule == "share")
    assert mkfa.check_claims(share, banks=NAME)[share].chosen.basis == NAME
    assert mkfa.check_claims("C12", place=bundled_file())["C12"].chosen.claim == "C12"


def test_one_graft_does_for_its_claim(tmp_path):
    path = tmp_path / "other.json"
    path.write_text(json.dumps({"format": "mkfa.curve"}))
    for form in (path, str(path), [path]):
        with pytest.raises(mkfa.MkfaError, match=r"other\.json: "):
            mkfa.check_claims("C17", grafts=form)


def test_one_bank_does_for_a_report_and_figures(tmp_path):
    assert mkfa.write_report("bundled", tmp_path / "runs.html", compute=False).banks == ()
    with pytest.raises(mkfa.MkfaError, match=f"{NAME}: nothing analysed yet"):
        mkfa.write_report(load_bank(NAME), tmp_path / "bank.html", compute=False)
    assert [[name for name, _ in filters.compute(form, seed=0).rows] for form in forms()] == [[NAME]] * 4
    assert layer.compute(NAME, 1).title == layer.compute(load_bank(NAME), 1).title
    assert mkfa.layer_quality(NAME, draws=5) == mkfa.layer_quality(load_bank(NAME), draws=5)


@pytest.mark.parametrize(
    "ask",
    [
        load_bank,
        mkfa.assign,
        mkfa.layer_quality,
        lambda banks: mkfa.compare(banks, NAME),
        lambda banks: layer.compute(banks, 1),
        lambda banks: mkfa.build_atlas([banks]),
    ],
)
@pytest.mark.parametrize("several", [[NAME], (NAME, NAME), None])
def test_a_list_where_one_bank_is_wanted_is_one_sentence(ask, several):
    with pytest.raises(mkfa.MkfaError) as caught:
        ask(several)
    what = "None" if several is None else f"a {type(several).__name__}"
    assert str(caught.value) == f"bank: is {what} where one bank is wanted; give one name, path or bank."
