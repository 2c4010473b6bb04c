"""`mkfa plan`: what the paper's programme costs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mkfa.cli.shared.options import Force, Json, flag, option
from mkfa.cli.shared.outputs import check_output, say_wrote
from mkfa.cli.shared.printing import print_json, print_table, say
from mkfa.cli.shared.progress import shown
from mkfa.words import counted

if TYPE_CHECKING:
    from mkfa.evidence.costs import Costs, Rate


def plan(
    what: Annotated[str, typer.Argument(metavar="WHAT", help="paper: the runs of the paper's figures and tables.")],
    seeds: Annotated[int, option("--seeds", "N", "How many times everything is trained; the paper: once.", min=1)] = 5,
    rate: Annotated[
        list[str] | None,
        option("--rate", "NET=IMAGES", "Images per second at which your device trains a network; may be repeated."),
    ] = None,
    measure: Annotated[bool, flag("--measure", "Time training steps of every network on this machine.")] = False,
    download_sources: Annotated[
        bool,
        flag("--download-sources", "Networks that are sources alone are downloaded, not trained: those of Table 3."),
    ] = False,
    every: Annotated[int, option("--every", "K", "Train Figure 2b at every K-th number of layers only.", min=1)] = 1,
    device: Annotated[
        str, option("--device", "NAME", "Device on which --measure times steps: auto, cpu, cuda.")
    ] = "auto",
    out: Annotated[Path | None, option("--out -o", "FILE", "Write the result: .json or .csv.")] = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Count runs, images, operations and device-hours of every figure and table of the paper; train nothing.

    At smaller scales, 'mkfa reproduce NAME --estimate' plans and times a figure or table.
    """
    from mkfa.errors import MkfaError
    from mkfa.evidence.costs import paper_costs

    if what != "paper":
        remedy = "write paper, or plan a figure or table with 'mkfa reproduce NAME --estimate'"
        raise MkfaError(what, "is not a programme whose costs are known", remedy)
    if device != "auto" and not measure:
        raise MkfaError(f"--device {device}", "has no effect without --measure", "pass --measure, or leave it out")
    check_output(out, (".json", ".csv"), force=force)
    costs = paper_costs(
        seeds=seeds,
        rates=_rates(rate or []),
        measure=measure,
        download_sources=download_sources,
        every=every,
        device=device,
        progress=shown(),
    )
    if out is not None:
        costs.save(out, overwrite=force)
    if as_json:
        print_json(costs)
        return
    _print(costs)
    say_wrote(out)


def _rates(words: list[str]) -> dict[str, float]:
    """Read "NET=IMAGES" words."""
    from mkfa.errors import MkfaError

    rates = {}
    for word in words:
        network, _, number = word.partition("=")
        try:
            rates[network] = float(number)
        except ValueError:
            raise MkfaError(f"--rate {word}", "is not NET=IMAGES", "write it like convnext_femto=9000") from None
    return rates


def _from(rate: Rate) -> str:
    return f"{rate.kind}: {rate.note}" if rate.note else rate.kind


def _print(costs: Costs) -> None:
    rows = []
    for c in (*costs.costs, costs.total):
        millions = (f"{c.train_images / 1e6:,.1f}", f"{c.test_images / 1e6:,.1f}")
        days = (f"{value:,.2f}" for value in c.days.values())
        rows.append((c.title, c.runs, *millions, f"{c.operations / 1e18:,.2f}", f"{c.hours:,.1f}", *days))
    more = (f"days on {count}" for count in costs.total.days)
    columns = ("one seed", "runs", "training, M", "test, M", "EFLOP", "hours", *more)
    rates = ", ".join(f"{r.network} {r.images_per_second:,.0f} ({_from(r)})" for r in costs.rates)
    notes = ["Training and test: millions of images. Hours of one device; days on 1, 8 and 64 devices."]
    notes.append(f"Images per second: {rates}.")
    if any(r.kind not in ("measured", "given") for r in costs.rates):
        notes.append(f"Of these, assumed and published ones are about {costs.device}.")
    notes.append(
        "300 epochs at 224 px, test images after every epoch; frozen layers get no discount, reading images costs "
        "nothing. mkfa's own programme adds controls: 'mkfa reproduce NAME --scale paper --dry-run' lists its runs."
    )
    print_table("What the paper's runs cost", columns, rows, left=1, notes=notes)
    parts = ", ".join(f"{value:,.1f} days on {counted(count, 'device')}" for count, value in costs.days().items())
    say(f"{counted(costs.seeds, 'seed')}: {parts}.")
