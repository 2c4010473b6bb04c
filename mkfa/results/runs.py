"""List the runs in a folder or a file of packed runs, with their states."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mkfa.arguments import check_arguments
from mkfa.errors import MkfaError, UnknownNameError, WorkError, as_path
from mkfa.results.archive import BUNDLED, bundled_file, find_experiment, read_experiments
from mkfa.results.record import RunList, RunRecord
from mkfa.several import as_several
from mkfa.storage.folders import home
from mkfa.training.folder import ATTEMPTS, FAILURE, SPEC, TASK, is_locked, read_json, read_result, read_spec
from mkfa.training.result import RunResult
from mkfa.training.spec import BASE, RunSpec
from mkfa.words import counted

Place = str | Path | None
"""A folder or file of runs, "bundled", or None for mkfa's data folder."""


def default_root() -> Path:
    """Return the default folder for runs."""
    return home() / "runs"


def find_place(out: Place) -> Path:
    """Return where runs are read from: the run folders of an `out` folder, a file, or the default folder.

    Raises MkfaError: it is neither a folder nor a file; or it is "bundled" and no results are bundled with this version
    of mkfa.
    """
    if out is None:
        return default_root()
    path = as_path(out, "place")
    if path.is_dir():
        return path / "runs"
    if path.is_file():
        return path
    if str(out) == BUNDLED:
        return bundled_file()
    remedy = f"name the --out of the command that trained, a file of 'mkfa runs pack', or {BUNDLED!r}"
    raise MkfaError(out, "is neither a folder nor a results file", remedy)


def read_runs(place: Place | Iterable[Place] = None, *, experiment: str = "") -> RunList:
    """Read training runs with their specifications, results and metrics.

    Parameters
    ----------
    place : str or Path, or several
        The `out` folder of the training command, a file of `mkfa runs pack`, or "bundled" for the runs bundled with
        mkfa; None for mkfa's data folder.
    experiment : str
        Read only the runs of this experiment in a file.

    Returns
    -------
    RunList
        A sequence of `RunRecord`, in the order in which they were started, place by place. A damaged run folder counts
        as a failed run without a specification.

    Raises
    ------
    MkfaError
        There is no such folder, file or experiment.

    Examples
    --------
    >>> runs = read_runs("bundled")
    >>> runs
    <RunList: ... runs: ... done>
    >>> runs[0].state, 0 < runs[0].result.top1_last < 1
    ('done', True)
    """
    check_arguments(read_runs, locals())
    places = [find_place(one) for one in as_several(place)]
    return RunList(tuple(run for one in places for run in list_runs(one, experiment=experiment)))


def list_runs(place: Path, *, experiment: str = "") -> RunList:
    """Return the runs below a folder or in a file, as `read_runs` does."""
    if place.is_file():
        experiments = read_experiments(place)
        if experiment:
            experiments = (find_experiment(experiments, experiment),)
        return RunList(tuple(run for e in experiments for run in e.runs if run.spec is not None))
    if experiment:
        raise MkfaError("--experiment", f"requires a results file, and {place} is a folder", "leave it out")
    folders = sorted((p.parent for p in place.glob(f"*/{SPEC}")), key=lambda f: (f.stat().st_mtime_ns, f.name))
    return RunList(tuple(map(read_run, folders)))


def load_run(place: Path, name: str, *, experiment: str = "") -> RunRecord:
    """Return one run from a folder or a results file, by its hash or a prefix of it, or by its folder's path.

    Raises UnknownNameError: the name matches no run or several runs. Raises WorkError: the run's folder is damaged.
    """
    if place.is_dir() or not place.exists() or _is_run(Path(name)):
        run = read_run(find_run(place, name))
        if run.spec is None:
            raise WorkError(run.path, f"is damaged ({run.error.rstrip('.')})", "remove the folder")
        return run
    matches = [run for run in list_runs(place, experiment=experiment) if run.hash.startswith(name)]
    different = {(run.hash, *_outcome(run.result)): run for run in matches}
    if len(different) == 1:
        return matches[0]
    if len({run.hash for run in matches}) == 1:
        names = ", ".join(run.experiment for run in different.values())
        problem = f"was trained more than once, with different results ({names})"
        raise UnknownNameError(name, problem, "choose one with --experiment")
    problem = f"matches {counted(len(different), 'run')}" if different else f"is not a run of {place}"
    raise UnknownNameError(name, problem, f"'mkfa runs --from {place}' lists the runs")


def read_run(folder: Path) -> RunRecord:
    """Return the run in a folder."""
    try:
        spec, result, failure = read_spec(folder), read_result(folder), read_json(folder / FAILURE)
    except MkfaError as error:
        return RunRecord("", "", "", 0, 0, hash=folder.name, status="failed", error=str(error), path=folder)
    if spec is None:
        raise UnknownNameError(folder, "is not a run folder", "'mkfa runs' lists the runs")
    ordered = (folder / TASK).exists() and not (folder / ATTEMPTS).exists()
    status = "running" if is_locked(folder) else "failed" if failure else "waiting" if ordered else "stopped"
    reason = str(failure.get("error", "")) if failure and result is None and status == "failed" else ""
    base_hash = spec.source.removeprefix("run:")
    base = read_spec(folder.parent / base_hash) if base_hash != spec.source else None
    name = source_name(spec, {base_hash: base} if base else {})
    return record_of(spec, name, result, status=status, error=reason, path=folder, hash=folder.name)


def record_of(spec: RunSpec, source: str, result: RunResult | None, **more: Any) -> RunRecord:
    """Return the record of a run; `more` are fields of `RunRecord`."""
    return RunRecord(source, spec.domain, spec.arm, spec.layers, spec.seed, result, spec, **{"hash": spec.hash, **more})


def find_run(root: Path, name: str) -> Path:
    """Return the folder of a run by its hash, a prefix of it, or its path.

    Raises UnknownNameError: the name matches no run or several runs.
    """
    path = Path(name).expanduser()
    if _is_run(path):
        return path
    matches = [p.parent for p in root.glob(f"*/{SPEC}") if p.parent.name.startswith(name)]
    if len(matches) != 1:
        problem = f"matches {counted(len(matches), 'run')}" if matches else f"is not a run below {root}"
        raise UnknownNameError(name, problem, "'mkfa runs' lists the runs")
    return matches[0]


def run_details(run: RunRecord) -> dict[str, Any]:
    """Return all details of a run: its row, specification, result and per-epoch metrics."""
    return {
        "run": run.row(),
        "spec": run.spec.record if run.spec else None,
        "result": run.result.record if run.result else None,
        "metrics": list(run.metrics),
        "checkpoint": run.checkpoint,
    }


def source_name(spec: RunSpec, others: Mapping[str, RunSpec]) -> str:
    """Return a short name for the source of a run's filters: the base run's domain if in `others`, else as recorded.

    If the base run has a different network, the network and its options are appended.
    """
    if spec.arm == BASE:
        return spec.domain
    base = others.get(spec.source.removeprefix("run:"))
    if base is None:
        return spec.source
    own = (base.arch, dict(base.options)) == (spec.arch, dict(spec.options))
    network = ":".join([base.arch, *(f"{key}={value}" for key, value in sorted(base.options.items()))])
    return base.domain if own else f"{base.domain}+{network}"


def _outcome(result: RunResult | None) -> tuple[Any, ...]:
    """Return a run's outcome without times."""
    keys = ("state", "top1_last", "top1_best", "loss_test", "weights_sha256")
    return tuple(result.record.get(key) for key in keys) if result else ()


def _is_run(path: Path) -> bool:
    return (path.expanduser() / SPEC).is_file()
