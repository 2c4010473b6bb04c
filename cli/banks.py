"""`mkfa banks`: the banks at hand."""

from __future__ import annotations

from typing import Any

import typer

from mkfa.cli.shared.options import Json, new_group
from mkfa.cli.shared.printing import print_list, print_table, say, warn


def register(app: typer.Typer) -> None:
    """Add the verbs of this module to the command line."""
    new_group(app, "banks", banks)


def banks(context: typer.Context, as_json: Json = False) -> None:
    """List the banks at hand; rename, remove or export one."""
    from mkfa.banks.bank_file import read_bank
    from mkfa.banks.library import library_folder, list_banks
    from mkfa.errors import MkfaError

    if context.invoked_subcommand:
        return
    rows: list[dict[str, Any]] = []
    for entry in list_banks():
        row: dict[str, Any] = {"name": entry.name, "path": entry.path, "bundled": entry.bundled, "error": None}
        try:
            bank = read_bank(entry.path)
        except MkfaError as error:
            rows.append(row | {"error": str(error)})
            continue
        row |= {"layers": len(bank.layers), "filters": len(bank), "kernels": " ".join(map(str, bank.kinds))}
        rows.append(row | {"training_set": bank.provenance.training_set})
    if as_json:
        print_list("bank_list", "banks", rows)
        return
    keys = ("name", "kernels", "training_set", "layers", "filters")
    cells = [[row.get(key) for key in keys] for row in rows]
    for row, cell in zip(rows, cells, strict=True):
        cell.insert(3, "bundled" if row["bundled"] else "library")
    print_table("Banks", ("bank", "kernels", "trained on", "where", "layers", "filters"), cells, left=4)
    say(f"Library: {library_folder()}", wrap=False)
    for row in rows:
        if row["error"]:
            warn(row["error"])
