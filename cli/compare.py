"""`mkfa compare`: how alike two banks are, between floor, ceiling and chance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mkfa.cli.shared.options import Seed, option
from mkfa.cli.shared.outputs import Output
from mkfa.cli.shared.printing import print_table, say, warn
from mkfa.cli.shared.progress import shown
from mkfa.nulls.draws import NULLS, STRICT
from mkfa.similarity.measures.table import MEASURES
from mkfa.similarity.settings import PAIR_NULLS, PRIMARY
from mkfa.tables import Table
from mkfa.words import counted

if TYPE_CHECKING:
    from mkfa.similarity.comparison import Comparison
    from mkfa.similarity.kind_comparison import KindComparison
    from mkfa.similarity.matrix import BankMatrix, Comparisons
    from mkfa.similarity.settings import CompareSettings

MOST_DRAWS = 1_000_000


FORMER = {"--bank": "BANK", "--kernel": "--kernel-size", "--permutations": "--draws", "--null": "--nulls"}


def epilog() -> str:
    """Return what the help ends in."""
    return "\n\n".join([*_listed("Measures", MEASURES), *_listed("Nulls", NULLS)])


def _listed(title: str, table: Table[Any]) -> list[str]:
    return [f"{title}:", *(f"{part.name}: {part.help}." for part in table.values())]


def compare(
    banks: Annotated[
        list[str] | None, typer.Argument(metavar="BANK", help="Names or paths of banks; three or more give a matrix.")
    ] = None,
    a: Annotated[str, option("--a", "BANK", "One bank.")] = "",
    b: Annotated[str, option("--b", "BANK", "The other bank.")] = "",
    groups: Annotated[
        list[str] | None,
        option(
            "--group --groups",
            "NAME=BANKS",
            "A group of banks, text=BANK,BANK (a folder stands for its banks), or a TOML file with lists; repeat it. "
            "Banks then are the units: do groups differ by more than banks of one group?",
        ),
    ] = None,
    measures: Annotated[
        str | None,
        option(
            "--measures",
            "NAMES",
            "By commas; moments: bures, frobenius and angles. Default: all that are built in. See below.",
        ),
    ] = None,
    nulls: Annotated[
        str | None, option("--nulls", "NAMES", f"By commas; default: {', '.join(PAIR_NULLS)}. See below.")
    ] = None,
    kernel_size: Annotated[
        str | None, option("--kernel-size", "5x5", "Sizes, by commas; default: all that the banks share.")
    ] = None,
    draws: Annotated[
        int, option("--draws", "N", "Draws of each null; permutations of groups.", min=19, max=MOST_DRAWS)
    ] = 999,
    sample: Annotated[int, option("--sample", "N", "Filters from each bank, evenly over its layers.")] = 192,
    threshold: Annotated[float, option("--threshold", "X", "|cos| that counts as covered.")] = 0.9,
    seed: Seed = 0,
    *,
    output: Output,
) -> None:
    """How alike are two networks' filters, between floor, ceiling and chance?

    Floor: two halves of one network. Ceiling and chance: filters without patterns. 'mkfa explain WORD' says more.
    """
    names = [*(x for x in (a, b) if x), *(banks or [])]
    if groups:
        _refuse_beside_groups(names, nulls, threshold)
        _compare_groups(
            groups, output, measures=measures, kernel_size=kernel_size, draws=draws, sample=sample, seed=seed
        )
        return
    output.check(names)
    from mkfa.figures.compare import draw
    from mkfa.similarity.comparing import compare_many

    result = compare_many(
        names,
        measures=measures,
        nulls=nulls,
        kernel_size=kernel_size,
        draws=draws,
        sample=sample,
        threshold=threshold,
        seed=seed,
        progress=shown(),
    )
    output.deliver(result, show=lambda: _print(result), draw=lambda width: draw(result, width=width))


def _refuse_beside_groups(names: Sequence[str], nulls: str | None, threshold: float) -> None:
    from mkfa.errors import MkfaError

    if names:
        raise MkfaError(names[0], "is in no group", "put every bank into a --group, or leave out --group")
    if nulls is not None:
        raise MkfaError("--nulls", "is for pairs of banks; groups are compared with one another", "leave it out")
    if threshold != 0.9:
        raise MkfaError("--threshold", "is for pairs of banks", "leave it out")


def _compare_groups(groups: Sequence[str], output: Output, **options: Any) -> None:
    from mkfa.cli.shared.group_tables import print_groups
    from mkfa.figures.groups import draw
    from mkfa.similarity.groups import compare_groups, read_groups

    named = read_groups(groups)
    output.check([bank for banks in named.values() for bank in banks])
    result = compare_groups(named, progress=shown(), **options)
    output.deliver(result, show=lambda: print_groups(result), draw=lambda width: draw(result, width=width))


def _print(result: Comparisons) -> None:
    for pair in result.done:
        _print_comparison(pair)
    for problem in result.skipped:
        warn(problem)
    if result.matrices:
        _print_matrix(result.matrices)
    _print_primary(result)


def _print_comparison(result: Comparison) -> None:
    from mkfa.similarity.wording import in_words

    settings = result.settings
    for kind in result.kinds:
        each = f"{counted(kind.n, 'filter')} of each, of {kind.usable[0]:,} and {kind.usable[1]:,}"
        names = [f"{name} {'^' * MEASURES.find(name).alike_is_more}".strip() for name in kind.measures]
        intervals = [f"{low:.3f} {high:.3f}" for low, high in kind.interval.T]
        intervals = ["–" if "nan" in text else text for text in intervals]
        places = (kind.fraction, kind.fraction_strictest)
        numbers = (kind.value, intervals, kind.floor, kind.floor_layers, kind.ceiling, *places)
        differ = [kind.exchange.p.get(name) for name in kind.measures]
        print_table(
            f"{result.a} and {result.b}, {kind.kind}: {each}",
            ("measure", "value", "95 %", "floor", "layers", "ceiling", "fraction", "strictest", "p differ"),
            list(zip(names, *numbers, differ, strict=True)),
            notes=_place_notes(kind, settings),
        )
        draws = ", ".join(counted(m, "draw") for m in sorted({n.m for n in kind.nulls}))
        names = [f"{name} (primary)" if name == PRIMARY[0] and kind.primary else name for name in kind.measures]
        cells = [column for n in kind.nulls for column in (n.mean, n.p)]
        print_table(
            f"Against chance: mean with one bank replaced, p of the value ({draws}, seed {settings.seed})",
            ("measure", "value", *(x for n in kind.nulls for x in (n.null, "p"))),
            [row for row in zip(names, kind.value, *cells, strict=True) if row[0] not in kind.all_filters],
            notes=_null_notes(kind),
        )
        _print_stages(kind)
        _print_trend(kind, result.a, result.b)
        say(" ".join(in_words(kind, result.a, result.b)))
        say("")
    for text in (*result.left_out, *result.notes):
        say(f"{text}.")


def _place_notes(kind: KindComparison, settings: CompareSettings) -> list[str]:
    notes = [
        f"^: more is more alike; the others are distances. Floor: disjoint halves of one bank, "
        f"{counted(settings.splits, 'split')} of each; layers: every other layer against the rest; ceiling: "
        f"{kind.ceiling_null}; fraction: 0 at the floor, 1 at the ceiling; strictest: the same with the "
        f"null whose mean is most alike in place of the ceiling ({_strictest_nulls(kind)}); –: the null's draws "
        "are as alike as halves of one network, or more. "
        f"95 %: {_intervals(kind)}. p differ: {counted(kind.exchange.m, 'exchange')} of layers between the banks, "
        f"{counted(kind.exchange.per_layer, 'filter')} of each layer{_not_exchanged(kind)}. Seed {settings.seed}."
    ]
    if "coverage" in kind.measures:
        one, other = kind.directed_at
        notes.append(
            f"Covered at |cos| >= {settings.threshold}: {one:.0%} of the first in the second, {other:.0%} the "
            "other way round."
        )
    if kind.all_filters:
        names, sizes = ", ".join(kind.all_filters), f"{kind.usable[0]:,} and {kind.usable[1]:,}"
        notes.append(
            f"{names}: of all {sizes} usable filters, as its value falls with their number; without floor and chance."
        )
    return notes


def _intervals(kind: KindComparison) -> str:
    """Say what the intervals are over, and why a measure has none."""
    of: dict[str, list[str]] = {}
    for name, why in zip(kind.measures, kind.no_interval, strict=True):
        if name not in kind.all_filters:
            of.setdefault(why, []).append(name)
    some = ["jackknife over layers"] if of.pop("", None) else []
    return "; ".join(some + [f"none for {', '.join(names)}: {why}" for why, names in of.items()])


def _not_exchanged(kind: KindComparison) -> str:
    """Say which layers were not exchanged, by name where they are few."""
    texts = []
    for which, names in zip(("first", "second"), kind.exchange.left_out, strict=True):
        if names:
            text = f"{counted(len(names), 'layer')} of the {which} bank"
            texts.append(text + (f" ({', '.join(names)})" if len(names) <= 3 else ""))
    return f", without {' and '.join(texts)}, which have fewer" if texts else ""


def _strictest_nulls(kind: KindComparison) -> str:
    of: dict[str, list[str]] = {}
    for measure, null in zip(kind.measures, kind.strictest, strict=True):
        if null:
            of.setdefault(null, []).append(measure)
    (most, _), *others = sorted(of.items(), key=lambda item: -len(item[1]))
    return "; ".join([most, *(f"{null} for {', '.join(names)}" for null, names in others)])


def _null_notes(kind: KindComparison) -> list[str]:
    if not kind.by_layer:
        return []
    (i, name), pairs = kind.by_layer[0], len(kind.layers_a) * len(kind.layers_b)
    counts = ", ".join(f"{n.null} {int((n.layer_p_max[i] <= 0.05).sum())}" for n in kind.nulls)
    slow = {int(d): name for n in kind.nulls for name, d in zip(kind.measures, n.draws, strict=True) if 0 < d < n.m}
    notes = [f"{name}: {counted(d, 'draw')}." for d, name in slow.items()]
    if kind.primary:
        notes.append(f"Primary: {' under '.join(PRIMARY)}, chosen beforehand. All else is exploratory.")
    elif any(null.null == "covariance" for null in kind.nulls):
        notes.append(
            "covariance takes all layers together: banks that share second moments layer by layer pass it too, "
            f"--nulls {STRICT} tells."
        )
    notes += [
        f"Layer pairs closer than chance ({name}, p <= 0.05 adjusted over all {pairs} by the largest of each "
        f"draw): {counts}."
    ]
    m = min(n.m for n in kind.nulls)
    if pairs > 0.05 * (m + 1):
        notes.append(
            f"(Holm over {counted(pairs, 'pair')} would need {counted(20 * pairs - 1, 'draw')} "
            "before any pair could pass.)"
        )
    return notes


def _print_stages(kind: KindComparison) -> None:
    from mkfa.similarity.wording import strictest

    if not kind.by_layer or max(len(kind.stages_a), len(kind.stages_b)) > 8:
        return
    i, name = kind.by_layer[0]
    null = strictest(kind, name)
    columns = range(len(kind.stages_b))
    rows = [
        [stage, *(f"{kind.stage_value[i, x, y]:.2f} {null.stage_p_holm[i, x, y]:.3f}" for y in columns)]
        for x, stage in enumerate(kind.stages_a)
    ]
    print_table(f"Pairs of stages: {name}, p under {null.null} (Holm)", ("", *kind.stages_b), rows)


def _print_trend(kind: KindComparison, a: str, b: str) -> None:
    trend = kind.depth_trend
    if all(p != p for p in trend.p):
        return
    names = ("difference of relative depth", f"depth in {a}", f"depth in {b}")
    how = f"under {trend.null}; {counted(trend.m, 'permutation')} of layers"
    if not kind.same:
        how = (
            f"over {counted(trend.m, 'turned bank')}, for the difference without what each layer has in general. The "
            f"larger p of two: of the turned banks, all filters of {b} rotated together at random, which keeps how its "
            "layers change with depth, and of as many permutations of layers. Where both have the same patterns, in "
            "proportions that change with depth for reasons of their own, 11 to 17 % of made pairs pass"
        )
    print_table(
        "Trend with depth: correlation with the coverage of layer pairs",
        ("", "r", "p", "p (Holm)"),
        list(zip(names, trend.r, trend.p, trend.p_holm, strict=True))[: 2 if kind.same else 3],
        notes=[f"Coverage less its mean {how}. Two-sided. Seed {trend.seed}."],
    )


def _print_primary(result: Comparisons) -> None:
    if len(result.primary) < 2 or not result.tests:
        return
    rows = [(f"{t.a}, {t.b}", t.kind, t.value, t.null_mean, t.p, t.p_holm) for t in result.primary]
    tests = result.tests
    notes = [f"Holm: adjusted over {counted(tests, 'test')}, pairs and kernel sizes."]
    for family in result.families:
        notes.append(f"{', '.join(family)}: one parent, so they count as one bank and are not tested with each other.")
    m = min(t.m for t in result.primary)
    if tests > 0.05 * (m + 1):
        notes.append(
            f"With {counted(m, 'draw')} none of {counted(tests, 'test')} can pass; give at least {20 * tests - 1}."
        )
    measure, null = PRIMARY
    columns = ("banks", "kernel", measure, f"under {null}", "p", "p (Holm)")
    print_table(f"Primary tests: {measure} under {null}", columns, rows, left=2, notes=notes)


def _print_matrix(matrices: Sequence[BankMatrix]) -> None:
    from mkfa.stats.p_values import p_text

    for matrix in matrices:
        if matrix.measure != matrices[0].measure:
            continue
        strict = matrix.p_holm.max(axis=0)
        rows, notes = [], []
        for name, places, ps in zip(matrix.names, matrix.fraction, strict, strict=True):
            rows.append(
                [
                    name,
                    *(
                        "–" if v != v else f"{v:.2f} {'–' if p != p else p_text(p)}"
                        for v, p in zip(places, ps, strict=True)
                    ),
                ]
            )
        if matrix.seed_floor == matrix.seed_floor:
            notes.append(f"Between seeds of one architecture and training set: {matrix.seed_floor:.3f}.")
        what = "fraction of the way from floor to ceiling, largest p of any null (Holm)"
        print_table(f"{matrix.kind}, {matrix.measure}: {what}", ("", *matrix.names), rows, notes=notes)
