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
    ("name", "points"), [("letters-sensitive", 36), ("digits-18-layers", 54), ("letters-convnext", 12)]
)
def test_a_curve_is_complete_with_three_seeds(name: str, points: int) -> None:
    found = drawn(name)
    cells = [found["base"], *found["cells"]]
    assert len(cells) == points + 1
    assert all(c["seeds"] == [0, 1, 2] and not c["missing"] and not c["diverged"] for c in cells)


def test_the_matrix_is_complete() -> None:
    found = drawn("matrix")
    assert len(found["cells"]) == 36
    assert len(found["controls"]) == 12
    assert all(c["seeds"] == [0] for c in [*found["cells"], *found["controls"], *found["bases"].values()])


@pytest.mark.parametrize(
    ("name", "series", "what", "points"),
    [
        ("letters-sensitive", "transfer", "last", 0.3),
        ("letters-sensitive", "selffer", "last", 4.1),
        ("letters-sensitive", "covariance", "all", -1.6),
        ("letters-convnext", "transfer", "last", -0.9),
        ("digits-18-layers", "transfer", "all", 1.9),
        ("digits-18-layers", "selffer", "all", 5.9),
    ],
)
def test_the_readme_quotes_differences_from_random(name: str, series: str, what: str, points: float) -> None:
    [found] = [
        c for c in drawn(name)["contrasts"] if (c["series"], c["against"], c["what"]) == (series, "random", what)
    ]
    assert round(100 * found["difference"], 1) == points
