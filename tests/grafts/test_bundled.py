"""The bundled graft is as the schema says, and its numbers are those of the page."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from pathlib import Path

import jsonschema
import pytest

from mkfa.storage.folders import data_file

PAGE = (Path(__file__).parents[2] / "figures" / "README.md").read_text("utf-8")
SAID = {
    "graft_mobilenet_v2.json": (
        ("keys:efficientnet_lite0", 8),
        ("keys:ppocrv4_rec", 8),
        ("eight", 8),
        ("keys:own", 8),
        ("keys:gaussian", 8),
    ),
    "graft_mobilenet_v2_thousand.json": (
        ("keys:efficientnet_lite0", 2606),
        ("keys:covariance:efficientnet_lite0", 2606),
        ("keys:ppocrv4_rec", 432),
        ("keys:own", 64),
    ),
    "graft_mobilenet_v2_layers.json": (),
    "graft_mobilenet_v2_eight.json": (("eight", 8),),
    "graft_efficientnet_lite0_3x3.json": (("keys:mobilenet_v2", 7132), ("keys:gaussian", 7132), ("keys:own", 8)),
    "graft_efficientnet_lite0_5x5.json": (("keys:ppocrv4_rec", 2611), ("keys:own", 8), ("keys:blurred", 2611)),
}
"""File -> points (vocabulary, size) whose numbers the page says."""


@pytest.mark.parametrize("name", SAID)
def test_it_is_a_result_of_the_verb_and_the_page_says_its_numbers(name):
    found = json.loads(data_file(name).read_text("utf-8"))
    schema = json.loads(files("mkfa.storage").joinpath("result_schema.json").read_text("utf-8"))
    jsonschema.validate(found, {"$defs": schema["$defs"], "$ref": "#/$defs/graft"})
    assert found["command"].startswith("mkfa graft ")
    for vocabulary, size in SAID[name]:
        (point,) = (p for p in found["points"] if (p["vocabulary"], p["size"]) == (vocabulary, size))
        share, low, high = (100 * point[key] for key in ("agreement", "agreement_low", "agreement_high"))
        assert f"{share:.0f} % ({low:.0f} to {high:.0f})" in PAGE


@pytest.mark.parametrize(("batch_norm", "points"), [("kept", 10), ("re-estimated", 10)])
def test_the_page_says_what_three_draws_keep(batch_norm, points):
    found = json.loads(data_file("graft_mobilenet_v2_draws.json").read_text("utf-8"))
    chosen = [p for p in found["points"] if p["batch_norm"] == batch_norm and p["role"] != "unchanged"]
    assert len(chosen) == points and found["draws"] == 3
    for vocabulary in ("keys:own", "keys:efficientnet_lite0", "keys:covariance:ppocrv4_rec"):
        (point,) = (p for p in chosen if p["vocabulary"] == vocabulary)
        share, low, high = (100 * point[key] for key in ("agreement", "agreement_low", "agreement_high"))
        assert f"{share:.0f} % ({low:.0f} to {high:.0f})" in PAGE


@pytest.mark.parametrize(
    ("vocabulary", "said"),
    [
        ("keys:own", "48 %, 34 to 62"),
        ("keys:efficientnet_lite0", "44 % (30 to 58)"),
        ("keys:gaussian", "10 %\n  (4 to 23)"),
    ],
)
def test_the_page_says_what_is_kept_with_ten_layers_replaced(vocabulary, said):
    found = json.loads(data_file("graft_mobilenet_v2_layers.json").read_text("utf-8"))
    wanted = ("first", vocabulary, "1..10")
    (point,) = (p for p in found["points"] if (p["curve"], p["vocabulary"], p["layers"]) == wanted)
    numbers = [round(100 * point[key]) for key in ("agreement", "agreement_low", "agreement_high")]
    assert said in PAGE and [int(n) for n in re.findall(r"\d+", said)] == numbers
