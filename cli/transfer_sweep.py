"""`mkfa transfer-sweep`: arms in networks of several widths and kernel sizes, or for several numbers of steps."""

from __future__ import annotations

from typing import Annotated

from mkfa.cli.shared import training
from mkfa.cli.shared.arm_help import epilog as epilog
from mkfa.cli.shared.options import (
    SOURCE,
    CurveRecipe,
    FilterOptions,
    Json,
    OutFolder,
    Running,
    Seeds,
    SourceArch,
    SweepNetwork,
    Target,
    Width,
    option,
)
from mkfa.experiments.defaults import KERNELS, PAIR, SWEEP_ARMS, WIDTHS

_DEFAULT = f"Default, where no axis is named: {','.join(map(str, WIDTHS))}"


def transfer_sweep(
    channels: Annotated[
        str | None, option("--channels", "NUMBERS", f"Channels of the network, such as 8,16,32. {_DEFAULT}.")
    ] = None,
    kernels: Annotated[
        str | None,
        option(
            "--kernels", "NUMBERS", f"Kernel sizes, with every width. Default likewise: {','.join(map(str, KERNELS))}."
        ),
    ] = None,
    steps: Annotated[
        str | None,
        option("--steps", "NUMBERS", "Optimiser steps of each run, such as 150,600,1500: does random catch up?"),
    ] = None,
    source: Annotated[str, option("--source", "NAMES", SOURCE)] = PAIR[0],
    target: Target = PAIR[1],
    arms: Annotated[
        str | None,
        option(
            "--arms",
            "NAMES",
            f"Arms, by commas; see below. Default: {SWEEP_ARMS}, and stack instead of transfer with --source-arch.",
        ),
    ] = None,
    layers: Annotated[str, option("--layers", "NUMBER", "The first N layers are set, or all.")] = "all",
    source_arch: SourceArch = "",
    seeds: Seeds = 3,
    *,
    filters: FilterOptions,
    network: SweepNetwork,
    recipe: CurveRecipe,
    running: Running,
    out: OutFolder = None,
    width: Width = "page",
    as_json: Json = False,
) -> None:
    """When do learned filters beat random ones: with few channels, large kernels, little training?

    With D channels, kernels of f x f and inputs of rank k, D >= k f^2 channels suffice for channel mixing alone to
    imitate any filters (arXiv 2404.01139). The answer is the line of transfer minus random along D / f^2, or along the
    steps, and where it reaches one point.
    """
    from mkfa.experiments.sweep_plan import plan_sweep

    plan = plan_sweep(
        training.options(recipe, network, running, filters, seeds=seeds, out=out, source_arch=source_arch),
        source=source,
        target=target,
        channels=channels,
        kernels=kernels,
        steps=steps,
        arms=arms,
        layers=layers,
        open_domains=training.domains(running),
    )
    training.train_and_show(plan, running, with_paper=False, width=width, as_json=as_json)
