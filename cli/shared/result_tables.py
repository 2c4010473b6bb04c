"""Tables and figures of a curve, a table of scenarios, a matrix and a sweep, for new results and for stored ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mkfa.cli.shared.printing import print_table, say
from mkfa.training.spec import TRAINING_VERSION
from mkfa.words import counted, listed

if TYPE_CHECKING:
    from mkfa.results.contrasts import Contrast
    from mkfa.results.curve import Curve
    from mkfa.results.matrix import Matrix
    from mkfa.results.sweep import Sweep
    from mkfa.results.table import Scenarios
    from mkfa.results.trends import Trend


def print_result(found: Any, *, test_images: int = 0, notes: Sequence[str] = ()) -> None:
    """Print a curve, a table of scenarios, a matrix or a sweep; `test_images` of the target, for the first two."""
    if found.KIND in ("matrix", "sweep"):
        (print_matrix if found.KIND == "matrix" else print_sweep)(found, notes=notes)
    else:
        (print_curve if found.KIND == "curve" else print_scenarios)(found, test_images=test_images, notes=notes)


def papers_values(kind: str, what: str, *, sources: bool) -> Any:
    """Return the paper's values beside a result of a kind; refuse if it has none. Beside a sweep it has none."""
    from mkfa.evidence.paper import paper_curves, paper_matrix, paper_rows

    if kind == "table":
        return paper_rows(sources=sources, what=what)
    return {"curve": paper_curves, "matrix": paper_matrix}[kind](what) if kind != "sweep" else None


def draw_result(found: Any, paper: Any = None, *, width: str = "page") -> Any:
    """Draw a curve, a table of scenarios, a matrix or a sweep, with the paper's values apart."""
    from mkfa.figures import curve, matrix, scenarios, sweep

    if found.KIND == "sweep":
        return sweep.draw(found, width=width)
    if found.KIND == "curve":
        return curve.draw(found, paper=paper or (), width=width)
    return (matrix if found.KIND == "matrix" else scenarios).draw(found, paper=paper, width=width)


def print_curve(found: Curve, *, test_images: int, notes: Sequence[str] = ()) -> None:
    """Print a curve: one row per cell, against the base."""
    from mkfa.results.contrasts import series_of

    p = found.parameters
    rows = [_row(found.base)]
    rows += [(name, *_row(c)[1:]) for name, cells in series_of(found.cells).items() for c in cells]
    own = [
        "mean and SD over seeds; change in points against the base, with its 95 % interval (Welch; over seeds and test",
        f"images{at_most([found.base, *found.cells])}).",
        _read_on(found.chance, test_images, p["seeds"]),
    ]
    print_table(
        f"{p['source']} to {p['target']}, {p['arch']}",
        ("arm", "layers", "seeds", "top-1", "SD", "change", "±"),
        rows,
        notes=[" ".join(own)],
    )
    say(sensitivity(found.sensitivity))
    print_contrasts(found.contrasts)
    _say_trends(found.trends)
    for note in (*older(p), *notes):
        say(note)
    if found.answer is not None:
        say(found.answer.sentence)


def _say_trends(trends: Sequence[Trend]) -> None:
    """Say how untrained filters, borrowed filters, and their difference change along an axis."""
    from mkfa.results.contrasts import MAIN, REFERENCE
    from mkfa.results.trends import tell_trend

    for trend in trends:
        if trend.series.split(" ")[0] in (*MAIN, REFERENCE) and trend.against in ("", REFERENCE, "baseline"):
            text = tell_trend(trend)
            say(text[0].upper() + text[1:])


