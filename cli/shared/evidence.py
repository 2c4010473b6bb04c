"""What `mkfa claims run` and `mkfa reproduce` share: options, and how the plans of a scale are carried out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from mkfa.cli.shared import training
from mkfa.cli.shared.options import RECIPE, Running, option
from mkfa.cli.shared.printing import print_list, say
from mkfa.words import counted

if TYPE_CHECKING:
    from mkfa.engines.unit import Outcome
    from mkfa.evidence.plans import Work

Scale = Annotated[str, option("--scale", "NAME", "laptop, gpu or paper; 'mkfa explain scale' says what they are.")]
_STANDS = "; default: the scale's."


@dataclass(frozen=True)
class Changes:
    """What differs from a scale's setting. Verdicts of another setting are shown, but not kept as the scale's."""

    seeds: Annotated[
        int | None, option("--seeds", "N", f"Train each run with seeds 0 to N - 1{_STANDS}", min=1, **RECIPE)
    ] = None
    arch: Annotated[str | None, option("--arch", "NAME", f"Another network{_STANDS}", **RECIPE)] = None
    equal_steps: Annotated[int | None, option("--equal-steps", "N", f"Optimiser steps{_STANDS}", **RECIPE)] = None
    changes: Annotated[
        list[str] | None, option("--set", "FIELD=VALUE", "Change a field of the recipe; may be repeated.", **RECIPE)
    ] = None


def options(changes: Changes, running: Running, *, out: Path | None) -> Any:
    """Return the options of the training verbs; those that are not given are the scale's."""
    given = training.options(running, out=out)
    named = {"changes": "set"}
    return {**given, **{named.get(k, k): v for k, v in asdict(changes).items() if v is not None}}


def plan(make: Callable[..., Any], running: Running) -> Any:
    """Call the planning function `make`, with images opened as in training; --dry-run needs no images at all."""
    if running.dry_run:
        return make(without_images=True)
    return make(open_domains=training.domains(running))


def carry_out(work: Work, running: Running, *, as_json: bool) -> list[Outcome] | None:
    """Show what would be trained, and train it; None after --dry-run and --estimate."""
    from mkfa.experiments.disk import disk_needs

    if running.dry_run and as_json:
        rows = [row for each in work.plans for row in each.rows()]
        disk = [need.record for need in disk_needs(work.plans)]
        print_list("plan", "runs", rows, estimate=None, runs_folder=work.plans[0].root, disk=disk)
        return None
    if not running.dry_run:
        work.check()
    outcomes: list[Outcome] = []
    for each in work.plans:
        done = training.work(each, running, as_json=as_json)
        if done is not None:
            outcomes += done
    if running.dry_run or running.estimate:
        say(f"{counted(len(work.runs), 'run')} in all, at {work.scale} scale.") if not as_json else None
        return None
    return outcomes
