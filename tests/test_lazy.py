"""The faces of packages: names that are imported when they are first used."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from pathlib import Path

import pytest

import mkfa

PACKAGES = "arms banks clusters evidence experiments grafts images nulls patterns readers report results similarity"
FACES = ["mkfa", *(f"mkfa.{name}" for name in PACKAGES.split())]


@pytest.mark.parametrize("name", FACES)
def test_a_face_has_the_names_that_its_file_imports_for_type_checkers(name: str):
    package = importlib.import_module(name)
    (block,) = (node for node in ast.parse(Path(str(package.__file__)).read_text()).body if isinstance(node, ast.If))
    written = [alias.name for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names]
    assert package.__all__ == written and set(written) <= set(dir(package))
    assert all(getattr(package, word).__name__ == word for word in written if word[0].isupper() and not word.isupper())


def test_a_name_that_a_face_does_not_have_is_an_attribute_error():
    with pytest.raises(AttributeError, match=r"module 'mkfa\.banks' has no attribute 'harvest'"):
        importlib.import_module("mkfa.banks").harvest  # noqa: B018


VERBS = [name for name in dir(mkfa) if name[0].islower() and inspect.isfunction(getattr(mkfa, name))]


@pytest.mark.parametrize("name", VERBS)
def test_help_names_every_verb_and_every_parameter_of_it(name):
    assert f"`{name}`" in mkfa.__doc__
    explained = getattr(mkfa, name).__doc__.split("Examples")[0]
    parameters = inspect.signature(getattr(mkfa, name)).parameters
    assert [word for word in parameters if not re.search(rf"\b{word}\b", explained)] == []
    assert not parameters or "Raises" in explained or "what it raises" in explained


def test_every_result_of_the_face_is_described():
    for name in mkfa.__all__:
        assert len((getattr(mkfa, name).__doc__ or "").strip().splitlines()[0]) > 12, name
