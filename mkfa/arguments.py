"""Check what a verb of the Python face was given against its annotations, before any work."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from numbers import Integral, Real
from os import PathLike
from types import NoneType
from typing import Any

from mkfa.errors import MkfaError, wrong_type

_KINDS: dict[str, tuple[type, str]] = {
    "int": (Integral, "a whole number"),
    "float": (Real, "a number"),
    "bool": (bool, "True or False"),
    "str": (str, "a text"),
    "Path": (PathLike, "a path"),
    "Sequence": (Iterable, "a list"),
    "Mapping": (Mapping, "a mapping"),
    "None": (NoneType, "None"),
}


def check_arguments(verb: Callable[..., Any], given: Mapping[str, Any]) -> None:
    """Refuse arguments of another type than a verb's annotations name, and whole numbers below 0.

    Annotations with other names than those of `int`, `float`, `bool`, `str`, `Path`, sequences and mappings are left to
    the verb.

    Raises MkfaError: as above.

    Examples
    --------
    >>> from mkfa.clusters.keys import find_keys
    >>> check_arguments(find_keys, {"keys": "x"})
    Traceback (most recent call last):
    mkfa.errors.MkfaError: keys: is a str where a whole number or None is wanted; help(mkfa.find_keys) says more.
    """
    check_types(_annotations(verb), given, remedy=f"help(mkfa.{verb.__name__}) says more")


def check_types(annotations: Mapping[str, str], given: Mapping[str, Any], *, remedy: str) -> None:
    """Refuse values as `check_arguments`; `annotations` are texts by name."""
    for name, value in given.items():
        kinds = [_KINDS.get(part.split("[")[0]) for part in annotations.get(name, "Any").split(" | ")]
        if any(kind is None for kind in kinds):
            continue
        known = [kind for kind in kinds if kind is not None]
        truth = isinstance(value, bool)
        if not any(isinstance(value, of) and (of is bool or not truth) for of, _ in known):
            raise wrong_type(value, name, wanted=" or ".join(wanted for _, wanted in known), remedy=remedy)
        if isinstance(value, Integral) and not truth and value < 0 and any(of is Integral for of, _ in known):
            raise MkfaError(f"{name} {value}", "is below 0", remedy)


@lru_cache
def _annotations(verb: Callable[..., Any]) -> dict[str, str]:
    return {
        name: parameter.annotation
        for name, parameter in inspect.signature(verb).parameters.items()
        if isinstance(parameter.annotation, str) and parameter.kind is not inspect.Parameter.VAR_KEYWORD
    }
