"""Everything on the page as plain values, and the bytes beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mkfa.array_types import I64
from mkfa.banks.bank import FilterBank, Kind
from mkfa.colours import CATEGORIES, class_look, null_look
from mkfa.nulls.draws import NULLS
from mkfa.patterns.summary import CURVE, summarise
from mkfa.report.analyses import Analyses, FilterPlaces
from mkfa.report.comparisons import comparison_facts
from mkfa.report.filters import Blobs, Shown, choose_filters, levels_for, pack_group, planes
from mkfa.report.grafts import graft_facts
from mkfa.report.groups import group_facts
from mkfa.report.inputs import Inputs, NamedBank
from mkfa.report.keys import key_facts
from mkfa.report.limits import Limits
from mkfa.report.sweeps import sweep_facts
from mkfa.report.values import mapping, number, numbers, pick, rows, text, texts, whole
from mkfa.report.verdicts import verdict_facts
from mkfa.storage.records import plain

SWEEPS = ("curve", "table", "matrix", "sweep", "run_list")
_PROVENANCE = (
    *("architecture", "source", "training_set", "task", "licence", "rule", "weights"),
    *("source_sha256", "hub_commit", "mkfa_version", "created"),
)


def page_facts(inputs: Inputs, analyses: Analyses, limits: Limits) -> tuple[dict[str, Any], Blobs]:
    """Return the page's facts and bytes."""
    banks = [one.bank for one in inputs.banks]
    blobs: Blobs = {}
    shown = choose_filters(banks, limits.most_filters, wanted=_on_maps(analyses.maps))
    levels = levels_for(sum(len(one.row) for one in shown))
    groups = [
        pack_group(one, banks[one.bank], analyses.assignments[one.bank], levels=levels, blobs=blobs) for one in shown
    ]
    there = {
        "most_filters": sum(map(len, banks)),
        "map_filters": analyses.mapped,
        "most_pairs": analyses.pairs,
        "most_runs": max((len(list(rows(f.record.get("runs")))) for f in inputs.of("run_list")), default=0),
    }
    verdicts = [verdict_facts(found) for found in inputs.of("claims")]
    assignments = [_summary_facts(plain(summarise(one)), "") for one in analyses.assignments if one is not None]
    assignments += [
        _summary_facts(entry, found.source) for found in inputs.of("assignment") for entry in _others(found, banks)
    ]
    facts = {
        "levels": levels,
        "banks": [_bank(one) for one in inputs.banks],
        "groups": groups,
        "assignments": assignments,
        "maps": [_map(one, number, shown, blobs) for number, one in enumerate(analyses.maps)],
        "comparisons": [comparison_facts(entry) for entry in analyses.comparisons],
        "groups_compared": [group_facts(found) for found in inputs.of("group_comparison")],
        "keys": [key_facts(found) for found in inputs.of("keys")],
        "grafts": [graft_facts(found) for found in inputs.of("graft")],
        "sweeps": [sweep_facts(found, most_runs=limits.most_runs) for found in inputs.of(*SWEEPS)],
        "verdicts": [one for one in verdicts if one["verdicts"]],
        "limits": limits.rows(there),
        "left_out": [*inputs.notes, *analyses.notes],
        "colours": {
            "banks": list(CATEGORIES),
            "nulls": {name: [null_look(name).colour, list(null_look(name).dash)] for name in ("", *NULLS)},
        },
    }
    return facts, blobs


def _on_maps(maps: Sequence[FilterPlaces]) -> dict[tuple[int, Kind], I64]:
    """Return the rows of each bank and kind that a map shows."""
    out: dict[tuple[int, Kind], I64] = {}
    for one in maps:
        for bank in np.unique(one.bank).tolist():
            rows_ = one.row[one.bank == bank]
            there = out.get((bank, one.kind))
            out[bank, one.kind] = rows_ if there is None else np.union1d(there, rows_)
    return out


def _bank(one: NamedBank) -> dict[str, Any]:
    bank, known = one.bank, one.bank.provenance
    provenance = {key: text(getattr(known, key)) for key in _PROVENANCE}
    return {
        "name": text(bank.name, most=200),
        "filters": len(bank),
        "layers": [
            {
                "name": text(layer.name, most=300),
                "kind": str(layer.kind),
                "filters": layer.channels,
                "depth": number(layer.depth),
                "stage": layer.stage,
                "stride": list(layer.stride),
                "dilation": list(layer.dilation),
            }
            for layer in bank.layers
        ],
        "provenance": {key: value for key, value in provenance.items() if value},
        "notes": texts(known.notes),
        "skipped": {text(key): whole(value) for key, value in known.skipped.items()},
        "doubtful": {text(key): text(value) for key, value in known.doubtful.items()},
        "stood_in": {text(key): whole(value) for key, value in known.stood_in.items()},
        "analyses": [text(name) for name in one.analyses],
    }


