"""`mkfa transfer-matrix`: every source on every target, with controls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from mkfa.cli.shared import result_tables as tables
from mkfa.cli.shared import training as trainer
from mkfa.cli.shared.outputs import Json, print_json, say

if TYPE_CHECKING:
    from mkfa.experiments.plan import Setting
    from mkfa.images.opened import Domains

BUNDLED = "letters,fashion,scripts,digits,emoji,clipart"


def register(app: typer.Typer) -> None:
    """Add the verb of this module to the command line."""
    app.command("transfer-matrix")(transfer_matrix)


def transfer_matrix(
    domains: Annotated[
        str,
        typer.Option(
            "--domains",
            help="Targets, each a source too: domains, packed files or "
            "folders of images, by commas, the largest first.",
        ),
    ] = BUNDLED,
    sources: Annotated[
        str | None,
        typer.Option(
            "--sources",
            help="Sources that are no targets, rows above the others: "
            "domains, packed files, folders of images; for depthwise layers "
            "banks and checkpoints too.",
        ),
    ] = None,
    arm: Annotated[str, typer.Option("--arm", help="Arm off the diagonal.")] = "transfer",
    controls: Annotated[
        str | None,
        typer.Option(
            "--controls",
            help="Arms that need no source, rows below the others; "
            "none for none. Default: random,delta; random alone where delta "
            "cannot be.",
        ),
    ] = None,
    layers: Annotated[str, typer.Option("--layers", help="The first N layers, one number, or all.")] = "all",
    arch: Annotated[str, typer.Option("--arch", help="timm name, or convmixer_C_L.")] = "convmixer_48_6",
    what: trainer.What = "depthwise",
    with_bias: trainer.Biases = False,
    fit_kernel: trainer.Fit = "",
    recipe: trainer.RecipeName = "fast",
    changes: trainer.Changes = None,
    epochs: trainer.Epochs = None,
    equal_steps: trainer.EqualSteps = None,
    seeds: trainer.Seeds = 1,
    kernel: trainer.Kernel = None,
    patch: trainer.Patch = None,
    stem_stride: trainer.Stem = None,
    out: trainer.Out = None,
    device: trainer.Device = "auto",
    data: trainer.Data = "auto",
    threads: trainer.Threads = 0,
    jobs: trainer.Jobs = 0,
    amp: trainer.Amp = None,
    channels_last: trainer.Last = None,
    compile_: trainer.Compile = None,
    quick: trainer.Quick = None,
    with_paper: tables.WithPaper = False,
    tensorboard: trainer.Tensorboard = False,
    dry_run: trainer.DryRun = False,
    as_json: Json = False,
) -> None:
    """Every source on every target, with selffer on the diagonal: accuracy against each target's base."""
    from mkfa.evidence.paper import paper_matrix
    from mkfa.experiments import matrix_plan as matrix_rows
    from mkfa.experiments import plan as plans
    from mkfa.figures.matrix import draw
    from mkfa.results.gather import finished
    from mkfa.results.matrix import make_matrix
    from mkfa.training.device import Execution

    paper = paper_matrix(what) if with_paper else None
    matrix_rows.check_arm(arm, what=what)
    apart, told = matrix_rows.find_controls(controls, what=what)
    used = trainer.recipe(recipe, changes, epochs, equal_steps)
    options = trainer.network_options(kernel, patch, stem_stride)
    experiment = plans.Setting(arch, used, what, with_bias, fit_kernel, options)
    sets = trainer.domains(experiment.recipe)
    trainer.names(domains, "--domains")  # refuses empty names; those given twice are left for the refusal below
    given = [name.strip() for name in domains.split(",")]
    more = trainer.names(sources, "--sources") if sources is not None else []
    rows = matrix_rows.find_rows(given, sets, more=more, what=what)
    number = _layers(layers, experiment, sets, first=given[0], told=told, silent=as_json)
    cells = matrix_rows.plan_rows(rows, given=given, arm=arm, layers=number, controls=apart)
    plans.check_sources(experiment, sets, cells=cells)
    plan = plans.plan_cells(experiment, sets, cells=cells, seeds=seeds)
    execution = Execution(
        device, threads, amp, channels_last, compile_, data=data, jobs=jobs, events=tensorboard, quick=quick
    )
    at = trainer.session(out, f"transfer-matrix-{what}-{arch}-{experiment.recipe.name}", execution, as_json=as_json)
    outcomes = trainer.work(plan, sets, at, experiment=experiment, dry_run=dry_run)
    if outcomes is None:
        return
    parameters: dict[str, Any] = {
        "domains": list(rows.domains),
        "sources": list(rows.sources),
        "arm": arm,
        "controls": list(apart),
        "layers": number,
        "seeds": seeds,
        "what": what,
        "arch": arch,
        "options": dict(experiment.options),
        "recipe": experiment.recipe,
        **tables.made_by(plan),
    }
    found = make_matrix(finished(plan, at.root), domains=rows.domains, sources=rows.sources, parameters=parameters)
    lines = tables.csv_of(*found.bases.values(), *found.cells, *found.controls)
    paths = trainer.write_results(at, "matrix", found, csv=lines, figure=draw(found, paper=paper))
    if as_json:
        print_json({"matrix": found, "files": paths})
    else:
        tables.print_matrix(found, notes=[f"Wrote {', '.join(p.name for p in paths)} in {at.results}"])
    trainer.exit_code(outcomes)


def _layers(asked: str, experiment: Setting, sets: Domains, *, first: str, told: str, silent: bool) -> int:
    """Return how many layers are set, and say what else a reader must know of them; refuses more than there are."""
    from mkfa.errors import MkfaError
    from mkfa.experiments import plan as plans

    numbers, count = plans.choose_layers(asked, experiment, sets[first])
    if len(numbers) > 1 or numbers[0] == 0:
        raise MkfaError(f"--layers {asked}", "is not one number of layers", f"choose from 1 to {count}, or all")
    for line in (told, plans.tell_followers(experiment, sets[first], count)):
        if line and not silent:
            say(line)
    return numbers[0]
