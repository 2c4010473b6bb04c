"""`mkfa keys`: few filters that explain all others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from mkfa.cli.shared.options import Banks, KernelSize, Seed, option
from mkfa.cli.shared.outputs import Output
from mkfa.cli.shared.printing import print_table, say
from mkfa.cli.shared.progress import shown
from mkfa.nulls.draws import STRICT
from mkfa.words import counted

if TYPE_CHECKING:
    from mkfa.clusters.keys import Keys

MOST_DRAWS = 999
"""All of them are in memory at once."""

FORMER = {"--kernel": "--kernel-size"}


def keys(
    banks: Banks,
    kernel_size: KernelSize = "",
    count: Annotated[
        int | None, option("--keys", "N", "Number of keys; default: the elbow of their lead over the null.")
    ] = None,
    candidates: Annotated[int, option("--candidates", "N", "Prototypes that elimination starts from.")] = 100,
    sample: Annotated[int, option("--sample", "N", "Filters that keys are searched on.")] = 5000,
    draws: Annotated[
        int,
        option(
            "--draws",
            "N",
            "Null libraries that the keys are compared with; each gets keys of its own.",
            min=19,
            max=MOST_DRAWS,
        ),
    ] = 19,
    null: Annotated[
        str,
        option(
            "--null",
            "NAME",
            "Null of the libraries that keys are compared with; see 'mkfa compare --help', but not init.",
        ),
    ] = STRICT,
    seed: Seed = 0,
    *,
    output: Output,
) -> None:
    """How few filters explain all others, up to gain and offset?"""
    from mkfa.clusters.keys import find_keys
    from mkfa.figures.keys import draw

    output.check(banks)
    result = find_keys(
        banks,
        kernel_size=kernel_size or None,
        keys=count,
        candidates=candidates,
        sample=sample,
        draws=draws,
        null=null,
        seed=seed,
        progress=shown(),
    )
    output.deliver(result, show=lambda: print_keys(result), draw=lambda width: draw(result, width=width))


def print_keys(result: Keys) -> None:
    """Print the elbow curve, the keys, and how they compare to the named set."""
    from mkfa.clusters.count import described
    from mkfa.clusters.keys import COVERED
    from mkfa.clusters.named_match import AS_ORIENTED, QUESTIONS, symmetries_in_words

    curve, clusters, match = result.curve, result.clusters, result.match
    for note in result.pool.notes:
        say(note)
    say("")
    n = len(clusters.prototype)
    shown = [i for i in range(len(curve.r2)) if i + 1 in (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, n)]
    measured = (curve.r2, curve.null_r2, curve.lead, curve.cross_r2, curve.coverage, curve.null_coverage)
    rows = [(i + 1, *(float(x[i]) for x in measured)) for i in shown]
    columns = ("keys", "R²", "null R²", "lead", "null by these", "covered", "null covered")
    print_table("How many keys?", columns, rows, left=0)
    say(
        f"R²: mean of each filter's best key. Covered: share with R² of {COVERED} or more. Null: "
        f"{counted(result.nulls, 'library', 'libraries')} of {described(result.null)} with keys of their "
        "own; 'null by these': null filters explained by the real keys. "
        f"{counted(result.sample, 'filter')}, seed {result.seed}."
    )
    say(f"Choice: {result.reason}")
    usable = int(result.pool.counted.sum())
    say(f"All {counted(usable, 'filter')}: mean R² {clusters.energy:.3f}, covered {100 * result.coverage:.0f}%.")
    say("")
    names = ("nearest", "cosine", "assigned", "assigned_cosine")
    table = [
        (j + 1, f"{100 * row['share']:.0f}%", *(row[name] or "–" for name in names))
        for j, row in enumerate(result.rows())
    ]
    headings = ("", "filters", f"nearest of '{match.name}'", "|cos|", "one to one, as oriented", "|cos|")
    print_table("Keys", headings, table, left=3)
    say("")
    nulls = ("blurred", match.libraries, "turned")
    lines = []
    for question, title in QUESTIONS.items():
        entry = match.answers[question].summary()
        cells = [entry.get(null, {}).get(field) for null in nulls for field in ("mean", "p")]
        lines.append((title, entry["mean_cosine"], *cells))
    titles = ("mean |cos|", "real", *(x for null in nulls for x in (null, "p")))
    print_table(f"Alike to '{match.name}'?", titles, lines)
    say(match.shapes_in_words())
    drawn = {null: len(draws) for null, draws in match.answers[AS_ORIENTED].nulls.items()}
    say(
        f"All up to sign; symmetries: {symmetries_in_words(result.pool.kind)}. Blurred: "
        f"{counted(drawn['blurred'], 'set')} of as many smoothed random filters; {match.libraries}: the keys of "
        f"{counted(drawn[match.libraries], 'null library', 'null libraries')}, the strict comparison; "
        f"turned: these keys, each by a random symmetry, {counted(drawn['turned'], 'time')}. "
        f"Seed {result.seed}."
    )
