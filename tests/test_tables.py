"""Parts are added to a table by name, from Python and by MKFA_PLUGINS."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import pytest

from mkfa.errors import MkfaError, UnknownNameError
from mkfa.tables import PLUGINS, Table


@dataclass(frozen=True)
class Shape:
    name: str
    help: str = ""


@pytest.fixture
def table():
    return Table("shape", [Shape("round"), Shape("square")])


def test_a_part_is_found_by_name(table):
    assert table.find("round").name == "round"
    assert list(table) == ["round", "square"]
    assert "oval" not in table
    table.register(Shape("oval"))
    assert table.find("oval") is table["oval"]


def test_an_unknown_name_is_one_sentence(table):
    with pytest.raises(UnknownNameError, match=r"^rund: unknown shape; did you mean round\?$"):
        table.find("rund")
    with pytest.raises(UnknownNameError, match=r"^x: unknown shape; choose one of round, square\.$"):
        table.find("x")


@pytest.mark.parametrize("name", ["round", "", "a b", "a,b", "-a", "a=1"])
def test_a_name_that_is_taken_or_cannot_be_typed_is_refused(table, name):
    with pytest.raises(MkfaError):
        table.register(Shape(name))


def test_plugins_are_imported_once_before_a_name_is_looked_up(table, tmp_path, monkeypatch):
    file = tmp_path / "my_shapes.py"
    file.write_text("import sys\nsys.mkfa_test_loads = getattr(sys, 'mkfa_test_loads', 0) + 1\n")
    monkeypatch.setattr(sys, "mkfa_test_loads", 0, raising=False)
    monkeypatch.setenv(PLUGINS, f" {file},")
    table.find("round")
    table.find("square")
    assert sys.mkfa_test_loads == 1


def test_a_plugin_that_fails_is_one_sentence(table, monkeypatch):
    monkeypatch.setenv(PLUGINS, "no_such_module_of_ours")
    with pytest.raises(MkfaError, match=r"MKFA_PLUGINS: names no_such_module_of_ours, which cannot be imported"):
        table.find("round")
