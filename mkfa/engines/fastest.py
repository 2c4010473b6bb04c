"""Which strategy computes runs on this machine's device: the one that is asked for, or the fastest of those timed.

On a CPU, processes are used, and nothing is timed. On another device, the first steps of every strategy are timed with
more and more runs at a time, until memory is short or the rate no longer grows. The timings are kept in mkfa's folder
for each device, network, image size, batch and version.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mkfa.errors import MkfaError, one_line
from mkfa.images.opened import Domains
from mkfa.storage.atomic import atomic_write
from mkfa.storage.folders import home
from mkfa.storage.json_text import with_checksum
from mkfa.training.base_runs import base_of
from mkfa.training.device import Execution
from mkfa.training.folder import read_json
from mkfa.training.planned import PlannedRun
from mkfa.training.run import recipe_of
from mkfa.training.spec import RunSpec

STRATEGIES = {
    "alone": "one run at a time",
    "processes": "runs at a time in processes of their own",
    "graph": "runs at a time whose steps are captured as CUDA graphs",
    "stacked": "runs at a time computed as one network",
}
COUNTS = (1, 2, 4, 8)
"""Numbers of runs at a time that are timed."""
GAIN = 1.05
"""More runs at a time are worth their memory if they raise the rate by this factor."""
FILE = "strategies.json"
"""In mkfa's folder: the timings, by device, network, size, batch and version."""
Timer = Callable[[str, RunSpec, int], tuple[float, int]]
"""Returns the seconds per step of all runs, and the most bytes of the device that were in use (0: unknown)."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A strategy, how many runs at a time, and the timings that it is based on (JSON objects; none: not timed)."""

    strategy: str
    count: int
    timed: tuple[Mapping[str, Any], ...] = ()

    @property
    def record(self) -> dict[str, Any]:
        """The choice as it is recorded in result.json."""
        return {"strategy": self.strategy, "runs_at_a_time": self.count, "timed": [dict(row) for row in self.timed]}


def check_strategy(execution: Execution) -> None:
    """Raise MkfaError for an unknown strategy, or one that does not go with the device or the other options.

    Examples
    --------
    >>> check_strategy(Execution(device="cpu", strategy="graph"))
    Traceback (most recent call last):
    mkfa.errors.MkfaError: --strategy graph: needs CUDA, and the device is cpu; take stacked, processes or alone.
    """
    name = execution.strategy
    if name != "auto" and name not in STRATEGIES:
        raise MkfaError(f"--strategy {name}", "is not a strategy", f"choose from auto, {', '.join(STRATEGIES)}")
    if name == "graph" and execution.kind != "cuda":
        problem = f"needs CUDA, and the device is {execution.kind}"
        raise MkfaError("--strategy graph", problem, "take stacked, processes or alone")
    if name == "alone" and execution.jobs > 1:
        problem = f"trains one run at a time, and --jobs asks for {execution.jobs}"
        raise MkfaError("--strategy alone", problem, "leave one of them out")
    if name in ("graph", "stacked") and execution.compile:
        raise MkfaError(f"--strategy {name}", "does not compile networks, as --compile asks", "leave one of them out")


def check_networks(execution: Execution, plan: Sequence[PlannedRun], domains: Domains) -> None:
    """Raise MkfaError if runs are to be stacked and a network of the plan has no grouped form."""
    if execution.strategy != "stacked":
        return
    from mkfa.networks.grouped import check_grouped
    from mkfa.training.run import build

    for spec in {(p.spec.arch, *sorted(p.spec.options.items())): base_of(p.spec) for p in plan}.values():
        check_grouped(build(spec, domains[spec.domain], None)[0])


