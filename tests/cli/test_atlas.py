"""`mkfa atlas` and `mkfa keys` print every number beside its null and write what they are asked to."""

from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from mkfa.banks.bank import Layer, Provenance, make_bank
from mkfa.banks.bank_file import read_bank, write_bank
from mkfa.cli.app import app
from mkfa.errors import MkfaError
from mkfa.storage.result_files import read_arrays


@pytest.fixture
def banks(tmp_path):
    """Two bank files with 90 noisy filters of three patterns each, and some 5x5 filters in the second."""
    pattern = np.random.default_rng(7).standard_normal((3, 9))
    paths = []
    for i in range(2):
        rng = np.random.default_rng(i)
        raw = pattern[rng.integers(3, size=90)] * rng.choice([-1, 1], (90, 1)) + 0.2 * rng.standard_normal((90, 9))
        layers = [(Layer(0, "a", -1, 0.0, 1, 3, 3), raw.reshape(-1, 3, 3).astype(np.float32), None)]
        if i:
            layers.append((Layer(0, "b", -1, 0.0, 1, 5, 5), rng.standard_normal((30, 5, 5)).astype(np.float32), None))
        paths.append(str(write_bank(make_bank(f"net{i}", layers, Provenance()), tmp_path / f"net{i}.h5")))
    return paths


def run(*arguments):
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    if isinstance(result.exception, MkfaError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def test_atlas_prints_criteria_clusters_and_what_was_left_out(banks):
    text = run("atlas", *banks, "--clusters", 3)
    for expected in ("180 of 3x3 (net0 90, net1 90)", "30 of 5x5", "null R²", "seed 0", "adjusted Rand", "HDBSCAN"):
        assert expected in text
    assert max(len(line) for line in text.splitlines()) <= 115


def test_atlas_json_and_files(banks, tmp_path):
    data = json.loads(run("atlas", banks[0], "--clusters", 3, "--json", "--seed", 4))
    assert (data["clusters"], data["seed"], data["kernel"]) == (3, 4, "3x3")
    out = tmp_path / "a.json"
    run("atlas", banks[0], "--clusters", 3, "--out", out, "--seed", 4)
    assert json.loads(out.read_text())["prototypes"] == data["prototypes"]
    with pytest.raises(MkfaError, match="exists already"):
        run("atlas", banks[0], "--out", out)


def test_kernel_is_chosen_by_name(banks):
    assert "30 of 5x5" in run("atlas", banks[1], "--kernel-size", "5x5", "--clusters", 2)
    with pytest.raises(MkfaError, match="9x9: no bank has filters of this size"):
        run("keys", banks[1], "--kernel-size", "9x9")


def test_keys_prints_the_elbow_beside_its_null_and_writes(banks, tmp_path):
    text = run("keys", *banks, "--candidates", 12, "--out", tmp_path / "k.h5", "--figure", tmp_path / "k.png")
    for expected in ("null R²", "3 keys", "nearest of 'eight'", "blurred", "as oriented", "are 3 shapes", "Wrote"):
        assert expected in text
    assert read_arrays(tmp_path / "k.h5", kind="keys")[0]["key"].shape == (3, 3, 3)
    assert (tmp_path / "k.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("arguments", [("atlas", "--clusters", 3), ("keys", "--keys", 3, "--candidates", 8)])
def test_draws_are_the_null_libraries(banks, tmp_path, arguments):
    verb, *more = arguments
    least = []
    for draws in (19, 39):
        run(verb, *banks, *more, "--draws", draws, "--out", tmp_path / f"{draws}.json")
        found = json.loads((tmp_path / f"{draws}.json").read_text())
        assert found["nulls"] == draws
        least.append(found["p"])
    assert least == [1 / 20, 1 / 40]  # three planted patterns: no null library comes near them


@pytest.mark.parametrize("verb", ["atlas", "keys"])
@pytest.mark.parametrize(
    ("option", "path", "says"),
    [
        ("--out", "x.txt", "end the name in .json or .csv or .h5"),
        ("--figure", "x.gif", "end the name in .png or .pdf or .svg"),
        ("--out", "no/where.h5", "does not exist"),
    ],
)
def test_paths_that_cannot_be_written_are_refused_before_work(verb, option, path, says, tmp_path):
    with pytest.raises(MkfaError, match=says):  # of the path, though the bank does not exist either
        run(verb, "no-such-bank", option, tmp_path / path)


@pytest.mark.parametrize("verb", ["atlas", "keys"])
def test_force_does_not_replace_a_bank_by_the_result(banks, verb, tmp_path):
    (tmp_path / "link.h5").symlink_to(banks[1])
    for out in (banks[1], tmp_path / "link.h5"):
        with pytest.raises(MkfaError, match="is a bank that the result is made from"):
            run(verb, *banks, "--out", out, "--force")
    read_bank(banks[1])


@pytest.mark.parametrize("verb", ["atlas", "keys"])
def test_a_negative_seed_is_refused_by_the_parser(banks, verb):
    result = CliRunner().invoke(app, [verb, *banks, "--seed", "-1"])
    assert result.exit_code == 2 and "--seed" in result.output
