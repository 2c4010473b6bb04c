"""`mkfa atlas`: clusters of filters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from mkfa.cli.shared.options import Banks, KernelSize, Seed, option
from mkfa.cli.shared.outputs import Output
from mkfa.cli.shared.printing import percent, print_table, say
from mkfa.cli.shared.progress import shown
from mkfa.nulls.draws import STRICT
from mkfa.words import counted

if TYPE_CHECKING:
    from mkfa.clusters.atlas import Atlas

MOST_BANKS = 4
"""Banks that have a column of their own in the printed table."""

MOST_DRAWS = 999
"""All of them are in memory at once."""

FORMER = {"--kernel": "--kernel-size"}


def atlas(
    banks: Banks,
    kernel_size: KernelSize = "",
    clusters: Annotated[
        int | None, option("--clusters", "N", "Number of clusters; default: chosen by the null.")
    ] = None,
    sample: Annotated[
        int, option("--sample", "N", "Filters that the number of clusters is chosen on and that the map shows.")
    ] = 4000,
    draws: Annotated[
        int, option("--draws", "N", "Null clouds that the number of clusters is judged by.", min=19, max=MOST_DRAWS)
    ] = 19,
    null: Annotated[
        str, option("--null", "NAME", "Null that clusters are judged by; see 'mkfa compare --help', but not init.")
    ] = STRICT,
    seed: Seed = 0,
    *,
    output: Output,
) -> None:
    """Which clusters do the filters of banks form, and who has which?

    Filters are grouped up to gain, offset and sign; the number of clusters is judged by a null.
    """
    from mkfa.clusters.atlas import build_atlas
    from mkfa.figures.atlas import draw

    output.check(banks)
    result = build_atlas(
        banks,
        kernel_size=kernel_size or None,
        clusters=clusters,
        seed=seed,
        sample=sample,
        draws=draws,
        null=null,
        with_map=output.figure is not None or output.out is not None,
        progress=shown(),
    )
    output.deliver(result, show=lambda: print_atlas(result), draw=lambda width: draw(result, width=width))


def print_atlas(result: Atlas) -> None:
    """Print the criteria, the clusters, and what they mean."""
    from mkfa.clusters.count import STABLE, described
    from mkfa.clusters.pool import DEPTHS

    choice, stable, m = result.choice, result.stability, result.choice.criteria
    for note in result.pool.notes:
        say(note)
    explained, gap = (m.energy, m.null_energy), (m.gap, m.gap_error)
    recurs, apart = (m.stability, m.null_stability), (m.silhouette, m.null_silhouette)
    columns_of = zip(m.counts, *explained, *gap, *recurs, *apart, strict=True)
    rows = [(int(k), *map(float, values)) for k, *values in columns_of]
    say("")
    print_table(
        "How many clusters?",
        ("k", "R²", "null R²", "gap", "± error", "recurs", "null", "silhouette", "null"),
        rows,
        left=0,
        notes=[
            f"R²: mean cos² with the prototype. Recurs: adjusted Rand between halves ({STABLE} or more is good).",
            f"Null: {described(result.null)}, no patterns; {counted(choice.nulls, 'cloud')} of "
            f"{counted(choice.sample, 'filter')}, seed {choice.seed}.",
        ],
    )
    say(f"Choice: {choice.reason}")
    say("")
    banks = result.pool.banks if 1 < len(result.pool.banks) <= MOST_BANKS else ()
    columns = ("", "nearest family", "its R²", "filters", "mean R²", "recurs", *DEPTHS, *banks)
    shares = [f"share of {owner}" for owner in (*DEPTHS, *banks)]
    table = [
        (
            j + 1,
            *(row["class"], row["class_r2"], percent(row["share"]), row["mean_r2"], row["recurrence"]),
            *(percent(row[share]) for share in shares),
        )
        for j, row in enumerate(result.rows())
    ]
    owners = "Shallow, middle, deep, bank" if banks else "Shallow, middle, deep"
    notes = [
        f"{owners}: share of those filters in the cluster. Its R²: with that family.",
        "Recurs: Jaccard index on random halves (0.75 and above recurs, under 0.5 dissolves).",
    ]
    if len(result.pool.banks) > MOST_BANKS:
        notes.append(f"Shares of the {counted(len(result.pool.banks), 'bank')}: see --json or --out.")
    print_table("Clusters", columns, table, left=2, notes=notes)
    real, null = (f"{x.mean():.3f} ({x.min():.3f} to {x.max():.3f})" for x in (stable.seeds, stable.null_seeds))
    say(f"Over {counted(stable.refits, 'seed')}: adjusted Rand {real}; null {null}.")
    say(
        f"By density (HDBSCAN, {counted(len(result.density_row), 'filter')}): "
        f"{counted(result.density.count, 'dense region')}, {percent(result.density.outside)} of filters in none; "
        f"null: {result.null_density.count}, {percent(result.null_density.outside)} in none."
    )
