"""`mkfa report` says what it wrote, what is not on the page, and which limits were reached."""

from __future__ import annotations

import dataclasses
import inspect
import json

import numpy as np
import pytest
from small import call, refused

from mkfa.banks.bank import Layer, Provenance, make_bank
from mkfa.banks.bank_file import write_bank
from mkfa.cli.report import report
from mkfa.report.limits import DRAWS, Limits
from mkfa.report.writing import write_report


@pytest.fixture
def bank(tmp_path):
    """Return a bank file of 60 filters in two layers."""
    rng = np.random.default_rng(0)
    layers = [
        (Layer(0, f"l{i}", -1, 0.0, 30, 3, 3), rng.standard_normal((30, 3, 3)).astype(np.float32), None) for i in "ab"
    ]
    return write_bank(make_bank("net", layers, Provenance()), tmp_path / "net.h5")


def test_what_is_written_is_said(bank, tmp_path):
    text = call("report", bank, "bundled", "--no-compute", "--most-filters", 20, "--out", tmp_path / "r.html")
    assert f"{tmp_path / 'r.html'}: 0." in text
    assert "MB, filters, grafts, experiments, verdicts" in text
    assert "Here: 20 of 60 filters" in text
    assert "net: no assignment is stored; 'mkfa assign net' makes one." in text
    assert f"The same data as files: {tmp_path / 'r_data'}/" in text


def test_json_has_the_files_and_what_was_left_out(bank, tmp_path):
    words = ("report", bank, "bundled", "--no-compute", "--no-data", "--out", tmp_path / "r.html", "--json")
    found = json.loads(call(*words))
    assert (found["filters"], found["shown"], found["data"]) == (60, 60, [])
    assert found["bytes"] == (tmp_path / "r.html").stat().st_size
    assert not (tmp_path / "r_data").exists()
    assert "exists already" in str(refused(*words))
    assert json.loads(call(*words, "--force"))["sections"] == ["filters", "grafts", "experiments", "verdicts"]


def test_bad_input_gets_a_sentence(bank, tmp_path):
    out = ("--out", tmp_path / "r.html")
    assert "nothing analysed yet" in str(refused("report", bank, "--no-compute", *out))
    assert "is not a bank file" in str(refused("report", "no-such-bank", *out))
    assert list(tmp_path.glob("r*")) == []


def test_the_defaults_are_those_of_the_library():
    parameters = inspect.signature(report).parameters
    for name, value in {**dataclasses.asdict(Limits()), "draws": DRAWS}.items():
        assert parameters[name].default == value == inspect.signature(write_report).parameters[name].default