def print_sweep(found: Sweep, *, notes: Sequence[str] = ()) -> None:
    """Print a sweep: one row per setting, with each arm against the base, and the lines along the axes."""
    from mkfa.results.contrasts import REFERENCE, series_of

    p = found.parameters
    names = list(dict.fromkeys(name for point in found.points for name in series_of(point.curve.cells)))
    timed = any(point.steps for point in found.points)
    rows = []
    for point in found.points:
        cells = {name: group[-1] for name, group in series_of(point.curve.cells).items()}
        base, worst = point.curve.base, point.curve.sensitivity
        changes = [100 * cells[name].relative if name in cells and cells[name].top1 else None for name in names]
        place = [f"{point.width} x {point.kernel}x{point.kernel}", f"{point.ratio:.2f}", *([point.steps] * timed)]
        rows.append((*place, len(base.seeds), base.mean, *changes, worst.distance if worst else None))
    head = ["filters", "D / f^2", *(["steps"] * timed), "seeds", "base"]
    own = [
        "filters: channels and size of the kernels; base: mean top-1; arms: change in points against the base; in SDs:",
        "how far the worst arm lies below the base, in standard deviations of the seeds.",
    ]
    layers = counted(p["layers"][0], f"{p['what']} layer")
    title = f"{p['source']} to {p['target']}, {p['arch']}, {layers} set"
    print_table(title, (*head, *names, "in SDs"), rows, notes=[" ".join(own)])
    for weakest in found.weakest:
        steps = f", {counted(weakest.steps, 'step')}" if timed else ""
        say(f"Least sensitive: {counted(weakest.width, 'channel')}, kernels of {weakest.kernel}{steps}.")
        say(sensitivity(weakest.curve.sensitivity))
    _say_trends(found.trends)
    if not any(trend.against == REFERENCE for trend in found.trends):
        say(f"No line: it takes {REFERENCE}, an arm that borrows filters, and two settings that are done.")
    for note in (*older(p), *notes):
        say(note)


def _read_on(chance: float, test_images: int, seeds: int) -> str:
    said = f"seeds 0..{seeds - 1}" if seeds > 1 else "seed 0"
    return f"Chance {chance:.3f}, {counted(test_images, 'test image')}, {said}."


def print_scenarios(found: Scenarios, *, test_images: int, notes: Sequence[str] = ()) -> None:
    """Print a table of arms or sources at one number of layers, each against the base."""
    p = found.parameters
    rows: list[tuple[Any, ...]] = [("baseline", *_row(found.base)[2:], None, None)]
    rows += [(row.label, *_row(row.cell)[2:], row.p, row.spreads) for row in found.scenarios]
    own = [
        "mean and SD over seeds; change in points against the base, with its 95 % interval and p (Welch; over seeds",
        f"and test images{at_most([row.cell for row in found.scenarios])}), and in SDs of the seeds.",
        _read_on(found.chance, test_images, p["seeds"]),
    ]
    layers = counted(p["layers"][0], f"{p['what']} layer")
    print_table(
        f"{p['source']} to {p['target']}, {p['arch']}: {layers} set",
        ("", "seeds", "top-1", "SD", "change", "±", "p", "in SDs"),
        rows,
        notes=[" ".join(own)],
    )
    say(sensitivity(found.sensitivity))
    print_contrasts([c for c in found.contrasts if c.against != "baseline"])
    for note in (*older(p), *notes):
        say(note)


def print_contrasts(found: Sequence[Contrast]) -> None:
    """Print differences between series, with both intervals, and the main ones in words too."""
    from mkfa.results.contrasts import MAIN, REFERENCE, sentence

    if not found:
        return
    rows = []
    for c in found:
        layers = (
            f"{c.against_layers[0]} to {c.layers[0]}"
            if c.what == "step"
            else f"mean of {len(c.layers)}"
            if c.what == "all"
            else str(c.layers[0])
        )
        seeds = str(c.seeds[0]) if c.seeds[0] == c.seeds[1] else f"{c.seeds[0]}, {c.seeds[1]}"
        rows.append(
            (
                c.series if c.what == "step" else f"{c.series} - {c.against}",
                layers,
                seeds,
                100 * c.difference,
                _width(c.half_width),
                _width(c.paired),
                c.p,
                100 * c.detectable,
            )
        )
    notes = [
        f"points, with half 95 % intervals over seeds and test images{at_most(found)}:",
        "Welch's, and of differences seed by seed (paired) where a seed's runs share initial weights, order and",
        "augmentation; the base's do not. p: Welch's, of each comparison by itself: of twenty rows, about one is below",
        ".05 by chance. seen: the smallest true difference that shows (p < .05) in four of five such experiments.",
    ]
    print_table(
        "Differences",
        ("", "layers", "seeds", "points", "± Welch", "± paired", "p", "seen"),
        rows,
        notes=[" ".join(notes)],
    )
    for c in found:
        if c.series in MAIN and (c.against == REFERENCE or c.what == "step"):
            say(sentence(c))


