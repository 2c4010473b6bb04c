"""Options of verbs: another type than the annotation names, or a number that cannot be, is one sentence."""

from __future__ import annotations

import inspect
from pathlib import Path

import numpy as np
import pytest

import mkfa
from mkfa.arguments import check_types
from mkfa.experiments.options import TransferOptions

KNOWN = {"int": 1, "float": 0.5, "bool": True, "str": "x", "Path": Path("x"), "Sequence": ["x"], "Mapping": {"x": 1}}
GIVEN = {"None": None, "object": object(), **KNOWN, "numpy": np.int64(3), "whole": 2, "negative": -1}
FITS = {
    "int": {"int", "numpy", "whole", "negative"},
    "float": {"int", "float", "numpy", "whole", "negative"},
    "bool": {"bool"},
    "str": {"str"},
    "Path": {"Path"},
    "Sequence[str]": {"Sequence", "str", "Mapping"},
    "Mapping[str, int]": {"Mapping"},
    "None": {"None"},
}


@pytest.mark.parametrize("of", FITS)
@pytest.mark.parametrize("more", ["", "None"])
def test_values_fit_an_annotation_or_are_refused(of, more):
    fits = FITS[of] | ({"None"} if more else set())
    for name, value in GIVEN.items():
        annotation = f"{of} | {more}" if more else of
        if name in fits and not (name == "negative" and of == "int"):
            check_types({"x": annotation}, {"x": value}, remedy="look")
        else:
            with pytest.raises(mkfa.MkfaError, match=r"^x( -1)?: is .*; look\.$"):
                check_types({"x": annotation}, {"x": value}, remedy="look")
    check_types({"x": "Anything | None"}, {"x": 3, "unknown": 3}, remedy="look")


VERBS = {
    name: getattr(mkfa, name) for name in dir(mkfa) if name[0].islower() and inspect.isfunction(getattr(mkfa, name))
}
FIRST = {
    "domain": "digits",
    "source": "digits",
    "target": "digits",
    "path": "x.h5",
    "items": "bundled",
    "name": "table1",
}
FIRST |= {"a": "ppocrv4_det", "b": "ppocrv4_rec", "bank": "ppocrv4_det", "banks": ["ppocrv4_det", "ppocrv4_rec"]}
FIRST |= {"groups": {"a": ["ppocrv4_det"], "b": ["ppocrv4_rec"]}, "network": "mobilenet_v2", "images": "digits"}
FIRST |= {"sources": "nosuch.pt"}
OPTIONS = [
    (verb, option.name)
    for verb, function in VERBS.items()
    for option in inspect.signature(function).parameters.values()
    if set(str(option.annotation).split(" | ")) <= {"int", "float", "bool", "str", "Path", "None"}
    and option.name not in FIRST
]
OPTIONS += [("transfer", name) for name in TransferOptions.__annotations__]


@pytest.mark.parametrize(("verb", "option"), OPTIONS)
def test_an_option_of_the_wrong_type_is_refused_before_any_work(verb, option, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MKFA_HOME", str(tmp_path / "home"))
    parameters = inspect.signature(VERBS[verb]).parameters.values()
    needed = {p.name: FIRST[p.name] for p in parameters if p.default is p.empty and p.name in FIRST}
    with pytest.raises(mkfa.MkfaError) as caught:
        VERBS[verb](**needed, **{option: object()})
    assert str(caught.value).startswith(f"{option}: is an object where ")
    assert "help(mkfa." in str(caught.value) and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda: mkfa.assign("ppocrv4_det", seed=-1), "seed -1: is below 0; help(mkfa.assign) says more."),
        (
            lambda: mkfa.compare_many(FIRST["banks"], draws="x"),
            "draws: is a str where a whole number is wanted; help(m",
        ),
        (
            lambda: mkfa.compare("ppocrv4_det", "ppocrv4_rec", nulls=3),
            "nulls: is an int where a text or a list or None",
        ),
        (lambda: mkfa.layer_quality("ppocrv4_det", draws=0), "draws 0: compare with nothing; give 1 or more."),
        (lambda: mkfa.train("digits", seeds=0), "seeds 0: trains nothing; give 1 or more."),
        (lambda: mkfa.train("digits", jobs=-1), "jobs -1: is below 0; help(mkfa.experiments.options.TrainingOptions)"),
        (lambda: mkfa.compare_groups(FIRST["groups"], measures=[]), "measures: names nothing; name one or several"),
        (lambda: mkfa.pack_domain("nosuch", levels="0"), "levels: is '0'; give two"),
        (lambda: mkfa.pack_domain("nosuch", levels=3), "levels: is '3'; give two"),
    ],
)
def test_what_a_wrong_option_says(ask, says):
    with pytest.raises(mkfa.MkfaError) as caught:
        ask()
    assert str(caught.value).removeprefix("--").startswith(says)
