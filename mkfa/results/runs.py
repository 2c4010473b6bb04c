"""What runs there are, in a folder or in a results file, and how far each is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mkfa.errors import MkfaError, UnknownNameError, WorkError, one_line
from mkfa.results.archive import BUNDLED, PackedRun, bundled_file, find_experiment, read_experiments
from mkfa.storage.folders import home
from mkfa.training.folder import CHECKPOINT, FAILURE, METRICS, SPEC, is_locked, read_json, read_result, read_spec
from mkfa.training.spec import BASE, RunSpec

STATES = ("done", "running", "stopped", "failed", "diverged")


@dataclass(frozen=True, slots=True)
class RunEntry:
    """A run of a folder or of a results file.

    `state` is "done", "diverged", "running" (a process holds its lock), "failed" (`error` says why; starting it again
    goes on from its checkpoint) or "stopped". `top1` is the last epoch's accuracy, of runs that are done alone.
    `experiment` is the name that a results file has for where the run belongs, "" in a folder; `path` is the run's
    folder, or the results file.
    """

    hash: str
    state: str
    domain: str
    arch: str
    arm: str
    layers: int
    what: str
    recipe: str
    seed: int
    source: str
    top1: float | None
    seconds: float | None
    images_per_second: float | None
    error: str
    path: Path
    experiment: str = ""


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A run with all that is kept of it.

    `source_name` is what it borrows from, in a word. A results file keeps no metrics and no checkpoint.
    """

    entry: RunEntry
    spec: RunSpec
    source_name: str
    result: Mapping[str, Any] | None
    metrics: tuple[Mapping[str, Any], ...] = ()
    checkpoint: bool = False


def default_root() -> Path:
    """Return the folder that runs go to where no other is named."""
    return home() / "runs"


def find_place(out: Path | None) -> Path:
    """Return where runs are read from: the run folders of an --out, a results file, the default folder.

    Raises
    ------
    MkfaError
        It is neither a folder nor a file; "bundled" where mkfa brings no results along.
    """
    if out is None:
        return default_root()
    if out.is_dir():
        return out / "runs"
    if out.is_file():
        return out
    if str(out) == BUNDLED:
        return bundled_file()
    remedy = f"name the --out of the command that trained, a file of 'mkfa runs pack', or {BUNDLED!r}"
    raise MkfaError(out, "is neither a folder nor a results file", remedy)


def list_runs(place: Path, *, experiment: str = "") -> tuple[RunEntry, ...]:
    """Return the runs of a folder in the order in which they were begun, or those of a results file.

    A damaged run folder is a failed run. `experiment` keeps those of one experiment of a results file.
    """
    if place.is_file():
        return tuple(record.entry for record in _packed(place, experiment))
    _no_experiment(experiment, place)
    return tuple(read_run(folder) for folder in _folders(place))


def read_runs(place: str | Path | None = None, *, experiment: str = "") -> tuple[RunRecord, ...]:
    """Read training runs with all that is kept of them.

    Parameters
    ----------
    place : str or Path
        The `out` folder of the verb that trained, a file of `mkfa runs pack`, or "bundled" for the runs that mkfa
        brings along; None for mkfa's data folder.
    experiment : str
        Only the runs of this experiment of a file.

    Returns
    -------
    tuple of RunRecord
        Damaged run folders are left out.

    Raises
    ------
    MkfaError
        There is no such folder, file or experiment.

    Examples
    --------
    >>> runs = read_runs("bundled")
    >>> runs[0].entry.state, 0 < runs[0].result["top1_last"] < 1
    ('done', True)
    """
    return load_runs(find_place(None if place is None else Path(place)), experiment=experiment)


def load_runs(place: Path, *, experiment: str = "") -> tuple[RunRecord, ...]:
    """Return the runs of a folder or of a results file with what is kept of them; damaged run folders are left out."""
    if place.is_file():
        return _packed(place, experiment)
    _no_experiment(experiment, place)
    entries = [(folder, read_run(folder)) for folder in _folders(place)]
    return tuple(_record(folder, entry) for folder, entry in entries if entry.domain)


def load_run(place: Path, name: str, *, experiment: str = "") -> RunRecord:
    """Return one run by its hash or the beginning of it, from a folder or a results file; or by its folder's path.

    Raises
    ------
    UnknownNameError
        None or several runs are called so.
    WorkError
        The run's folder is damaged.
    """
    if place.is_dir() or not place.exists() or _is_run(Path(name)):
        folder = find_run(place, name)
        entry = read_run(folder)
        if not entry.domain:
            raise WorkError(folder, f"is damaged ({entry.error.rstrip('.')})", "remove the folder")
        return _record(folder, entry)
    found = [r for r in _packed(place, experiment) if r.entry.hash.startswith(name)]
    different = {(r.entry.hash, *_outcome(r.result or {})): r for r in found}
    if len(different) == 1:
        return found[0]
    if len({r.entry.hash for r in found}) == 1:
        names = ", ".join(r.entry.experiment for r in different.values())
        problem = f"was trained more than once, to other ends ({names})"
        raise UnknownNameError(name, problem, "name one of them by --experiment")
    problem = f"begins {len(different)} runs" if different else f"is no run of {place}"
    raise UnknownNameError(name, problem, f"'mkfa runs --out {place}' lists the runs")