def choose(execution: Execution, plan: Sequence[PlannedRun], domains: Domains, *, devices: int, timer: Timer) -> Choice:
    """Return how the runs of a plan are computed on this machine; with strategy "processes", `count` is 0.

    Parameters
    ----------
    plan : the runs that are left.
    devices : how many devices the runs may use. They are taken to be alike, and `count` is for each of them.
    timer : times 20 steps of runs that need no source, on one device.
    """
    name, most = execution.strategy, -(-len(plan) // devices)
    if name == "auto" and (execution.kind == "cpu" or execution.jobs or most < 2):
        name = "processes"
    if name in ("alone", "processes"):
        return Choice(name, int(name == "alone"))
    if execution.jobs or not most:
        return Choice(name, max(1, min(-(-execution.jobs // devices), most)))
    names = tuple(STRATEGIES) if name == "auto" else (name,)
    spec = base_of(plan[0].spec)
    key = _key(spec, domains, execution, [*names, min(most, COUNTS[-1])])
    timed = _kept().get(key) or _time_all(names, spec, batch_of(spec, domains), most, timer)
    _keep(key, timed)
    best = max((row for row in timed if row["images_per_second"] and row["runs"] <= most), key=_rate, default=None)
    if best is None:
        problem = f"cannot compute these runs ({timed[0]['problem']})"
        raise MkfaError(f"--strategy {execution.strategy}", problem, "choose another one")
    return Choice(str(best["strategy"]), int(best["runs"]), tuple(timed))


def _rate(row: Mapping[str, Any]) -> float:
    return float(row["images_per_second"])


def _time_all(names: Sequence[str], spec: RunSpec, batch: int, most: int, timer: Timer) -> list[dict[str, Any]]:
    """Time the strategies with 1, 2, 4, 8 runs at a time, each until memory is short or the rate no longer grows."""
    rows: list[dict[str, Any]] = []
    for name in names:
        best = 0.0
        for count in (1,) if name == "alone" else COUNTS:
            row = {"strategy": name, "runs": count, "images_per_second": None, "bytes": None, "problem": ""}
            rows.append(row)
            if count > most > 1:
                rows.pop()
                break
            try:
                seconds, size = timer(name, spec, count)
            except (RuntimeError, MkfaError) as error:  # memory is short, or the strategy cannot compute this network
                row["problem"] = one_line(str(error))[:200]
                break
            rate = count * batch / seconds
            row |= {"images_per_second": round(rate, 1), "bytes": size or None}
            if rate < GAIN * best:
                break
            best = rate
    return rows


def batch_of(spec: RunSpec, domains: Domains) -> int:
    """Return the images of a run's batch."""
    return min(recipe_of(spec).batch, len(domains[spec.domain].y_train))


def of_group(execution: Execution, strategy: str) -> Execution:
    """Return how the runs of a group are computed: those that are captured or stacked are not compiled too."""
    return execution if strategy == "alone" else replace(execution, compile=False)


def _key(spec: RunSpec, domains: Domains, execution: Execution, asked: Sequence[object]) -> str:
    how, domain, recipe = execution.resolved().record, domains[spec.domain], recipe_of(spec)
    size = recipe.size or domain.size
    parts = [how["device"], spec.arch, sorted(spec.options.items()), size, domain.channels, batch_of(spec, domains)]
    parts += [sorted(recipe.identity.items()), how["amp"], how["channels_last"], how["compile"], how["versions"], asked]
    return json.dumps(parts, sort_keys=True)


def _kept() -> dict[str, list[dict[str, Any]]]:
    """Return the timings of earlier calls; none if the file is missing or damaged."""
    try:
        return dict((read_json(home() / FILE) or {}).get("timed", {}))
    except MkfaError:
        return {}


def _keep(key: str, timed: Sequence[Mapping[str, Any]]) -> None:
    kept = _kept()
    if kept.get(key) == timed:
        return
    record = with_checksum({"format": "mkfa.strategies", "timed": kept | {key: list(timed)}})
    home().mkdir(parents=True, exist_ok=True)
    atomic_write(home() / FILE, (json.dumps(record, indent=1) + "\n").encode())
