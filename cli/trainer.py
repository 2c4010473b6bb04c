"""What the training commands share: their options, the plan's table, the progress of a sweep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mkfa.cli.output import print_json, print_table, say, warn

if TYPE_CHECKING:
    from mkfa.training.engine import Report
    from mkfa.training.execution import Execution
    from mkfa.training.plans import Domains, Experiment, Planned
    from mkfa.training.recipe import Recipe
    from mkfa.training.sweep import Estimate, Outcome

RecipeName = Annotated[str, typer.Option("--recipe", help="paper, fast, smoke, or a .toml file.")]
Changes = Annotated[list[str] | None, typer.Option("--set", metavar="FIELD=VALUE",
                                                     help="Change a field of the recipe.")]  # fmt: skip
Epochs = Annotated[int | None, typer.Option("--epochs", help="Epochs, instead of the recipe's.")]
EqualSteps = Annotated[int | None, typer.Option("--equal-steps", help="Optimiser steps of every run, whatever the "
                                                "domain's size.")]  # fmt: skip
Seeds = Annotated[int, typer.Option("--seeds", min=1, help="Seeds 0, 1, ... of every run.")]
Out = Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Folder for run folders, tables and figures; "
                                          "default: below mkfa's data folder.")]  # fmt: skip
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, mps.")]
Threads = Annotated[int, typer.Option("--threads", min=0, help="Threads of the CPU; 0 for all. One is often faster "
                                      "where other programs run.")]  # fmt: skip
Amp = Annotated[bool | None, typer.Option("--amp/--no-amp", help="bfloat16 autocast (default: on CUDA).")]
Last = Annotated[bool | None, typer.Option("--channels-last/--no-channels-last", help="Memory format (default: on).")]
Compile = Annotated[bool | None, typer.Option("--compile/--no-compile", help="torch.compile (default: on CUDA).")]
Kernel = Annotated[int | None, typer.Option("--kernel", help="Kernel size of a convmixer_C_L.")]
Patch = Annotated[int | None, typer.Option("--patch", help="Patch size of a convmixer_C_L.")]
Stem = Annotated[int | None, typer.Option("--stem-stride", help="Stride of the first convolution.")]
What = Annotated[str, typer.Option("--what", help="depthwise, pointwise or conv.")]
Biases = Annotated[bool, typer.Option("--with-bias", help="Copy and freeze biases too.")]
Fit = Annotated[str, typer.Option("--fit-kernel", help="pad or crop kernels of another size; default: refuse.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the plan and its estimate, and train nothing.")]


@dataclass(frozen=True)
class Session:
    """Where a command's runs go and how they are computed."""

    root: Path
    results: Path
    execution: Execution
    as_json: bool


def recipe(name: str, changes: list[str] | None, epochs: int | None, equal_steps: int | None) -> Recipe:
    """Return the recipe that the options ask for."""
    from mkfa.training.recipe import load_recipe, parse_changes

    found = parse_changes(changes or [])
    found |= {k: v for k, v in (("epochs", epochs), ("equal_steps", equal_steps)) if v is not None}
    return load_recipe(name, found)


def network_options(kernel: int | None, patch: int | None, stem: int | None) -> dict[str, int]:
    """Return the network options that were given."""
    given = (("kernel", kernel), ("patch", patch), ("stem_stride", stem))
    return {key: value for key, value in given if value is not None}


def session(out: Path | None, name: str, execution: Execution, *, as_json: bool) -> Session:
    """Make the folders of a command's results; refuses a place that cannot be written before any work is done."""
    from mkfa.errors import WorkError
    from mkfa.training.registry import home
    from mkfa.training.runs import default_root

    root = out / "runs" if out else default_root()
    results = out or home() / "results" / name
    execution.resolved()
    for folder in (root, results):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise WorkError(folder, f"cannot be created ({error.strerror})", "choose another --out") from error
    return Session(root, results, execution, as_json)