def read_run(folder: Path) -> RunEntry:
    """Return one run of a folder."""
    try:
        spec = read_spec(folder)
        result = read_result(folder)
        failure = read_json(folder / FAILURE)
    except MkfaError as error:
        return RunEntry(folder.name, "failed", "", "", "", 0, "", "", 0, "", None, None, None, str(error), folder)
    if spec is None:
        raise UnknownNameError(folder, "is no run's folder", "'mkfa runs' lists the runs")
    state = "running" if is_locked(folder) else "failed" if failure else "stopped"
    why = str(failure.get("error", "")) if failure and not result and state == "failed" else ""
    return _entry(folder.name, spec, result, state=state, error=why, path=folder)


def find_run(root: Path, name: str) -> Path:
    """Return the folder of a run by its hash, the beginning of it, or its path.

    Raises
    ------
    UnknownNameError
        None or several runs are called so.
    """
    path = Path(name).expanduser()
    if _is_run(path):
        return path
    found = [p.parent for p in root.glob(f"*/{SPEC}") if p.parent.name.startswith(name)]
    if len(found) != 1:
        problem = f"begins {len(found)} runs" if found else f"is no run below {root}"
        raise UnknownNameError(name, problem, "'mkfa runs' lists the runs")
    return found[0]


def run_details(record: RunRecord) -> dict[str, Any]:
    """Return all that is known of a run: its entry, specification, result and metrics row by row."""
    spec = record.spec.record
    return {
        "run": asdict(record.entry),
        "spec": spec,
        "result": record.result,
        "metrics": list(record.metrics),
        "checkpoint": record.checkpoint,
    }


def source_name(spec: RunSpec, others: Mapping[str, RunSpec]) -> str:
    """Return what a run borrows from, in a word: a domain where it is a base run of `others`, else as it is recorded.

    Another network than the run's own is named behind the domain, with its options.
    """
    if spec.arm == BASE:
        return spec.domain
    base = others.get(spec.source.removeprefix("run:"))
    if base is None:
        return spec.source
    own = (base.arch, dict(base.options)) == (spec.arch, dict(spec.options))
    network = ":".join([base.arch, *(f"{key}={value}" for key, value in sorted(base.options.items()))])
    return base.domain if own else f"{base.domain}+{network}"


def _outcome(result: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what a run came to, less how long it took and when."""
    return tuple(result.get(key) for key in ("state", "top1_last", "top1_best", "loss_test", "weights_sha256"))


def _entry(
    key: str,
    spec: RunSpec,
    result: Mapping[str, Any] | None,
    *,
    state: str,
    path: Path,
    error: str = "",
    experiment: str = "",
) -> RunEntry:
    found = result or {}
    return RunEntry(
        hash=key,
        state=str(found.get("state", state)),
        domain=spec.domain,
        arch=spec.arch,
        arm=spec.arm,
        layers=spec.layers,
        what=spec.what,
        recipe=spec.recipe_name,
        seed=spec.seed,
        source=spec.source,
        top1=found.get("top1_last"),
        seconds=found.get("seconds"),
        images_per_second=found.get("images_per_second"),
        error=error,
        path=path,
        experiment=experiment,
    )


def _packed(path: Path, experiment: str) -> tuple[RunRecord, ...]:
    """Return the runs of a results file that were begun; those of one experiment where it is named."""
    experiments = read_experiments(path)
    if experiment:
        experiments = (find_experiment(experiments, experiment),)

    def record(run: PackedRun, spec: RunSpec, name: str) -> RunRecord:
        entry = _entry(run.hash, spec, run.result, state="stopped", path=path, experiment=name)
        return RunRecord(entry, spec, run.source, run.result)

    return tuple(record(r, r.spec, e.name) for e in experiments for r in e.runs if r.spec is not None)


def _record(folder: Path, entry: RunEntry) -> RunRecord:
    spec = read_spec(folder)
    if spec is None:
        raise UnknownNameError(folder, "is no run's folder", "'mkfa runs' lists the runs")
    lender = spec.source.removeprefix("run:")
    base = read_spec(folder.parent / lender) if lender != spec.source else None
    name = source_name(spec, {} if base is None else {lender: base})
    checkpoint = (folder / CHECKPOINT).exists()
    return RunRecord(entry, spec, name, read_result(folder), _metrics(folder / METRICS), checkpoint)


def _metrics(path: Path) -> tuple[Mapping[str, Any], ...]:
    try:
        rows = tuple(json.loads(line) for line in path.read_text("utf-8").splitlines())
    except FileNotFoundError:
        return ()
    except (OSError, ValueError) as error:
        raise WorkError(path, f"cannot be read ({one_line(str(error))[:80]})", "remove the file") from error
    keys = ("epoch", "step", "top1", "loss_train", "loss_test")
    if not all(isinstance(row, dict) and all(key in row for key in keys) for row in rows):
        raise WorkError(path, "has a line that is no epoch's", "remove the file")
    return rows


def _folders(root: Path) -> list[Path]:
    return sorted((p.parent for p in root.glob(f"*/{SPEC}")), key=lambda f: (f.stat().st_mtime_ns, f.name))


def _is_run(path: Path) -> bool:
    return (path.expanduser() / SPEC).is_file()


def _no_experiment(experiment: str, place: Path) -> None:
    if experiment:
        raise MkfaError("--experiment", f"is for a results file, and {place} is a folder", "leave it out")
