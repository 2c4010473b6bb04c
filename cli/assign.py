"""`mkfa assign`."""

from __future__ import annotations

from collections.abc import Sequence
from math import floor
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from mkfa.cli.shared.options import Bank, Seed, flag, option
from mkfa.cli.shared.outputs import Output
from mkfa.cli.shared.printing import print_table, say
from mkfa.cli.shared.progress import shown
from mkfa.nulls.draws import NULLS
from mkfa.several import least
from mkfa.words import counted, listed

if TYPE_CHECKING:
    from mkfa.banks.quality import LayerQualities
    from mkfa.patterns.assignment import Assignments
    from mkfa.patterns.summary import AssignmentSummary, Coverage, KindSummary

MOST_DRAWS = 10_000_000


FORMER = {"--layers": "--by-layer"}


def assign(
    bank: Bank,
    basis: Annotated[
        str,
        option(
            "--basis",
            "NAME",
            "families; wide: also elongated, oblique one-sided, third-order and shifted patterns; eight: models of the "
            "published key filters; or all.",
        ),
    ] = "families",
    null: Annotated[
        str, option("--null", "NAME", f"Null of p-values and thresholds: {', '.join(NULLS)}.")
    ] = "shuffled",
    draws: Annotated[
        int, option("--draws", "N", "Filters of each null and kernel size.", min=1, max=MOST_DRAWS)
    ] = 10000,
    kernel_size: Annotated[
        str | None,
        option(
            "--kernel-size", "5x5", "Assign only filters of these sizes, by commas; nothing is then stored in the bank."
        ),
    ] = None,
    r2: Annotated[float, option("--r2", "X", "R² from which a filter counts as covered.", min=0, max=1)] = 0.9,
    by_layer: Annotated[bool, flag("--by-layer", "Print a table of layers, with their quality.")] = False,
    store: Annotated[bool, flag("--store/--no-store", "Store the result in the bank file, under /analysis.")] = True,
    seed: Seed = 0,
    *,
    output: Output,
) -> None:
    """Which analytic pattern does each filter follow, and what does chance give?

    Every filter gets its class, scales, fit and runner-up.
    """
    from mkfa.banks.bank_file import read_analyses, read_bank, write_analysis
    from mkfa.banks.library import resolve_path
    from mkfa.patterns.assigning import BASES, NOT_ASKED, assign_bases, check_options
    from mkfa.patterns.dictionary import version

    output.check([bank])
    path = resolve_path(bank)
    bases = BASES if basis == "all" else (basis,)
    check_options(bases, null, draws)
    loaded = read_bank(path)
    result = assign_bases(
        loaded, bases, null=null, draws=draws, r2=r2, kernel_size=kernel_size, seed=seed, progress=shown()
    )
    unstored = _why_not_stored(path, store, whole=NOT_ASKED not in result.each[0].skipped.values())
    where = f"Stored in {path} under {' and '.join('/analysis/assign-' + b for b in bases)}."
    if not unstored:
        there = read_analyses(path)
        for one in result.each:
            new = one.analysis()
            if new.name in there:
                old = there[new.name].parameters.get("basis_version", 1)
                if old != version(one.basis):
                    where += f" It replaces a result of version {old} of the basis {one.basis}, whose classes differ."
            write_analysis(path, new, of=loaded)
    output.deliver(
        result, show=lambda: _print(result, by_layer, unstored or where), draw=lambda width: _draw(result, width)
    )


def _why_not_stored(path: Path, store: bool, *, whole: bool) -> str:
    """Return why the result is not stored in the bank file, as a sentence; "" when it is."""
    import os

    from mkfa.banks.library import list_banks

    if not store:
        return "Not stored in the bank, as --no-store asks."
    if not whole:
        return "Not stored: a bank keeps assignments of all its sizes. Keep this one with --out FILE.h5."
    if path.resolve() in {entry.path.resolve() for entry in list_banks() if entry.bundled}:
        return "Not stored: a bundled bank stays as it is. Keep the result with --out FILE.h5."
    if not os.access(path.parent, os.W_OK):
        return f"Not stored: {path.parent} may not be written to. Keep the result with --out FILE.h5."
    return ""