def _others(found: Any, banks: Sequence[FilterBank]) -> list[Mapping[str, Any]]:
    """Return the assignments of a result file whose banks are not among those that were named."""
    names = {bank.name for bank in banks}
    return [entry for entry in rows(found.record.get("assignments")) if entry.get("bank") not in names]


def _summary_facts(summary: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Return what the page shows of a summary of an assignment: shares, coverage and its curves, layers."""
    coverage = "median_r2 null_median_r2 fixed null_fixed threshold beyond beyond_low beyond_high"
    return {
        "bank": text(summary.get("bank"), most=200),
        "from": text(source),
        **pick(summary, text, "basis null"),
        **pick(summary, whole, "draws seed filters"),
        "r2": number(summary.get("r2")),
        "unscored": {text(key): whole(value) for key, value in mapping(summary.get("unscored")).items()},
        "classes": [
            {
                **pick(one, text, "name title"),
                "colour": class_look(text(one.get("name"))).colour,
                "filters": whole(one.get("filters")),
                **pick(one, number, "share low high median_r2 on null_share"),
            }
            for one in rows(summary.get("classes"))
        ],
        "coverage": [
            {
                "null": text(one.get("null")),
                **pick(one, number, coverage),
                **pick(one, numbers, "curve null_curve", digits=3),
            }
            for one in rows(summary.get("whole"))
        ],
        "layers": [
            {
                "layer": whole(one.get("layer")),
                "kind": text(one.get("kind")),
                "filters": whole(one.get("filters")),
                **pick(one, number, "median_r2 beyond", digits=3),
                "shares": numbers(one.get("shares"), 3),
            }
            for one in rows(summary.get("layers"))
        ],
        "skipped": [f"{text(key)}: {text(value)}" for key, value in mapping(summary.get("skipped")).items()],
        "at": [number(x) for x in CURVE.tolist()],
    }


def _map(one: FilterPlaces, number_: int, shown: Sequence[Shown], blobs: Blobs) -> dict[str, Any]:
    """Add a map's places to the bytes: positions, rows on the page less those before, and clusters, by group."""
    name = f"map-{number_}"
    low, high = one.position.min(axis=0), one.position.max(axis=0)
    size = float(max((high - low).max(), 1e-9))
    place = np.clip(np.round(((one.position - (low + high) / 2) / size + 0.5) * 65535), 0, 65535).astype(np.uint16)
    order: list[I64] = []
    steps: list[I64] = []
    groups = []
    for at, part in enumerate(shown):
        mine = np.flatnonzero(one.bank == part.bank) if part.kind == one.kind else np.zeros(0, np.int64)
        row = np.searchsorted(part.row, one.row[mine])
        by_row = np.argsort(row, kind="stable")
        if len(mine):
            groups.append([at, len(mine)])
            order.append(mine[by_row])
            steps.append(np.diff(row[by_row], prepend=0))
    chosen = np.concatenate(order)
    blobs |= {
        f"{name}-place": planes(place[chosen].T.ravel()),
        f"{name}-row": planes(np.concatenate(steps).astype(np.uint32)),
        f"{name}-cluster": planes(one.cluster[chosen].astype(np.int16)),
    }
    facts = one.facts
    return {
        "blob": name,
        "kind": str(one.kind),
        "points": len(chosen),
        "groups": groups,
        "banks": list(one.banks),
        "from": text(one.source),
        **pick(facts, whole, "clusters filters seed"),
        "p": number(facts.get("p")),
        **pick(facts, text, "verdict reason"),
        "prototypes": [
            {
                "size": whole(one.get("size")),
                **pick(one, number, "share recurrence"),
                "class": text(one.get("class")),
                "of_bank": {text(name): number(share) for name, share in mapping(one.get("share_of_bank")).items()},
            }
            for one in rows(facts.get("prototypes"))
        ],
    }


def sections(facts: Mapping[str, Any]) -> list[str]:
    """Return the titles of the parts that the page has.

    Examples
    --------
    >>> sections({"banks": [1], "maps": [], "verdicts": []})
    ['filters']
    """
    named = {
        "filters": "banks",
        "map": "maps",
        "comparisons": "comparisons",
        "groups of networks": "groups_compared",
        "patterns": "assignments",
        "keys": "keys",
        "grafts": "grafts",
        "experiments": "sweeps",
        "verdicts": "verdicts",
    }
    return [title for title, key in named.items() if facts.get(key)]
