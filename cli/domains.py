"""`mkfa domains`, `mkfa domains pack`, `mkfa domains show`: labelled image sets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mkfa.cli.shared.options import DOMAIN, OUTPUT, Force, Json, Width, add, flag, new_group, option
from mkfa.cli.shared.outputs import PICTURES, check_output, check_width, save_figure
from mkfa.cli.shared.printing import print_json, print_table, say, say_wrote, warn
from mkfa.cli.shared.progress import shown
from mkfa.words import counted

if TYPE_CHECKING:
    from mkfa.images.domain import Domain
    from mkfa.images.overview import Overview


def register(app: typer.Typer) -> None:
    """Add the verbs of this module to the command line."""
    group = new_group(app, "domains", domains, for_paths="show")
    add(group, "pack", pack)
    add(group, "show", show)


ContactSheet = Annotated[
    Path | None,
    option(
        "--contact-sheet",
        "FILE",
        "Draw the first training image of each class, of at most 100 classes: .png, .pdf or .svg.",
        **OUTPUT,
    ),
]


def domains(context: typer.Context, as_json: Json = False) -> None:
    """List the labelled image sets, or decode one for training."""
    from mkfa.images.load import list_domains
    from mkfa.images.registry import datasets_folder

    if context.invoked_subcommand:
        return
    found = list_domains()
    if as_json:
        print_json(found)
        return
    rows = found.rows()
    keys = ("name", "title", "state", "classes", "train", "test", "size", "megabytes")
    columns = ("domain", "images", "state", "classes", "train", "test", "pixels", "MB")
    print_table("Domains", columns, [[row[key] for key in keys] for row in rows], left=3)
    say(f"Data sets are looked for in {datasets_folder()}", wrap=False)
    if any(row["state"] == "missing" for row in rows):
        say("MB: rough size of the download. How to get a missing set is said when it is used, and by --json.")


def pack(
    name: Annotated[str, typer.Argument(metavar="DOMAIN", help=DOMAIN)],
    size: Annotated[
        int | None, option("--size", "PIXELS", "Side of the images; default: the domain's own, or 64.")
    ] = None,
    crop_from: Annotated[
        int,
        option(
            "--crop-from",
            "PIXELS",
            "Pack training images whole, for a recipe that cuts crops out of them; made smaller only where their "
            "shorter side exceeds this (recipe paper: 448); 0 for squares of --size.",
            min=0,
        ),
    ] = 0,
    eval_size: Annotated[
        int,
        option(
            "--eval-size",
            "PIXELS",
            "Scale the shorter side of test images to this, then cut out the centre of --size (recipe paper: 256).",
            min=0,
        ),
    ] = 0,
    workers: Annotated[
        int, option("--workers", "N", "Processes that decode; 0: one for each core, none for a few images.", min=0)
    ] = 0,
    strict: Annotated[
        bool, flag("--strict", "Stop at an image that cannot be decoded, instead of leaving it out.")
    ] = False,
    background: Annotated[
        str, option("--background", "COLOUR", "What transparent pixels show: white, black, #rrggbb.")
    ] = "white",
    levels: Annotated[
        str | None,
        option(
            "--levels",
            "LOW,HIGH",
            "Values that become black and white in images of more than 8 bits, such as 0,4095. Default: the full range "
            "of 16-bit integers (the high byte is kept); for floats 0 to 1, or 0 to 255, or the lowest to the highest "
            "value of the training images, and so for 32-bit integers.",
        ),
    ] = None,
    out: Annotated[
        Path | None, option("--out -o", "FILE.h5", "Write here; default: the home folder (MKFA_HOME).", **OUTPUT)
    ] = None,
    contact_sheet: ContactSheet = None,
    width: Width = "page",
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Decode a data set once into one file that training reads; a stopped run goes on where it was.

    Images are scaled to --size by their shorter side and cut to their centre. A folder is read as torchvision's
    ImageFolder reads it; hidden files are left out. Only first frames are read, an EXIF orientation is not applied, and
    colour profiles are ignored.
    """
    from mkfa.images.decode import parse_levels
    from mkfa.images.domain_file import read_domain
    from mkfa.images.load import pack_domain
    from mkfa.images.overview import overview

    check_output(out, (".h5",), force=force)
    check_output(contact_sheet, PICTURES, force=force)
    check_width(width, contact_sheet, "--contact-sheet")
    done = pack_domain(
        name,
        size=size,
        crop_from=crop_from,
        eval_size=eval_size,
        out=out,
        workers=workers,
        strict=strict,
        overwrite=force,
        background=background,
        levels=parse_levels(levels) if levels is not None else None,
        progress=shown(),
    )
    for note in done.notes:
        warn(note)
    for skipped, problem in list(zip(done.skipped, done.problems, strict=True))[:_NAMED]:
        warn(f"{skipped} was left out as it cannot be decoded: {problem}")
    if len(done.skipped) > _NAMED:
        more = counted(len(done.skipped) - _NAMED, "more image was", "more images were")
        warn(f"{more} left out as undecodable; --json lists all")
    domain = read_domain(done.path)
    found = overview(domain, notes=done.notes)
    _draw(domain, contact_sheet, width, force)
    if as_json:
        print_json(done.to_dict() | {"overview": found.facts(), "contact_sheet": contact_sheet})
        return
    left = f", {len(done.skipped)} left out" if done.skipped else ""
    again = f" ({done.resumed} were there already)" if done.resumed else ""
    say(f"Packed {done.train} train and {counted(done.test, 'test image')}{left}{again}.")
    _say_overview(found)
    say_wrote(done.path, contact_sheet)


_NAMED = 10
"""Images that cannot be decoded and are named one by one."""


def show(
    name: Annotated[str, typer.Argument(metavar="DOMAIN", help=DOMAIN)],
    size: Annotated[
        int | None, option("--size", "PIXELS", "Side of the images; default: the domain's own, or 64.")
    ] = None,
    contact_sheet: ContactSheet = None,
    width: Width = "page",
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Say how many images each class has and how they look; a folder is decoded first."""
    from mkfa.images.load import describe_domain, load_domain

    check_output(contact_sheet, PICTURES, force=force)
    check_width(width, contact_sheet, "--contact-sheet")
    found = describe_domain(name, size=size, notify=warn, progress=shown())
    if contact_sheet is not None:
        _draw(load_domain(name, size=size), contact_sheet, width, force)
    if as_json:
        print_json(found.to_dict() | {"contact_sheet": contact_sheet})
        return
    for note in found.notes:
        warn(note)
    _say_overview(found)
    say_wrote(contact_sheet)


def _say_overview(found: Overview) -> None:
    """Print the counts and the contrast, and warn of what looks wrong."""
    say(f"{found.headline()}.")
    for warning in found.warnings():
        warn(warning)


def _draw(domain: Domain, path: Path | None, width: str, force: bool) -> None:
    if path is not None:
        import warnings

        from mkfa.figures import contact_sheet

        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph")  # letters that the font lacks are drawn as boxes
            picture = contact_sheet.draw(contact_sheet.compute(domain), width=width)
            save_figure(picture, path, overwrite=force)