def _draw(result: Assignments, width: str) -> Any:
    from mkfa.figures.assign import draw

    return draw(result.parts[0], width=width)


def _print(result: Assignments, by_layer: bool, stored: str) -> None:
    from mkfa.banks.quality import layer_quality
    from mkfa.patterns.summary import summarise

    for one in result.each:
        summary = summarise(one)
        _print_classes(summary)
        _print_coverage(summary)
        if by_layer:
            _print_layers(summary, layer_quality(one.bank, seed=one.seed))
        for line in _sentences(summary):
            say(line)
    say(stored)


def _print_classes(summary: AssignmentSummary) -> None:
    from mkfa.stats.intervals import SHARE_RULE

    shown = [c for c in sorted(summary.classes, key=lambda c: -c.share) if c.filters or c.null_share >= 0.0005]
    rows = [
        (c.title, c.filters, _share(c.share), _interval(c.low, c.high), c.median_r2, _share(c.on), _share(c.null_share))
        for c in shown
    ]
    title = f"{summary.bank}: {counted(summary.filters, 'filter')}, basis {summary.basis}"
    columns = ("class", "filters", "share", "95 %, over layers", "median R²", "on", f"share, {summary.null}")
    every = [x.beyond_low for k in summary.kinds for x in k.coverage] + [x.beyond_low for x in summary.whole]
    absent = any(low != low for low in (*(c.low for c in shown), *every))
    print_table(
        title, columns, rows, notes=[note for note in (_merged(summary), f"–: {SHARE_RULE}." if absent else "") if note]
    )


def _merged(summary: AssignmentSummary) -> str:
    """Return a sentence on rows that count several classes: which, at which kernel size, why; "" without any."""
    from mkfa.patterns.coincidence import MERGED, SCALES

    titles, said = dict(zip(summary.names, summary.titles, strict=True)), []
    for row in summary.classes:
        guests: dict[str, list[str]] = {}
        for merged in row.merged:
            guests.setdefault(titles[merged.name], []).append(f"{merged.size} {100 * merged.share:.0f} %")
        if guests:
            each = ", ".join(f"{name} ({', '.join(shares)})" for name, shares in guests.items())
            said.append(f"{titles[row.name.split('/')[0]]} and {each}")
    if not said:
        return ""
    rule = (
        f"Classes share a row at sizes where at least {100 * MERGED:.0f} % of one's range, for sigmas of "
        f"{SCALES[0]} to {SCALES[1]} pixels, carries other names: "
    )
    return f"{rule}{'; '.join(said)}."


def _print_coverage(summary: AssignmentSummary) -> None:
    rows = []
    parts: list[tuple[str, tuple[Coverage, ...]]] = [(k.kind, k.coverage) for k in summary.kinds]
    if len(parts) > 1:
        parts.append(("all", summary.whole))
    for kind, coverage in parts:
        for i, each in enumerate(coverage):
            limit = "each its own" if kind == "all" else f"R² > {_limit(each.threshold)}"
            first = (kind, f"{each.filters:,}", each.median_r2, _share(each.fixed)) if i == 0 else ("",) * 4
            beyond = f"{_share(each.beyond)} ({limit})", _interval(each.beyond_low, each.beyond_high)
            nulls = each.null_median_r2, _share(each.null_fixed)
            rows.append((*first[:2], each.null, first[2], nulls[0], first[3], nulls[1], *beyond))
    at = f"R² >= {summary.r2:g}"
    columns = ("size", "filters", "null", "median R²", "null's", at, "null's", "above null's 1 %", "95 %, layers")
    print_table("Coverage, beside each null", columns, rows, left=1)


def _limit(threshold: float) -> str:
    """Format an R² that few filters exceed: never as 1.00, which none could."""
    return f"{threshold:.2f}" if threshold < 0.995 else f"{floor(threshold * 1e4) / 1e4:.4f}"


