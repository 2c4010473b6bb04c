"""`mkfa figure`: figures that are drawn straight from banks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mkfa.cli.shared.outputs import Force, Json, Seed, check_outputs, print_json, print_table, save_figure, say
from mkfa.figures import FIGURES


def register(app: typer.Typer) -> None:
    """Add the verb of this module to the command line."""
    app.command("figure")(figure)


def figure(
    name: Annotated[str, typer.Argument(help="Which figure; --list shows them.")] = "",
    banks: Annotated[str, typer.Option("--banks", help="Names or paths of banks, joined by commas.")] = "",
    out: Annotated[Path | None, typer.Option("--out", help="Picture: .png .pdf .svg; default: NAME.png.")] = None,
    list_them: Annotated[bool, typer.Option("--list", help="List the figures.")] = False,
    seed: Seed = 0,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Draw a figure from banks, such as 'mkfa figure filters --banks A,B'."""
    from importlib import import_module

    from mkfa.banks.library import load_bank
    from mkfa.errors import MkfaError

    if list_them or not name:
        _print_list(as_json)
        return
    _check_name(name)
    target = out or Path(f"{name}.png")
    check_outputs(None, target, force=force)
    wanted = [part.strip() for part in banks.split(",") if part.strip()]
    if not wanted:
        raise MkfaError(f"figure {name}", "no bank was named", "name some: --banks A,B; 'mkfa banks' lists them")
    module = import_module(f"mkfa.figures.{name}")
    save_figure(module.draw(module.compute([load_bank(b) for b in wanted], seed=seed)), target, overwrite=force)
    if as_json:
        print_json({"figure": name, "banks": wanted, "seed": seed, "path": target})
        return
    say(f"Wrote {target} (seed {seed}).")


def _print_list(as_json: bool) -> None:
    if as_json:
        from_banks = {f.name: f.shows for f in FIGURES.values() if f.from_banks}
        drawn_by = {f.name: f.command for f in FIGURES.values() if not f.from_banks}
        print_json({"from_banks": from_banks, "drawn_by": drawn_by})
        return
    rows = [(f.name, f.command, f.shows) for f in FIGURES.values()]
    print_table("Figures", ("figure", "command", "shows"), rows, left=3)


def _check_name(name: str) -> None:
    """Refuse a name that is not a figure drawn from banks; the message offers the nearest or the verb that draws it."""
    from mkfa.errors import MkfaError, UnknownNameError, nearest

    if name not in FIGURES:
        raise UnknownNameError(name, "is not a figure", nearest(name, FIGURES) or "'mkfa figure --list' lists them")
    if not FIGURES[name].from_banks:
        raise MkfaError(f"figure {name}", f"is drawn from {FIGURES[name].needs}", f"use '{FIGURES[name].command}'")
