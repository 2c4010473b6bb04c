"""The bundled graft is as the schema says, and its numbers are those of the page."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import jsonschema

from mkfa.storage.folders import data_file

FOUND = json.loads(data_file("graft_mobilenet_v2.json").read_text("utf-8"))
PAGE = (Path(__file__).parents[2] / "figures" / "README.md").read_text("utf-8")


def test_it_is_a_result_of_the_verb():
    schema = json.loads(files("mkfa.storage").joinpath("result_schema.json").read_text("utf-8"))
    jsonschema.validate(FOUND, {"$defs": schema["$defs"], "$ref": "#/$defs/graft"})
    assert FOUND["command"].startswith("mkfa graft mobilenet_v2 ")


def test_the_page_says_its_numbers():
    for vocabulary, size in (
        ("keys:efficientnet_lite0", 2606),
        ("keys:ppocrv4_rec", 432),
        ("eight", 8),
        ("keys:own", 64),
    ):
        (point,) = (p for p in FOUND["points"] if (p["vocabulary"], p["size"]) == (vocabulary, size))
        share, low, high = (100 * point[key] for key in ("agreement", "agreement_low", "agreement_high"))
        assert f"{share:.0f} % ({low:.0f} to {high:.0f})" in PAGE
