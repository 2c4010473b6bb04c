"""Three lines in a file that MKFA_PLUGINS names add an arm, a null and a measure; commands take them by name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import mkfa

PLUGIN = """
import mkfa
mkfa.register(mkfa.Arm("negated", "the initial kernels, negated", fill=lambda layer, rng: -layer.kernel))
mkfa.register(mkfa.Null("flipped", "each filter upside down", lambda weight, rng: weight[:, ::-1]))
mkfa.register(mkfa.Measure("closest", "largest |cos| of any pair", lambda a, b: abs(a @ b.T).max(), alike_is_more=True))
"""


def run(tmp_path: Path, *words: str) -> str:
    (tmp_path / "plugin.py").write_text(PLUGIN)
    variables = {"MKFA_PLUGINS": str(tmp_path / "plugin.py"), "MKFA_HOME": str(tmp_path / "home"), "COLUMNS": "120"}
    command = [sys.executable, "-c", "from mkfa.cli.app import main; main()", *words]
    done = subprocess.run(command, env=os.environ | variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_null_and_a_measure_of_ones_own_are_compared_by_name(tmp_path: Path):
    banks = ("efficientnet_lite0", "ppocrv4_rec", "--kernel-size", "5x5", "--draws", "19")
    text = run(tmp_path, "compare", *banks, "--measures", "closest,energy", "--nulls", "flipped,gaussian", "--json")
    kind = json.loads(text)["comparisons"][0]["kinds"][0]
    assert set(kind["measures"]) == {"energy", "closest"} and set(kind["measures"]["closest"]["nulls"]) == {
        "flipped",
        "gaussian",
    }
    value, nulls = kind["measures"]["closest"]["value"], kind["measures"]["closest"]["nulls"]
    assert 0.8 < value <= 1.000001 and nulls["gaussian"]["mean"] < value
    table = run(tmp_path, "compare", *banks, "--measures", "closest", "--nulls", "flipped")
    assert "closest ^" in table and "By closest, the 5x5 filters" in table


def test_help_lists_what_was_registered(tmp_path: Path):
    text = " ".join(run(tmp_path, "compare", "--help").split())
    assert "flipped: each filter upside down." in text and "closest: largest |cos| of any pair." in text
    assert "negated: the initial kernels, negated" in " ".join(run(tmp_path, "transfer", "--help").split())


def test_an_arm_of_ones_own_is_planned_by_name(tmp_path: Path):
    words = (
        "--source",
        "letters",
        "--target",
        "emoji",
        "--arms",
        "negated",
        "--layers",
        "1",
        "--dry-run",
        "--jobs",
        "1",
    )
    assert "negated" in run(tmp_path, "transfer", *words, "--recipe", "smoke", "--arch", "convmixer_6_2")


def test_what_is_no_part_is_refused():
    with pytest.raises(mkfa.MkfaError, match="pass an Arm, a Null or a Measure"):
        mkfa.register("shuffled")  # type: ignore[type-var]
