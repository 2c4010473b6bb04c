"""In which order runs start, and how long all of them take.

**Order.** Runs that others wait for go first, then the longest. A run counts with the longest of those that wait for it
(the critical path of list scheduling), so that no long run is left for the end while others idle.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mkfa.errors import MkfaError
from mkfa.images.opened import Domains
from mkfa.training.folder import RunFolder
from mkfa.training.network_size import network_size
from mkfa.training.planned import PlannedRun
from mkfa.training.recipe import steps_of
from mkfa.training.run import recipe_of
from mkfa.training.spec import RunSpec

_FROZEN = 0.1
"""Share of a step that is saved where all layers are frozen, as measured for a ConvNeXt-Femto of 32 px."""


@dataclass(frozen=True, slots=True)
class Job:
    """A run's hash, its duration in seconds (or any unit), and the hash of the run that it waits for ("" for none)."""

    hash: str
    seconds: float
    waits_for: str = ""


def longest_first(jobs: Sequence[Job]) -> list[Job]:
    """Return jobs in the order in which they should start; equally long ones keep their order.

    Examples
    --------
    >>> jobs = [Job("short", 1), Job("long", 9), Job("base", 1), Job("borrower", 5, "base")]
    >>> [job.hash for job in longest_first(jobs)]
    ['base', 'long', 'borrower', 'short']
    """
    after: dict[str, float] = {}
    for job in jobs:
        after[job.waits_for] = max(after.get(job.waits_for, 0.0), job.seconds)

    def place(job: Job) -> tuple[bool, float]:
        return job.hash in after, job.seconds + after.get(job.hash, 0.0)

    return sorted(jobs, key=place, reverse=True)


def makespan(jobs: Sequence[Job], places: int) -> float:
    """Return the seconds until all jobs are over, `places` at a time, each started in order as soon as possible.

    A job that waits for a run outside `jobs` may start immediately.
    """
    waiting, open_ = list(jobs), {t.hash for t in jobs}
    busy: list[tuple[float, int, str]] = []
    now, count = 0.0, 0
    while waiting or busy:
        ready = next((t for t in waiting if t.waits_for not in open_), None)
        if ready is not None and len(busy) < places:
            waiting.remove(ready)
            heapq.heappush(busy, (now + ready.seconds, count, ready.hash))
            count += 1
            continue
        now, _, over = heapq.heappop(busy)
        open_.discard(over)
    return now


def in_order(plan: Sequence[PlannedRun], domains: Domains, root: Path) -> list[PlannedRun]:
    """Return runs in the order in which they should start, by what they cost: nothing is timed."""
    jobs = [Job(p.spec.hash, cost(p.spec, domains, root), p.source_run.hash if p.source_run else "") for p in plan]
    runs = {p.spec.hash: p for p in plan}
    return [runs[job.hash] for job in longest_first(jobs)]


def cost(spec: RunSpec, domains: Domains, root: Path) -> float:
    """Return what the rest of a run costs: its remaining steps x the multiply-adds of a step."""
    domain, recipe = domains[spec.domain], recipe_of(spec)
    images = len(domain.y_train)
    left = steps_of(recipe, images)[0] - RunFolder(root, spec).begun()
    try:
        size = network_size(spec, domain)
    except MkfaError:  # the run will say so
        return 0.0
    saved = _FROZEN * frozen_layers(spec) / max(1, size.layers[spec.what])
    return left * min(recipe.batch, images) * size.multiply_adds * (1 - saved)


def frozen_layers(spec: RunSpec) -> int:
    """Return the number of frozen layers, which need no weight gradient; those with a trained offset need one."""
    from mkfa.arms.arms import find_arm
    from mkfa.training.spec import BASE

    if spec.arm == BASE:
        return 0
    arm = find_arm(spec.arm)
    return spec.layers if arm.frozen and not arm.offset else 0
