"""`mkfa assign`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mkfa.cli.shared.options import Bank, Seed, add, flag, option
from mkfa.cli.shared.outputs import Output
from mkfa.cli.shared.printing import print_table, say
from mkfa.cli.shared.progress import shown
from mkfa.nulls.draws import NULLS

if TYPE_CHECKING:
    from mkfa.banks.bank import FilterBank
    from mkfa.banks.quality import LayerQuality
    from mkfa.patterns.assigning import Assignment
    from mkfa.patterns.summary import AssignmentSummary, Coverage, KindSummary

MOST_DRAWS = 10_000_000


def register(app: typer.Typer) -> None:
    """Add the verb of this module to the command line."""
    add(app, "assign", assign, former={"--layers": "--by-layer"})


def assign(
    bank: Bank,
    basis: Annotated[
        str, option("--basis", "NAME", "families, eight (models of the published key filters), or all: both.")
    ] = "families",
    null: Annotated[
        str, option("--null", "NAME", f"Null of p-values and thresholds: {', '.join(NULLS)}.")
    ] = "shuffled",
    draws: Annotated[
        int, option("--draws", "N", "Filters of each null and kernel size.", min=1, max=MOST_DRAWS)
    ] = 10000,
    r2: Annotated[float, option("--r2", "X", "R2 from which a filter counts as covered.", min=0, max=1)] = 0.9,
    by_layer: Annotated[bool, flag("--by-layer", "Print a table of layers, with their quality.")] = False,
    store: Annotated[bool, flag("--store/--no-store", "Store the result in the bank file, under /analysis.")] = True,
    seed: Seed = 0,
    *,
    output: Output,
) -> None:
    """Which analytic pattern does each filter follow, and what does chance give?

    Every filter gets its class, scales, fit and runner-up.
    """
    from mkfa.banks.bank_file import read_bank, write_analysis
    from mkfa.banks.library import resolve_path
    from mkfa.banks.quality import layer_quality
    from mkfa.errors import UnknownNameError
    from mkfa.patterns.assigning import BASES, to_analysis, work
    from mkfa.patterns.assigning import assign as fit_bank
    from mkfa.patterns.summary import summarise
    from mkfa.progress import follow

    if basis not in (*BASES, "all"):
        raise UnknownNameError(f"--basis {basis}", "unknown basis", f"choose one of {', '.join(BASES)}, all")
    output.check([bank])
    path = resolve_path(bank)
    loaded, wanted = read_bank(path), BASES if basis == "all" else (basis,)
    done = []
    for each in wanted:
        with follow(shown(), f"assign {each}", work(loaded, null=null, draws=draws)) as advance:
            found = fit_bank(loaded, each, null=null, draws=draws, seed=seed, advance=advance)
        done.append((found, summarise(found, loaded, r2=r2)))
    unstored = _why_not_stored(path, store)
    if not unstored:
        for found, _ in done:
            write_analysis(path, to_analysis(found, loaded))
    quality = layer_quality(loaded, seed=seed)

    def tables() -> None:
        for _, summary in done:
            _print(summary, quality if by_layer else ())
        say(unstored or f"Stored in {path} under {' and '.join('/analysis/assign-' + b for b in wanted)}.")

    facts = {"assignments": [summary for _, summary in done], "quality": quality}
    output.deliver_facts(
        "assignment",
        facts,
        rows=[row for _, summary in done for row in _rows(summary)],
        write=lambda path: _write(path, done, loaded, force=output.force),
        show=tables,
        draw=lambda: _draw(done[0], loaded),
    )


Done = list[tuple["Assignment", "AssignmentSummary"]]


def _why_not_stored(path: Path, store: bool) -> str:
    """Return why the result is not stored in the bank file, as a sentence; "" when it is."""
    import os

    from mkfa.banks.library import list_banks

    if not store:
        return "Not stored in the bank, as --no-store asks."
    if path.resolve() in {entry.path.resolve() for entry in list_banks() if entry.bundled}:
        return "Not stored: a bundled bank stays as it is. Keep the result with --out FILE.h5."
    if not os.access(path.parent, os.W_OK):
        return f"Not stored: {path.parent} may not be written to. Keep the result with --out FILE.h5."
    return ""


def _rows(summary: AssignmentSummary) -> list[dict[str, Any]]:
    """Return one row a layer, with a column for the share of each class."""
    from dataclasses import asdict

    rows = []
    for layer in summary.layers:
        facts = {"bank": summary.bank, "basis": summary.basis} | asdict(layer)
        shares = facts.pop("shares")
        rows.append(facts | {c.name: share for c, share in zip(summary.classes, shares, strict=True)})
    return rows


def _write(out: Path, done: Done, bank: FilterBank, *, force: bool) -> None:
    from mkfa.patterns.assigning import to_analysis
    from mkfa.storage.result_files import write_arrays

    arrays: dict[str, Any] = {}
    described: dict[str, Any] = {}
    for found, _ in done:
        analysis = to_analysis(found, bank)
        arrays |= {f"{analysis.name}/{key}": value for key, value in analysis.arrays.items()}
        described[analysis.name] = dict(analysis.parameters)
    write_arrays(out, kind="assignment", arrays=arrays, attributes={"bank": bank.name, **described}, overwrite=force)


def _draw(done: tuple[Assignment, AssignmentSummary], bank: FilterBank) -> Any:
    from mkfa.figures.assign import AssignFigure, draw
    from mkfa.patterns.summary import examples

    found, summary = done
    return draw(AssignFigure(summary, *examples(found, bank)))


def _print(summary: AssignmentSummary, quality: tuple[LayerQuality, ...]) -> None:
    _print_classes(summary)
    _print_coverage(summary)
    if quality:
        _print_layers(summary, quality)
    for line in _sentences(summary):
        say(line)


def _print_classes(summary: AssignmentSummary) -> None:
    rows = []
    for each in sorted(summary.classes, key=lambda c: -c.share):
        if each.filters or each.null_share >= 0.0005:
            rows.append(
                (
                    each.title,
                    each.filters,
                    _percent(each.share),
                    _interval(each.low, each.high),
                    each.median_r2,
                    _percent(each.on),
                    _percent(each.null_share),
                )
            )
    title = f"{summary.bank}: {summary.filters:,} filters, basis {summary.basis}"
    columns = ("class", "filters", "share", "95 %, over layers", "median R2", "on", f"share, {summary.null}")
    print_table(title, columns, rows)


def _print_coverage(summary: AssignmentSummary) -> None:
    rows = []
    parts: list[tuple[str, tuple[Coverage, ...]]] = [(k.kind, k.coverage) for k in summary.kinds]
    if len(parts) > 1:
        parts.append(("all", summary.whole))
    for kind, coverage in parts:
        for i, each in enumerate(coverage):
            limit = "each its own" if kind == "all" else f"R2 > {each.threshold:.2f}"
            rows.append(
                (
                    kind if i == 0 else "",
                    f"{each.filters:,}" if i == 0 else "",
                    each.null,
                    each.median_r2 if i == 0 else "",
                    each.null_median_r2,
                    _percent(each.fixed) if i == 0 else "",
                    _percent(each.null_fixed),
                    f"{_percent(each.beyond)} ({limit})",
                    _interval(each.beyond_low, each.beyond_high),
                )
            )
    at = f"R2 >= {summary.r2:g}"
    columns = ("size", "filters", "null", "median R2", "null's", at, "null's", "above null's 1 %", "95 %, layers")
    print_table("Coverage, beside each null", columns, rows, left=1)


def _print_layers(summary: AssignmentSummary, quality: tuple[LayerQuality, ...]) -> None:
    of = {q.layer: q for q in quality}
    rows = []
    for each in summary.layers:
        order = sorted(range(len(each.shares)), key=lambda i: -each.shares[i])[:2] if each.filters else []
        names = [f"{summary.classes[i].title} {100 * each.shares[i]:.0f} %" for i in order]
        top = ", ".join(names) if len(", ".join(names)) <= 32 else names[0]
        q = of[each.layer]
        rows.append(
            (
                each.layer,
                each.kind,
                each.filters,
                each.dead,
                each.median_r2,
                _percent(each.fixed),
                _percent(each.beyond),
                f"{q.entropy:.2f}/{q.random:.2f}",
                top,
            )
        )
    columns = ("layer", "size", "filters", "dead", "R2", f">= {summary.r2:g}", "> null", "entropy", "most frequent")
    print_table(
        "Layers",
        columns,
        rows,
        notes=(
            "> null: share above the R2 that 1 % of the null passes. entropy: variance entropy / that of as",
            "many random filters (simulated): equal is unstructured, near 0 copies of one another.",
        ),
    )


def _sentences(summary: AssignmentSummary) -> list[str]:
    chosen = summary.whole[0]
    strict = min(summary.whole, key=lambda c: c.beyond)
    lines = [
        f"{_percent(chosen.beyond)} of the filters fit a pattern better than 99 % of {chosen.null} filters do "
        f"(chance: 1 %); against {strict.null} filters, the hardest null, {_percent(strict.beyond)}.",
        f"Median p of a filter's R2 under {summary.null}: "
        f"{', '.join(f'{k.kind} {k.median_p:.2g}' for k in summary.kinds)}.",
        f"Half the filters lead their runner-up class by less than {summary.median_margin:.3f} in R2: "
        "read a single class with its margin.",
        f"Nulls: {summary.draws:,} filters for each size and null, seed {summary.seed}; intervals: "
        f"{summary.resamples:,} resamples of layers.",
    ]
    if any(summary.unscored.values()):
        counts = ", ".join(f"{n:,} {why}" for why, n in summary.unscored.items() if n)
        lines.append(f"Not scored: {counts}.")
    titles = {c.name: c.title for c in summary.classes}
    for kind in summary.kinds:
        lines += _coincide(kind, titles)
        if "3x3" in kind.kind:
            null = kind.coverage[0]
            lines.append(
                f"At {kind.kind} chance is high: the median {null.null} filter reaches R2 {null.null_median_r2:.2f}. "
                "A class is little evidence there; read the null columns."
            )
    lines += [f"Left out: {kind} ({why})." for kind, why in summary.skipped.items()]
    return lines


def _coincide(kind: KindSummary, titles: dict[str, str]) -> list[str]:
    """Return a sentence on the classes that carry another's name at this size over a tenth of their range or more."""
    found: dict[str, list[str]] = {}
    for merge in kind.merges:
        if merge.share >= 0.1:
            found.setdefault(titles[merge.name], []).append(f"{titles[merge.into]} {100 * merge.share:.0f} %")
    if not found:
        return []
    said = "; ".join(f"{name} -> {', '.join(into)}" for name, into in found.items())
    return [f"Classes that at {kind.kind} carry another's name, since they coincide (share of their range): {said}."]


def _percent(share: float) -> str:
    return "–" if share != share else f"{100 * share:.1f} %"


def _interval(low: float, high: float) -> str:
    return "–" if low != low else f"{100 * low:.1f} – {100 * high:.1f}"
