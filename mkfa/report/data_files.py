"""The data of a page as files beside it: facts in JSON, tables in CSV, filters and maps in HDF5."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mkfa.array_types import AnyArray
from mkfa.errors import MkfaError
from mkfa.report.analyses import Analyses
from mkfa.report.inputs import Inputs
from mkfa.storage.atomic import atomic_write, check_target
from mkfa.storage.records import to_csv, to_json
from mkfa.storage.result_files import write_arrays

FACTS, FILTERS = "report.json", "filters.h5"
TABLES = ("classes", "layers", "measures", "layer_pairs", "networks", "keys", "grafts", "points", "verdicts")
"""Tables, each in a file of its name; those without rows are not written."""
Row = dict[str, Any]


def check_data(folder: Path, *, overwrite: bool) -> None:
    """Refuse a folder that cannot be made or written to, or has such files; raises as `atomic_write`."""
    if folder.exists() and not folder.is_dir():
        raise MkfaError(folder, "is a file, where the data of the report go", "choose another --out or pass --no-data")
    if folder.is_dir():
        for name in (FACTS, FILTERS, *(f"{table}.csv" for table in TABLES)):
            check_target(folder / name, overwrite=overwrite)


def write_data(
    folder: Path, facts: Mapping[str, Any], *, inputs: Inputs, analyses: Analyses, overwrite: bool
) -> tuple[Path, ...]:
    """Write the data of a page into a folder; return the files. Tables of an earlier report that are empty now go."""
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        problem = f"cannot be made ({error.strerror})"
        raise MkfaError(folder, problem, "choose another --out or pass --no-data") from error
    written = [folder / FACTS]
    atomic_write(folder / FACTS, (to_json(dict(facts)) + "\n").encode(), overwrite=overwrite)
    if arrays := _arrays(inputs, analyses, facts):
        attributes = {"banks": [bank["name"] for bank in facts["banks"]], "command": facts["command"]}
        written.append(
            write_arrays(
                folder / FILTERS, kind="report_data", arrays=arrays, attributes=attributes, overwrite=overwrite
            )
        )
    tables = {
        "classes": _classes(facts),
        "layers": _layers(facts),
        "measures": _measures(facts),
        "layer_pairs": _layer_pairs(facts),
        "networks": _networks(facts),
        "keys": _keys(facts),
        "grafts": _grafts(facts),
        "points": _points(facts),
        "verdicts": _verdicts(facts),
    }
    for name, rows in tables.items():
        path, made = folder / f"{name}.csv", list(rows)
        if made:
            atomic_write(path, to_csv(made, "report_data").encode(), overwrite=overwrite)
            written.append(path)
        elif path.is_file() and overwrite:
            path.unlink()
    return tuple(written)


def _arrays(inputs: Inputs, analyses: Analyses, facts: Mapping[str, Any]) -> dict[str, AnyArray]:
    """Return all filters of the banks with class, R² and p, and the maps, by path."""
    out: dict[str, AnyArray] = {}
    for number, one in enumerate(inputs.banks):
        assignment = analyses.assignments[number]
        for kind in one.bank.kinds:
            at = f"{number}/{kind}"
            group = one.bank.of_kind(kind)
            out |= {f"{at}/{key}": getattr(group, key) for key in ("weight", "layer", "channel")}
            part = next((k for k in assignment.kinds if k.kind == kind), None) if assignment else None
            if part is not None:
                none = np.float32(np.nan)
                out[f"{at}/class"] = np.where(part.usable, part.fit.label, -1).astype(np.int16)
                out[f"{at}/r2"] = np.where(part.usable, part.fit.r2, none)
                out[f"{at}/p"] = np.where(part.usable, part.p, none)
        if assignment is not None:
            out[f"{number}/class_titles"] = np.array(assignment.titles)
    for number, place in enumerate(analyses.maps):
        keys = ("bank", "row", "position", "cluster")
        out |= {f"map/{number}/{place.kind}/{key}": getattr(place, key) for key in keys}
    return out


def _classes(facts: Mapping[str, Any]) -> Iterator[Row]:
    for one in facts["assignments"]:
        for row in one["classes"]:
            yield {"bank": one["bank"], "basis": one["basis"], "null": one["null"], **row}


def _layers(facts: Mapping[str, Any]) -> Iterator[Row]:
    fits = {(one["bank"], row["layer"]): row for one in facts["assignments"] for row in one["layers"]}
    for bank in facts["banks"]:
        for number, layer in enumerate(bank["layers"], 1):
            keys = ("name", "kind", "filters", "depth", "stage")
            row: Row = {"bank": bank["name"], "layer": number, **{key: layer[key] for key in keys}}
            fit = fits.get((bank["name"], number), {})
            yield row | {key: fit.get(key) for key in ("median_r2", "beyond")}


def _measures(facts: Mapping[str, Any]) -> Iterator[Row]:
    for one, kind in _kinds(facts):
        for measure in kind["measures"]:
            known = {key: value for key, value in measure.items() if key not in ("name", "nulls", "alike_is_more")}
            names = {"a": one["a"], "b": one["b"], "kind": kind["kind"], "measure": measure["name"]}
            for null in measure["nulls"] or [{}]:
                chance = {f"null_{key}": null.get(key) for key in ("mean", "low", "high")}
                yield {**names, **known, "null": null.get("name"), **chance, "p": null.get("p")}


def _layer_pairs(facts: Mapping[str, Any]) -> Iterator[Row]:
    for one, kind in _kinds(facts):
        layers = kind["layers"] or {"a": [], "b": [], "measures": []}
        for measure in layers["measures"]:
            for i, a in enumerate(layers["a"]):
                for j, b in enumerate(layers["b"]):
                    row: Row = {"a": one["a"], "b": one["b"], "kind": kind["kind"], "layer_a": a, "layer_b": b}
                    row |= {"measure": measure["name"], "value": measure["value"][i][j]}
                    for null in measure["nulls"]:
                        row |= {
                            f"{null['name']}_{key}": null[key][i][j] for key in ("p", "p_holm", "p_max") if key in null
                        }
                    yield row


def _kinds(facts: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    for one in facts["comparisons"]:
        for kind in one["kinds"]:
            yield one, kind


def _networks(facts: Mapping[str, Any]) -> Iterator[Row]:
    for one in facts["groups_compared"]:
        for kind in one["kinds"]:
            for measure in kind["measures"]:
                for member, (x, y) in zip(kind["members"], measure["map"], strict=True):
                    known = {"from": one["from"], "kind": kind["kernel"], "measure": measure["measure"]}
                    yield known | member | {"x": x, "y": y}


def _keys(facts: Mapping[str, Any]) -> Iterator[Row]:
    for one in facts["keys"]:
        for number, key in enumerate(one["each"], 1):
            known = {"from": one["from"], "banks": ", ".join(one["banks"]), "kind": one["kind"], "key": number}
            yield known | {name: value for name, value in key.items() if name != "weights"}


def _grafts(facts: Mapping[str, Any]) -> Iterator[Row]:
    for one in facts["grafts"]:
        yield from ({"from": one["from"], "network": one["network"], **point} for point in one["points"])


def _points(facts: Mapping[str, Any]) -> Iterator[Row]:
    for one in facts["sweeps"]:
        cells = [cell for series in one.get("series", []) for cell in series["points"]]
        cells += [row["cell"] for row in one.get("rows", [])]
        cells += [*one.get("cells", []), *one.get("controls", []), *one.get("bases", {}).values()]
        cells += [one["base"]] if one.get("base") else []
        settings: list[tuple[Row, Row]] = [({}, cell) for cell in cells]
        for point in one.get("points", []):
            known = {key: point[key] for key in ("width", "kernel", "ratio", "steps")}
            settings += [(known, cell) for cell in (point["base"], *point["cells"]) if cell is not None]
        for known, cell in settings:
            yield {"from": one["from"], "kind": one["kind"], **known} | {k: v for k, v in cell.items() if k != "top1"}


def _verdicts(facts: Mapping[str, Any]) -> Iterator[Row]:
    for one in facts["verdicts"]:
        for claim in one["verdicts"]:
            judged = [("ours", claim["verdict"]), *(("ours", other) for other in claim["others"])]
            for whose, verdict in (*judged, ("as printed", claim["printed"])):
                if verdict is None:
                    continue
                row: Row = {"from": one["from"], "claim": claim["id"], "whose": whose, "sentence": claim["sentence"]}
                keys = ("state", "scale", "seeds", "sample", "sensitivity", "smallest_visible_difference", "reason")
                row |= {key: verdict[key] for key in keys}
                effect = verdict["effect"] or {}
                yield row | {key: effect.get(key) for key in ("difference", "low", "high", "p")}
