"""Every example in a docstring runs, and every public function has one."""

from __future__ import annotations

import doctest
import importlib.util
import inspect
from pathlib import Path

import pytest

import mkfa

ROOT = Path(__file__).parents[1]
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def module_names() -> list[str]:
    found = []
    for folder, package in (("mkfa", "mkfa"), ("figures", "mkfa.figures")):
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            found.append(".".join((package, *(p for p in parts if p != "__init__"))))
    return [name for name in found if ">>> " in Path(str(importlib.util.find_spec(name).origin)).read_text()]


@pytest.mark.parametrize("name", module_names())
def test_examples_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    done = doctest.testmod(importlib.import_module(name), optionflags=FLAGS, verbose=False)
    assert done.attempted
    assert not done.failed


def public_functions() -> list[str]:
    return [name for name in mkfa.__all__ if inspect.isfunction(getattr(mkfa, name))]


@pytest.mark.parametrize("name", public_functions())
def test_a_public_function_has_an_example(name):
    assert ">>> " in (getattr(mkfa, name).__doc__ or ""), f"mkfa.{name} has no example"
