"""`mkfa domains`, `mkfa domains pack`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mkfa.cli.shared.outputs import Force, Json, print_json, print_table, progress, say, warn


def register(app: typer.Typer) -> None:
    """Add the verbs of this module to the command line."""
    group = typer.Typer(invoke_without_command=True, help="List labelled image sets, or decode one for training.")
    group.callback()(domains)
    group.command("pack")(pack)
    app.add_typer(group, name="domains")


def domains(context: typer.Context, as_json: Json = False) -> None:
    """List the labelled image sets: what is here, and what would be fetched."""
    if context.invoked_subcommand:
        return
    from mkfa.images.load import state_of
    from mkfa.images.registry import datasets_folder, registry

    rows: list[dict[str, Any]] = [
        {
            "name": i.name,
            "title": i.title,
            "classes": i.classes,
            "train": i.train or None,
            "test": i.test or None,
            "size": i.size,
            "channels": i.channels,
            "licence": i.licence,
            "state": state_of(i),
            "root": i.root,
            "fetch": i.remedy,
            "megabytes": i.megabytes or None,
        }
        for i in registry().values()
    ]
    if as_json:
        print_json(rows)
        return
    cells = [
        (r["name"], r["title"], r["state"], r["classes"], r["train"], r["test"], r["size"], r["megabytes"])
        for r in rows
    ]
    columns = ("domain", "", "", "classes", "train", "test", "px", "MB")
    print_table("Domains", columns, cells, left=3, notes=[f"Data sets are looked for in {datasets_folder()}"])
    if any(r["state"] == "missing" for r in rows):
        say("MB is what would be fetched, roughly; a missing one says how when it is used, and so does --json.")


def pack(
    name: Annotated[
        str, typer.Argument(help="Domain, or a folder of images: train/ and test/ (or val/), a folder a class.")
    ],
    size: Annotated[
        int | None,
        typer.Option("--size", help="Side of the images, pixels; default: the domain's own, 64 for a folder."),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Write to this file; default: the data folder.")] = None,
    workers: Annotated[int, typer.Option("--workers", min=0, help="Processes that decode; 0 is one per core.")] = 0,
    strict: Annotated[
        bool,
        typer.Option("--strict", help="Stop at an image that cannot be decoded; default: leave it out and say so."),
    ] = False,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Decode a data set once into one file that training reads; a stopped run goes on where it was."""
    from mkfa.images.load import pack_domain

    with progress(f"pack {name}, %", 100) as advance:
        done = pack_domain(
            name,
            size=size,
            out=out,
            workers=workers,
            strict=strict,
            overwrite=force,
            tell=lambda n, total: advance(100 * n / total),
        )
    for skipped in done.skipped:
        warn(f"{skipped} cannot be decoded and was left out")
    if as_json:
        print_json(done)
        return
    left = f", {len(done.skipped)} left out" if done.skipped else ""
    again = f" ({done.resumed} were there already)" if done.resumed else ""
    say(f"Packed {done.train} train and {done.test} test images{left}{again}.")
    say(f"Wrote {done.path}")
