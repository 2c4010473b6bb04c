"""Curves, tables, matrices and lists of runs as the page shows them, with the paper's values apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mkfa.colours import arm_looks
from mkfa.errors import MkfaError
from mkfa.evidence.paper import citation, paper_curves, paper_matrix, paper_rows
from mkfa.report.inputs import Found
from mkfa.report.values import mapping, number, numbers, pairs, rows, text, texts, whole
from mkfa.results.archive import command_without_places
from mkfa.results.trends import Trend, tell_trend
from mkfa.words import counted, listed

_CELL = ("mean", "std", "relative", "half_width")
_SETTINGS = ("source", "target", "arch", "what", "seeds", "network_layers", "source_arch", "arm")


def sweep_facts(found: Found, *, most_runs: int) -> dict[str, Any]:
    """Return what the page shows of a curve, a table, a matrix or a list of runs."""
    record = found.record
    parameters = mapping(record.get("parameters"))
    command = text(record.get("command")) or text(parameters.get("command"))
    recipe = parameters.get("recipe")
    facts = {
        "kind": found.kind,
        "from": text(found.source),
        "command": command_without_places(command),
        "settings": {key: text(parameters[key]) for key in _SETTINGS if parameters.get(key) not in (None, "")},
        "recipe": text(recipe.get("name")) if isinstance(recipe, Mapping) else text(recipe),
        "chance": number(record.get("chance")),
        "sentences": _sentences(record),
    }
    make = {"curve": _curve, "table": _table, "matrix": _matrix, "sweep": _sweep, "run_list": _runs}[found.kind]
    return facts | make(record, parameters, most_runs)


def _curve(record: Mapping[str, Any], parameters: Mapping[str, Any], _: int) -> dict[str, Any]:
    series: dict[tuple[str, str], list[dict[str, Any]]] = {}
    cells = [_cell(cell) for cell in rows(record.get("cells"))]
    for cell in cells:
        series.setdefault((cell["arm"], cell["source"]), []).append(cell)
    several = len({source for arm, source in series if arm == "transfer"}) > 1
    labels = [f"{arm}, {source}" if several and source else arm for arm, source in series]
    looks = arm_looks(labels)
    named: list[dict[str, Any]] = [
        {
            "label": label,
            "arm": arm,
            "colour": looks[label].colour,
            "dash": list(looks[label].dash),
            "points": sorted(points, key=lambda c: int(c["layers"])),
        }
        for label, ((arm, _source), points) in zip(labels, series.items(), strict=True)
    ]
    base = record.get("base")
    return {
        "base": _cell(base) if isinstance(base, Mapping) else None,
        "series": named,
        "paper": _paper(lambda: _paper_curve(text(parameters.get("what")) or "depthwise")),
    }


def _table(record: Mapping[str, Any], parameters: Mapping[str, Any], _: int) -> dict[str, Any]:
    base = record.get("base")
    listed = [row for row in rows(record.get("rows")) if isinstance(row.get("cell"), Mapping)]
    looks = arm_looks([text(row.get("label")) for row in listed])
    made: list[dict[str, Any]] = [
        {
            "label": text(row.get("label")),
            "colour": looks[text(row.get("label"))].colour,
            "p": number(row.get("p")),
            "cell": _cell(row["cell"]),
        }
        for row in listed
    ]
    several = len({row["cell"]["source"] for row in made if row["cell"]["source"]}) > 1
    what = text(parameters.get("what")) or "depthwise"
    return {
        "base": _cell(base) if isinstance(base, Mapping) else None,
        "rows": made,
        "paper": _paper(lambda: _paper_table(several, what)),
    }


def _matrix(record: Mapping[str, Any], parameters: Mapping[str, Any], _: int) -> dict[str, Any]:
    return {
        "sources": texts(record.get("sources") or record.get("domains")),
        "targets": texts(record.get("domains")),
        "bases": {target: _cell(cell) for target, cell in pairs(record.get("bases"))},
        "cells": [_cell(cell) for cell in rows(record.get("cells"))],
        "controls": [_cell(cell) for cell in rows(record.get("controls"))],
        "paper": _paper(lambda: _paper_matrix(text(parameters.get("what")) or "depthwise")),
    }


def _sweep(record: Mapping[str, Any], _: Mapping[str, Any], __: int) -> dict[str, Any]:
    points: list[dict[str, Any]] = []
    for one in rows(record.get("points")):
        curve = mapping(one.get("curve"))
        base = curve.get("base")
        points.append(
            {
                **{key: number(one.get(key)) for key in ("width", "kernel", "ratio", "steps")},
                "base": _cell(base) if isinstance(base, Mapping) else None,
                "cells": [_cell(cell) for cell in rows(curve.get("cells"))],
            }
        )
    looks = arm_looks([cell["arm"] for point in points for cell in point["cells"]])
    arms = [{"label": arm, "colour": look.colour, "dash": list(look.dash)} for arm, look in looks.items()]
    return {"points": points, "arms": arms}


def _runs(record: Mapping[str, Any], _: Mapping[str, Any], most_runs: int) -> dict[str, Any]:
    found = list(rows(record.get("runs")))
    columns = ("hash", "state", "domain", "arch", "arm", "layers", "recipe", "seed", "source")
    made: list[dict[str, Any]] = [
        {**{key: text(run.get(key), most=200) for key in columns}, "top1": number(run.get("top1"))}
        for run in found[:most_runs]
    ]
    return {"runs": made, "there": len(found)}


def _cell(cell: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **{key: text(cell.get(key), most=200) for key in ("source", "target", "arm")},
        "layers": whole(cell.get("layers")),
        "seeds": len(numbers(cell.get("top1"))),
        "top1": numbers(cell.get("top1")),
        **{key: number(cell.get(key)) for key in _CELL},
        "diverged": whole(cell.get("diverged")),
        "missing": whole(cell.get("missing")),
    }


def _sentences(record: Mapping[str, Any]) -> list[str]:
    """Return what the record says in sentences: its answer where it has one, its sensitivity, its overall effect."""
    said = []
    for key in ("answer", "answers", "sentences", "in_words"):
        value = record.get(key)
        value = value.get("sentence") if isinstance(value, Mapping) else value
        said += [text(value)] if isinstance(value, str) else texts(value)
    sensitivity = record.get("sensitivity")
    if isinstance(sensitivity, Mapping) and "worst_arm" in sensitivity:
        said.append(_sensitivity("", sensitivity))
    else:
        said += [_sensitivity(f" on {target}", one) for target, one in pairs(sensitivity)]
    for one in rows(record.get("overall")):
        difference, half = number(one.get("difference")), number(one.get("half_width"))
        if difference is not None:
            interval = (
                "" if half is None else f", 95 % {100 * (difference - half):+.1f} to {100 * (difference + half):+.1f}"
            )
            said.append(
                f"{text(one.get('arm'))} off the diagonal less {text(one.get('against'))} of the same target: "
                f"{100 * difference:+.1f} points{interval} ({counted(whole(one.get('cells')), 'cell')}, "
                f"{counted(whole(one.get('targets')), 'target')})."
            )
    said += [_trend(one) for one in rows(record.get("trends"))]
    return [one for one in said if one]


def _trend(one: Mapping[str, Any]) -> str:
    """Return what a trend says in a sentence; "" for one that is not as this version writes it."""
    from math import nan

    def known(value: Any) -> Any:
        return tuple(map(known, value)) if isinstance(value, list) else nan if value is None else value

    try:
        made = Trend(**{key: known(value) for key, value in one.items()})
        return text(tell_trend(made))
    except (TypeError, ValueError, AttributeError, OverflowError):
        return ""


def _sensitivity(where: str, one: Mapping[str, Any]) -> str:
    drop, distance, detectable = (number(one.get(key)) for key in ("drop", "distance", "detectable"))
    if drop is None:
        return ""
    given = one.get("tied")
    tied = [pair for pair in given if isinstance(pair, list) and len(pair) == 2] if isinstance(given, list) else []
    worst = [(one.get("worst_arm"), one.get("worst_layers")), *tied]
    arms = listed(f"{text(arm)} at {counted(whole(layers), 'layer')}" for arm, layers in worst)
    said = f"Sensitivity{where}: the worst arm{'s' * bool(tied)}, {arms}, "
    said += f"lie{'s' * (not tied)} {100 * drop:.1f} points {'below' if drop >= 0 else 'from'} the base"
    said += "" if distance is None else f", {distance:.1f} standard deviations over seeds"
    said += "." if detectable is None else f"; the smallest difference it can show is {100 * detectable:.1f} points."
    return said


def _paper(make: Any) -> dict[str, Any] | None:
    """Return the paper's values, or None where it has none for such layers."""
    try:
        made: dict[str, Any] = make()
    except MkfaError:
        return None
    return {"citation": citation(), **made}


def _paper_curve(what: str) -> dict[str, Any]:
    keys = ("figure", "model", "data", "layers", "worst", "observation")
    return {"curves": [{key: getattr(one, key) for key in keys} for one in paper_curves(what)]}


def _paper_table(several: bool, what: str) -> dict[str, Any]:
    one = paper_rows(sources=several, what=what)
    rows_ = [{"label": label, "top1": top1} for label, top1 in one.rows]
    return {"table": one.table, "model": one.model, "setting": one.setting, "base": one.base, "rows": rows_}


def _paper_matrix(what: str) -> dict[str, Any]:
    one = paper_matrix(what)
    return {
        "table": one.table,
        "model": one.model,
        "recipe": one.recipe,
        "sources": list(one.sources),
        "targets": list(one.targets),
        "bases": dict(one.bases),
        "top1": [[one.top1(source, target) for target in one.targets] for source in one.sources],
    }
