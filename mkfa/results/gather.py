"""Gather an experiment's runs from their folders, and rebuild its result from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mkfa.errors import MkfaError, WorkError
from mkfa.results.archive import PackedExperiment
from mkfa.results.curve import Curve, make_curve
from mkfa.results.matrix import Matrix, make_matrix
from mkfa.results.record import RunRecord
from mkfa.results.runs import record_of, source_name
from mkfa.results.sweep import Sweep, make_sweep
from mkfa.results.table import Scenarios, as_scenarios
from mkfa.training.folder import SPEC, RunFolder, read_json, read_spec
from mkfa.training.folder import read_result as read_run_result
from mkfa.training.planned import PlannedRun
from mkfa.training.result import RunResult
from mkfa.training.spec import BASE
from mkfa.words import counted

RESULTS = ("curve.json", "table.json", "matrix.json", "sweep.json")
"""Result files that sweeps write next to their runs."""
_KNOWN = f"a {', '.join(RESULTS[:-1])} or {RESULTS[-1]}"
_CURVE = ("source", "target", "arch", "what", "seeds", "layers")
_NEEDED = {
    "curve": _CURVE,
    "table": _CURVE,
    "matrix": ("domains", "arch", "what", "layers", "seeds"),
    "sweep": (*_CURVE, "settings"),
}
_FIELDS = {"hash": str, "source": str, "target": str, "arm": str, "layers": int, "seed": int}


def gather_experiment(path: Path, root: Path, *, name: str, command: str = "") -> PackedExperiment:
    """Gather exactly the runs that a sweep's result lists (`RESULTS`).

    Parameters
    ----------
    root : folder of the run folders.
    command : the command line that produced it; "" for the one recorded in the file.

    Raises MkfaError: the file is not a sweep's result, lists no runs, or none of its runs is finished below `root`.
    Raises WorkError: a run folder is damaged.
    """
    record = read_result(path)
    parameters = dict(record["parameters"])
    listed, made = parameters.pop("runs"), str(parameters.pop("command", ""))
    runs = tuple(_from_folder(root, run) for run in listed)
    if not any(run.result for run in runs):
        problem = f"has {counted(len(runs), 'run')}, none of them finished in {root}"
        raise MkfaError(path, problem, "name the --out of the command that trained")
    return PackedExperiment(name, _kind(record), command or made, parameters, runs)


def read_result(path: Path) -> dict[str, Any]:
    """Read a sweep's result and check that it lists its runs. Raises MkfaError for any other file."""
    try:
        record = read_json(path)
    except WorkError as error:
        raise MkfaError(path, error.problem, f"name {_KNOWN} of a results folder") from None
    if record is None:
        raise MkfaError(path, "does not exist", f"name {_KNOWN} of a results folder")
    parameters = record.get("parameters") if isinstance(record, dict) else None
    if not isinstance(parameters, dict) or not _kind(record):
        raise MkfaError(path, "is not a sweep's result", f"name {_KNOWN} of a results folder")
    listed = parameters.get("runs")
    if not isinstance(listed, list) or not listed:
        remedy = "run its command again: finished runs are not repeated, and the file is rewritten"
        raise MkfaError(path, "does not list its runs", remedy)
    if not all(isinstance(run, dict) and all(isinstance(run.get(k), t) for k, t in _FIELDS.items()) for run in listed):
        raise MkfaError(path, "lists entries that are not runs", "run its command again")
    return record


def gather_folder(root: Path, *, name: str, command: str = "") -> PackedExperiment:
    """Gather every finished run below a folder, in order of hash.

    Raises MkfaError: no run is finished.
    """
    specs = {spec.hash: spec for folder in sorted(root.glob(f"*/{SPEC}")) if (spec := read_spec(folder.parent))}
    results = {key: read_run_result(root / key) for key in specs}
    runs = tuple(
        record_of(spec, source_name(spec, specs), result) for key, spec in specs.items() if (result := results[key])
    )
    if not runs:
        raise MkfaError(root, "has no finished run", "name the --out of the command that trained")
    return PackedExperiment(name, "runs", command, {}, runs)


