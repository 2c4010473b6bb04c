"""A run and its stored data, from a folder, a file of packed runs, or a plan."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from mkfa.errors import WorkError
from mkfa.storage.records import Listing, Shown
from mkfa.training.folder import CHECKPOINT, METRICS, read_metrics
from mkfa.training.result import RunResult
from mkfa.training.spec import RunSpec
from mkfa.words import counted

STATES = ("done", "running", "waiting", "stopped", "failed", "diverged")
COLUMNS = (
    *("hash", "state", "domain", "arch", "arm", "layers", "what", "recipe", "seed", "source", "top1", "seconds"),
    *("images_per_second", "error", "path", "experiment", "training_version"),
)
"""Keys of `RunRecord.row`."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class RunRecord(Shown):
    """A run and its stored data.

    Attributes
    ----------
    source, target, arm : str
        Names used in results; `source` is the domain or bank that provided the filters, "" if none did.
    layers, seed : int
    result : None if the run is unfinished.
    spec : None if the run was planned but never started, or its folder is damaged.
    hash : str
    status : str
        For a run without a result: "running" (a process holds its lock), "failed" (`error` gives the reason; starting
        it again continues from its checkpoint), "waiting" (it was ordered, and no process has begun it) or "stopped".
    error : str
    path : the run's folder, or the file of packed runs.
    experiment : name of the experiment in a file of packed runs; "" in a folder.
    """

    source: str
    target: str
    arm: str
    layers: int
    seed: int
    result: RunResult | None = None
    spec: RunSpec | None = None
    hash: str = ""
    status: str = "stopped"
    error: str = ""
    path: Path | None = field(default=None, compare=False)
    experiment: str = field(default="", compare=False)

    @property
    def state(self) -> str:
        """ "done" or "diverged" if the run is finished, else `status`."""
        return self.result.state if self.result else self.status

    @property
    def checkpoint(self) -> bool:
        """True if the run has a checkpoint to continue from."""
        return self.path is not None and (self.path / CHECKPOINT).exists()

    @property
    def metrics(self) -> tuple[Mapping[str, Any], ...]:
        """Read the metrics, one mapping per epoch; files of packed runs contain none.

        Raises WorkError: the file is damaged.
        """
        path = (self.path or Path()) / METRICS
        rows = read_metrics(path)
        keys = ("epoch", "step", "top1", "loss_train", "loss_test")
        if not all(key in row for row in rows for key in keys):
            raise WorkError(path, "has a line without the fields of an epoch", "remove the file")
        return rows

    def row(self) -> dict[str, Any]:
        """Return the run as a row of a list: the specification without the recipe's fields, and the result."""
        spec, result = self.spec, self.result
        values: dict[str, Any] = dict.fromkeys(COLUMNS, "") | {"layers": self.layers, "seed": self.seed}
        values |= {key: getattr(self, key) for key in ("hash", "state", "arm", "error", "path", "experiment")}
        if spec is not None:
            values |= {key: getattr(spec, key) for key in ("domain", "arch", "what", "source")}
            values["recipe"], values["training_version"] = spec.recipe_name, spec.training_version
        values["top1"] = result.top1_last if result and result.done else None
        return values | {key: getattr(result, key, None) for key in ("seconds", "images_per_second")}

    def headline(self) -> str:
        """Return the label, the state and the accuracy."""
        label = self.spec.label if self.spec else f"{self.target} {self.arm} {self.layers} seed {self.seed}"
        return f"{label}, {self.state}" + (f", top-1 {self.result.top1_last:.3f}" if self.result else "")

    def rows(self) -> list[dict[str, Any]]:
        """Return `row()` as the only row."""
        return [self.row()]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class RunList(Listing[RunRecord]):
    """Runs, in the order in which they were started or planned."""

    KIND: ClassVar[str] = "run_list"
    runs: tuple[RunRecord, ...]

    def headline(self) -> str:
        """Return how many runs there are, and in which states."""
        states = [run.state for run in self]
        counts = ", ".join(f"{states.count(state):,} {state}" for state in STATES if state in states)
        return counted(len(self), "run") + (f": {counts}" if counts else "")

    def rows(self) -> list[dict[str, Any]]:
        """Return one row a run."""
        return [run.row() for run in self]
