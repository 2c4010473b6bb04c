"""What every result can do, and the heading of its files."""

from __future__ import annotations

import copy
import io
import json
import pickle
from dataclasses import dataclass

import h5py
import numpy as np
import pytest

from mkfa.errors import MkfaError
from mkfa.storage import heading as heading_module
from mkfa.storage.heading import heading, set_command
from mkfa.storage.records import Result, plain, to_csv
from mkfa.version import VERSION


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Made(Result):
    KIND = "made"
    name: str
    values: np.ndarray

    def headline(self):
        return f"{self.name}, {len(self.values)} values"

    def rows(self):
        return [{"i": i, "value": float(v)} for i, v in enumerate(self.values)]

    def to_arrays(self):
        return {"values": self.values}

    def facts(self):
        return {"name": self.name}


@pytest.fixture
def made(monkeypatch):
    monkeypatch.setattr(heading_module, "_command", [""])
    set_command("mkfa make <x>")
    return Made("<b>", np.array([1.5, np.nan]))


def test_a_result_prints_in_one_line_and_as_a_table(made):
    assert repr(made) == "<Made: <b>, 2 values>"
    page = made._repr_html_()
    assert "&lt;b&gt;" in page
    assert "<td>1.5</td>" in page
    assert "<td>–</td>" in page


def test_a_result_pickles_and_copies(made):
    assert pickle.loads(pickle.dumps(made)) == copy.deepcopy(made) == made


def test_every_file_names_format_version_date_and_command(made, tmp_path):
    found = json.loads(made.save(tmp_path / "x.json").read_text())
    assert {key: found[key] for key in ("format", "format_version", "mkfa_version", "command", "name")} == {
        "format": "mkfa.made",
        "format_version": 1,
        "mkfa_version": VERSION,
        "command": "mkfa make <x>",
        "name": "<b>",
    }
    assert found["created"].endswith("+00:00")
    with h5py.File(made.save(tmp_path / "x.h5")) as f:
        assert f.attrs["format"] == b"mkfa.made"
        assert f.attrs["command"] == b"mkfa make <x>"
        assert json.loads(f.attrs["parameters"]) == {"name": "<b>"}
        np.testing.assert_array_equal(f["values"], made.values)
    first, *rest = made.save(tmp_path / "x.csv").read_text().splitlines()
    assert json.loads(first.removeprefix("# "))["format"] == "mkfa.made"
    assert rest == ["i,value", "0,1.5", "1,"]


def test_pandas_reads_frames_and_files(made):
    import pandas

    assert made.to_frame()["value"][0] == 1.5
    again = pandas.read_csv(io.StringIO(to_csv(made.rows(), "made")), comment="#")
    assert list(again.columns) == ["i", "value"]


def test_files_are_refused_by_ending_and_where_they_exist(made, tmp_path):
    with pytest.raises(MkfaError, match="unknown file format"):
        made.save(tmp_path / "x.txt")
    made.save(tmp_path / "x.json")
    with pytest.raises(MkfaError, match="exists"):
        made.save(tmp_path / "x.json")
    made.save(tmp_path / "x.json", overwrite=True)


def test_plain_values_have_no_nan():
    assert plain({"a": (np.float32(1), float("inf")), 2: {"x"}}) == {"a": [1.0, None], "2": ["x"]}
    assert heading("x")["format"] == "mkfa.x"
