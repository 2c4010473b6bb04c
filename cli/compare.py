"""`mkfa compare`: how alike two banks are, between floor, ceiling and chance."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mkfa.cli.shared.options import Seed, add
from mkfa.cli.shared.outputs import Output, write_text
from mkfa.cli.shared.printing import print_table, say, warn, words
from mkfa.cli.shared.progress import shown
from mkfa.nulls.draws import DEFAULT_NULLS, NULLS

if TYPE_CHECKING:
    from mkfa.banks.bank import FilterBank
    from mkfa.similarity.comparison import CompareSettings, Comparison, KindComparison

MOST_DRAWS = 1_000_000


def register(app: typer.Typer) -> None:
    """Add the verb of this module to the command line."""
    former = {"--bank": "BANK", "--kernel": "--kernel-size", "--permutations": "--draws", "--null": "--nulls"}
    nulls = [f"{null.name}: {null.help}." for null in NULLS.values()]
    add(app, "compare", compare, former=former, epilog="\n\n".join(["Nulls:", *nulls]))


def compare(
    banks: Annotated[
        list[str] | None,
        typer.Argument(metavar="BANK...", help="Names or paths of banks; three or more give a matrix."),
    ] = None,
    a: Annotated[str, typer.Option("--a", metavar="BANK", help="One bank.")] = "",
    b: Annotated[str, typer.Option("--b", metavar="BANK", help="The other bank.")] = "",
    measures: Annotated[
        str | None,
        typer.Option(
            "--measures",
            metavar="NAMES",
            help="By commas: coverage, coverage_at, matching, transport, mmd, energy, moments, pca_kl, responses; "
            "default: all.",
        ),
    ] = None,
    nulls: Annotated[
        str | None,
        typer.Option("--nulls", metavar="NAMES", help=f"By commas; default: {', '.join(DEFAULT_NULLS)}. See below."),
    ] = None,
    kernel_size: Annotated[
        str | None,
        typer.Option("--kernel-size", metavar="5x5", help="Sizes, by commas; default: all that the banks share."),
    ] = None,
    draws: Annotated[
        int, typer.Option("--draws", min=1, max=MOST_DRAWS, metavar="N", help="Draws of each null.")
    ] = 999,
    sample: Annotated[
        int, typer.Option("--sample", metavar="N", help="Filters from each bank, evenly over its layers.")
    ] = 192,
    threshold: Annotated[float, typer.Option("--threshold", metavar="X", help="|cos| that counts as covered.")] = 0.9,
    seed: Seed = 0,
    *,
    output: Output,
) -> None:
    """How alike are two networks' filters, between floor, ceiling and chance?

    Floor: two halves of one network. Ceiling and chance: filters without patterns. 'mkfa explain WORD' says more.
    """
    names = [*(x for x in (a, b) if x), *(banks or [])]
    settings = _settings(measures, nulls, kernel_size, (draws, sample, seed), threshold)
    _need_two(names)
    output.check(names)
    from mkfa.banks.library import load_bank
    from mkfa.similarity.comparing import distinct_names

    found = distinct_names([load_bank(name) for name in names])
    results = _run(found, settings)
    output.deliver(
        SimpleNamespace(to_dict=lambda: _record(found, results)),
        show=lambda: _print(found, results),
        draw=lambda: _draw(found, results),
        save=lambda path: _write(path, found, results, output.force),
    )


def _settings(
    measures: str | None, nulls: str | None, kernel_size: str | None, counts: tuple[int, int, int], threshold: float
) -> CompareSettings:
    from mkfa.similarity.comparison import CompareSettings

    chosen: dict[str, Any] = {"measures": _names(measures, "--measures"), "nulls": _names(nulls, "--nulls")}
    chosen["kernels"] = tuple(_size(word) for word in _names(kernel_size, "--kernel-size"))
    draws, sample, seed = counts
    given = {k: v for k, v in chosen.items() if v}
    return CompareSettings(**given, permutations=draws, sample=sample, seed=seed, threshold=threshold)


def _names(text: str | None, option: str) -> tuple[str, ...]:
    from mkfa.errors import MkfaError

    if text is not None and not words(text):
        raise MkfaError(option, "names nothing", "name one or several, by commas, or leave the option out")
    return tuple(words(text or ""))


def _size(word: str) -> tuple[int, int]:
    import re

    from mkfa.errors import MkfaError

    match = re.fullmatch(r"(\d+)x(\d+)", word)
    if not match:
        raise MkfaError(f"--kernel-size {word}", "is not a kernel size", "write it as height x width, e.g. 5x5")
    return int(match[1]), int(match[2])


def _need_two(names: list[str]) -> None:
    from mkfa.errors import MkfaError

    if len(names) < 2:
        problem = f"needs two banks, and {len(names)} was named" if names else "needs two banks"
        raise MkfaError("compare", problem, "name them: --a BANK --b BANK")


def _run(banks: list[FilterBank], settings: CompareSettings) -> tuple[Comparison | None, ...]:
    """Compare every pair; pairs with nothing in common are left out and said, unless there is no other."""
    from itertools import combinations

    from mkfa.errors import MkfaError
    from mkfa.progress import follow
    from mkfa.similarity.comparing import compare_many, total_draws

    total = 0
    for x, y in combinations(banks, 2):
        with suppress(MkfaError):  # `compare_many` says it again
            total += total_draws(x, y, settings)
    with follow(shown(), "null banks", total) as advance:
        return compare_many(banks, settings=settings, advance=advance, tell=lambda problem: warn(str(problem)))


def _record(banks: list[FilterBank], results: tuple[Comparison | None, ...]) -> dict[str, Any]:
    from mkfa.similarity.export import record
    from mkfa.similarity.matrix import bank_matrices

    out: dict[str, Any] = {"comparisons": [record(result) for result in results if result]}
    if len(banks) > 2:
        out["matrices"] = bank_matrices(banks, results)
    return out


def _write(out: Path, banks: list[FilterBank], results: tuple[Comparison | None, ...], force: bool) -> None:
    from mkfa.similarity.export import arrays_of, attributes_of, csv_text
    from mkfa.storage.records import to_json
    from mkfa.storage.result_files import write_arrays

    done = [result for result in results if result]
    if out.suffix.lower() == ".csv":
        write_text(out, csv_text(done), overwrite=force)
    elif out.suffix.lower() == ".json":
        write_text(out, to_json(_record(banks, results)) + "\n", overwrite=force)
    else:
        arrays, attributes = arrays_of(done), attributes_of(done)
        write_arrays(out, kind="comparison", arrays=arrays, attributes=attributes, overwrite=force)


def _draw(banks: list[FilterBank], results: tuple[Comparison | None, ...]) -> Any:
    from mkfa.figures.compare import draw, draw_matrix
    from mkfa.similarity.matrix import bank_matrices

    if len(banks) > 2:
        return draw_matrix(bank_matrices(banks, results))
    return draw(next(result for result in results if result))


def _print(banks: list[FilterBank], results: tuple[Comparison | None, ...]) -> None:
    for result in results:
        if result:
            _print_comparison(result)
    if len(banks) > 2:
        _print_matrix(banks, results)


def _print_comparison(result: Comparison) -> None:
    from mkfa.similarity.wording import in_words

    settings = result.settings
    for kind in result.kinds:
        each, rows = f"{kind.n} filters of each, of {kind.usable[0]} and {kind.usable[1]}", range(len(kind.measures))
        print_table(
            f"{result.a} and {result.b}, {kind.kind}: {each}",
            ("measure", "value", "95 %", "floor", "layers", "ceiling", "fraction", "p differ"),
            [_place_row(kind, i) for i in rows],
            notes=_place_notes(kind, settings),
        )
        head = [x for n in kind.nulls for x in (n.null, "p")]
        how = f"mean with one bank replaced, p of the value ({_draws(kind)}, seed {settings.seed})"
        print_table(
            f"Against chance: {how}",
            ("measure", "value", *head),
            [_null_row(kind, i) for i in rows],
            notes=_null_notes(kind),
        )
        _print_stages(kind)
        say(" ".join(in_words(result, kind)))
        say("")
    for text in (*result.left_out, *result.notes):
        say(f"{text}.")


def _place_row(kind: KindComparison, i: int) -> list[Any]:
    from mkfa.similarity.score import ALIKE_IS_MORE

    name = kind.measures[i]
    interval = f"{kind.interval[0, i]:.3f} {kind.interval[1, i]:.3f}"
    numbers = (kind.value[i], interval, kind.floor[i], kind.floor_layers[i], kind.ceiling[i], kind.fraction[i])
    return [
        f"{name} {'^' if name in ALIKE_IS_MORE else ''}".strip(),
        *(x if isinstance(x, str) else float(x) for x in numbers),
        kind.exchange.p.get(name),
    ]


def _place_notes(kind: KindComparison, settings: CompareSettings) -> list[str]:
    notes = [
        f"^: more is more alike; the others are distances. Floor: disjoint halves of one bank, "
        f"{settings.splits} splits of each; layers: every other layer against the rest; ceiling: "
        f"{kind.ceiling_null}; fraction: 0 at the floor, 1 at the ceiling. 95 %: {settings.bootstrap} "
        f"resamplings of layers"
        f"{', coarse: few layers' if _few(kind) else ''}. p differ: {kind.exchange.m} exchanges of layers "
        f"between the banks. Seed {settings.seed}."
    ]
    if "coverage" in kind.measures:
        one, other = kind.directed_at
        notes.append(
            f"Covered at |cos| >= {settings.threshold}: {one:.0%} of the first in the second, {other:.0%} the "
            "other way round."
        )
    if "pca_kl" in kind.all_filters:
        notes.append(f"pca_kl on all filters, as CNN Filter DB gives it: {kind.all_filters['pca_kl']:.3f}.")
    return notes


def _few(kind: KindComparison) -> bool:
    return min(len(kind.layers_a), len(kind.layers_b)) < 10


def _null_row(kind: KindComparison, i: int) -> list[Any]:
    cells = [x for n in kind.nulls for x in (float(n.mean[i]), f"{n.p[i]:.3f}")]
    return [kind.measures[i], float(kind.value[i]), *cells]


def _draws(kind: KindComparison) -> str:
    return ", ".join(f"{m} draws" for m in sorted({n.m for n in kind.nulls}))


def _null_notes(kind: KindComparison) -> list[str]:
    from mkfa.similarity.score import BY_LAYER

    name = next((m for m in BY_LAYER if m in kind.measures), None)
    if name is None:
        return []
    i, pairs = BY_LAYER.index(name), len(kind.layers_a) * len(kind.layers_b)
    counts = ", ".join(f"{n.null} {int((n.layer_p_max[i] <= 0.05).sum())}" for n in kind.nulls)
    notes = [
        f"Layer pairs closer than chance ({name}, p <= 0.05 adjusted over all {pairs} by the largest of each "
        f"draw): {counts}."
    ]
    m = min(n.m for n in kind.nulls)
    if pairs > 0.05 * (m + 1):
        notes.append(f"(Holm over {pairs} pairs would need {20 * pairs - 1} draws before any pair could pass.)")
    return notes


def _print_stages(kind: KindComparison) -> None:
    from mkfa.similarity.score import BY_LAYER
    from mkfa.similarity.wording import strictest

    name = next((m for m in BY_LAYER if m in kind.measures), None)
    if name is None or max(len(kind.stages_a), len(kind.stages_b)) > 8:
        return
    i, null = BY_LAYER.index(name), strictest(kind, name)
    columns = range(len(kind.stages_b))
    rows = [
        [stage, *(f"{kind.stage_value[i, x, y]:.2f} {null.stage_p_holm[i, x, y]:.3f}" for y in columns)]
        for x, stage in enumerate(kind.stages_a)
    ]
    print_table(f"Pairs of stages: {name}, p under {null.null} (Holm)", ("", *kind.stages_b), rows)


def _print_matrix(banks: list[FilterBank], results: tuple[Comparison | None, ...]) -> None:
    from mkfa.similarity.matrix import bank_matrices

    matrices = bank_matrices(banks, results)
    for matrix in matrices:
        if matrix.measure != matrices[0].measure:
            continue
        strict = matrix.p_holm.max(axis=0)
        rows, notes = [], []
        for name, places, ps in zip(matrix.names, matrix.fraction, strict, strict=True):
            rows.append([name, *("–" if v != v else f"{v:.2f} {p:.3f}" for v, p in zip(places, ps, strict=True))])
        if matrix.seed_floor == matrix.seed_floor:
            notes.append(f"Between seeds of one architecture and training set: {matrix.seed_floor:.3f}.")
        what = "fraction of the way from floor to ceiling, largest p of any null (Holm)"
        print_table(f"{matrix.kind}, {matrix.measure}: {what}", ("", *matrix.names), rows, notes=notes)
