"""Which engine carries out a plan. A further engine is a module with `open_engine` and a row of `ENGINES`."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from mkfa.errors import MkfaError
from mkfa.images.opened import Domains
from mkfa.training.device import Execution
from mkfa.training.planned import PlannedRun

ENGINES = {
    "local": ("mkfa.engines.processes", "this machine"),
    "ray": ("mkfa.engines.ray_cluster", "a running Ray cluster"),
    "slurm": ("mkfa.engines.slurm_queue", "the queue of Slurm"),
}
"""Name -> module, and where the runs are trained."""


def open_engine(execution: Execution, plan: Sequence[PlannedRun], *, domains: Domains, root: Path) -> Any:
    """Return the engine that `execution.engine` names, as a context manager.

    Raises
    ------
    MkfaError
        An unknown engine, or one that cannot be used here: a package or a cluster is missing, nodes do not share the
        folder of the runs or have other versions.
    """
    check_name(execution.engine)
    module = import_module(ENGINES[execution.engine][0])
    return module.open_engine(execution, plan, domains=domains, root=root)


def check_name(name: str) -> None:
    """Raise MkfaError for an unknown engine."""
    if name not in ENGINES:
        raise MkfaError(f"--engine {name}", "is not an engine", f"choose from {', '.join(ENGINES)}")