def show_plan(plan: Sequence[Planned], domains: Domains, at: Session, *, experiment: Experiment) -> Estimate:
    """Print what would be trained and how long it takes, from a few steps timed on this device."""
    from mkfa.training.sweep import chance_to_see, estimate

    found = estimate(plan, domains, root=at.root, execution=at.execution)
    if at.as_json:
        return found
    groups: dict[tuple[str, str, str], list[Planned]] = {}
    for p in plan:
        groups.setdefault((p.spec.arm, p.source if p.spec.arm != "baseline" else "", p.spec.domain), []).append(p)
    rows = [(arm, source or None, target, spans({p.spec.layers for p in g}), len({p.spec.seed for p in g}), len(g))
            for (arm, source, target), g in groups.items()]  # fmt: skip
    left = f"about {duration(found.seconds)} left" if found.seconds is not None else "nothing left to do"
    notes = [f"{found.runs} runs, {found.done} done; {found.steps} steps to go, {left}.",
             f"{experiment.arch}, recipe {experiment.recipe.name}; runs in {at.root}"]  # fmt: skip
    if warning := chance_to_see(plan):
        notes.append(warning)
    print_table("Plan", ("arm", "source", "target", "layers", "seeds", "runs"), rows, left=3, notes=notes)
    return found


def carry_out(plan: Sequence[Planned], domains: Domains, at: Session) -> tuple[Outcome, ...]:
    """Train a plan with a bar that shows run, loss, accuracy, images a second and the time left."""
    from mkfa.training.execution import Stop
    from mkfa.training.sweep import carry_out as work

    with Stop().listening() as stop, _Bar(len(plan)) as bar:
        outcomes = work(plan, domains, root=at.root, execution=at.execution, stop=stop, tell=bar.tell, ended=bar.ended)
    for outcome in outcomes:
        if outcome.state != "done":
            problem = outcome.note or f"{outcome.planned.spec.label} diverged at step {(outcome.result or {})['step']}"
            warn(problem)
    return outcomes


class _Bar:
    """Progress on stderr: shown on a terminal alone; off it, a line for each run that was trained."""

    def __init__(self, runs: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self.console = Console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(bar_width=20), MofNCompleteColumn(),
                   TimeRemainingColumn(), TextColumn("{task.fields[now]}"))  # fmt: skip
        self.bar = Progress(*columns, console=self.console, transient=True, disable=not self.console.is_terminal)
        self.all = self.bar.add_task("runs", total=runs, now="")
        self.one = self.bar.add_task("step", total=1, now="")
        self.started, self.hash = 0.0, ""

    def __enter__(self) -> _Bar:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def tell(self, planned: Planned, report: Report) -> None:
        import time

        if planned.spec.hash != self.hash:
            self.hash, self.started, self.first = planned.spec.hash, time.perf_counter(), report.step
            self.bar.reset(self.one, total=report.steps)
            self.bar.update(self.all, now=planned.spec.label)
        seconds = time.perf_counter() - self.started
        rate = f"{(report.step - self.first) * report.images / seconds:.0f} images/s" if seconds > 0.5 else ""
        known = f"loss {report.loss:.3f} top-1 {report.top1:.3f} " if report.loss is not None else ""
        self.bar.update(self.one, completed=report.step, now=known + rate)

    def ended(self, outcome: Outcome) -> None:
        self.bar.update(self.all, advance=1)
        if outcome.trained and not self.console.is_terminal and outcome.result:
            top1 = outcome.result.get("top1_last")
            typer.echo(f"{outcome.planned.spec.label}: {outcome.state}"
                       + (f", top-1 {top1:.3f}" if top1 is not None else ""), err=True)  # fmt: skip


def finish_check(outcomes: Sequence[Outcome]) -> None:
    """Raise when nothing came of a plan, so that the exit code says so."""
    from mkfa.errors import WorkError

    if outcomes and not any(o.state == "done" for o in outcomes):
        raise WorkError(f"{len(outcomes)} runs", "ended without a result", "see the lines above and 'mkfa runs'")


def dry_run(plan: Sequence[Planned], found: Estimate, at: Session) -> None:
    """Print a plan for machines."""
    from mkfa.training.runfolder import as_record

    if at.as_json:
        print_json({"estimate": found, "runs_folder": at.root,
                    "runs": [as_record(p.spec) | {"from": p.source} for p in plan]})  # fmt: skip
    else:
        say("Nothing was trained (--dry-run).")


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
    from mkfa.cli.output import save_figure, to_json, write_text

    paths = [at.results / f"{name}.{ending}" for ending in ("json", "csv", "png")]
    write_text(paths[0], to_json(data) + "\n", overwrite=True)
    write_text(paths[1], csv, overwrite=True)
    save_figure(figure, paths[2], overwrite=True)
    return paths
