"""Groups of networks as the page shows them: a map, the tests between groups, and the distances of pairs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mkfa.array_types import AnyArray
from mkfa.colours import bank_looks
from mkfa.report.comparisons import MOST_CELLS
from mkfa.report.inputs import Found
from mkfa.report.values import mapping, number, numbers, rows, text, texts, whole


def group_facts(found: Found) -> dict[str, Any]:
    """Return what the page shows of a result of `mkfa compare --group`."""
    record = found.record
    names = [text(name, most=200) for name in mapping(record.get("groups"))]
    colours = {name: look.colour for name, look in bank_looks(names).items()}
    return {
        "from": text(found.source),
        "command": text(record.get("command")),
        "groups": [{"name": name, "colour": colours[name]} for name in names],
        "sentences": texts(record.get("answer")),
        "notes": [*texts(record.get("left_out")), *texts(record.get("notes"))],
        "permutations": whole(record.get("permutations")),
        "seed": whole(record.get("seed")),
        "kinds": [_kind(kind, found.arrays) for kind in rows(record.get("kinds"))],
    }


def _kind(kind: Mapping[str, Any], arrays: Mapping[str, AnyArray]) -> dict[str, Any]:
    kernel = text(kind.get("kernel"))
    members = [
        {
            **{key: text(one.get(key), most=200) for key in ("name", "group", "family")},
            "counted": one.get("counted") is True,
        }
        for one in rows(kind.get("members"))
    ]
    measures = [_measure(one, len(members), arrays, kernel) for one in rows(kind.get("measures"))]
    return {
        "kernel": kernel,
        "filters": whole(kind.get("filters_of_each")),
        "members": members,
        "measures": [one for one in measures if one is not None],
    }


def _measure(one: Mapping[str, Any], count: int, arrays: Mapping[str, AnyArray], kernel: str) -> dict[str, Any] | None:
    """Return one measure; None where its map does not have a place for each network."""
    name = text(one.get("measure"))
    places = [numbers(place) for place in one["map"]] if isinstance(one.get("map"), list) else []
    if len(places) != count or any(len(place) != 2 or None in place for place in places):
        return None
    squared = arrays.get(f"{kernel}/{name}/squared")
    distance = None
    if squared is not None and squared.shape == (count, count) and count * count <= MOST_CELLS:
        distance = [numbers(row, 4) for row in np.sqrt(np.clip(squared, 0, None)).tolist()]
    return {
        "measure": name,
        "between": _test(one.get("between")),
        "p_holm": number(one.get("p_holm")),
        "dispersion": _test(one.get("dispersion")),
        "group_share": number(one.get("group_share")),
        "pairs": [
            {
                **{key: text(pair.get(key), most=200) for key in ("a", "b")},
                **_test(pair.get("test")),
                "p_holm": number(pair.get("p_holm")),
            }
            for pair in rows(one.get("pairs"))
        ],
        "map": places,
        "map_share": numbers(one.get("map_share")),
        "distance": distance,
    }


def _test(one: Any) -> dict[str, Any]:
    return {key: number(mapping(one).get(key)) for key in ("statistic", "share", "p", "least")}
