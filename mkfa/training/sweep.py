"""Carry out a plan: skip what is done, say how long the rest takes, go on where it was stopped (layer 7)."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mkfa.training.base import BaseBanks, run_bank, store_bank, trained_network
from mkfa.training.engine import EVALUATION_BATCH, Report, evaluate, recipe_of, steps_of, train_run
from mkfa.training.execution import Execution, Stop
from mkfa.training.plans import Domains, Planned
from mkfa.training.results import Finished
from mkfa.training.runfolder import BASE, Diverged, RunFolder, RunLocked, RunSpec


@dataclass(frozen=True, slots=True)
class Estimate:
    """How long a plan takes: runs in all and done, steps to go, seconds to go (None where nothing is left to time)."""

    runs: int
    done: int
    steps: int
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a planned run.

    `state` is "done" or "diverged" as in its result, "running" (another process trains it) or "impossible" (`note`
    says why: what it borrows from is not there).
    """

    planned: Planned
    state: str
    trained: bool
    result: dict[str, Any] | None = None
    banks: BaseBanks | None = None
    note: str = ""


def carry_out(
    plan: Sequence[Planned], domains: Domains, *, root: Path, execution: Execution, stop: Stop,
    tell: Callable[[Planned, Report], None] = lambda *_: None, ended: Callable[[Outcome], None] = lambda _: None,
) -> tuple[Outcome, ...]:  # fmt: skip
    """Train the runs of a plan one after the other; those that are over are taken as they are.

    Parameters
    ----------
    tell : called after each step with the run and where it is.
    ended : called after each run.

    Raises
    ------
    Stopped
        `stop` was requested; the run in progress saved itself.
    MkfaError
        A run failed; those before it are kept.
    """
    outcomes = []
    for planned in plan:
        outcome = _carry_out_one(planned, domains, root, execution, stop, tell)
        ended(outcome)
        outcomes.append(outcome)
    return tuple(outcomes)


def _carry_out_one(
    planned: Planned, domains: Domains, root: Path, execution: Execution, stop: Stop,
    tell: Callable[[Planned, Report], None],
) -> Outcome:  # fmt: skip
    spec = planned.spec
    domain = domains[spec.domain]
    before = RunFolder(root, spec).result()
    result: dict[str, Any]
    if before is not None:
        result = before
    else:
        try:
            source = borrow(planned, domains, root)
            result = train_run(spec, domain, source=source, root=root, execution=execution, stop=stop,
                               tell=lambda report: tell(planned, report))  # fmt: skip
        except RunLocked as error:
            return Outcome(planned, "running", False, note=str(error))
        except Diverged as error:
            return Outcome(planned, "impossible", False, note=str(error))
    banks = None
    if spec.arm == BASE and result["state"] == "done" and before is None:
        banks = store_bank(root, spec, domain)
    return Outcome(planned, str(result["state"]), before is None, result, banks)


def borrow(planned: Planned, domains: Domains, root: Path) -> Any:
    """Return what an arm takes its filters from: the base run's bank or weights, a bank, or None.

    Raises
    ------
    Diverged
        The base run ended without weights, or is being trained by another process.
    """
    if planned.needs is None:
        return planned.bank
    result = RunFolder(root, planned.needs).result()
    if result is None or result["state"] != "done":
        state = "is not done" if result is None else "diverged"
        raise Diverged(planned.needs.label, f"{state}, so that nothing can be borrowed from it", "see 'mkfa runs'")
    domain = domains[planned.needs.domain]
    network = trained_network(root, planned.needs, domain)
    if planned.spec.what != "depthwise":
        return network.state_dict()
    return run_bank(network, planned.needs, domain, digest=str(result["weights_sha256"]))


def finished(plan: Sequence[Planned], root: Path) -> tuple[Finished, ...]:
    """Return the plan's runs with their results, as `mkfa.training.results` takes them."""
    return tuple(
        Finished(p.source, p.spec.domain, p.spec.arm, p.spec.layers, p.spec.seed, RunFolder(root, p.spec).result())
        for p in plan
    )


def estimate(plan: Sequence[Planned], domains: Domains, *, root: Path, execution: Execution) -> Estimate:
    """Time a few steps of each network and image size, all layers trained, and count what is left of the plan.

    Frozen layers make a step cheaper: the estimate is an upper one in that respect. Steps of unfinished runs that lie
    in a checkpoint already are counted again.
    """
    left = [p for p in plan if RunFolder(root, p.spec).result() is None]
    steps, seconds = 0, 0.0
    timed: dict[tuple[str, int, int], tuple[float, float]] = {}
    for planned in left:
        spec, domain = planned.spec, domains[planned.spec.domain]
        key = (spec.arch, recipe_of(spec).size or domain.size, domain.channels)
        if key not in timed:
            timed[key] = time_run(replace(spec, arm=BASE, layers=0, source=""), domains, execution=execution)
        count, epoch = steps_of(recipe_of(spec), len(domain.x_train))
        steps += count
        step, image = timed[key]
        seconds += count * step + -(-count // epoch) * len(domain.x_test) * image
    return Estimate(len(plan), len(plan) - len(left), steps, seconds if left else None)


def time_run(
    spec: RunSpec, domains: Domains, *, execution: Execution, warmup: int = 2, count: int = 4
) -> tuple[float, float]:
    """Return the seconds of one training step and of evaluating one image, timed on the data (means)."""
    import torch

    from mkfa.training.engine import Run

    resolved = execution.resolved()
    with resolved.in_force():
        run = Run(RunFolder(Path(), spec), domains[spec.domain], None, resolved)
        index = torch.arange(run.batch, device=resolved.device)
        run.model.train()
        for i in range(warmup):
            float(run.take_step(i, index))
        start = time.perf_counter()
        for i in range(count):
            loss = run.take_step(warmup + i, index)
        float(loss)  # waits for the device
        step = (time.perf_counter() - start) / count
        images = replace(run.test_set, images=run.test_set.images[:EVALUATION_BATCH],
                         labels=run.test_set.labels[:EVALUATION_BATCH])  # fmt: skip
        start = time.perf_counter()
        evaluate(run.model, images, amp=resolved.amp)
        return step, (time.perf_counter() - start) / len(images)


def chance_to_see(plan: Sequence[Planned]) -> str:
    """Return a sentence that warns of a plan which cannot tell anything about filters, or ""."""
    arms = {p.spec.arm for p in plan} - {BASE}
    if arms and not arms & {"random", "delta", "box"}:
        return "No arm that must hurt is in the plan (random, delta, box): 'no drop' alone says nothing."
    return ""