def _print_layers(summary: AssignmentSummary, quality: LayerQualities) -> None:
    of = {q.layer: q for q in quality}
    rows = []
    for each in summary.layers:
        top = _most_frequent([x.title for x in summary.classes], each.shares) if each.filters else ""
        q = of[each.layer]
        shares = each.median_r2, _share(each.fixed), _share(each.beyond), f"{q.entropy:.2f}/{q.random:.2f}"
        rows.append((each.layer, each.kind, each.filters, each.dead, *shares, top))
    columns = ("layer", "size", "filters", "dead", "R²", f">= {summary.r2:g}", "> null", "entropy", "most frequent")
    print_table(
        "Layers",
        columns,
        rows,
        notes=(
            "> null: share above the R² that 1 % of the null passes. entropy: variance entropy / that of as",
            "many random filters (simulated): equal is unstructured, near 0 copies of one another. more: classes",
            "as frequent as the last that is named.",
        ),
    )


def _most_frequent(titles: Sequence[str], shares: Sequence[float]) -> str:
    """Name the two most frequent classes, or one where both are too long, and count those as frequent as the last."""
    order = sorted((i for i in range(len(shares)) if shares[i] > 0), key=lambda i: -shares[i])
    names = [f"{titles[i]} {100 * shares[i]:.0f} %" for i in order[:2]]
    shown = names if len(", ".join(names)) <= 32 else names[:1]
    more = sum(shares[i] == shares[order[len(shown) - 1]] for i in order[len(shown) :])
    return ", ".join(shown) + (f", {more} more" if more else "")


def _sentences(summary: AssignmentSummary) -> list[str]:
    chosen = summary.whole[0]
    hardest = least(summary.whole, lambda c: c.beyond)
    strict = listed(c.null for c in hardest) + " filters"
    lines = [
        f"{_share(chosen.beyond)} of the filters fit a pattern better than 99 % of {chosen.null} filters do "
        f"(chance: 1 %); against {strict}, the hardest null{'s' * (len(hardest) > 1)}, "
        f"{_share(hardest[0].beyond)}.",
        f"Median p of a filter's R² under {summary.null}: "
        f"{', '.join(f'{k.kind} {k.median_p:.2g}' for k in summary.kinds)}.",
        f"Half the filters lead their runner-up class by less than {summary.median_margin:.3f} in R²: "
        "read a single class with its margin.",
        f"Nulls: {counted(summary.draws, 'filter')} for each size and null, seed {summary.seed}; "
        "intervals: jackknife over layers.",
    ]
    if any(summary.unscored.values()):
        counts = ", ".join(f"{n:,} {why}" for why, n in summary.unscored.items() if n)
        lines.append(f"Not scored: {counts}.")
    titles = dict(zip(summary.names, summary.titles, strict=True))
    for kind in summary.kinds:
        lines += _coincide(kind, titles)
        if "3x3" in kind.kind:
            null = kind.coverage[0]
            lines.append(
                f"At {kind.kind} chance is high: the median {null.null} filter reaches R² {null.null_median_r2:.2f}. "
                "A class is little evidence there; read the null columns."
            )
    lines += [f"Left out: {kind} ({why})." for kind, why in summary.skipped.items()]
    return lines


def _coincide(kind: KindSummary, titles: dict[str, str]) -> list[str]:
    """Return a sentence on the classes that have another's name at this size over a tenth of their range or more."""
    from mkfa.patterns.coincidence import SCALES

    found: dict[str, list[str]] = {}
    for merge in kind.merges:
        if merge.share >= 0.1:
            found.setdefault(titles[merge.name], []).append(f"{titles[merge.into]} {100 * merge.share:.0f} %")
    if not found:
        return []
    said = "; ".join(f"{name} -> {', '.join(into)}" for name, into in found.items())
    range_ = f"share of their range, sigmas of {SCALES[0]} to {SCALES[1]} pixels"
    why = f"since they coincide (R² >= {kind.same:.3g}; {range_})"
    return [f"Classes that at {kind.kind} carry another's name, {why}: {said}."]


def _share(share: float) -> str:
    return "–" if share != share else f"{100 * share:.1f} %"


def _interval(low: float, high: float) -> str:
    return "–" if low != low else f"{100 * low:.1f} – {100 * high:.1f}"
