"""Estimate how long a plan takes: time a few steps, then schedule the remaining runs over the concurrent jobs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mkfa.engines.engine import Engine, Place, Timer, Timing
from mkfa.engines.schedule import Job, frozen_layers, longest_first, makespan
from mkfa.errors import MkfaError
from mkfa.images.domain import Domain
from mkfa.images.opened import Domains
from mkfa.training.base_runs import base_of
from mkfa.training.device import Execution, is_available
from mkfa.training.evaluation import EVALUATION_BATCH
from mkfa.training.folder import RunFolder
from mkfa.training.planned import PlannedRun
from mkfa.training.recipe import epochs_between_evaluations, steps_of
from mkfa.training.run import Run, recipe_of
from mkfa.training.spec import RunSpec

TIMED_STEPS = 20
"""Number of steps of a group of runs that are timed."""
_LONG_STEP = 0.1
"""Seconds; steps that take longer are timed with fewer repetitions."""


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
    nodes : int
        Number of nodes on which they run.
    timed_here : bool
        True if steps were timed on this machine, and runs are trained on others, which may be faster or slower.
    """

    runs: int
    done: int
    steps: int
    seconds: float | None
    jobs: int = 1
    threads: int = 0
    nodes: int = 1
    timed_here: bool = False


def estimate(
    plan: Sequence[PlannedRun],
    domains: Domains,
    *,
    root: Path,
    places: Sequence[Place],
    timer: Callable[[RunSpec], Timing],
) -> Estimate:
    """Time a few steps of each network and image size, and schedule the remaining runs over the places.

    For each network, the base run and the arm with the most frozen layers are timed. Between these two, the cost of a
    step is assumed to be linear in the number of frozen layers.

    Parameters
    ----------
    places : where runs are trained at a time.
    timer : returns the `Timing` of a specification.
    """
    left = [p for p in plan if is_left(p, root)]
    deepest: dict[tuple[object, ...], int] = {}
    for p in left:
        key = _network(p.spec, domains, p.spec.what)
        deepest[key] = max(deepest.get(key, 0), frozen_layers(p.spec))
    timed: dict[tuple[object, ...], Timing] = {}

    def timing(spec: RunSpec, what: str) -> Timing:
        key = (*_network(spec, domains, what), spec.layers)
        if key not in timed:
            timed[key] = timer(spec)
        return timed[key]

    tasks, steps = [], 0
    for p in left:
        most = deepest[_network(p.spec, domains, p.spec.what)]
        base = timing(base_of(p.spec), "")
        step = base.step
        if frozen := frozen_layers(p.spec):
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
    ready = makespan(longest_first(tasks), len(places)) if left else None
    nodes = len({place.node for place in places})
    return Estimate(len(plan), len(plan) - len(left), steps, ready, len(places), places[0].execution.threads, nodes)


def estimate_on(engine: Engine, plan: Sequence[PlannedRun]) -> Estimate:
    """Return how long a plan takes on an engine; steps are timed by it where it can, else on this machine."""
    places = engine.places()
    if isinstance(engine, Timer):
        return estimate(plan, engine.domains, root=engine.root, places=places, timer=engine.time)
    execution, elsewhere = places[0].execution, bool(places[0].node)
    if elsewhere and execution.device != "auto" and not is_available(execution.device):
        execution = replace(execution, device="cpu")

    def timer(spec: RunSpec) -> Timing:
        return time_run(spec, engine.domains, execution=execution)

    found = estimate(plan, engine.domains, root=engine.root, places=places, timer=timer)
    return replace(found, timed_here=elsewhere)


def count_steps(plan: Sequence[PlannedRun], domains: Domains, *, root: Path) -> Estimate:
    """Count the remaining runs and steps of a plan without timing: `seconds` is None, `jobs` 0."""
    left = [p for p in plan if is_left(p, root)]
    steps = sum(
        steps_of(recipe_of(p.spec), len(domains[p.spec.domain].x_train))[0] - RunFolder(root, p.spec).begun()
        for p in left
    )
    return Estimate(len(plan), len(plan) - len(left), steps, None, jobs=0)


