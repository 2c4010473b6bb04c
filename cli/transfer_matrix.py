"""`mkfa transfer-matrix`: every source on every target, with controls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from mkfa.cli.shared import result_tables as tables
from mkfa.cli.shared import training
from mkfa.cli.shared.options import (
    FilterOptions,
    Json,
    MatrixNetwork,
    OutFolder,
    RecipeOptions,
    Running,
    Seeds,
    WithPaper,
    add,
)
from mkfa.cli.shared.printing import print_json, say

if TYPE_CHECKING:
    from mkfa.experiments.plan import Setting
    from mkfa.images.opened import Domains

BUNDLED = "letters,fashion,scripts,digits,emoji,clipart"


def register(app: typer.Typer) -> None:
    """Add the verb of this module to the command line."""
    former = {"--domains": "--target", "--sources": "--source", "--arm": "--arms"}
    add(app, "transfer-matrix", transfer_matrix, former=former)


def transfer_matrix(
    target: Annotated[
        str,
        typer.Option(
            "--target",
            metavar="NAMES",
            help="Targets, each a source too: domains, packed files or folders of images, by commas, the largest "
            "first.",
        ),
    ] = BUNDLED,
    source: Annotated[
        str | None,
        typer.Option(
            "--source",
            metavar="NAMES",
            help="Sources that are not targets, as further rows: domains, packed files, folders of images; for "
            "depthwise layers banks and checkpoints too.",
        ),
    ] = None,
    arms: Annotated[str, typer.Option("--arms", metavar="NAME", help="The arm off the diagonal.")] = "transfer",
    controls: Annotated[
        str | None,
        typer.Option(
            "--controls",
            metavar="NAMES",
            help="Arms that need no source, as rows below the others; 'none' for none. Default: random,delta; random "
            "alone where delta cannot be.",
        ),
    ] = None,
    layers: Annotated[
        str, typer.Option("--layers", metavar="N", help="The first N layers: one number, or all.")
    ] = "all",
    seeds: Seeds = 1,
    *,
    filters: FilterOptions,
    network: MatrixNetwork,
    recipe: RecipeOptions,
    running: Running,
    out: OutFolder = None,
    with_paper: WithPaper = False,
    as_json: Json = False,
) -> None:
    """Transfer from every source to every target, with controls.

    On the diagonal is selffer: a target with filters of its own. Changes are against each target's base runs.
    """
    from mkfa.evidence.paper import paper_matrix
    from mkfa.experiments import matrix_plan as matrix_rows
    from mkfa.experiments import plan as plans
    from mkfa.figures.matrix import draw
    from mkfa.results.gather import finished
    from mkfa.results.matrix import make_matrix
    from mkfa.storage.heading import heading
    from mkfa.storage.records import plain

    what, arch, arm = filters.what, network.arch, arms
    paper = paper_matrix(what) if with_paper else None
    matrix_rows.check_arm(arm, what=what)
    apart, told = matrix_rows.find_controls(controls, what=what)
    used = training.recipe(recipe)
    options = network.options
    experiment = plans.Setting(arch, used, what, filters.with_bias, filters.fit_kernel, options)
    sets = training.domains(experiment.recipe)
    training.names(target, "--target")  # refuses empty names; those given twice are left for the refusal below
    given = [name.strip() for name in target.split(",")]
    more = training.names(source, "--source") if source is not None else []
    rows = matrix_rows.find_rows(given, sets, more=more, what=what)
    number = _layers(layers, experiment, sets, first=given[0], told=told, silent=as_json)
    cells = matrix_rows.plan_rows(rows, given=given, arm=arm, layers=number, controls=apart)
    plans.check_sources(experiment, sets, cells=cells)
    plan = plans.plan_cells(experiment, sets, cells=cells, seeds=seeds)
    at = training.session(out, f"transfer-matrix-{what}-{arch}-{experiment.recipe.name}", running, as_json=as_json)
    outcomes = training.work(plan, sets, at, experiment=experiment, dry_run=running.dry_run)
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
    paths = training.write_results(at, "matrix", found, csv=lines, figure=draw(found, paper=paper))
    if as_json:
        print_json(heading("matrix") | {"matrix": plain(found), "files": plain(paths)})
    else:
        tables.print_matrix(found, notes=[f"Wrote {', '.join(p.name for p in paths)} in {at.results}"])
    training.exit_code(outcomes)


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