def print_matrix(found: Matrix, *, notes: Sequence[str] = ()) -> None:
    """Print a matrix: sources in rows, targets in columns, controls apart; and what the whole matrix says."""
    from mkfa.results.matrix import sentence, tell_sensitivity

    names, p = found.domains, found.parameters
    by_pair = {(c.source or c.arm, c.target): c for c in (*found.cells, *found.controls)}

    def row(label: str, key: str) -> tuple[str, ...]:
        return label, *(_points(by_pair.get((key, t))) for t in names)

    rows: list[tuple[Any, ...]] = [("base", *(_top1(found.bases[t]) for t in names))]
    rows += [row(s, s) for s in found.sources]
    arms = dict.fromkeys(c.arm for c in found.controls)
    rows += [("", *("" for _ in names)), *(row(f"({arm})", arm) for arm in arms)] if arms else []
    below = " Below, in brackets: controls, which need no source." if arms else ""
    layers = counted(p["layers"], f"{p['what']} layer")
    own = [
        f"Top-1 in %, (change in points); {layers} frozen; diagonal: selffer; {counted(p['seeds'], 'seed')}.{below}",
        "Chance " + ", ".join(f"{n} {100 * found.chance[n]:.1f}" for n in names) + " %.",
    ]
    print_table("Source (rows) to target (columns)", ("", *names), rows)
    for note in own:
        say(note)
    say(tell_sensitivity(found))
    if found.overall:
        say("On the whole:")
        for one in found.overall:
            say(f"- {sentence(one)}")
        say(
            "Each target counts once, by the mean over its sources: the interval is about other targets with "
            "these same sources; the noise of seeds and of test images is in it, that of the choice of sources is not."
        )
    for note in (*older(p), *notes):
        say(note)


def sensitivity(found: Any) -> str:
    """Return the sentence on what the experiment could have seen."""
    if found is None:
        return "Sensitivity: unknown, nothing is done."
    where = listed(f"{arm} at {counted(layers, 'layer')}" for arm, layers in found.worst)
    where += f", {100 * found.drop:.1f} points below the base"
    beyond = _beyond(found)
    if found.distance != found.distance:
        return f"Sensitivity: worst is {where}; its size against the seeds' spread needs two seeds.{beyond}"
    verdict = (
        ""
        if found.distance > found.bound
        else (
            f" Seeds alone bring the lowest of as many cells {found.bound:.1f} SD down in one experiment of twenty, "
            "so it is not shown that this setting can see filters at all."
        )
    )
    distance = f"{found.distance:.1f} SD of the seeds (SD {100 * found.spread:.1f})"
    return f"Sensitivity: worst is {where}, {distance}.{verdict}{beyond}"


def older(parameters: Mapping[str, Any]) -> list[str]:
    """Return a remark if the runs were trained by an earlier version of the training."""
    version = parameters.get("training_version", 1)
    if version == TRAINING_VERSION:
        return []
    return [f"Runs of training version {version} (now {TRAINING_VERSION}): the same command trains them anew."]


def at_most(cells: Sequence[Any]) -> str:
    """Return a remark if, in some of the intervals, the part of the test images is an upper bound, else ""."""
    bound = any(c.test_error and not c.test_error_exact for c in cells)
    return ", whose part is an upper bound, as older runs did not record their answers" if bound else ""


def _beyond(found: Any) -> str:
    """Say which difference the experiment resolves, and which arms that must hurt did not."""
    text = ""
    if found.detectable == found.detectable:
        text += (
            f" Resolution: a true difference from the base of {100 * found.detectable:.1f} points or more would show "
            "(p < .05) in four of five such experiments; smaller ones may be there unseen."
        )
    elif found.distance == found.distance:  # else two seeds are asked for already
        text += " Resolution: unknown; it takes seeds that differ, and enough of them for intervals below 100 points."
    if found.above:
        text += f" Above the base, although the arm must hurt: {', '.join(found.above)}; there filters hardly matter."
    return text


def _row(cell: Any) -> tuple[Any, ...]:
    state = f"{len(cell.seeds)}" + (f" ({cell.diverged} diverged)" if cell.diverged else "")
    state += f" ({cell.missing} missing)" if cell.missing else ""
    change = None if cell.arm == "baseline" else 100 * cell.relative
    width = None if cell.arm == "baseline" else _width(cell.half_width)
    return cell.arm, cell.layers or None, state, cell.mean, cell.std, change, width


def _width(half_width: float) -> float | None:
    """Return half an interval in points; None if seeds do not differ, which the formula would take for certainty."""
    from mkfa.stats.intervals import ROUNDING

    return 100 * half_width if half_width > ROUNDING else None


def _points(cell: Any) -> str:
    if cell is None or not cell.top1:
        return "diverged" if cell is not None and cell.diverged else "–"
    change = f" ({100 * cell.relative:+.1f})" if cell.relative == cell.relative else ""
    return f"{_top1(cell)}{change}"


def _top1(cell: Any) -> str:
    return f"{100 * cell.mean:.1f}" if cell.top1 else "–"
