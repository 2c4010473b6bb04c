"""`mkfa transfer-curve`; registers `transfer-matrix` too."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mkfa.cli import arm_help
from mkfa.cli import transfer_matrix as matrix
from mkfa.cli.shared import result_tables as tables
from mkfa.cli.shared import training as trainer
from mkfa.cli.shared.outputs import Json, print_json, say

if TYPE_CHECKING:
    from mkfa.experiments.plan import Setting
    from mkfa.results.curve import Curve
    from mkfa.training.device import Execution

PAIR = ("fashion", "digits")
"""Bundled domains of other kinds; on digits, frozen identity kernels cost most and seeds differ little."""
ARMS = "transfer,selffer,random"


def register(app: typer.Typer) -> None:
    """Add the verbs of this module to the command line."""
    app.command("transfer-curve", **arm_help.epilog())(transfer_curve)
    matrix.register(app)


def transfer_curve(
    layers: Annotated[
        str,
        typer.Option(
            "--layers", help="Numbers of layers: 1..18, 0..12..3, 1,2,4, all; one number and several arms make a table."
        ),
    ] = "1..18",
    source: Annotated[
        str,
        typer.Option(
            "--source", help="Domains, folders of images, banks, checkpoints or folders of base runs, by commas."
        ),
    ] = PAIR[0],
    target: Annotated[
        str, typer.Option("--target", help="Domain, packed file or folder of images to train on.")
    ] = PAIR[1],
    arms: Annotated[
        str | None,
        typer.Option(
            "--arms", help=f"Arms, by commas; default: {ARMS}, and stack instead of transfer with --source-arch."
        ),
    ] = None,
    arch: Annotated[str, typer.Option("--arch", help="timm name, or convmixer_C_L; default: by device.")] = "",
    source_arch: trainer.SourceArch = "",
    what: trainer.What = "depthwise",
    with_bias: trainer.Biases = False,
    fit_kernel: trainer.Fit = "",
    recipe: Annotated[
        str, typer.Option("--recipe", help="paper, fast, smoke, or a .toml file; default: by device.")
    ] = "",
    changes: trainer.Changes = None,
    epochs: trainer.Epochs = None,
    equal_steps: trainer.EqualSteps = None,
    seeds: trainer.Seeds = 3,
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
    """Train, freeze and tell: accuracy against the number of borrowed layers, for several arms and seeds."""
    from mkfa.experiments.plan import Setting, default_setting
    from mkfa.training.device import Execution

    execution = Execution(
        device, threads, amp, channels_last, compile_, data=data, jobs=jobs, events=tensorboard, quick=quick
    )
    options, reason = trainer.network_options(kernel, patch, stem_stride), ""
    if not arch or not recipe:
        setting = default_setting(execution.resolved().device.type)
        reason = setting.reason
        if not arch:
            arch, options = setting.arch, dict(setting.options) | options
        if not recipe:
            recipe = setting.recipe
            equal_steps = setting.equal_steps if equal_steps is None and epochs is None else equal_steps
            changes = [*(f"{key}={value}" for key, value in setting.changes.items()), *(changes or [])]
    used = trainer.recipe(recipe, changes, epochs, equal_steps)
    experiment = Setting(arch, used, what, with_bias, fit_kernel, options)
    if arms is None:
        arms = ARMS.replace("transfer", "stack") if source_arch else ARMS
    curve(
        experiment,
        source=source,
        source_arch=source_arch,
        target=target,
        arms=trainer.names(arms, "--arms"),
        layers=layers,
        seeds=seeds,
        out=out,
        execution=execution,
        dry_run=dry_run,
        as_json=as_json,
        verb="transfer-curve",
        with_paper=with_paper,
        reason=reason,
    )


def curve(
    experiment: Setting,
    *,
    source: str,
    source_arch: str = "",
    target: str,
    arms: Sequence[str],
    layers: str,
    seeds: int,
    out: Path | None,
    execution: Execution,
    dry_run: bool,
    as_json: bool,
    verb: str,
    with_paper: bool = False,
    reason: str = "",
) -> None:
    """Plan, train and show a curve, or at one number of layers a table of arms or sources; `mkfa transfer` is one."""
    from mkfa.experiments import plan as plans
    from mkfa.experiments.sources import find_origins
    from mkfa.results.curve import make_curve
    from mkfa.results.gather import finished

    plans.check_arms(arms, what=experiment.what)
    domains = trainer.domains(experiment.recipe)
    numbers, count = plans.choose_layers(layers, experiment, domains[target])
    origins = find_origins(
        source, what=experiment.what, networks=source_arch, target=(experiment.arch, experiment.options)
    )
    table = len(numbers) == 1 and numbers[0] > 0 and len(arms) * len(origins) > 1
    paper = _paper(experiment.what, table=table, sources=len(origins) > 1) if with_paper else None
    cells = [(origin, target, arm, n) for arm in arms for origin in origins for n in numbers]
    plans.check_sources(experiment, domains, cells=cells)
    plan = plans.plan_cells(experiment, domains, cells=cells, seeds=seeds)
    sources = [plans.source_label(origin, domains) for origin in origins]
    name = f"{verb}-{tables.short(sources)}-{domains[target].name}-{experiment.arch}-{experiment.recipe.name}"
    at = trainer.session(out, name, execution, as_json=as_json)
    for told in (reason, plans.tell_followers(experiment, domains[target], count)):
        if told and not as_json:
            say(told)
    outcomes = trainer.work(plan, domains, at, experiment=experiment, dry_run=dry_run)
    if outcomes is None:
        return
    of = [f for f in finished(plan, at.root) if f.target == domains[target].name]
    parameters = {
        "source": ", ".join(sources),
        "target": domains[target].name,
        "arms": list(arms),
        "layers": numbers,
        "network_layers": count,
        "source_arch": source_arch,
        "seeds": seeds,
        "what": experiment.what,
        "arch": experiment.arch,
        "options": dict(experiment.options),
        "recipe": experiment.recipe,
        "with_bias": experiment.with_bias,
        **tables.made_by(plan),
    }
    kind, found, figure = _drawn(make_curve(of, parameters=parameters), paper, table=table)
    csv = tables.csv_of(found.base, *(row.cell for row in found.rows) if table else found.cells)
    paths = trainer.write_results(at, kind, found, csv=csv, figure=figure)
    if as_json:
        print_json({kind: found, "files": paths})
    else:
        wrote = f"Wrote {', '.join(p.name for p in paths)} in {at.results}"
        show = tables.print_scenarios if table else tables.print_curve
        show(found, test_images=len(domains[target].y_test), notes=[wrote])
    trainer.exit_code(outcomes)


def _paper(what: str, *, table: bool, sources: bool) -> Any:
    """Return what the paper has to put beside a curve or a table; refuses, before any work, where it has nothing."""
    from mkfa.evidence.paper import paper_curves, paper_rows

    return paper_rows(sources=sources, what=what) if table else paper_curves(what)


def _drawn(found: Curve, paper: Any, *, table: bool) -> tuple[str, Any, Any]:
    """Return the result's name, the result and its figure."""
    if table:
        from mkfa.figures import scenarios
        from mkfa.results.table import as_scenarios

        rows = as_scenarios(found)
        return "table", rows, scenarios.draw(rows, paper=paper)
    from mkfa.figures import curve

    return "curve", found, curve.draw(found, paper=paper or ())
