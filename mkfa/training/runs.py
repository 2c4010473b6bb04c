"""What runs there are below a folder, and how far each is (layer 4)."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mkfa.errors import MkfaError, UnknownNameError
from mkfa.training.registry import home
from mkfa.training.runfolder import CHECKPOINT, FAILURE, METRICS, RESULT, SPEC, is_locked, read_json, read_spec

STATES = ("done", "running", "stopped", "failed", "diverged")


@dataclass(frozen=True, slots=True)
class RunEntry:
    """A run on disk.

    `state` is "done", "diverged", "running" (a process holds its lock), "failed" (`error` says why; starting it again
    goes on from its checkpoint) or "stopped". `top1` is the last epoch's accuracy, of runs that are done alone.
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


def default_root() -> Path:
    """Return the folder that runs go to where no other is named."""
    return home() / "runs"


def list_runs(root: Path) -> tuple[RunEntry, ...]:
    """Return the runs below a folder, in the order in which they were begun; a damaged folder is a failed run."""
    folders = sorted((p.parent for p in root.glob(f"*/{SPEC}")), key=lambda f: (f.stat().st_mtime_ns, f.name))
    return tuple(read_run(folder) for folder in folders)


def read_run(folder: Path) -> RunEntry:
    """Return one run."""
    try:
        spec = read_spec(folder)
        result = read_json(folder / RESULT)
        failure = read_json(folder / FAILURE)
    except MkfaError as error:
        return RunEntry(folder.name, "failed", "", "", "", 0, "", "", 0, "", None, None, None, str(error), folder)
    if spec is None:
        raise UnknownNameError(folder, "is no run's folder", "'mkfa runs' lists the runs")
    state = "running" if is_locked(folder) else "failed" if failure else "stopped"
    if result is not None:
        state = str(result["state"])
    found = result or {}
    return RunEntry(
        hash=folder.name, state=state, domain=spec.domain, arch=spec.arch, arm=spec.arm, layers=spec.layers,
        what=spec.what, recipe=spec.recipe_name, seed=spec.seed, source=spec.source, top1=found.get("top1_last"),
        seconds=found.get("seconds"), images_per_second=found.get("images_per_second"),
        error="" if result or not failure else str(failure["error"]), path=folder,
    )  # fmt: skip


def find_run(root: Path, name: str) -> Path:
    """Return the folder of a run by its hash, the beginning of it, or its path.

    Raises
    ------
    UnknownNameError
        None or several runs are called so.
    """
    path = Path(name).expanduser()
    if (path / SPEC).is_file():
        return path
    found = [p.parent for p in root.glob(f"*/{SPEC}") if p.parent.name.startswith(name)]
    if len(found) != 1:
        problem = f"begins {len(found)} runs" if found else f"is no run below {root}"
        raise UnknownNameError(name, problem, "'mkfa runs' lists the runs")
    return found[0]


def run_details(folder: Path) -> dict[str, Any]:
    """Return all that is known of a run: its entry, specification, result and metrics row by row."""
    import json

    entry = read_run(folder)
    metrics = folder / METRICS
    rows = [json.loads(line) for line in metrics.read_text("utf-8").splitlines()] if metrics.exists() else []
    return {"run": asdict(entry), "spec": read_json(folder / SPEC), "result": read_json(folder / RESULT),
            "metrics": rows, "checkpoint": (folder / CHECKPOINT).exists()}  # fmt: skip


def as_csv(entries: Sequence[RunEntry]) -> str:
    """Return runs as comma-separated values with a header."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(RunEntry.__dataclass_fields__), lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(entry) for entry in entries)
    return text.getvalue()
