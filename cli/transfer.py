"""`mkfa transfer`: arms at one or several numbers of layers."""

from __future__ import annotations

from typing import Annotated

import typer

from mkfa.cli.shared import training
from mkfa.cli.shared.arm_help import epilog
from mkfa.cli.shared.curves import show_curve
from mkfa.cli.shared.options import (
    SOURCE,
    FilterOptions,
    Json,
    NetworkOptions,
    OutFolder,
    RecipeOptions,
    Running,
    Seeds,
    SourceArch,
    Target,
    WithPaper,
    add,
)


def register(app: typer.Typer) -> None:
    """Add the verb of this module to the command line."""
    add(app, "transfer", transfer, former={"--arm": "--arms"}, epilog=epilog())


def transfer(
    source: Annotated[str, typer.Option("--source", metavar="NAMES", help=SOURCE)],
    target: Target,
    arms: Annotated[
        str, typer.Option("--arms", metavar="NAMES", help="How filters are set: arms, by commas; see below.")
    ],
    layers: Annotated[
        str, typer.Option("--layers", metavar="NUMBERS", help="The first N layers, or all; 1..18, 1,4,8 for several.")
    ],
    source_arch: SourceArch = "",
    seeds: Seeds = 3,
    *,
    filters: FilterOptions,
    network: NetworkOptions,
    recipe: RecipeOptions,
    running: Running,
    out: OutFolder = None,
    with_paper: WithPaper = False,
    as_json: Json = False,
) -> None:
    """Set the filters of the first layers, freeze them, train the rest.

    Several arms or sources at one number of layers make a table: --arms transfer,shuffle,first-k --layers all.
    """
    from mkfa.experiments.plan import Setting

    used = training.recipe(recipe)
    show_curve(
        Setting(network.arch, used, filters.what, filters.with_bias, filters.fit_kernel, network.options),
        source=source,
        source_arch=source_arch,
        target=target,
        arms=training.names(arms, "--arms"),
        layers=layers,
        seeds=seeds,
        out=out,
        running=running,
        as_json=as_json,
        verb="transfer",
        with_paper=with_paper,
    )
