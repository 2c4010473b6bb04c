"""`mkfa domains`, `mkfa domains pack`: labelled image sets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mkfa.cli.shared.options import DOMAIN, OUTPUT, Force, Json, add, flag, new_group, option
from mkfa.cli.shared.printing import print_json, print_list, print_table, say, say_wrote, warn
from mkfa.cli.shared.progress import shown


def register(app: typer.Typer) -> None:
    """Add the verbs of this module to the command line."""
    group = new_group(app, "domains", domains)
    add(group, "pack", pack)


def domains(context: typer.Context, as_json: Json = False) -> None:
    """List the labelled image sets, or decode one for training."""
    from mkfa.images.load import list_domains
    from mkfa.images.registry import datasets_folder

    if context.invoked_subcommand:
        return
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
            "state": i.state,
            "root": i.root,
            "fetch": i.remedy,
            "megabytes": i.megabytes or None,
        }
        for i in list_domains()
    ]
    if as_json:
        print_list("domain_list", "domains", rows)
        return
    keys = ("name", "title", "state", "classes", "train", "test", "size", "megabytes")
    columns = ("domain", "images", "state", "classes", "train", "test", "pixels", "MB")
    print_table("Domains", columns, [[row[key] for key in keys] for row in rows], left=3)
    say(f"Data sets are looked for in {datasets_folder()}", wrap=False)
    if any(row["state"] == "missing" for row in rows):
        say("MB: size of the download, roughly. A missing one says how to get it when it is used, and so does --json.")


def pack(
    name: Annotated[str, typer.Argument(metavar="DOMAIN", help=DOMAIN)],
    size: Annotated[
        int | None, option("--size", "PIXELS", "Side of the images; default: the domain's own, or 64.")
    ] = None,
    workers: Annotated[int, option("--workers", "N", "Processes that decode; 0: one for each core.", min=0)] = 0,
    strict: Annotated[
        bool, flag("--strict", "Stop at an image that cannot be decoded, instead of leaving it out.")
    ] = False,
    out: Annotated[
        Path | None, option("--out -o", "FILE.h5", "Write here; default: the home folder (MKFA_HOME).", **OUTPUT)
    ] = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Decode a data set once into one file that training reads; a stopped run goes on where it was."""
    from mkfa.images.load import pack_domain
    from mkfa.storage.heading import heading
    from mkfa.storage.records import plain

    done = pack_domain(name, size=size, out=out, workers=workers, strict=strict, overwrite=force, progress=shown())
    for skipped in done.skipped:
        warn(f"{skipped} cannot be decoded and was left out")
    if as_json:
        print_json(heading("packed_domain") | plain(done))
        return
    left = f", {len(done.skipped)} left out" if done.skipped else ""
    again = f" ({done.resumed} were there already)" if done.resumed else ""
    say(f"Packed {done.train} train and {done.test} test images{left}{again}.")
    say_wrote(done.path)
