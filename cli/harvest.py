"""`mkfa harvest`: from checkpoints to banks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mkfa.cli.shared.bank_facts import print_bank
from mkfa.cli.shared.options import OUTPUT, Force, Json, add, flag, option
from mkfa.cli.shared.outputs import check_output
from mkfa.cli.shared.printing import print_list, print_table, say, say_wrote, warn
from mkfa.cli.shared.progress import shown

if TYPE_CHECKING:
    from mkfa.readers.collect import Harvested
    from mkfa.readers.harvesting import HarvestOptions

SILENT = "Provenance, where the source does not say it."


def register(app: typer.Typer) -> None:
    """Add the verb of this module to the command line."""
    add(app, "harvest", harvest)


def harvest(
    sources: Annotated[
        list[str],
        typer.Argument(metavar="SOURCE...", help="Checkpoint, folder, timm name or pattern, hf-hub:OWNER/NAME."),
    ],
    name: Annotated[str | None, option("--name", "NAME", "Name of the bank (one source).")] = None,
    arch: Annotated[str, option("--arch", "NAME", "timm architecture of a local checkpoint.")] = "",
    training_set: Annotated[str, option("--training-set", "TEXT", SILENT)] = "",
    task: Annotated[str, option("--task", "TEXT", SILENT)] = "",
    licence: Annotated[str, option("--licence", "TEXT", SILENT)] = "",
    allow_nonfinite: Annotated[
        bool, flag("--allow-nonfinite", "Store NaN and infinite weights; analyses leave them out.")
    ] = False,
    out: Annotated[
        Path | None, option("--out -o", "FILE.h5", "Write the bank here (one source); default: the library.", **OUTPUT)
    ] = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Collect the depthwise filters of trained networks into banks."""
    from mkfa.banks.bank_file import read_bank
    from mkfa.errors import MkfaError
    from mkfa.progress import follow
    from mkfa.readers.collect import collect, expand_sources, failures
    from mkfa.readers.harvesting import HarvestOptions

    if name is not None and not name.strip():
        raise MkfaError("--name", "is empty", "name the bank, or leave the option out")
    options = HarvestOptions(name or "", arch, allow_nonfinite, training_set, task, licence)
    wanted = expand_sources(sources)
    if len(wanted) > 1 and (out or name):
        raise MkfaError(
            "--out and --name",
            f"stand for one bank, but there are {len(wanted)} sources",
            "leave them out: each bank goes into the library under its network's name",
        )
    if out is not None:
        check_output(out, (".h5",), force=force)
        done: tuple[Harvested, ...] = (_harvest_to_file(wanted[0], options, out, force=force),)
    else:
        with follow(shown(), "harvest", len(wanted)) as advance:

            def tell(result: Harvested) -> None:
                advance(1)
                if result.error and len(wanted) > 1:
                    warn(str(result.error))

            done = collect(wanted, options, force=force, tell=tell)
    if len(done) == 1 and done[0].error:
        raise done[0].error
    if as_json:
        print_list("harvest", "banks", done)
    elif len(done) == 1:
        print_bank(read_bank(done[0].path), done[0].path, layers=False)
        if done[0].state == "harvested":
            say_wrote(done[0].path)
        else:
            say(f"Was there already (--force harvests again): {done[0].path}", wrap=False)
    else:
        rows = [(h.name, h.state, h.layers or None, h.filters or None) for h in done]
        print_table("Harvested", ("bank", "", "layers", "filters"), rows, left=2)
        say(f"In {done[0].path.parent}", wrap=False)
    if error := failures(done):
        raise error


def _harvest_to_file(source: str, options: HarvestOptions, out: Path, *, force: bool) -> Harvested:
    from mkfa.banks.bank_file import write_bank
    from mkfa.progress import follow
    from mkfa.readers.collect import Harvested
    from mkfa.readers.harvesting import harvest as read

    with follow(shown(), f"harvest {source}", None):
        bank = read(source, options)
    write_bank(bank, out, overwrite=force)
    return Harvested(source, bank.name, "harvested", out, len(bank.layers), len(bank), bank.provenance.notes)
