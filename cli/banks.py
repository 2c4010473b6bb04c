"""`mkfa banks`: the banks at hand."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mkfa.cli.shared.options import Bank, Force, Json, add, new_group
from mkfa.cli.shared.printing import print_json, print_table, say, say_wrote, warn

if TYPE_CHECKING:
    from mkfa.banks.library import BankChange

Own = Annotated[str, typer.Argument(metavar="BANK", help="Name of a bank of the library.")]


def register(app: typer.Typer) -> None:
    """Add the verbs of this module to the command line."""
    group = new_group(app, "banks", banks)
    for name, verb in (("rm", remove), ("rename", rename), ("export", export)):
        add(group, name, verb)


def banks(context: typer.Context, as_json: Json = False) -> None:
    """List the banks at hand; rename, remove or export one."""
    from mkfa.banks.library import library_folder, list_banks

    if context.invoked_subcommand:
        return
    found = list_banks()
    if as_json:
        print_json(found)
        return
    rows = found.rows()
    keys = ("name", "kernels", "training_set", "layers", "filters")
    cells = [[row.get(key) for key in keys] for row in rows]
    for row, cell in zip(rows, cells, strict=True):
        cell.insert(3, "bundled" if row["bundled"] else "library")
    print_table("Banks", ("bank", "kernels", "trained on", "where", "layers", "filters"), cells, left=4)
    say(f"Library: {library_folder()}", wrap=False)
    for row in rows:
        if row["error"]:
            warn(row["error"])


def remove(bank: Own, as_json: Json = False) -> None:
    """Delete a bank of the library, with its analyses."""
    from mkfa.banks.library import remove_bank

    _report("removed", remove_bank(bank), as_json)


def rename(
    bank: Own,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Its new name.")],
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Rename a bank of the library."""
    from mkfa.banks.library import rename_bank

    _report("renamed", rename_bank(bank, name, overwrite=force), as_json)


def export(
    bank: Bank,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write: .h5, or .npz for NumPy.")],
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Write a bank for other programs."""
    from mkfa.banks.library import export_bank

    _report("exported", export_bank(bank, file, overwrite=force), as_json)


def _report(done: str, change: BankChange, as_json: bool) -> None:
    from mkfa.storage.heading import heading

    if as_json:
        print_json(heading("bank_change") | {"done": done, "path": change.path, "notes": list(change.notes)})
    elif done == "removed":
        say(f"Removed {change.path}.", wrap=False)
    else:
        say_wrote(change.path)
    for note in change.notes:
        warn(note)
