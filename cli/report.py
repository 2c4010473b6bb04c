"""`mkfa report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mkfa.cli.shared.options import OUTPUT, Force, Json, Seed, flag, option
from mkfa.cli.shared.printing import print_json, say
from mkfa.cli.shared.progress import shown
from mkfa.report.limits import DRAWS, MAP_FILTERS, MOST_FILTERS, MOST_PAIRS, MOST_RUNS

LIMITS = {"rich_help_panel": "Limits"}


def report(
    items: Annotated[
        list[str],
        typer.Argument(
            metavar="BANK|RESULT|RUNS",
            help="Names or paths of banks; results (.json; atlases and groups .h5), folders of training commands, "
            "files of 'mkfa runs pack', or 'bundled': the runs, the verdicts and the graft that come with mkfa.",
        ),
    ],
    out: Annotated[
        Path, option("--out -o", "FILE", "The page, .html; its data go into FILE_data/ beside it.", **OUTPUT)
    ] = Path("report.html"),
    title: Annotated[str, option("--title", "TEXT", "Title of the page; default: the names of the banks.")] = "",
    compute: Annotated[
        bool,
        flag(
            "--compute/--no-compute",
            "Compute assignments, comparisons and a map where neither banks nor results have them; or show only what "
            "is there.",
        ),
    ] = True,
    kernel_size: Annotated[
        str | None,
        option(
            "--kernel-size", "5x5", "Kernel size of the computed map, or several: 5x5,3x3; default: the most frequent."
        ),
    ] = None,
    draws: Annotated[
        int, option("--draws", "N", "Draws of each null in comparisons that are computed.", min=19)
    ] = DRAWS,
    seed: Seed = 0,
    most_filters: Annotated[
        int,
        option(
            "--most-filters",
            "N",
            "Most filters on the page; if there are more, each layer gives equally many.",
            **LIMITS,
        ),
    ] = MOST_FILTERS,
    map_filters: Annotated[
        int,
        option(
            "--map-filters", "N", "Most points on a map; if there are more filters, some are drawn at random.", **LIMITS
        ),
    ] = MAP_FILTERS,
    most_pairs: Annotated[
        int, option("--most-pairs", "N", "Most pairs of banks that are compared.", **LIMITS)
    ] = MOST_PAIRS,
    most_runs: Annotated[int, option("--most-runs", "N", "Most rows of a list of runs.", **LIMITS)] = MOST_RUNS,
    data: Annotated[bool, flag("--data/--no-data", "Write the page's data as files too.", **OUTPUT)] = True,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Write one HTML page on banks and runs that opens from disk, without a network.

    Filters of each layer, maps, comparisons of networks and groups, patterns beside chance, keys, grafts, curves and
    matrices, verdicts, provenance.
    """
    from mkfa.report.writing import write_report

    made = write_report(
        items,
        out,
        title=title,
        compute=compute,
        kernel_size=kernel_size,
        draws=draws,
        seed=seed,
        most_filters=most_filters,
        map_filters=map_filters,
        most_pairs=most_pairs,
        most_runs=most_runs,
        data=data,
        overwrite=force,
        progress=shown(),
    )
    if as_json:
        print_json(made)
        return
    say(f"{made.path}: {made.bytes / 1e6:.2f} MB, {', '.join(made.sections)}", wrap=False)
    for text in made.left_out:
        say(text)
    if made.data:
        say(f"The same data as files: {Path(made.data[0]).parent}/", wrap=False)
