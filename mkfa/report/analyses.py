"""The analyses that a report shows: stored ones, those of result files, and, unless told otherwise, missing ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np

from mkfa.array_types import F32, I32, I64, AnyArray
from mkfa.banks.bank import FilterBank, Kind
from mkfa.banks.usable import usable_filters
from mkfa.errors import MkfaError
from mkfa.patterns.basis_assignment import BasisAssignment
from mkfa.patterns.stored import stored_assignment
from mkfa.progress import Progress
from mkfa.report.inputs import Found, Inputs, NamedBank
from mkfa.report.limits import DRAWS, Limits

BASIS = "families"
_FEWEST = 20
"""Usable filters that an atlas needs."""


@dataclass(slots=True)
class FilterPlaces:
    """A map of filters of one kernel size: bank (row of the page's banks), row there, place and cluster of each point.

    `facts` is the JSON of the atlas; `banks` are the names of the banks that are on it.
    """

    kind: Kind
    banks: tuple[str, ...]
    bank: I32
    row: I64
    """Rows of `bank.of_kind(kind)`."""
    position: F32
    cluster: I32
    facts: Mapping[str, Any]
    source: str


@dataclass(slots=True)
class Analyses:
    """What is known of the banks. `notes` say what is missing, and why; `pairs` counts the pairs of banks."""

    assignments: list[BasisAssignment | None] = field(default_factory=list)
    maps: list[FilterPlaces] = field(default_factory=list)
    comparisons: list[Mapping[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    pairs: int = 0
    mapped: int = 0
    """Filters of the kernel size of the largest map that was computed; 0 without one."""

    @property
    def any(self) -> bool:
        """True if anything is analysed."""
        return bool(self.maps or self.comparisons or any(self.assignments))


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is computed where it is missing: the options of `mkfa.report.writing.write_report` of these names."""

    compute: bool = True
    kernel_size: str | None = None
    draws: int = DRAWS
    seed: int = 0

    def check(self, banks: Sequence[FilterBank]) -> None:
        """Refuse options that no analysis of these banks can take, before the first."""
        from mkfa.similarity.settings import make_settings

        make_settings(draws=self.draws, seed=self.seed)
        if banks:
            self.kinds(banks)

    def kinds(self, banks: Sequence[FilterBank]) -> list[Kind]:
        """Return the kernel sizes of the maps: those that were named, else the most frequent one."""
        from mkfa.clusters.pool import count_kinds, find_kind

        named = self.kernel_size.split(",") if self.kernel_size else []
        return list(dict.fromkeys(find_kind(one.strip(), banks) for one in named)) or [next(iter(count_kinds(banks)))]


def analyse(inputs: Inputs, wanted: Wanted, limits: Limits, *, progress: Progress = None) -> Analyses:
    """Collect the analyses of the banks; compute what is missing if `wanted.compute`."""
    out = Analyses()
    banks = [one.bank for one in inputs.banks]
    for one in inputs.banks:
        out.assignments.append(_assignment(one, wanted, out.notes, progress))
    _comparisons(inputs, banks, wanted, limits, out=out, progress=progress)
    _maps(inputs, banks, wanted, limits, out=out, progress=progress)
    return out


def _assignment(one: NamedBank, wanted: Wanted, notes: list[str], progress: Progress) -> BasisAssignment | None:
    from mkfa.patterns.assigning import assign

    name = one.bank.name
    stored = one.analyses.get(f"assign-{BASIS}")
    if stored is not None:
        restored = stored_assignment(one.bank, stored)
        if restored is not None:
            return restored
        if not wanted.compute:
            notes.append(
                f"{name}: its stored assignment is of an earlier version; 'mkfa assign {name}' makes it again."
            )
    if not wanted.compute:
        if stored is None:
            notes.append(f"{name}: no assignment is stored; 'mkfa assign {name}' makes one.")
        return None
    try:
        return assign(one.bank, basis=BASIS, seed=wanted.seed, progress=progress)
    except MkfaError as error:
        notes.append(f"{name}: not assigned to patterns, as it {error.problem}.")
        return None


def _comparisons(
    inputs: Inputs, banks: Sequence[FilterBank], wanted: Wanted, limits: Limits, *, out: Analyses, progress: Progress
) -> None:
    from mkfa.similarity.comparing import compare
    from mkfa.storage.records import plain

    for found in inputs.of("comparison"):
        for entry in _entries(found, "comparisons"):
            out.comparisons.append({**entry, "from": found.source})
    known = {frozenset((str(entry.get("a")), str(entry.get("b")))) for entry in out.comparisons}
    pairs = list(combinations(banks, 2))
    out.pairs = len(pairs)
    missing = [pair for pair in pairs if frozenset(bank.name for bank in pair) not in known]
    if not wanted.compute:
        for a, b in missing[: limits.most_pairs]:
            out.notes.append(
                f"{a.name} and {b.name}: not compared; give the file of 'mkfa compare {a.name} {b.name} --out X.json'."
            )
        return
    options: dict[str, Any] = {"draws": wanted.draws, "seed": wanted.seed, "progress": progress}
    for a, b in missing[: max(limits.most_pairs - (len(pairs) - len(missing)), 0)]:
        try:
            entry = compare(a, b, **options).record()
        except MkfaError as error:
            out.notes.append(f"{a.name} and {b.name}: not compared ({error.problem}).")
            continue
        out.comparisons.append({**plain(entry), "from": ""})


def _maps(
    inputs: Inputs, banks: Sequence[FilterBank], wanted: Wanted, limits: Limits, *, out: Analyses, progress: Progress
) -> None:
    for found in inputs.of("atlas"):
        try:
            place = _place(found, banks)
        except (KeyError, ValueError, TypeError, IndexError, MkfaError):
            place = None
        if place is None:
            out.notes.append(
                f"{found.source}: has no map of the banks that were named; write it as .h5, with --figure."
            )
        else:
            out.maps.append(place)
    if not banks:
        return
    for kind in wanted.kinds(banks):
        if not any(place.kind == kind for place in out.maps):
            _compute_map(banks, kind, wanted, limits, out=out, progress=progress)


def _compute_map(
    banks: Sequence[FilterBank], kind: Kind, wanted: Wanted, limits: Limits, *, out: Analyses, progress: Progress
) -> None:
    from mkfa.clusters.atlas import build_atlas
    from mkfa.clusters.pool import count_kinds

    if not wanted.compute:
        out.notes.append(f"{kind}: no map; give the .h5 of 'mkfa atlas BANK... --figure FILE.png --out FILE.h5'.")
        return
    out.mapped = max(out.mapped, count_kinds(banks)[kind])
    options: dict[str, Any] = {"sample": limits.map_filters, "seed": wanted.seed, "with_map": True}
    try:
        atlas = build_atlas(banks, kernel_size=kind, progress=progress, **options)
    except MkfaError as error:
        out.notes.append(f"{kind}: no map, as {error.thing}: {error.problem}.")
        return
    place = _place(Found("atlas", "", atlas.to_dict(), atlas.to_arrays()), banks)
    if place is not None:
        out.maps.append(place)


def _place(found: Found, banks: Sequence[FilterBank]) -> FilterPlaces | None:
    """Return the map of an atlas; points of banks that are not on the page are left out; None without a map."""
    arrays: Mapping[str, AnyArray] = found.arrays
    if "map/filter" not in arrays:
        return None
    sizes = dict(found.record["banks"])
    names = list(sizes)
    kind = Kind.parse(str(found.record["kernel"]))
    # A bank of the same name with another number of usable filters is another bank.
    number = {bank.name: i for i, bank in enumerate(banks) if len(usable_filters(bank, kind)) == sizes.get(bank.name)}
    chosen = arrays["map/filter"].astype(np.int64)
    of_bank = np.array([number.get(name, -1) for name in names])[arrays["filters/bank"][chosen]]
    layer, channel = (arrays[f"filters/{key}"][chosen].astype(np.int64) for key in ("layer", "channel"))
    row = np.full(len(chosen), -1, np.int64)
    for i, bank in enumerate(banks):
        group = bank.of_kind(kind)
        mine = of_bank == i
        if not len(group) or not mine.any():
            continue
        width = int(max(group.channel.max(), channel.max())) + 1
        key = group.layer.astype(np.int64) * width + group.channel
        order = np.argsort(key, kind="stable")
        wanted = layer[mine] * width + channel[mine]
        at = order[np.minimum(np.searchsorted(key[order], wanted), len(key) - 1)]
        row[mine] = np.where(key[at] == wanted, at, -1)
    there = row >= 0
    position = arrays["map/position"].astype(np.float32)
    if not there.any() or position.shape != (len(chosen), 2) or not np.isfinite(position).all():
        return None
    cluster = arrays["filters/cluster"][chosen].astype(np.int32)
    on = tuple(banks[i].name for i in np.unique(of_bank[there]))
    places = of_bank[there].astype(np.int32), row[there], position[there], cluster[there]
    return FilterPlaces(kind, on, *places, found.record, found.source)


def _entries(found: Found, key: str) -> list[Mapping[str, Any]]:
    """Return the entries of a list in a result file."""
    entries = found.record.get(key)
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise MkfaError(found.source, f"is damaged (no list of {key})", "write the result again")
    return entries
