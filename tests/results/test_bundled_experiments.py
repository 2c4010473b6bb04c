"""The results that mkfa brings along: complete, and what the README quotes of them."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from mkfa.cli.app import app


def drawn(name: str) -> dict:
    done = CliRunner().invoke(app, ["runs", "draw", "bundled", "--experiment", name, "--json"], catch_exceptions=False)
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("name", "points", "seeds"),
    [
        ("digits-18-layers", 15, 5),
        ("digits-every-layer", 72, 5),
        ("letters-convmixer", 10, 5),
        ("digits-convnext", 12, 5),
    ],
)
def test_a_curve_is_complete_with_its_seeds(name: str, points: int, seeds: int) -> None:
    found = drawn(name)
    cells = [found["base"], *found["cells"]]
    assert len(cells) == points + 1
    assert all(c["seeds"] == list(range(seeds)) and not c["missing"] and not c["diverged"] for c in cells)


PAIRS = {
    "fashion-digits": (7.2, -41.8),
    "digits-scripts": (0.5, -8.3),
    "scripts-letters": (5.3, -32.3),
    "letters-fashion": (1.5, -21.6),
    "fashion-emoji": (0.6, -6.2),
    "emoji-clipart": (1.9, -9.6),
}
"""Points by which transfer is above random, and delta above the base, with 18 layers frozen."""


@pytest.mark.parametrize("name", PAIRS)
def test_a_pair_of_domains_is_complete_with_five_seeds_and_what_is_quoted(name: str) -> None:
    found = drawn(name)
    rows = {row["cell"]["arm"]: row["cell"] for row in found["rows"]}
    more = ("shuffle", "first-k", "impulse", "keys", "keys-8", "random-8", "covariance-8", "blurred-8")
    expected = {"transfer", "selffer", "random", "covariance", "delta", *(more if name == "fashion-digits" else ())}
    assert set(rows) == expected
    assert all(row["seeds"] == [0, 1, 2, 3, 4] and row["layers"] == 18 for row in rows.values())
    assert found["parameters"]["training_version"] == 2
    assert found["parameters"]["arch"] == "resmixer_32_18"
    [against] = [c for c in found["contrasts"] if (c["series"], c["against"]) == ("transfer", "random")]
    assert round(100 * against["difference"], 1) == PAIRS[name][0]
    assert round(100 * rows["delta"]["relative"], 1) == PAIRS[name][1]
    assert against["test_error_exact"]


def test_the_default_curve_answers() -> None:
    answer = drawn("digits-18-layers")["answer"]
    numbers = {a["series"]: (a["estimate"], a["low"], a["high"]) for a in answer["allowances"]}
    assert (numbers["transfer"], numbers["random"], numbers["delta"]) == ((6, 0, 11), (6, 0, 11), (0, 0, 11))
    assert answer["refused"] == ""
    assert (
        "filters from fashion are better than random ones: +7.2 points, 95 % interval +4.9 to +9.6"
        in (answer["sentence"])
    )


def test_the_matrix_is_complete() -> None:
    found = drawn("matrix-18-layers")
    assert len(found["cells"]) == 36
    assert len(found["controls"]) == 12
    assert all(c["seeds"] == [0, 1, 2, 3, 4] for c in [*found["cells"], *found["controls"], *found["bases"].values()])


@pytest.mark.parametrize(
    ("name", "series", "what", "points"),
    [
        ("letters-convmixer", "transfer", "last", 0.1),
        ("letters-convmixer", "selffer", "last", 4.1),
        ("digits-convnext", "transfer", "last", -0.8),
        ("digits-convnext", "transfer", "all", -0.8),
        ("digits-convnext", "delta", "last", -52.5),
        ("digits-18-layers", "transfer", "last", 7.2),
        ("digits-18-layers", "covariance", "last", 2.7),
        ("fashion-digits-600-steps", "transfer", "last", 0.1),
        ("fashion-digits-1500-steps", "transfer", "last", 0.1),
        ("fashion-letters-600-steps", "transfer", "last", 2.1),
        ("fashion-letters-1500-steps", "transfer", "last", 0.3),
        ("digits-every-layer", "transfer", "last", 7.2),
        ("fashion-digits", "blurred-8", "last", 6.4),
        ("fashion-digits", "impulse", "last", -10.8),
    ],
)
def test_the_readme_quotes_differences_from_random(name: str, series: str, what: str, points: float) -> None:
    [found] = [
        c for c in drawn(name)["contrasts"] if (c["series"], c["against"], c["what"]) == (series, "random", what)
    ]
    assert round(100 * found["difference"], 1) == points


def test_sources_of_other_networks_are_complete_with_what_is_quoted() -> None:
    found = drawn("digits-networks")
    changes = {row["label"]: round(100 * row["cell"]["relative"], 1) for row in found["rows"]}
    assert {name.removeprefix("fashion+"): changes[name] for name in changes if "+" in name} == {
        "resmixer_16_18": -2.8,
        "resmixer_32_18": -2.4,
        "resmixer_64_18": -2.6,
        "convnext_32_12": -8.1,
    }
    assert all(row["cell"]["seeds"] == [0, 1, 2, 3, 4] for row in found["rows"])
