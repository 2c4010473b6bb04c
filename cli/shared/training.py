"""What the training commands share: their options, the plan's table, the progress of a sweep."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mkfa.cli.shared.outputs import print_json, print_table, say
from mkfa.cli.sweepbar import SweepBar

if TYPE_CHECKING:
    from mkfa.engines.estimate import Estimate
    from mkfa.engines.serial import Outcome
    from mkfa.experiments.plan import Setting
    from mkfa.images.opened import Domains
    from mkfa.training.device import Execution
    from mkfa.training.planned import PlannedRun
    from mkfa.training.recipe import Recipe

RecipeName = Annotated[str, typer.Option("--recipe", help="paper, fast, smoke, or a .toml file.")]
Changes = Annotated[
    list[str] | None, typer.Option("--set", metavar="FIELD=VALUE", help="Change a field of the recipe.")
]
Epochs = Annotated[int | None, typer.Option("--epochs", help="Epochs, instead of the recipe's.")]
EqualSteps = Annotated[
    int | None, typer.Option("--equal-steps", help="Optimiser steps of every run, whatever the domain's size.")
]
Seeds = Annotated[int, typer.Option("--seeds", min=1, help="Seeds 0, 1, ... of every run.")]
Out = Annotated[
    Path | None,
    typer.Option(
        "--out", metavar="DIR", help="Folder for run folders, tables and figures; default: below mkfa's data folder."
    ),
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, mps.")]
Threads = Annotated[
    int,
    typer.Option(
        "--threads",
        min=0,
        max=1024,
        help="Threads of the CPU; 0 for all. One is often faster where other programs run.",
    ),
]
Jobs = Annotated[
    int,
    typer.Option(
        "--jobs",
        min=0,
        help="Runs at a time, each in its own process; 0 for one on each "
        "GPU, or as many as cores, of one thread each, if the runs allow.",
    ),
]
Data = Annotated[
    str,
    typer.Option(
        "--data",
        help="Images: resident on the device, stream: read from disk ahead of "
        "the training, auto: resident if they fit.",
    ),
]
Amp = Annotated[bool | None, typer.Option("--amp/--no-amp", help="bfloat16 autocast (default: on CUDA).")]
Last = Annotated[bool | None, typer.Option("--channels-last/--no-channels-last", help="Memory format (default: on).")]
Compile = Annotated[bool | None, typer.Option("--compile/--no-compile", help="torch.compile (default: on CUDA).")]
Quick = Annotated[
    bool | None,
    typer.Option(
        "--quick/--no-quick",
        help="On a CPU, our gradients of depthwise and 1x1 layers instead of PyTorch's (default: on).",
    ),
]
Kernel = Annotated[int | None, typer.Option("--kernel", help="Kernel size of a convmixer_C_L; default: 7.")]
Patch = Annotated[int | None, typer.Option("--patch", help="Patch size of a convmixer_C_L; default: 2.")]
Stem = Annotated[
    int | None,
    typer.Option(
        "--stem-stride",
        help="Stride of the first convolution; default: half of "
        "the network's own for images of up to 64 px (ConvNeXt: 2), else its own.",
    ),
]
SourceArch = Annotated[
    str,
    typer.Option(
        "--source-arch",
        metavar="ARCH[,ARCH...]",
        help="Other networks than the "
        "target's for the sources' base runs, trained first with the same recipe; "
        "use arm stack. Options follow a name: convmixer_96_6:kernel=5.",
    ),
]
What = Annotated[str, typer.Option("--what", help="depthwise, pointwise or conv (every convolution of the main path).")]
Biases = Annotated[bool, typer.Option("--with-bias", help="Copy and freeze biases too.")]
Fit = Annotated[str, typer.Option("--fit-kernel", help="pad or crop kernels of another size; default: refuse.")]
Tensorboard = Annotated[bool, typer.Option("--tensorboard", help="Write TensorBoard events into every run's folder.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the plan and its estimate, and train nothing.")]


@dataclass(frozen=True)
class Session:
    """Where a command's runs go and how they are computed."""

    root: Path
    results: Path
    execution: Execution
    as_json: bool


def recipe(name: str, changes: list[str] | None, epochs: int | None, equal_steps: int | None) -> Recipe:
    """Return the recipe that the options ask for; refuses epochs where the recipe counts optimiser steps instead."""
    from mkfa.errors import MkfaError
    from mkfa.training.recipe import load_recipe, parse_changes

    found = parse_changes(changes or [])
    found |= {k: v for k, v in (("epochs", epochs), ("equal_steps", equal_steps)) if v is not None}
    made = load_recipe(name, found)
    if epochs is not None and made.equal_steps:
        problem = f"would change nothing, as every run takes {made.equal_steps} optimiser steps"
        raise MkfaError(f"--epochs {epochs}", problem, "leave it out, or pass --equal-steps 0 with it")
    return made


def domains(recipe: Recipe) -> Domains:
    """Return the domains of a command, which says so and shows a bar where images are decoded on first use."""
    from mkfa.cli.shared.outputs import progress, warn
    from mkfa.images.opened import Domains

    return Domains(recipe.size, recipe.max_size, tell=warn, progress=progress)


def network_options(kernel: int | None, patch: int | None, stem: int | None) -> dict[str, int]:
    """Return the network options that were given."""
    given = (("kernel", kernel), ("patch", patch), ("stem_stride", stem))
    return {key: value for key, value in given if value is not None}


def names(text: str, option: str) -> list[str]:
    """Return names that are joined by commas, once each, in order."""
    from mkfa.errors import MkfaError

    found = list(dict.fromkeys(part.strip() for part in text.split(",")))
    if found == [""]:
        raise MkfaError(option, "names nothing", "name one or several, joined by commas")
    if "" in found:
        raise MkfaError(f"{option} {text!r}", "has an empty name in it", "join names by single commas")
    return found


def session(out: Path | None, name: str, execution: Execution, *, as_json: bool) -> Session:
    """Make the folders of a command's results; refuses a place that cannot be written before any work is done."""
    from mkfa.errors import MkfaError, WorkError
    from mkfa.results.runs import default_root
    from mkfa.storage.folders import home

    root = out / "runs" if out else default_root()
    results = out or home() / "results" / name
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
    notes.append(f"Runs in {at.root}")
    if warning := sensitivity_warning(plan):
        notes.append(warning)
    if others := sorted({network for _, _, _, network in groups} - {rows[0][3]}):
        notes.append("Filters come from base runs of other networks, which are trained first with the same recipe:")
        notes.append(", ".join(others))
    print_table("Plan", ("arm", "source", "target", "network", "layers", "seeds", "runs"), rows, left=4, notes=notes)


def _print_plan_json(plan: Sequence[PlannedRun], found: Estimate, at: Session) -> None:
    from mkfa.training.spec import as_record

    print_json(
        {"estimate": found, "runs_folder": at.root, "runs": [as_record(p.spec) | {"from": p.source} for p in plan]}
    )


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
    from mkfa.cli.shared.outputs import save_figure, to_json, write_text

    paths = [at.results / f"{name}.{ending}" for ending in ("json", "csv", "png")]
    write_text(paths[0], to_json(data) + "\n", overwrite=True)
    write_text(paths[1], csv, overwrite=True)
    save_figure(figure, paths[2], overwrite=True)
    return paths
