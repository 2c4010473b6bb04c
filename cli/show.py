"""`mkfa show`: the content of a bank."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mkfa.cli.shared.bank_facts import bank_facts, layer_facts, print_bank, print_layer
from mkfa.cli.shared.options import OUTPUT, Bank, Force, Json, Width, option
from mkfa.cli.shared.outputs import PICTURES, check_output, check_width, save_figure
from mkfa.cli.shared.printing import print_json, say_wrote, warn

FORMER = {"--out": "--figure"}


def show(
    bank: Bank,
    layer: Annotated[int | None, option("--layer", "N", "Show this layer, numbered from 1.")] = None,
    figure: Annotated[
        Path | None, option("--figure", "FILE", "Draw the layer's filters: .png, .pdf or .svg.", **OUTPUT)
    ] = None,
    width: Width = "page",
    png: Annotated[bool, typer.Option("--png", hidden=True)] = False,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Show a bank: its layers, kernel sizes, dead filters and provenance."""
    from mkfa.banks.bank_file import read_bank
    from mkfa.banks.library import resolve_path
    from mkfa.errors import MkfaError
    from mkfa.storage.heading import heading

    if (png or figure) and layer is None:
        raise MkfaError("--figure", "draws one layer, and no layer was named", "add --layer N")
    path = resolve_path(bank)
    loaded = read_bank(path)
    if png and figure is None:
        figure = Path(f"{path.stem}-layer{layer}.png")
    check_output(figure, PICTURES, force=force)
    check_width(width, figure, "--figure")
    if layer is not None and not 1 <= layer <= len(loaded.layers):
        raise MkfaError(f"layer {layer}", f"is not in {loaded.name}", f"choose one from 1 to {len(loaded.layers)}")
    if as_json and layer is None:
        print_json(heading("bank_facts") | bank_facts(loaded, path))
    elif as_json and layer is not None:
        print_json(heading("layer_facts") | {"bank": loaded.name} | layer_facts(loaded, layer))
    elif layer is None:
        print_bank(loaded, path, layers=True)
    else:
        print_layer(loaded, layer)
    if figure is not None and layer is not None:
        from mkfa.figures.layer import compute, draw

        save_figure(draw(compute(loaded, layer), width=width), figure, overwrite=force)
        if as_json:
            warn(f"wrote {figure}")
        else:
            say_wrote(figure)
