"""Which engine carries out a plan. To add an engine, write a module with `open_engine` and a row of `ENGINES`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mkfa.errors import MkfaError

if TYPE_CHECKING:
    from mkfa.engines.engine import Engine
    from mkfa.images.opened import Domains
    from mkfa.training.device import Execution
    from mkfa.training.planned import PlannedRun


@dataclass(frozen=True, slots=True)
class Row:
    """An engine: its module, where it trains, and the options of `Execution` that it alone uses."""

    module: str
    where: str
    options: tuple[str, ...] = ()


ENGINES: dict[str, Row] = {
    "local": Row("mkfa.engines.processes", "this machine", ("strategy",)),
    "orders": Row("mkfa.engines.orders", "orders for 'mkfa work', which torchrun may start"),
    "ray": Row("mkfa.engines.ray_cluster", "a running Ray cluster", ("address",)),
    "slurm": Row("mkfa.engines.slurm_queue", "job arrays of Slurm", ("sbatch",)),
}
"""Engines by name."""


@contextlib.contextmanager
def open_engine(execution: Execution, plan: Sequence[PlannedRun], *, domains: Domains, root: Path) -> Iterator[Engine]:
    """Open the engine that `execution.engine` names, and check that it can train the plan; nothing is written.

    Raises
    ------
    MkfaError
        An unknown engine, or one that cannot be used here: a package or a cluster is missing, nodes do not share the
        folder of the runs or have other versions, a device is missing, or runs were started on another kind
        of device.
    """
    from mkfa.engines.engine import check_devices

    module = import_module(find_engine(execution.engine).module)
    with module.open_engine(execution, plan, domains=domains, root=root) as engine:
        engine.check(plan)
        check_devices(plan, engine)
        yield engine


def find_engine(name: str) -> Row:
    """Return an engine by its name; raises MkfaError for an unknown one."""
    if name not in ENGINES:
        raise MkfaError(f"--engine {name}", "is not an engine", f"choose from {', '.join(ENGINES)}")
    return ENGINES[name]


def check_options(execution: Execution) -> None:
    """Refuse an unknown engine, and options of other engines."""
    chosen = find_engine(execution.engine)
    for name, row in ENGINES.items():
        for option in row.options:
            default: Any = type(execution).__dataclass_fields__[option].default
            if option not in chosen.options and getattr(execution, option) != default:
                remedy = f"leave it out, or pass --engine {name}"
                raise MkfaError(f"--{option}", f"is for --engine {name}", remedy)
