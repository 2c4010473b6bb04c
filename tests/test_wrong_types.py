"""An argument of the wrong type is one sentence, in every verb that `mkfa` has."""

from __future__ import annotations

import inspect

import pytest

import mkfa

BANK = "ppocrv4_det"
WRONG = {"None": None, "3": 3, "1.5": 1.5, "[]": [], "{}": {}, "object()": object(), "[None]": [None], "b''": b"x"}
ASK = {
    "assign": [mkfa.assign],
    "build_atlas": [mkfa.build_atlas, lambda x: mkfa.build_atlas([BANK, x])],
    "check_claims": [
        mkfa.check_claims,
        lambda x: mkfa.check_claims("C12", place=x),
        lambda x: mkfa.check_claims("C17", grafts=x),
    ],
    "claims": [mkfa.claims],
    "compare": [lambda x: mkfa.compare(x, BANK), lambda x: mkfa.compare(BANK, x)],
    "compare_groups": [mkfa.compare_groups, lambda x: mkfa.compare_groups({"a": x, "b": [BANK]})],
    "compare_many": [mkfa.compare_many],
    "describe_domain": [mkfa.describe_domain],
    "find_keys": [mkfa.find_keys],
    "graft": [lambda x: mkfa.graft(x, images="digits"), lambda x: mkfa.graft("mobilenet_v2", images=x)],
    "harvest": [mkfa.harvest],
    "harvest_all": [mkfa.harvest_all],
    "layer_quality": [mkfa.layer_quality],
    "list_banks": [],
    "list_domains": [],
    "load_bank": [mkfa.load_bank],
    "load_domain": [mkfa.load_domain],
    "pack_domain": [mkfa.pack_domain],
    "paper_costs": [lambda x: mkfa.paper_costs(seeds=x), lambda x: mkfa.paper_costs(rates=x)],
    "read_bank": [mkfa.read_bank],
    "read_runs": [mkfa.read_runs],
    "register": [mkfa.register],
    "reproduce": [mkfa.reproduce],
    "run_claims": [mkfa.run_claims],
    "train": [mkfa.train, lambda x: mkfa.train("digits", out=x, arch="nosuch")],
    "transfer": [lambda x: mkfa.transfer(x, "digits"), lambda x: mkfa.transfer("digits", x)],
    "transfer_curve": [
        lambda x: mkfa.transfer_curve(source=x),
        lambda x: mkfa.transfer_curve(target=x),
        lambda x: mkfa.transfer_curve(layers=x, arch="nosuch"),
    ],
    "transfer_matrix": [mkfa.transfer_matrix, lambda x: mkfa.transfer_matrix("digits", source=x, arch="nosuch")],
    "transfer_sweep": [lambda x: mkfa.transfer_sweep(source=x), lambda x: mkfa.transfer_sweep(target=x)],
    "write_bank": [lambda x: mkfa.write_bank(x, "bank.h5"), lambda x: mkfa.write_bank(mkfa.load_bank(BANK), x)],
    "write_report": [mkfa.write_report, lambda x: mkfa.write_report("bundled", x, compute=False)],
}
"""Verb -> calls with a wrong argument. `arch="nosuch"` keeps a call from training where the argument is right."""
MEANT = {
    "check_claims 0": ("[]", "{}"),  # none means all claims
    "check_claims 1": ("None", "[]", "{}", "[None]"),  # the default place, no place
    "check_claims 2": ("None", "[]", "{}"),  # the bundled graft, none
    "claims 0": ("[]", "{}"),
    "harvest_all 0": ("[]", "{}"),
    "paper_costs 0": ("3",),
    "paper_costs 1": ("None", "[]", "{}"),
    "read_runs 0": ("None", "[]", "{}", "[None]"),
    "run_claims 0": ("[]", "{}"),
}
"""What is not wrong there."""


def test_every_verb_is_asked():
    verbs = [name for name in dir(mkfa) if name[0].islower() and callable(getattr(mkfa, name))]
    assert sorted(ASK) == [name for name in verbs if not inspect.isclass(getattr(mkfa, name))]


CASES = [(f"{verb} {i}", ask) for verb, asks in ASK.items() for i, ask in enumerate(asks)]


@pytest.mark.parametrize(("case", "ask"), CASES, ids=[case for case, _ in CASES])
def test_a_wrong_type_is_one_sentence(case, ask, monkeypatch, tmp_path):
    monkeypatch.setenv("MKFA_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    for name, wrong in WRONG.items():
        if name in MEANT.get(case, ()):
            continue
        with pytest.raises(mkfa.MkfaError) as caught:
            ask(wrong)
        text = str(caught.value)
        assert "\n" not in text and text[-1] in ".?" and caught.value.remedy, (name, text)
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".lock"]


@pytest.mark.parametrize(
    ("ask", "said"),
    [
        (lambda: mkfa.read_runs(3), "place: is an int where a path is wanted; give a text or a Path."),
        (
            lambda: mkfa.load_domain([]),
            "domain: is a list where a text or a path is wanted; help(mkfa.load_domain) say",
        ),
        (lambda: mkfa.write_bank(BANK, "x.h5"), "bank: is a str where a FilterBank is wanted; mkfa.load_bank gets one"),
        (lambda: mkfa.claims(6), "claims: is an int where an id is wanted; give a text."),
        (lambda: mkfa.read_runs("bundled").save(None), "path: is None where a path is wanted; give a text or a Path."),
        (lambda: mkfa.transfer_curve(layers=1.5), "layers: is a float where a number or several is wanted; give 4, ra"),
        (lambda: mkfa.reproduce(4), "name: is an int where a text is wanted; help(mkfa.reproduce) says more."),
    ],
)
def test_the_sentence_names_the_argument_and_what_is_wanted(ask, said):
    with pytest.raises(mkfa.MkfaError) as caught:
        ask()
    assert str(caught.value).startswith(said)
