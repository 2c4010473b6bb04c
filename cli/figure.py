"""`mkfa figure`: figures that are drawn straight from banks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mkfa.cli.shared.options import OUTPUT, Force, Json, Seed, Width, flag, option
from mkfa.cli.shared.outputs import PICTURES, check_output, save_figure
from mkfa.cli.shared.printing import print_json, print_list, print_table, say
from mkfa.figures import FIGURES

FORMER = {"--banks": "BANK"}


def figure(
    name: Annotated[str, typer.Argument(metavar="FIGURE", help="Which figure; --list shows them.")] = "",
    banks: Annotated[list[str] | None, typer.Argument(metavar="BANK", help="Names or paths of banks.")] = None,
    list_them: Annotated[bool, flag("--list", "List the figures.")] = False,
    seed: Seed = 0,
    out: Annotated[
        Path | None, option("--out -o", "FILE", "Picture: .png, .pdf or .svg; default: FIGURE.png.", **OUTPUT)
    ] = None,
    width: Width = "page",
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Draw a figure straight from banks, such as 'mkfa figure filters BANK BANK'."""
    from importlib import import_module

    from mkfa.errors import MkfaError
    from mkfa.storage.heading import heading

    if list_them or not name:
        _print_figures(as_json)
        return
    _check_name(name)
    target = out or Path(f"{name}.png")
    wanted = [bank for bank in banks or [] if bank.strip()]
    check_output(target, PICTURES, force=force, banks=wanted)
    if not wanted:
        raise MkfaError(f"figure {name}", "no bank was named", f"name some, as in 'mkfa figure {name} BANK BANK'")
    module = import_module(f"mkfa.figures.{name}")
    data = module.compute(wanted, seed=seed)
    save_figure(module.draw(data, width=width), target, overwrite=force)
    if as_json:
        print_json(heading("figure") | {"figure": name, "banks": wanted, "seed": seed, "path": str(target)})
    else:
        say(f"Wrote {target} (seed {seed}).", wrap=False)


def _print_figures(as_json: bool) -> None:
    if as_json:
        print_list("figure_list", "figures", [entry._asdict() for entry in FIGURES.values()])
        return
    rows = [(entry.name, entry.shows, entry.command) for entry in FIGURES.values()]
    print_table("Figures", ("figure", "shows", "command"), rows, left=3)


def _check_name(name: str) -> None:
    """Refuse a name that is not a figure drawn from banks; the message offers the nearest or the verb that draws it."""
    from mkfa.errors import MkfaError, UnknownNameError, nearest

    if name not in FIGURES:
        raise UnknownNameError(name, "unknown figure", nearest(name, FIGURES) or "'mkfa figure --list' lists them")
    if not FIGURES[name].from_banks:
        raise MkfaError(f"figure {name}", f"is drawn from {FIGURES[name].needs}", f"use '{FIGURES[name].command}'")
