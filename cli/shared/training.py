"""What the training commands share: their options, the plan's table, the progress of a sweep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from mkfa.cli.shared.outputs import save_figure, write_text
from mkfa.cli.shared.printing import print_list, print_table, say, warn
from mkfa.cli.shared.progress import SweepBar, shown

if TYPE_CHECKING:
    from mkfa.cli.shared.options import RecipeOptions, Running
    from mkfa.engines.estimate import Estimate
    from mkfa.engines.serial import Outcome
    from mkfa.experiments.plan import Setting
    from mkfa.images.opened import Domains
    from mkfa.training.device import Execution
    from mkfa.training.planned import PlannedRun
    from mkfa.training.recipe import Recipe


@dataclass(frozen=True)
class Session:
    """Where a command's runs go and how they are computed."""

    root: Path
    results: Path
    execution: Execution
    as_json: bool


def recipe(options: RecipeOptions) -> Recipe:
    """Return the recipe that the options ask for; refuses epochs where the recipe counts optimiser steps instead."""
    from mkfa.errors import MkfaError
    from mkfa.training.recipe import load_recipe, parse_changes

    epochs = options.epochs
    changes = parse_changes(options.changes or [])
    changes |= {k: v for k, v in (("epochs", epochs), ("equal_steps", options.equal_steps)) if v is not None}
    made = load_recipe(options.recipe, changes)
    if epochs is not None and made.equal_steps:
        problem = f"would change nothing, as every run takes {made.equal_steps} optimiser steps"
        raise MkfaError(f"--epochs {epochs}", problem, "leave it out, or pass --equal-steps 0 with it")
    return made


def domains(recipe: Recipe) -> Domains:
    """Return the domains of a command, which says so and shows a bar where images are decoded on first use."""
    from mkfa.images.opened import Domains

    return Domains(recipe.size, recipe.max_size, notify=warn, progress=shown())


def names(text: str, option: str) -> list[str]:
    """Return names that are joined by commas, once each, in order."""
    from mkfa.errors import MkfaError

    found = list(dict.fromkeys(part.strip() for part in text.split(",")))
    if found == [""]:
        raise MkfaError(option, "names nothing", "name one or several, joined by commas")
    if "" in found:
        raise MkfaError(f"{option} {text!r}", "has an empty name in it", "join names by single commas")
    return found


def session(out: Path | None, name: str, running: Running, *, as_json: bool) -> Session:
    """Make the folders of a command's results; refuses a place that cannot be written before any work is done."""
    from mkfa.errors import MkfaError, WorkError
    from mkfa.results.runs import default_root
    from mkfa.storage.folders import home

    root = out / "runs" if out else default_root()
    results = out or home() / "results" / name
    execution = running.execution()
    execution.resolved()
    if execution.events:
        from mkfa.training.events import check_tensorboard

        check_tensorboard()
    if out is not None and out.exists() and not out.is_dir():
        raise MkfaError(out, "is a file, where a folder is meant", "choose another --out")
    for folder in (root, results):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError, PermissionError) as error:
            raise MkfaError(folder, f"cannot be created ({error.strerror})", "choose another --out") from error
        except OSError as error:
            raise WorkError(folder, f"cannot be created ({error.strerror})", "choose another --out") from error
    return Session(root, results, execution, as_json)


def work(
    plan: Sequence[PlannedRun], domains: Domains, at: Session, *, experiment: Setting, dry_run: bool
) -> tuple[Outcome, ...] | None:
    """Print what would be trained and how long it takes, and train it; None after a dry run.

    Raises
    ------
    WorkError
        Nothing came of any run.
    """
    from mkfa.engines.processes import open_slots
    from mkfa.errors import WorkError
    from mkfa.training.stopping import Stop

    with open_slots(at.execution, plan, domains=domains, root=at.root) as slots:
        estimate = slots.estimate(plan)
        if dry_run and at.as_json:
            _print_plan_json(plan, estimate, at)
            return None
        if not at.as_json:
            _print_plan(plan, estimate, at, experiment=experiment)
        if dry_run:
            say("Nothing was trained (--dry-run).")
            return None
        with Stop().listening() as stop, SweepBar(len(plan), estimate.steps) as bar:
            outcomes = slots.carry_out(plan, stop=stop, tell=bar.tell, ended=bar.ended)
    if outcomes and not any(o.state == "done" for o in outcomes):
        raise WorkError(f"{len(outcomes)} runs", "ended without a result", "see the lines above and 'mkfa runs'")
    return outcomes


