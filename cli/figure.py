"""`mkfa figure`: figures that are drawn straight from banks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mkfa.cli.shared.outputs import Force, Json, Seed, check_outputs, print_json, print_table, save_figure, say

DRAWN_BY = {
    "atlas": "mkfa atlas BANK... --figure FILE.png",
    "keys": "mkfa keys BANK... --figure FILE.png",
    "layer": "mkfa show BANK --layer N --png",
}
"""Figures of one verb's result."""
NO_FIGURE = {"style"}


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


def from_banks() -> dict[str, str]:
    """Return name and title of the figures that are drawn straight from banks: those whose module has a TITLE."""
    import pkgutil
    from importlib import import_module

    import mkfa.figures

    found = {}
    for module in sorted(m.name for m in pkgutil.iter_modules(mkfa.figures.__path__)):
        if module not in NO_FIGURE and module not in DRAWN_BY:
            title = getattr(import_module(f"mkfa.figures.{module}"), "TITLE", "")
            if title:
                found[module] = title
    return found


def _print_list(as_json: bool) -> None:
    known = from_banks()
    if as_json:
        print_json({"from_banks": known, "drawn_by": DRAWN_BY})
        return
    rows = [(n, f"mkfa figure {n} --banks A,B", title) for n, title in known.items()]
    rows += [(n, command, "that verb's result") for n, command in DRAWN_BY.items()]
    print_table("Figures", ("figure", "command", "shows"), rows, left=3)


def _check_name(name: str) -> None:
    """Refuse a name that is no figure from banks; the message offers the nearest or the verb that draws it."""
    from mkfa.errors import MkfaError, UnknownNameError, nearest

    if name in DRAWN_BY:
        raise MkfaError(f"figure {name}", "is drawn from a result, not from banks", f"use '{DRAWN_BY[name]}'")
    known = from_banks()
    if name not in known:
        near = nearest(name, [*known, *DRAWN_BY]) or "'mkfa figure --list' lists them"
        raise UnknownNameError(name, "is no figure", near)
