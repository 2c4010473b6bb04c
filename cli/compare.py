"""`mkfa compare`."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mkfa.cli.shared.outputs import (
    WIDTH,
    Force,
    Json,
    Seed,
    check_outputs,
    deliver,
    print_table,
    progress,
    say,
    say_wrapped,
    write_text,
)

if TYPE_CHECKING:
    from mkfa.banks.bank import FilterBank
    from mkfa.similarity.comparison import CompareSettings, Comparison, KindComparison

ENDINGS = (".h5", ".json", ".csv")


def register(app: typer.Typer) -> None:
    """Add the verb of this module to the command line."""
    app.command("compare")(compare)


def compare(
    banks: Annotated[
        list[str] | None,
        typer.Argument(metavar="[BANK...]", help="Banks to compare: file or name; three or more give a matrix."),
    ] = None,
    a: Annotated[str, typer.Option("--a", help="One bank: file or name ('mkfa banks' lists names).")] = "",
    b: Annotated[str, typer.Option("--b", help="The other bank.")] = "",
    bank: Annotated[list[str] | None, typer.Option("--bank", help="A further bank; may be repeated.")] = None,
    measures: Annotated[
        str,
        typer.Option(
            "--measures",
            help="Comma-separated: coverage, coverage_at, matching, "
            "transport, mmd, energy, moments, pca_kl, responses. Default: all.",
        ),
    ] = "",
    null: Annotated[
        str,
        typer.Option(
            "--null",
            help="Comma-separated: shuffled, gaussian, blurred, covariance "
            "(default: these), init (untrained networks from timm; slow).",
        ),
    ] = "",
    kernel: Annotated[
        str,
        typer.Option("--kernel", help="Kernel sizes, comma-separated, as in 5x5. Default: all that the banks share."),
    ] = "",
    permutations: Annotated[int, typer.Option("--permutations", help="Draws of each null.")] = 999,
    sample: Annotated[int, typer.Option("--sample", help="Filters from each bank, evenly over its layers.")] = 192,
    threshold: Annotated[float, typer.Option("--threshold", help="|cos| that counts as covered.")] = 0.9,
    seed: Seed = 0,
    out: Annotated[Path | None, typer.Option("--out", help="Write the result: .h5, .json or .csv.")] = None,
    figure: Annotated[Path | None, typer.Option("--figure", help="Draw it: .png, .pdf or .svg.")] = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """How alike are two networks' filters, between the floor of one network's halves and chance?"""
    names = [*(x for x in (a, b) if x), *(bank or []), *(banks or [])]
    settings = _settings(measures, null, kernel, (permutations, sample, seed), threshold)
    _need_two(names)
    check_outputs(out, figure, force=force, banks=names, endings=ENDINGS)
    from mkfa.banks.library import load_bank
    from mkfa.similarity.comparing import distinct_names

    found = distinct_names([load_bank(name) for name in names])
    results = _run(found, settings)
    deliver(
        out,
        figure,
        lambda: _record(found, results),
        write=lambda path: _write(path, results, force),
        draw=lambda: _draw(found, results),
        tell=lambda: _print(found, results),
        force=force,
        as_json=as_json,
    )


def _settings(measures: str, null: str, kernel: str, counts: tuple[int, int, int], threshold: float) -> CompareSettings:
    from mkfa.similarity.comparison import CompareSettings

    chosen: dict[str, Any] = {"measures": _words(measures), "nulls": _words(null), "kernels": _kernels(kernel)}
    permutations, sample, seed = counts
    given = {k: v for k, v in chosen.items() if v}
    return CompareSettings(**given, permutations=permutations, sample=sample, seed=seed, threshold=threshold)


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _kernels(text: str) -> tuple[tuple[int, int], ...]:
    import re

    from mkfa.errors import MkfaError

    sizes = []
    for word in _words(text):
        match = re.fullmatch(r"(\d+)x(\d+)", word)
        if not match:
            raise MkfaError(f"--kernel {word}", "is no kernel size", "write it as height x width, e.g. 5x5")
        sizes.append((int(match[1]), int(match[2])))
    return tuple(sizes)


def _need_two(names: list[str]) -> None:
    from mkfa.errors import MkfaError

    if len(names) < 2:
        problem = f"needs two banks, and {len(names)} was named" if names else "needs two banks"
        raise MkfaError("mkfa compare", problem, "name them: --a BANK --b BANK")


def _run(banks: list[FilterBank], settings: CompareSettings) -> tuple[Comparison | None, ...]:
    """Compare every pair; pairs with nothing in common are left out and said, unless there is no other."""
    from itertools import combinations

    from mkfa.cli.shared.outputs import warn
    from mkfa.errors import MkfaError
    from mkfa.similarity.comparing import compare_many, total_draws

    total = 0
    for x, y in combinations(banks, 2):
        with suppress(MkfaError):  # `compare_many` says it again
            total += total_draws(x, y, settings)
    with progress("null banks", total) as advance:
        return compare_many(banks, settings=settings, advance=advance, tell=lambda problem: warn(str(problem)))


def _record(banks: list[FilterBank], results: tuple[Comparison | None, ...]) -> dict[str, Any]:
    from mkfa.similarity.export import record
    from mkfa.similarity.matrix import bank_matrices

    out: dict[str, Any] = {"comparisons": [record(result) for result in results if result]}
    if len(banks) > 2:
        out["matrices"] = bank_matrices(banks, results)
    return out


def _write(out: Path, results: tuple[Comparison | None, ...], force: bool) -> None:
    from mkfa.similarity.export import arrays_of, attributes_of, csv_text
    from mkfa.storage.result_files import write_arrays

    done = [result for result in results if result]
    if out.suffix.lower() == ".csv":
        write_text(out, csv_text(done), overwrite=force)
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
            notes=_wrap(_place_notes(kind, settings)),
        )
        head = [x for n in kind.nulls for x in (n.null, "p")]
        how = f"mean with one bank replaced, p of the value ({_draws(kind)}, seed {settings.seed})"
        print_table(
            f"Against chance: {how}",
            ("measure", "value", *head),
            [_null_row(kind, i) for i in rows],
            notes=_wrap(_null_notes(kind)),
        )
        _print_stages(kind)
        say_wrapped(" ".join(in_words(result, kind)))
        say("")
    for text in (*result.left_out, *result.notes):
        say_wrapped(f"{text}.")


def _wrap(texts: list[str]) -> list[str]:
    from textwrap import wrap

    return [line for text in texts for line in wrap(text, WIDTH)]


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
