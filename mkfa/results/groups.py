"""Runs summed up over their seeds, each group beside the base runs of its setting.

A setting is what must be one for accuracies to be compared: network, its options, domain, recipe.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mkfa.errors import MkfaError, UnknownNameError, nearest
from mkfa.results.cells import Finished, make_cell
from mkfa.results.runs import RunRecord
from mkfa.training.spec import BASE

SETTING = ("arch", "options", "domain", "recipe")
FIELDS = ("arm", "layers", "source", "what", "with_bias", "fit_kernel", *SETTING)
"""What runs can be split by; all that decides about a run but its seed is in one of them."""

Fields = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Group:
    """Runs that differ in nothing but the seed.

    Attributes
    ----------
    values : mapping
        The fields by which the table is split.
    seeds, top1 : tuple
        Of the runs that are done, in the order of the seeds; last epoch, shares.
    mean, std : float
        Of `top1`; std with n - 1, NaN for one run.
    change, half_width : float
        mean less the base runs' mean, and half the width of its 95 % interval (Welch); NaN for the base itself, where
        there is no base, and for the interval where either has one run.
    diverged, missing : int
        Runs that diverged, and that are not over.
    """

    values: Fields
    seeds: tuple[int, ...]
    top1: tuple[float, ...]
    mean: float
    std: float
    change: float
    half_width: float
    diverged: int
    missing: int


@dataclass(frozen=True, slots=True)
class GroupTable:
    """The groups of one setting.

    `columns` are the fields that were asked for, then those in which groups differ besides (`added`). `setting` holds
    what is one in all rows; `test_images` is 0, and `chance` NaN, where rows differ in it.
    """

    setting: Fields
    columns: tuple[str, ...]
    added: tuple[str, ...]
    groups: tuple[Group, ...]
    test_images: int
    chance: float


def group_runs(records: Sequence[RunRecord], by: Sequence[str]) -> tuple[GroupTable, ...]:
    """Sum runs up over their seeds; two runs of one specification count once.

    Parameters
    ----------
    by : fields of `FIELDS`. Runs that differ in another one are kept apart all the same, and that field is shown.

    Returns
    -------
    tuple of GroupTable
        One for each network, domain and recipe, but for what is in `by`.

    Raises
    ------
    MkfaError
        There are no runs, or no fields, or "seed" is among them.
    UnknownNameError
        A field that runs do not have.
    """
    _check(by)
    if not records:
        raise MkfaError("no run", "is there to be compared", "name the --out of the command that trained")
    runs = list({r.entry.hash: r for r in reversed(records)}.values())[::-1]
    fields = _fields(runs)
    groups: dict[str, list[RunRecord]] = {}
    bases: dict[str, list[RunRecord]] = {}
    for run in runs:
        groups.setdefault(_key(fields[run.entry.hash], FIELDS), []).append(run)
        if run.spec.arm == BASE:
            bases.setdefault(_key(fields[run.entry.hash], SETTING), []).append(run)
    apart = [name for name in SETTING if name not in by]
    tables: dict[str, list[tuple[Fields, list[RunRecord], list[RunRecord]]]] = {}
    for members in groups.values():
        of = fields[members[0].entry.hash]
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
        test_images=_only((int(r["test_images"]) for r in results), 0),
        chance=_only((float(r["chance"]) for r in results), float("nan")),
    )


def _group(of: Fields, members: Sequence[RunRecord], base: Sequence[RunRecord], columns: Sequence[str]) -> Group:
    known = make_cell([_finished(r) for r in base], ()).top1 if base else ()
    cell = make_cell([_finished(r) for r in members], known)
    none = of["arm"] == BASE
    return Group(
        values={name: of[name] for name in columns},
        seeds=cell.seeds,
        top1=cell.top1,
        mean=cell.mean,
        std=cell.std,
        change=float("nan") if none else cell.relative,
        half_width=float("nan") if none else cell.half_width,
        diverged=cell.diverged,
        missing=cell.missing,
    )


def _fields(runs: Sequence[RunRecord]) -> dict[str, dict[str, Any]]:
    """Return the fields of each run by its hash; a source is a word, so that seeds are not kept apart by it."""
    domain = _labels(runs, lambda r: r.spec.domain, lambda r: r.spec.domain_digest)
    recipe = _labels(runs, lambda r: r.spec.recipe_name, lambda r: json.dumps(dict(r.spec.recipe), sort_keys=True))
    return {
        r.entry.hash: {
            "arm": r.spec.arm,
            "layers": r.spec.layers,
            "source": "" if r.spec.arm == BASE else r.source_name,
            "what": r.spec.what,
            "with_bias": r.spec.with_bias,
            "fit_kernel": r.spec.fit_kernel,
            "arch": r.spec.arch,
            "options": ", ".join(f"{k} {v}" for k, v in sorted(r.spec.options.items())),
            "domain": domain(r),
            "recipe": recipe(r),
        }
        for r in runs
    }


def _labels(
    runs: Sequence[RunRecord], name: Callable[[RunRecord], str], content: Callable[[RunRecord], str]
) -> Callable[[RunRecord], str]:
    """Return a label for each content: its (first) name, with a digest where two contents have one name."""
    names: dict[str, str] = {}
    for run in runs:
        names.setdefault(content(run), name(run))
    shared = {n for n in names.values() if list(names.values()).count(n) > 1}
    labels = {c: f"{n}#{hashlib.sha256(c.encode()).hexdigest()[:6]}" if n in shared else n for c, n in names.items()}
    return lambda run: labels[content(run)]


def _check(by: Sequence[str]) -> None:
    known = ", ".join(FIELDS)
    if not by or not all(by):
        raise MkfaError("--by", "names no field", f"choose from {known}")
    for name in by:
        if name == "seed":
            raise MkfaError("--by seed", "leaves nothing to sum up over", "leave it out; 'mkfa runs' lists each run")
        if name not in FIELDS:
            raise UnknownNameError(f"--by {name}", "is no field of a run", nearest(name, FIELDS) or f"take {known}")


def _differs(name: str, groups: Sequence[Fields], by: Sequence[str]) -> bool:
    """True where two groups that are one in the fields asked for differ in this one."""
    seen = {_key(of, by): of[name] for of in groups}
    return any(seen[_key(of, by)] != of[name] for of in groups)


def _order(of: Fields, columns: Sequence[str]) -> tuple[Any, ...]:
    return (of["arm"] != BASE, *(of[name] for name in columns))


def _key(of: Fields, names: Iterable[str]) -> str:
    return json.dumps([of[name] for name in names])


def _only(values: Iterable[Any], otherwise: Any) -> Any:
    found = set(values)
    return found.pop() if len(found) == 1 else otherwise


def _finished(record: RunRecord) -> Finished:
    spec = record.spec
    return Finished(record.source_name, spec.domain, spec.arm, spec.layers, spec.seed, record.result)
