"""`mkfa train`, `mkfa transfer`; registers the other training verbs too."""

from __future__ import annotations

from typing import Annotated

import typer

from mkfa.cli import arm_help, runs
from mkfa.cli import transfer_curve as sweeps
from mkfa.cli.shared import result_tables as tables
from mkfa.cli.shared import training as trainer
from mkfa.cli.shared.outputs import Json, print_json, print_table


def register(app: typer.Typer) -> None:
    """Add the training verbs to the command line."""
    app.command("train")(train)
    app.command("transfer", **arm_help.epilog())(transfer)
    sweeps.register(app)
    runs.register(app)


def train(
    domain: Annotated[
        str,
        typer.Argument(
            help="Name of a domain, a packed file, or a folder of images: train/ and test/ (or val/), a folder a class."
        ),
    ],
    arch: Annotated[str, typer.Option("--arch", help="timm name, or convmixer_C_L.")] = "convnext_femto",
    recipe: trainer.RecipeName = "fast",
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
    tensorboard: trainer.Tensorboard = False,
    dry_run: trainer.DryRun = False,
    as_json: Json = False,
) -> None:
    """Train base runs on a domain; each leaves its filters as a bank in the library."""
    from mkfa.experiments.plan import Setting, plan_bases
    from mkfa.training.base_runs import store_bank
    from mkfa.training.device import Execution

    used = trainer.recipe(recipe, changes, epochs, equal_steps)
    experiment = Setting(arch, used, options=trainer.network_options(kernel, patch, stem_stride))
    domains = trainer.domains(used)
    plan = plan_bases(experiment, domains, names=[domain], seeds=seeds)
    name = f"train-{domains[domain].name}-{arch}-{used.name}"
    execution = Execution(
        device, threads, amp, channels_last, compile_, data=data, jobs=jobs, events=tensorboard, quick=quick
    )
    at = trainer.session(out, name, execution, as_json=as_json)
    outcomes = trainer.work(plan, domains, at, experiment=experiment, dry_run=dry_run)
    if outcomes is None:
        return
    banks = {
        o.planned.spec.hash: store_bank(at.root, o.planned.spec, domains[domain]) for o in outcomes if o.state == "done"
    }
    if as_json:
        names = {key: found.names for key, found in banks.items()}
        print_json([(o.result or {}) | {"banks": names.get(o.planned.spec.hash, [])} for o in outcomes])
    else:
        chance = next(o.result["chance"] for o in outcomes if o.state == "done" and o.result)
        notes = [f"Chance {chance:.3f}. Banks in the library: " + ", ".join(n for b in banks.values() for n in b.names)]
        notes += sorted({b.note for b in banks.values() if b.note})
        _print_runs("Base runs", outcomes, [*notes, f"Runs in {at.root}"])
    trainer.exit_code(outcomes)


def transfer(
    source: Annotated[
        str,
        typer.Option(
            "--source",
            help="Domains or folders of images (their base runs of the "
            "same seed), banks, checkpoints or folders of base runs, by commas.",
        ),
    ],
    target: Annotated[str, typer.Option("--target", help="Domain, packed file or folder of images to train on.")],
    arm: Annotated[str, typer.Option("--arm", help="How filters are set, by commas; see below.")],
    layers: Annotated[str, typer.Option("--layers", help="The first N layers, or all; 1..18, 1,4,8 for several.")],
    arch: Annotated[str, typer.Option("--arch", help="timm name, or convmixer_C_L.")] = "convnext_femto",
    source_arch: trainer.SourceArch = "",
    what: trainer.What = "depthwise",
    with_bias: trainer.Biases = False,
    fit_kernel: trainer.Fit = "",
    recipe: trainer.RecipeName = "fast",
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
    """Set the first layers' filters by an arm, freeze them, train the rest, beside the target's base runs.

    Several arms or sources at one number of layers make a table: --arm transfer,shuffle,first-k --layers all.
    """
    from mkfa.experiments.plan import Setting
    from mkfa.training.device import Execution

    used = trainer.recipe(recipe, changes, epochs, equal_steps)
    options = trainer.network_options(kernel, patch, stem_stride)
    experiment = Setting(arch, used, what, with_bias, fit_kernel, options)
    execution = Execution(
        device, threads, amp, channels_last, compile_, data=data, jobs=jobs, events=tensorboard, quick=quick
    )
    sweeps.curve(
        experiment,
        source=source,
        source_arch=source_arch,
        target=target,
        arms=trainer.names(arm, "--arm"),
        layers=layers,
        seeds=seeds,
        out=out,
        execution=execution,
        dry_run=dry_run,
        as_json=as_json,
        verb="transfer",
        with_paper=with_paper,
    )


def _print_runs(title: str, outcomes: object, notes: list[str]) -> None:
    rows = []
    for o in outcomes:  # type: ignore[attr-defined]
        r = o.result or {}
        state = f"{o.state} (was there)" if o.result and not o.trained else o.state
        rows.append(
            (
                o.planned.spec.label,
                state,
                r.get("top1_last"),
                r.get("top1_best"),
                r.get("images_per_second"),
                r.get("test_images"),
            )
        )
    columns = ("run", "state", "top-1 last", "best", "images/s", "test images")
    print_table(title, columns, rows, left=2, notes=notes)
