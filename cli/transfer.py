"""`mkfa transfer`: arms at one or several numbers of layers."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from mkfa.cli.shared import training
from mkfa.cli.shared.arm_help import epilog as epilog
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
    Width,
    WithPaper,
    option,
)

FORMER = {"--arm": "--arms"}


def transfer(
    source: Annotated[str, option("--source", "NAMES", SOURCE)],
    target: Target,
    arms: Annotated[
        str | None,
        option(
            "--arms",
            "NAMES",
            "How filters are set: arms, by commas; see below. Default: transfer, or stack with --source-arch.",
        ),
    ] = None,
    layers: Annotated[
        str, option("--layers", "NUMBERS", "The first N layers, or all; 1..18, 1,4,8 for several.")
    ] = "all",
    source_arch: SourceArch = "",
    seeds: Seeds = 3,
    *,
    filters: FilterOptions,
    network: NetworkOptions,
    recipe: RecipeOptions,
    running: Running,
    out: OutFolder = None,
    with_paper: WithPaper = False,
    width: Width = "page",
    as_json: Json = False,
) -> None:
    """Set the filters of the first layers, freeze them, train the rest.

    Several arms or sources at one number of layers make a table: --arms transfer,shuffle,first-k --layers all.
    """
    from mkfa.experiments.planning import plan_curve

    make = partial(
        plan_curve,
        training.options(recipe, network, running, filters, seeds=seeds, out=out, source_arch=source_arch),
        source=source,
        target=target,
        layers=layers,
        arms=arms,
        verb="transfer",
    )
    plan = training.planned(make, running, with_paper=with_paper)
    training.train_and_show(plan, running, with_paper=with_paper, width=width, as_json=as_json)