def is_left(planned: PlannedRun, root: Path) -> bool:
    """Return whether a run has to be trained. One with a damaged result need not: the sweep reports it as failed."""
    try:
        return RunFolder(root, planned.spec).result() is None
    except MkfaError:
        return False


def time_run(spec: RunSpec, domains: Domains, *, execution: Execution) -> Timing:
    """Time a few steps of a run that needs no source, on the real data; nothing is written."""
    return Specimen(spec, domains, execution).time()


def time_group(
    strategy: str, spec: RunSpec, domains: Domains, *, execution: Execution, count: int
) -> tuple[Timing, int]:
    """Time 20 steps of `count` runs at a time that differ in their seed, after warming up; nothing is written.

    Parameters
    ----------
    strategy : one of `mkfa.training.strategies.GROUPS`.

    Returns
    -------
    Timing
        Seconds for a step of all runs, and per evaluated image; while one run is evaluated, the others wait.
    int
        The most bytes of a CUDA device that were in use; 0 on other devices.
    """
    import torch

    from mkfa.arms.plant import train_mode
    from mkfa.training.strategies import GROUPS, WARM_UP

    shared = replace(execution, share=execution.share / count)
    how = shared.resolved()
    with how.in_force():
        if cuda := how.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(how.device)
        specimens = [Specimen(replace(spec, seed=seed), domains, shared) for seed in range(count)]
        runs = [specimen.run for specimen in specimens]
        group, rows = GROUPS[strategy](), np.arange(runs[0].batch)
        for run in runs:
            train_mode(run.model, run.planted)
            group.add(run.take_step)

        def steps(first: int, last: int) -> float:
            start = time.perf_counter()
            drawn = [run.take_step.draw_ahead(first, [rows] * (last - first)) for run in runs]
            for number in range(first, last):
                ahead = zip(runs, drawn, strict=True)
                losses = group.step([run.take_step.prepare(number, *next(one)) for run, one in ahead])
            float(sum(losses))  # waits for the device
            return (time.perf_counter() - start) / (last - first)

        steps(0, WARM_UP)
        step = steps(WARM_UP, WARM_UP + TIMED_STEPS)
        most = torch.cuda.max_memory_allocated(how.device) if cuda else 0
        return Timing(step, count * specimens[0].time_image(step)), most


class Specimen:
    """A run that is built only for timing."""

    def __init__(self, spec: RunSpec, domains: Domains | Mapping[str, Domain], execution: Execution) -> None:
        self.how = execution.resolved()
        with self.how.in_force():
            self.run = Run(RunFolder(Path(), spec), domains[spec.domain], None, self.how)

    def time(self) -> Timing:
        """Return the means over about a second of steps (2 to 20), after warming up."""
        from mkfa.arms.plant import train_mode

        run = self.run
        with self.how.in_force():
            train_mode(run.model, run.planted)
            number = 0

            def steps(count: int) -> float:
                nonlocal number
                start = time.perf_counter()
                for drawn in run.take_step.draw_ahead(number, [np.arange(run.batch)] * count):
                    loss = run.take_step.compute(run.take_step.prepare(number, *drawn))
                    number += 1
                float(loss)  # waits for the device
                return (time.perf_counter() - start) / count

            mean = steps(1)
            if mean < _LONG_STEP or self.how.compile:
                mean = steps(1)
            mean = steps(max(2, min(20, round(1 / mean))))
            return Timing(mean, self.time_image(mean))

    def time_image(self, step: float) -> float:
        """Return the seconds per evaluated image of a network whose training steps take `step` seconds."""
        images = self.run.test_set.first(EVALUATION_BATCH if step < _LONG_STEP else EVALUATION_BATCH // 4)
        start = time.perf_counter()
        self.run.evaluate(images)
        return (time.perf_counter() - start) / len(images)


def _network(spec: RunSpec, domains: Domains, what: str) -> tuple[object, ...]:
    """Return what determines the duration of a step, apart from frozen layers."""
    domain = domains[spec.domain]
    size = recipe_of(spec).size or domain.size
    return spec.arch, tuple(sorted(spec.options.items())), size, domain.channels, what
