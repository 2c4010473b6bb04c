"""Tables of a comparison of groups of banks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mkfa.cli.shared.printing import print_table, say
from mkfa.words import counted

if TYPE_CHECKING:
    from mkfa.similarity.group_comparison import GroupComparison, GroupKind
    from mkfa.stats.grouped_distances import GroupTest

_NAMED = 12


def print_groups(result: GroupComparison) -> None:
    """Print, for each kernel size, the tests of all measures, pairs of groups, and the answer in a sentence."""
    for kind in result.kinds:
        _print_tests(kind, result)
        _print_pairs(kind)
        if len(kind.members) <= _NAMED:
            _print_distances(kind)
    for text in (*result.left_out, *result.notes):
        say(f"{text}.")
    for sentence in result.in_words():
        say(sentence)


def _print_tests(kind: GroupKind, result: GroupComparison) -> None:
    groups = ", ".join(f"{n} of {group}" for group, n in kind.sizes.items())
    rows = [
        (
            m.measure + (" (primary)" if m is kind.measures[0] else ""),
            m.between.statistic,
            m.between.share,
            m.between.p,
            m.p_holm,
            m.dispersion.p,
            m.parts.group,
            m.parts.model,
            m.parts.sample,
        )
        for m in kind.measures
    ]
    test = kind.measures[0].between
    notes = [
        f"pseudo-F, R² and p: PERMANOVA, {_looked_at(test)}; p (Holm): over "
        f"{counted(len(result.kinds), 'kernel size')}; p scatter: PERMDISP, from three banks of each group on. "
        f"Seed {result.seed}.",
        "group, model, sample: variance between groups, between models of a group and of a model's sample of filters, "
        "by analysis of variance with models as a random effect; below 0 stands for none. Of measures other than the "
        "primary one all is exploratory.",
    ]
    title = f"{kind.kind}: banks as units, {groups}; {counted(kind.n, 'filter')} of each"
    columns = ("measure", "pseudo-F", "R²", "p", "p (Holm)", "p scatter", "group", "model", "sample")
    print_table(title, columns, rows, notes=notes)


def _looked_at(test: GroupTest) -> str:
    if test.m == 0:
        return "nothing to test"
    if test.exact:
        return f"all {counted(test.m, 'way')} to divide the banks, so that no p can be below {test.least:.2g}"
    return f"{counted(test.m, 'permutation')} of banks, so that no p can be below {test.least:.2g}"


def _print_pairs(kind: GroupKind) -> None:
    measure = kind.measures[0]
    if not measure.pairs:
        return
    rows = [(a, b, test.statistic, test.p, p, test.least) for a, b, test, p in measure.pairs]
    columns = ("group", "and", "pseudo-F", "p", "p (Holm)", "smallest p")
    print_table(f"{kind.kind}: pairs of groups, {measure.measure}", columns, rows, left=2)


def _print_distances(kind: GroupKind) -> None:
    measure = kind.measures[0]
    rows = [
        [f"{m.name}{'' if m.counted else ' *'}", m.group, *(f"{value:.3f}" for value in measure.value[i])]
        for i, m in enumerate(kind.members)
    ]
    notes = ["On the diagonal: two disjoint samples of one bank."]
    if not all(m.counted for m in kind.members):
        notes.append("*: has a parent in common with an earlier bank, and is not tested.")
    numbers = [str(i + 1) for i in range(len(kind.members))]
    print_table(f"{kind.kind}: {measure.measure} of each pair", ("bank", "group", *numbers), rows, left=2, notes=notes)
