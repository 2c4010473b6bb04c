"""Comparisons as the page shows them: measures beside chance, and heat maps over pairs of layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mkfa.report.values import mapping, number, pairs, rows, table, text, texts, whole
from mkfa.similarity.measures.table import MEASURES

MOST_CELLS = 20_000
"""Pairs of layers of one heat map; larger ones are left out."""


def comparison_facts(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the page shows of an entry of "comparisons" in the JSON of a comparison."""
    settings = mapping(entry.get("settings"))
    return {
        "a": text(entry.get("a")),
        "b": text(entry.get("b")),
        "from": text(entry.get("from")),
        "draws": whole(settings.get("permutations")),
        "seed": whole(settings.get("seed")),
        "notes": [*texts(entry.get("left_out")), *texts(entry.get("notes"))],
        "kinds": [_kind(kind) for kind in rows(entry.get("kinds"))],
    }


def _kind(kind: Mapping[str, Any]) -> dict[str, Any]:
    primary = mapping(kind.get("primary"))
    return {
        "kind": text(kind.get("kind")),
        "filters": whole(kind.get("filters_sampled")),
        "words": texts(kind.get("in_words")),
        "primary": [text(primary.get("measure")), text(primary.get("null"))],
        "measures": [_measure(name, one) for name, one in pairs(kind.get("measures"))],
        "layers": _layers(kind.get("layers")),
    }


def _measure(name: str, one: Mapping[str, Any]) -> dict[str, Any]:
    keys = ("value", "low", "high", "floor", "ceiling", "fraction", "fraction_strictest")
    nulls = [
        {"name": null, **{key: number(of.get(key)) for key in ("mean", "low", "high", "p")}}
        for null, of in pairs(one.get("nulls"))
    ]
    alike = name not in MEASURES or MEASURES.find(name).alike_is_more
    return {"name": name, "alike_is_more": alike, **{key: number(one.get(key)) for key in keys}, "nulls": nulls}


def _layers(layers: Any) -> dict[str, Any] | None:
    """Return the names of the layers, and by measure the values and p-values of their pairs; None without any."""
    if not isinstance(layers, Mapping):
        return None
    names = [texts(layers.get(side)) for side in ("a", "b")]
    shape = len(names[0]), len(names[1])
    measures = []
    for name, one in pairs(layers):
        value = table(one.get("value"), shape)
        if value is None or shape[0] * shape[1] > MOST_CELLS:
            continue
        nulls = []
        for null, of in pairs(one.get("nulls")):
            found = {key: table(of.get(key), shape) for key in ("mean", "p", "p_holm", "p_max")}
            nulls.append({"name": null, **{key: value for key, value in found.items() if value is not None}})
        alike = name not in MEASURES or MEASURES.find(name).alike_is_more
        measures.append({"name": name, "alike_is_more": alike, "value": value, "nulls": nulls})
    return {"a": names[0], "b": names[1], "measures": measures} if measures else None
