"""Comparisons as records, tables and arrays, for JSON, CSV and HDF5."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from mkfa.similarity.comparison import Comparison, KindComparison, fraction
from mkfa.similarity.score import BY_LAYER
from mkfa.similarity.wording import in_words

DECIMALS = 5
"""Digits of layer matrices in JSON and CSV; the HDF5 file has them all."""


def record(result: Comparison) -> dict[str, Any]:
    """Return everything a comparison found as dicts and lists; arrays stay NumPy arrays."""
    settings = dataclasses.asdict(result.settings)
    return {
        "a": result.a,
        "b": result.b,
        "settings": settings,
        "left_out": [str(x) for x in result.left_out],
        "notes": list(result.notes),
        "kinds": [_kind_record(result, kind) for kind in result.kinds],
    }


def _kind_record(result: Comparison, kind: KindComparison) -> dict[str, Any]:
    return {
        "kind": str(kind.kind),
        "filters_sampled": kind.n,
        "usable": list(kind.usable),
        "per_layer": list(kind.per_layer),
        "same_filters": kind.same,
        "shared_filters": kind.shared,
        "in_words": in_words(result, kind),
        "ceiling": kind.ceiling_null,
        "mmd_bandwidth": kind.bandwidth,
        "all_filters": dict(kind.all_filters),
        "measures": {name: _measure_record(kind, i) for i, name in enumerate(kind.measures)},
        "coverage": {
            "a_in_b": kind.directed[0],
            "b_in_a": kind.directed[1],
            "at": result.settings.threshold,
            "a_in_b_at": kind.directed_at[0],
            "b_in_a_at": kind.directed_at[1],
            "thresholds": kind.thresholds,
            "curves": kind.curve,
            "floor_curve": kind.curve_floor,
            "null_curves": {n.null: n.curve for n in kind.nulls},
        },
        "exchange": {
            "m": kind.exchange.m,
            "arrangements": kind.exchange.arrangements,
            "per_layer": kind.exchange.per_layer,
            "p": dict(kind.exchange.p),
        },
        "stages": {"a": kind.stages_a, "b": kind.stages_b, **_pairs_record(kind, "stage")},
        "layers": {"a": kind.layers_a, "b": kind.layers_b, **_pairs_record(kind, "layer")},
    }


def _measure_record(kind: KindComparison, i: int) -> dict[str, Any]:
    nulls = {
        n.null: {
            "m": n.m,
            "mean": n.mean[i],
            "low": n.low[i],
            "high": n.high[i],
            "fraction": n.fraction[i],
            "p": n.p[i],
            "p_b_replaced": n.p_sides[0, i],
            "p_a_replaced": n.p_sides[1, i],
            "p_farther": n.p_farther[i],
        }
        for n in kind.nulls
    }
    return {
        "value": kind.value[i],
        "low": kind.interval[0, i],
        "high": kind.interval[1, i],
        "floor": kind.floor[i],
        "floor_between_layers": kind.floor_layers[i],
        "ceiling": kind.ceiling[i],
        "fraction": kind.fraction[i],
        "nulls": nulls,
    }


def _pairs_record(kind: KindComparison, scope: str) -> dict[str, Any]:
    value, floor = getattr(kind, f"{scope}_value"), getattr(kind, f"{scope}_floor")
    out: dict[str, Any] = {}
    for i, name in _by_layer(kind):
        nulls = {
            n.null: {key: np.round(getattr(n, f"{scope}_{key}")[i], DECIMALS) for key in _keys(scope)}
            for n in kind.nulls
        }
        out[name] = {"value": np.round(value[i], DECIMALS), "floor": np.round(floor[i], DECIMALS), "nulls": nulls}
    return out


def _by_layer(kind: KindComparison) -> list[tuple[int, str]]:
    return [(i, name) for i, name in enumerate(BY_LAYER) if name in kind.measures]


def _keys(scope: str) -> tuple[str, ...]:
    return ("mean", "p", "p_holm", "p_max") if scope == "layer" else ("p", "p_holm")


COLUMNS = (
    "a",
    "b",
    "kind",
    "scope",
    "part_a",
    "part_b",
    "measure",
    "value",
    "low",
    "high",
    "floor",
    "null",
    "null_mean",
    "fraction",
    "p",
    "p_holm",
    "p_max",
    "m",
    "seed",
    "filters",
)


def csv_text(results: Sequence[Comparison]) -> str:
    """Return one row for each pair of banks, stages or layers, measure and null."""
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    table.writerow(COLUMNS)
    for result in results:
        for kind in result.kinds:
            table.writerows(_bank_rows(result, kind))
            table.writerows(_part_rows(result, kind, "stage"))
            table.writerows(_part_rows(result, kind, "layer"))
    return out.getvalue()


def _bank_rows(result: Comparison, kind: KindComparison) -> Iterator[list[Any]]:
    for i, name in enumerate(kind.measures):
        for n in kind.nulls:
            numbers = (kind.value[i], *kind.interval[:, i], kind.floor[i], n.null, n.mean[i], n.fraction[i], n.p[i])
            yield [
                result.a,
                result.b,
                str(kind.kind),
                "bank",
                "",
                "",
                name,
                *map(_cell, numbers),
                "",
                "",
                n.m,
                result.settings.seed,
                kind.n,
            ]


def _part_rows(result: Comparison, kind: KindComparison, scope: str) -> Iterator[list[Any]]:
    names_a, names_b = getattr(kind, f"{scope}s_a"), getattr(kind, f"{scope}s_b")
    value, floor = getattr(kind, f"{scope}_value"), getattr(kind, f"{scope}_floor")
    for n in kind.nulls:
        p, adjusted = getattr(n, f"{scope}_p"), getattr(n, f"{scope}_p_holm")
        mean = n.layer_mean if scope == "layer" else np.full(value.shape, np.nan)
        top = n.layer_p_max if scope == "layer" else np.full(value.shape, np.nan)
        place = fraction(value, floor, mean)
        for i, name in _by_layer(kind):
            for x, y in np.ndindex(len(names_a), len(names_b)):
                at = (i, x, y)
                numbers = (value[at], "", "", floor[at], n.null, mean[at], place[at], p[at], adjusted[at], top[at])
                yield [
                    result.a,
                    result.b,
                    str(kind.kind),
                    scope,
                    names_a[x],
                    names_b[y],
                    name,
                    *map(_cell, numbers),
                    n.m,
                    result.settings.seed,
                    kind.n,
                ]


def _cell(value: Any) -> Any:
    if isinstance(value, str):
        return value
    return "" if not np.isfinite(value) else round(float(value), DECIMALS)


def arrays_of(results: Sequence[Comparison]) -> dict[str, np.ndarray[Any, Any]]:
    """Return every array of the comparisons by path, "<a> and <b>/<kind>/<name>", those of a null under its name."""
    out: dict[str, np.ndarray[Any, Any]] = {}
    for result in results:
        for kind in result.kinds:
            at = f"{result.a} and {result.b}".replace("/", "-") + f"/{kind.kind}"
            for name, value in _fields(kind):
                out[f"{at}/{name}"] = value
            for null in kind.nulls:
                for name, value in _fields(null):
                    out[f"{at}/{null.null}/{name}"] = value
    return out


def _fields(item: Any) -> Iterator[tuple[str, np.ndarray[Any, Any]]]:
    for f in dataclasses.fields(item):
        value = getattr(item, f.name)
        if isinstance(value, np.ndarray):
            yield f.name, value
        elif isinstance(value, tuple) and value and isinstance(value[0], str):
            yield f.name, np.array(value)


def attributes_of(results: Sequence[Comparison]) -> dict[str, Any]:
    """Return what is needed to read the arrays: settings, sample sizes, exchange tests, what was left out, in words."""
    pairs = []
    for result in results:
        kinds = [
            {
                "kind": str(k.kind),
                "filters_sampled": k.n,
                "usable": list(k.usable),
                "ceiling": k.ceiling_null,
                "nulls": {n.null: n.m for n in k.nulls},
                "exchange": dict(k.exchange.p),
                "same_filters": k.same,
                "shared_filters": k.shared,
                "by_layer": list(BY_LAYER),
                "in_words": in_words(result, k),
            }
            for k in result.kinds
        ]
        pairs.append(
            {
                "a": result.a,
                "b": result.b,
                "kinds": kinds,
                "left_out": [str(x) for x in result.left_out],
                "notes": list(result.notes),
            }
        )
    return {"settings": dataclasses.asdict(results[0].settings), "pairs": pairs}