def exit_code(outcomes: Sequence[Outcome]) -> None:
    """End the command with 1 where a run was lost with its process, after all others were told of."""
    if any(o.state == "lost" for o in outcomes):
        raise typer.Exit(1)


def _print_plan(plan: Sequence[PlannedRun], found: Estimate, at: Session, *, experiment: Setting) -> None:
    from mkfa.experiments.plan import sensitivity_warning

    groups: dict[tuple[str, str, str, str], list[PlannedRun]] = {}
    for p in plan:
        source = p.source if p.spec.arm != "baseline" else ""
        network = ":".join([p.spec.arch, *(f"{key}={value}" for key, value in sorted(p.spec.options.items()))])
        groups.setdefault((p.spec.arm, source, p.spec.domain, network), []).append(p)
    rows = [
        (arm, source or None, target, network, spans({p.spec.layers for p in g}), len({p.spec.seed for p in g}), len(g))
        for (arm, source, target, network), g in groups.items()
    ]
    left = f"about {duration(found.seconds)} left" if found.seconds is not None else "nothing left to do"
    notes = [f"{found.runs} runs, {found.done} done; {found.steps} steps to go, {left}."]
    if found.seconds is not None:
        notes.append(f"{at_a_time(found)}, timed so: {experiment.arch}, recipe {experiment.recipe.name}.")
    if warning := sensitivity_warning(plan):
        notes.append(warning)
    if others := sorted({network for _, _, _, network in groups} - {rows[0][3]}):
        notes.append("Filters come from base runs of other networks, which are trained first with the same recipe:")
        notes.append(", ".join(others))
    print_table("Plan", ("arm", "source", "target", "network", "layers", "seeds", "runs"), rows, left=4, notes=notes)
    say(f"Runs in {at.root}", wrap=False)


def _print_plan_json(plan: Sequence[PlannedRun], found: Estimate, at: Session) -> None:
    from mkfa.training.spec import as_record

    runs = [as_record(p.spec) | {"from": p.source} for p in plan]
    print_list("plan", "runs", runs, estimate=found, runs_folder=at.root)


def at_a_time(found: Estimate) -> str:
    """Return "2 runs at a time, 1 thread each"."""
    runs = f"{found.jobs} runs at a time" if found.jobs > 1 else "One run at a time"
    threads = f"{found.threads} thread{'s' if found.threads != 1 else ''}"
    return f"{runs}, {threads} each" if found.jobs > 1 else f"{runs}, {threads}"


def spans(numbers: set[int]) -> str:
    """Return numbers as ranges: {1, 2, 3, 7} -> "1..3,7"."""
    parts: list[list[int]] = []
    for n in sorted(numbers):
        if parts and n == parts[-1][1] + 1:
            parts[-1][1] = n
        else:
            parts.append([n, n])
    return ",".join(f"{a}..{b}" if b > a else f"{a}" for a, b in parts)


def duration(seconds: float) -> str:
    """Return a time in words: "40 s", "12 min", "3.5 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def write_results(at: Session, name: str, data: Any, *, csv: str, figure: Any) -> list[Path]:
    """Write a result as JSON, CSV and PNG into the results folder; returns the paths."""
    from mkfa.storage.records import to_json

    paths = [at.results / f"{name}.{ending}" for ending in ("json", "csv", "png")]
    write_text(paths[0], to_json(data) + "\n", overwrite=True)
    write_text(paths[1], csv, overwrite=True)
    save_figure(figure, paths[2], overwrite=True)
    return paths
