"""Runs summarised over seeds, each group compared with the base runs of its setting.

A setting is what must be equal for accuracies to be comparable: network, network options, domain, recipe and the
version of the training.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mkfa.errors import MkfaError, UnknownNameError, nearest
from mkfa.results.cells import Cell, accuracies, make_cell
from mkfa.results.record import RunRecord
from mkfa.training.spec import BASE, RunSpec

SETTING = ("arch", "options", "domain", "recipe", "training_version")
FIELDS = ("arm", "layers", "source", "what", "with_bias", "with_norm", "fit_kernel", *SETTING)
"""Fields that runs can be grouped by; together with the seed they determine a run."""

Fields = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Group:
    """Runs that differ only in the seed: the `values` of the grouping fields, and their `cell`.

    A cell's change and its interval are NaN for the base itself and if there is no base.
    """

    values: Fields
    cell: Cell

    def record(self) -> dict[str, Any]:
        """Return the group in the form written to JSON."""
        keys = ("seeds", "top1", "mean", "std", "half_width", "seeds_half_width", "test_error", "diverged", "missing")
        numbers = {key: getattr(self.cell, key) for key in keys}
        return {"values": self.values, "change": self.cell.relative} | numbers


@dataclass(frozen=True, slots=True)
class GroupTable:
    """The groups of one setting.

    `columns` are the requested fields, then any others in which groups differ (`added`). `setting` has the fields that
    are the same in all rows. If rows disagree, `test_images` is 0 and `chance` is NaN.
    """

    setting: Fields
    columns: tuple[str, ...]
    added: tuple[str, ...]
    groups: tuple[Group, ...]
    test_images: int
    chance: float

    def record(self) -> dict[str, Any]:
        """Return the table in the form written to JSON."""
        fields = {key: getattr(self, key) for key in self.__dataclass_fields__}
        return fields | {"groups": [group.record() for group in self.groups]}


def group_runs(records: Sequence[RunRecord], by: Sequence[str]) -> tuple[GroupTable, ...]:
    """Summarise runs over their seeds; two runs with the same specification count once.

    Parameters
    ----------
    by : names from `FIELDS`. Runs that differ in another field are still kept apart, and that field is shown.

    Returns
    -------
    tuple of GroupTable
        One for each network, domain and recipe, except for fields in `by`.

    Raises MkfaError: there are no runs or no fields, or "seed" is one of the fields. Raises UnknownNameError: a field
    is not in `FIELDS`.
    """
    _check(by)
    if not records:
        raise MkfaError("no runs", "were found to compare", "name the --out of the command that trained")
    first = {r.hash: (r, r.spec) for r in reversed(records) if r.spec is not None}
    runs = dict(reversed(first.items()))
    fields = _fields(runs)
    groups: dict[str, list[RunRecord]] = {}
    bases: dict[str, list[RunRecord]] = {}
    for key, (run, _) in runs.items():
        groups.setdefault(_key(fields[key], FIELDS), []).append(run)
        if run.arm == BASE:
            bases.setdefault(_key(fields[key], SETTING), []).append(run)
    apart = [name for name in SETTING if name not in by]
    tables: dict[str, list[tuple[Fields, list[RunRecord], list[RunRecord]]]] = {}
    for members in groups.values():
        of = fields[members[0].hash]
        tables.setdefault(_key(of, apart), []).append((of, members, bases.get(_key(of, SETTING), [])))
    return tuple(_table(parts, tuple(by), apart) for parts in tables.values())


def _table(
    parts: list[tuple[Fields, list[RunRecord], list[RunRecord]]], by: tuple[str, ...], apart: Sequence[str]
) -> GroupTable:
    added = tuple(name for name in FIELDS if name not in by and _differs(name, [of for of, _, _ in parts], by))
    columns = (*by, *added)
    parts.sort(key=lambda part: _order(part[0], columns))
    results = [r.result for _, members, _ in parts for r in members if r.result]
    return GroupTable(
        setting={name: parts[0][0][name] for name in apart},
        columns=columns,
        added=added,
        groups=tuple(_group(of, members, base, columns) for of, members, base in parts),
        test_images=_only((r.test_images for r in results), 0),
        chance=_only((r.chance for r in results), float("nan")),
    )


def _group(of: Fields, members: Sequence[RunRecord], base: Sequence[RunRecord], columns: Sequence[str]) -> Group:
    cell = make_cell(members, accuracies(base), base_runs=base)
    if of["arm"] == BASE:
        cell = replace(cell, relative=math.nan, half_width=math.nan, seeds_half_width=math.nan, test_error=0.0)
    return Group({name: of[name] for name in columns}, cell)


def _fields(runs: Mapping[str, tuple[RunRecord, RunSpec]]) -> dict[str, dict[str, Any]]:
    """Return the fields of each run by hash; a source is given by name, so that it does not separate seeds."""
    specs = [spec for _, spec in runs.values()]
    domain = _labels(specs, lambda s: s.domain, lambda s: s.domain_digest)
    recipe = _labels(specs, lambda s: s.recipe_name, lambda s: json.dumps(dict(s.recipe), sort_keys=True))
    return {
        key: {
            "arm": spec.arm,
            "layers": spec.layers,
            "source": "" if spec.arm == BASE else run.source,
            **{name: getattr(spec, name) for name in ("what", "with_bias", "with_norm", "fit_kernel", "arch")},
            "options": ", ".join(f"{k} {v}" for k, v in sorted(spec.options.items())),
            "domain": domain(spec),
            "recipe": recipe(spec),
            "training_version": spec.training_version,
        }
        for key, (run, spec) in runs.items()
    }


def _labels(
    specs: Sequence[RunSpec], name: Callable[[RunSpec], str], content: Callable[[RunSpec], str]
) -> Callable[[RunSpec], str]:
    """Return a labelling function: content -> its (first) name, plus a digest if two contents share the name."""
    names: dict[str, str] = {}
    for spec in specs:
        names.setdefault(content(spec), name(spec))
    shared = {n for n in names.values() if list(names.values()).count(n) > 1}
    labels = {c: f"{n}#{hashlib.sha256(c.encode()).hexdigest()[:6]}" if n in shared else n for c, n in names.items()}
    return lambda spec: labels[content(spec)]


def _check(by: Sequence[str]) -> None:
    known = ", ".join(FIELDS)
    if not by or not all(by):
        raise MkfaError("--by", "names no field", f"choose from {known}")
    for name in by:
        if name == "seed":
            raise MkfaError("--by seed", "leaves nothing to average over", "leave it out; 'mkfa runs' lists each run")
        if name not in FIELDS:
            raise UnknownNameError(f"--by {name}", "is not a field of runs", nearest(name, FIELDS) or f"take {known}")


def _differs(name: str, groups: Sequence[Fields], by: Sequence[str]) -> bool:
    """True if two groups that agree in the requested fields differ in this one."""
    seen = {_key(of, by): of[name] for of in groups}
    return any(seen[_key(of, by)] != of[name] for of in groups)


def _order(of: Fields, columns: Sequence[str]) -> tuple[Any, ...]:
    return (of["arm"] != BASE, *(of[name] for name in columns))


def _key(of: Fields, names: Iterable[str]) -> str:
    return json.dumps([of[name] for name in names])


def _only(values: Iterable[Any], otherwise: Any) -> Any:
    different = set(values)
    return different.pop() if len(different) == 1 else otherwise
