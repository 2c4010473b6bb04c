"""`mkfa transfer-matrix`: every source on every target, with controls."""

from __future__ import annotations

from functools import partial
from typing import Annotated

from mkfa.cli.shared import training
from mkfa.cli.shared.options import (
    FilterOptions,
    Json,
    MatrixNetwork,
    OutFolder,
    RecipeOptions,
    Running,
    Seeds,
    Width,
    WithPaper,
    option,
)
from mkfa.experiments.defaults import SIX

FORMER = {"--domains": "--target", "--sources": "--source", "--arm": "--arms"}


def transfer_matrix(
    target: Annotated[
        str,
        option(
            "--target",
            "NAMES",
            "Targets, each a source too: domains, packed files or folders of images, by commas, the largest first.",
        ),
    ] = SIX,
    source: Annotated[
        str | None,
        option(
            "--source",
            "NAMES",
            "Sources that are not targets, as further rows: domains, packed files, folders of images;"
            " for depthwise layers banks and checkpoints too.",
        ),
    ] = None,
    arms: Annotated[str, option("--arms", "NAME", "The arm off the diagonal.")] = "transfer",
    controls: Annotated[
        str | None,
        option(
            "--controls",
            "NAMES",
            "Arms that need no source, as rows below the others; 'none' for none. Default: "
            "random,delta; only random if these layers cannot have delta.",
        ),
    ] = None,
    layers: Annotated[str, option("--layers", "N", "The first N layers: one number, or all.")] = "all",
    seeds: Seeds = 1,
    *,
    filters: FilterOptions,
    network: MatrixNetwork,
    recipe: RecipeOptions,
    running: Running,
    out: OutFolder = None,
    with_paper: WithPaper = False,
    width: Width = "page",
    as_json: Json = False,
) -> None:
    """Transfer from every source to every target, with controls.

    On the diagonal is selffer: a target with filters of its own. Changes are against each target's base runs.
    """
    from mkfa.experiments.planning import plan_matrix

    make = partial(
        plan_matrix,
        training.options(recipe, network, running, filters, seeds=seeds, out=out),
        target=target,
        source=source,
        arms=arms,
        controls=controls,
        layers=layers,
    )
    plan = training.planned(make, running, with_paper=with_paper)
    training.train_and_show(plan, running, with_paper=with_paper, width=width, as_json=as_json)
