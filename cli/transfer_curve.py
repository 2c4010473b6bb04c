"""`mkfa transfer-curve`: accuracy against the number of layers that are borrowed and frozen."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from mkfa.arms.arms import DEFAULT_ARMS
from mkfa.cli.shared import training
from mkfa.cli.shared.arm_help import epilog as epilog
from mkfa.cli.shared.options import (
    SOURCE,
    CurveNetwork,
    CurveRecipe,
    FilterOptions,
    Json,
    OutFolder,
    Running,
    Seeds,
    SourceArch,
    Target,
    Width,
    WithPaper,
    option,
)
from mkfa.experiments.defaults import LAYERS, PAIR


def transfer_curve(
    layers: Annotated[
        str,
        option(
            "--layers",
            "NUMBERS",
            f"The first N layers: {LAYERS}, 1..18, 1,2,4, all; one number and several arms make a table.",
        ),
    ] = LAYERS,
    source: Annotated[str, option("--source", "NAMES", SOURCE)] = PAIR[0],
    target: Target = PAIR[1],
    arms: Annotated[
        str | None,
        option(
            "--arms",
            "NAMES",
            f"Arms, by commas; default: {DEFAULT_ARMS}, and stack instead of transfer with --source-arch.",
        ),
    ] = None,
    source_arch: SourceArch = "",
    seeds: Seeds = 3,
    *,
    filters: FilterOptions,
    network: CurveNetwork,
    recipe: CurveRecipe,
    running: Running,
    out: OutFolder = None,
    with_paper: WithPaper = False,
    width: Width = "page",
    as_json: Json = False,
) -> None:
    """How does accuracy change as more layers are borrowed and frozen?"""
    from mkfa.experiments.planning import plan_curve

    make = partial(
        plan_curve,
        training.options(recipe, network, running, filters, seeds=seeds, out=out, source_arch=source_arch),
        source=source,
        target=target,
        layers=layers,
        arms=arms,
        verb="transfer-curve",
    )
    plan = training.planned(make, running, with_paper=with_paper)
    training.train_and_show(plan, running, with_paper=with_paper, width=width, as_json=as_json)
