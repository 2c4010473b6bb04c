"""`mkfa runs`, `mkfa runs show`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mkfa.cli.output import Json, print_json, print_table, say

Where = Annotated[Path | None, typer.Option("--out", metavar="DIR", help="The --out of the command that trained; "
                                            "default: mkfa's data folder.")]  # fmt: skip


def register(app: typer.Typer) -> None:
    """Add the verbs of this module to the command line."""
    group = typer.Typer(invoke_without_command=True, no_args_is_help=False,
                        help="List training runs: done, running, stopped, failed, diverged.")  # fmt: skip
    group.callback()(runs)
    group.command("show")(show)
    app.add_typer(group, name="runs")


def runs(
    context: typer.Context, out: Where = None, as_json: Json = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print comma-separated values.")] = False,
) -> None:  # fmt: skip
    """List training runs: done, running, stopped, failed, diverged."""
    if context.invoked_subcommand:
        context.obj = out
        return
    from mkfa.training import runs as of

    root = _root(out)
    entries = of.list_runs(root)
    if as_json:
        print_json(entries)
    elif as_csv:
        say(of.as_csv(entries).rstrip("\n"))
    else:
        rows = [(e.hash[:8], e.state, e.domain, e.arch, e.arm, e.layers or None, e.recipe, e.seed, e.top1)
                for e in entries]  # fmt: skip
        counts = ", ".join(f"{sum(e.state == s for e in entries)} {s}" for s in of.STATES)
        notes = [f"{counts}. In {root}", *(f"{e.hash[:8]} failed: {e.error}" for e in entries if e.error)]
        columns = ("run", "state", "domain", "network", "arm", "layers", "recipe", "seed", "top-1")
        print_table("Runs", columns, rows, left=5, notes=notes)


def show(
    context: typer.Context, run: Annotated[str, typer.Argument(help="Hash of a run, or the beginning of it.")],
    out: Where = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Show one run: specification, result, accuracy epoch by epoch."""
    from mkfa.training.runs import find_run, run_details

    details = run_details(find_run(_root(out or context.obj), run))
    if as_json:
        print_json(details)
        return
    entry, result = details["run"], details["result"] or {}
    facts = [(key, entry[key]) for key in ("hash", "state", "domain", "arch", "arm", "layers", "what", "recipe", "seed",
                                           "source", "error", "path") if entry[key] not in ("", None)]  # fmt: skip
    keys = ("top1_last", "top1_best", "best_epoch", "chance", "loss_test", "images_per_second", "seconds", "resumed",
            "train_images", "test_images", "parameters", "trained_parameters", "planted", "weights_sha256")  # fmt: skip
    facts += [(key, result[key]) for key in keys if result.get(key) is not None]
    print_table("Run", ("", ""), facts)
    metrics = details["metrics"]
    rows = [(r["epoch"], r["step"], r["loss_train"], r["loss_test"], r["top1"]) for r in metrics[-20:]]
    notes = [f"The last 20 of {len(metrics)} epochs."] if len(metrics) > 20 else []
    print_table("Epochs", ("epoch", "step", "training loss", "test loss", "top-1"), rows, left=0, notes=notes)


def _root(out: Path | None) -> Path:
    from mkfa.errors import MkfaError
    from mkfa.training.runs import default_root

    if out is not None and not out.is_dir():
        raise MkfaError(out, "is no folder", "name the --out of the command that trained")
    return out / "runs" if out else default_root()
