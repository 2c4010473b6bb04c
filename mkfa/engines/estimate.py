"""Estimate how long a plan takes: time a few steps, then schedule the remaining runs over the concurrent jobs."""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mkfa.errors import MkfaError
from mkfa.images.opened import Domains
from mkfa.training.base_runs import base_of
from mkfa.training.device import Execution
from mkfa.training.evaluation import EVALUATION_BATCH
from mkfa.training.folder import RunFolder
from mkfa.training.planned import PlannedRun
from mkfa.training.run import Run, epochs_between_evaluations, recipe_of, steps_of
from mkfa.training.spec import BASE, RunSpec

_LONG_STEP = 0.1
"""Seconds; steps that take longer are timed with fewer repetitions."""


@dataclass(frozen=True, slots=True)
class Timing:
    """Mean seconds per training step and per evaluated image."""

    step: float
    image: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """How long a plan takes.

    Attributes
    ----------
    runs, done : int
        Number of runs in total, and of finished runs.
    steps : int
        Remaining optimiser steps; steps before a checkpoint count as done.
    seconds : float or None
        Remaining time; None if nothing is left or nothing was timed.
    jobs, threads : int
        Concurrent runs, and CPU threads of each; 0 if nothing was timed.
    """

    runs: int
    done: int
    steps: int
    seconds: float | None
    jobs: int = 1
    threads: int = 0


@dataclass(frozen=True, slots=True)
class Job:
    """A run's hash, its duration in seconds, and the hash of the run that it waits for ("" for none)."""

    hash: str
    seconds: float
    waits_for: str = ""


def estimate(
    plan: Sequence[PlannedRun],
    domains: Domains,
    *,
    root: Path,
    executions: Sequence[Execution],
    timer: Callable[[RunSpec], Timing] | None = None,
) -> Estimate:
    """Time a few steps of each network and image size, and schedule the remaining runs over the concurrent jobs.

    For each network, the base run and the arm with the most frozen layers are timed. Between these two, the cost of a
    step is assumed to be linear in the number of frozen layers.

    Parameters
    ----------
    executions : how each concurrent run is computed.
    timer : returns the `Timing` of a specification while all of them are busy; None: a run alone is timed, as the first
        of `executions` computes it.
    """
    time_of = timer or (lambda spec: time_run(spec, domains, execution=executions[0]))
    left = [p for p in plan if is_left(p, root)]
    deepest: dict[tuple[object, ...], int] = {}
    for p in left:
        key = _network(p.spec, domains, p.spec.what)
        deepest[key] = max(deepest.get(key, 0), _frozen(p.spec))
    timed: dict[tuple[object, ...], Timing] = {}

    def timing(spec: RunSpec, what: str) -> Timing:
        key = (*_network(spec, domains, what), spec.layers)
        if key not in timed:
            timed[key] = time_of(spec)
        return timed[key]

    tasks, steps = [], 0
    for p in left:
        most = deepest[_network(p.spec, domains, p.spec.what)]
        base = timing(base_of(p.spec), "")
        step = base.step
        if frozen := _frozen(p.spec):
            specimen = replace(base_of(p.spec), arm="random", layers=most, what=p.spec.what)
            step += (timing(specimen, p.spec.what).step - base.step) * frozen / most
        domain = domains[p.spec.domain]
        count, epoch = steps_of(recipe_of(p.spec), len(domain.x_train))
        begun = RunFolder(root, p.spec).begun()
        steps += count - begun
        every = epoch * epochs_between_evaluations(recipe_of(p.spec), steps=count, epoch_steps=epoch)
        evaluations = -(-count // every) - begun // every
        seconds = (count - begun) * step + evaluations * len(domain.x_test) * base.image
        tasks.append(Job(p.spec.hash, seconds, p.source_run.hash if p.source_run else ""))
    ready = makespan(tasks, len(executions)) if left else None
    return Estimate(len(plan), len(plan) - len(left), steps, ready, len(executions), executions[0].threads)


def count_steps(plan: Sequence[PlannedRun], domains: Domains, *, root: Path) -> Estimate:
    """Count the remaining runs and steps of a plan without timing: `seconds` is None, `jobs` 0."""
    left = [p for p in plan if is_left(p, root)]
    steps = sum(
        steps_of(recipe_of(p.spec), len(domains[p.spec.domain].x_train))[0] - RunFolder(root, p.spec).begun()
        for p in left
    )
    return Estimate(len(plan), len(plan) - len(left), steps, None, jobs=0)


def is_left(planned: PlannedRun, root: Path) -> bool:
    """Return whether a run has to be trained. One with a damaged result has not: the sweep reports it as failed."""
    try:
        return RunFolder(root, planned.spec).result() is None
    except MkfaError:
        return False


def makespan(tasks: Sequence[Job], jobs: int) -> float:
    """Return the seconds until all tasks finish, `jobs` at a time, each started in order as soon as possible.

    A task that waits for a run outside `tasks` may start immediately.
    """
    waiting, open_ = list(tasks), {t.hash for t in tasks}
    busy: list[tuple[float, int, str]] = []
    now, count = 0.0, 0
    while waiting or busy:
        ready = next((t for t in waiting if t.waits_for not in open_), None)
        if ready is not None and len(busy) < jobs:
            waiting.remove(ready)
            heapq.heappush(busy, (now + ready.seconds, count, ready.hash))
            count += 1
            continue
        now, _, over = heapq.heappop(busy)
        open_.discard(over)
    return now


def time_run(spec: RunSpec, domains: Domains, *, execution: Execution) -> Timing:
    """Time a few steps of a run that needs no source, on the real data; nothing is written."""
    return Specimen(spec, domains, execution).time()


class Specimen:
    """A run that is built only for timing."""

    def __init__(self, spec: RunSpec, domains: Domains, execution: Execution) -> None:
        self.how = execution.resolved()
        with self.how.in_force():
            self.run = Run(RunFolder(Path(), spec), domains[spec.domain], None, self.how)

    def time(self) -> Timing:
        """Return the means over about a second of steps (2 to 20), after warming up."""
        import torch

        from mkfa.arms.plant import train_mode

        run = self.run
        with self.how.in_force():
            index = torch.arange(run.batch, device=self.how.device)
            train_mode(run.model, run.planted)
            number = 0

            def steps(count: int) -> float:
                nonlocal number
                start = time.perf_counter()
                for _ in range(count):
                    loss = run.take_step(number, index)
                    number += 1
                float(loss)  # waits for the device
                return (time.perf_counter() - start) / count

            mean = steps(1)
            if mean < _LONG_STEP or self.how.compile:
                mean = steps(1)
            mean = steps(max(2, min(20, round(1 / mean))))
            count = EVALUATION_BATCH if mean < _LONG_STEP else EVALUATION_BATCH // 4
            images = run.test_set.first(count)
            start = time.perf_counter()
            run.evaluate(images)
            return Timing(mean, (time.perf_counter() - start) / len(images))


def _network(spec: RunSpec, domains: Domains, what: str) -> tuple[object, ...]:
    """Return what determines the duration of a step, apart from frozen layers."""
    domain = domains[spec.domain]
    size = recipe_of(spec).size or domain.size
    return spec.arch, tuple(sorted(spec.options.items())), size, domain.channels, what


def _frozen(spec: RunSpec) -> int:
    """Return the number of frozen layers, which need no weight gradient; those with a trained offset need one."""
    from mkfa.arms.arms import find_arm

    if spec.arm == BASE:
        return 0
    arm = find_arm(spec.arm)
    return spec.layers if arm.frozen and not arm.offset else 0
