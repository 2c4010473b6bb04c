"""Grafts as the page shows them: answers kept over the number of filters, over layers and over similarity."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from mkfa.colours import Look, vocabulary_looks
from mkfa.report.inputs import Found
from mkfa.report.values import mapping, number, rows, text, texts, whole

CURVES = ("size", "first", "alone", "similarity")
"""Over the number of filters; over layers 1 to n; over single layers; over the |cos| that a replacement needs."""


def graft_facts(found: Found) -> dict[str, Any]:
    """Return what the page shows of a result of `mkfa graft`."""
    record = found.record
    vocabularies = list(rows(record.get("vocabularies")))
    asked = [text(one.get("name")) for one in vocabularies if one.get("role") == "asked"]
    looks = vocabulary_looks(asked, [text(one.get("name")) for one in vocabularies])
    hollow = _hollow([text(one.get("name")) for one in vocabularies], looks)
    points = [_point(one) for one in rows(record.get("points"))]
    return {
        "from": text(found.source),
        "command": text(record.get("command")),
        "network": text(record.get("network"), most=200),
        "images": text(record.get("images"), most=200),
        "asked": whole(record.get("asked")),
        "calibrated": whole(record.get("calibrated")),
        "draws": whole(record.get("draws")),
        "seed": whole(record.get("seed")),
        "layers": len(list(rows(record.get("layers")))),
        "keep": number(record.get("keep")),
        "sentences": [said for key in ("answer", "caveat") if (said := text(record.get(key)))],
        "notes": texts(record.get("notes")),
        "vocabularies": [
            {
                "name": name,
                "title": text(one.get("title")) or name,
                "asked": one.get("role") == "asked",
                "filters": {text(kind): whole(count) for kind, count in mapping(one.get("filters")).items()},
                "colour": looks[name].colour,
                "dash": list(looks[name].dash),
                "hollow": name in hollow,
            }
            for one in vocabularies
            if (name := text(one.get("name")))
        ],
        "points": [one for one in points if one["curve"] in (*CURVES, "unchanged")],
    }


def _hollow(names: list[str], looks: Mapping[str, Look]) -> set[str]:
    """Return the names whose look an earlier one has, as the nulls of two banks have: their marks are hollow."""
    return {name for i, name in enumerate(names) if looks[name] in [looks[other] for other in names[:i]]}


def _point(one: Mapping[str, Any]) -> dict[str, Any]:
    """Return a point with its place on the axis of its curve: filters, last layer or |cos|."""
    layers = re.findall(r"\d+", text(one.get("layers"))[-20:])
    last = int(layers[-1]) if layers else None
    places = {"size": number(one.get("size")), "similarity": number(one.get("threshold"))}
    keys = ("agreement", "agreement_low", "agreement_high", "kl", "correlation", "accuracy", "cosine", "replaced")
    return {
        **{key: text(one.get(key)) for key in ("curve", "vocabulary", "batch_norm", "layers")},
        "at": places.get(text(one.get("curve")), last),
        **{key: whole(one.get(key)) for key in ("size", "draws", "images")},
        **{key: number(one.get(key)) for key in keys},
    }