def recorded_command(out: Path) -> str:
    """Return the command line recorded in a results folder's only result; "" if there is not exactly one."""
    paths = [path for name in RESULTS if (path := out / name).is_file()]
    if len(paths) != 1:
        return ""
    record = read_json(paths[0])
    parameters = record.get("parameters") if isinstance(record, dict) else None
    return str(parameters.get("command", "")) if isinstance(parameters, dict) else ""


def rebuild(experiment: PackedExperiment) -> Curve | Scenarios | Matrix | Sweep:
    """Rebuild the curve, table, matrix or sweep of an experiment from its runs, as the training command built it.

    Raises MkfaError: it is a folder of runs, or its parameters are not those of a sweep.
    """
    p = experiment.parameters
    if experiment.kind == "runs":
        remedy = f"pack it with --result and {_KNOWN} that its command wrote"
        raise MkfaError(experiment.name, "is a folder of runs, not a sweep's result", remedy)
    runs = experiment.runs
    listed = [{key: getattr(r, key) for key in _FIELDS} for r in experiment.runs]
    parameters = {**p, "command": experiment.command, "runs": listed}
    names = p.get("domains") if experiment.kind == "matrix" else [p.get("target")]
    lacking = [key for key in _NEEDED[experiment.kind] if key not in p]
    based = {r.target for r in runs if r.arm == BASE}
    rows = p.get("sources", names)  # older files: every source is also a target
    if lacking or not isinstance(names, list) or not isinstance(rows, list) or not based.issuperset(names):
        problem = f"lacks {', '.join(lacking) or 'base runs'} and is not a complete {experiment.kind}"
        raise MkfaError(experiment.name, problem, "run its command again and pack the result")
    return make_result(experiment.kind, runs, parameters)


def make_result(
    kind: str, runs: Sequence[RunRecord], parameters: Mapping[str, Any]
) -> Curve | Scenarios | Matrix | Sweep:
    """Return the "curve", "table", "matrix" or "sweep" of runs.

    Raises MkfaError: the runs were trained by different versions of the training, so that they cannot be compared.
    """
    versions = sorted({run.spec.training_version for run in runs if run.spec is not None})
    if len(versions) > 1:
        problem = f"come from versions {' and '.join(map(str, versions))} of the training, which train differently"
        raise MkfaError("the runs", problem, "run the command again: it trains the older ones anew")
    if kind == "matrix":
        domains = parameters["domains"]
        return make_matrix(runs, domains=domains, sources=parameters.get("sources", domains), parameters=parameters)
    if kind == "sweep":
        return make_sweep(runs, parameters=parameters)
    curve = make_curve([run for run in runs if run.target == parameters["target"]], parameters=parameters)
    return as_scenarios(curve) if kind == "table" else curve


def count_test_images(experiment: PackedExperiment, target: str) -> int:
    """Return the number of test images of a target; 0 if none of its runs is finished."""
    return next((r.result.test_images for r in experiment.runs if r.result and r.target == target), 0)


def _kind(record: Mapping[str, Any]) -> str:
    """Return the kind of result in a file, judged by its keys; "" if unknown."""
    marks = {
        "sweep": {"points", "trends"},
        "matrix": {"bases", "cells"},
        "table": {"base", "rows"},
        "curve": {"base", "cells"},
    }
    return next((kind for kind, keys in marks.items() if keys <= set(record)), "")


def _from_folder(root: Path, listed: Mapping[str, Any]) -> RunRecord:
    folder = root / Path(listed["hash"]).name
    spec, result = read_spec(folder), read_run_result(folder)
    if spec is not None and spec.hash != listed["hash"]:
        raise WorkError(folder / SPEC, f"belongs to run {spec.hash}", "remove the folder and train the run again")
    return RunRecord(**{key: listed[key] for key in _FIELDS}, spec=spec, result=result)


def records_of(plan: Sequence[PlannedRun], root: Path) -> tuple[RunRecord, ...]:
    """Return the runs of a plan with their results so far; a damaged result counts as missing."""
    return tuple(record_of(p.spec, p.source, _result_of(p, root)) for p in plan)


def _result_of(planned: PlannedRun, root: Path) -> RunResult | None:
    try:
        return RunFolder(root, planned.spec).result()
    except MkfaError:  # the sweep has reported it
        return None
