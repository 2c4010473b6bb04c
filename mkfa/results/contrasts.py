"""Differences between the arms of a curve, over seeds, with intervals (uses numpy and scipy's t only).

**What a seed fixes.** Runs with planted filters and the same seed start from the same weights, except for those that
the arm sets, and see the same images in the same order with the same augmentation. Base runs start from different
weights (`mkfa.training.run.network_seed`). So two arms, or two points of an arm, may be compared as pairs by seed
(paired t). An arm and the base may not; they are compared as independent samples (Welch 1947). If both comparisons
are valid, both intervals are given: `half_width` is Welch's, `paired` is that of the per-seed differences. Runs that
share a seed, or filters (`selffer` and the base), are positively correlated, which makes Welch's interval too wide,
not too narrow.

**What the interval is over.** Other seeds and other test images: all runs share the test images, whose part of the
variance is computed from the per-image differences between the two sides (`mkfa.results.image_error`).

Accuracies and differences are shares (0-1).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mkfa.frozen import ByContent
from mkfa.results.cells import Cell
from mkfa.results.image_error import Answers, error_of_difference
from mkfa.results.record import RunRecord
from mkfa.stats.intervals import UNKNOWN, mean, of_shares, paired_half_width, welch
from mkfa.words import counted

REFERENCE = "random"
"""The arm that all others are compared with: untrained filters."""
MAIN = ("transfer", "stack")
"""Arms whose last step, from the second-largest to the largest number of layers, is also tested."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Contrast(ByContent):
    """One series of a curve minus another, or minus itself at another number of layers.

    Attributes
    ----------
    what : "last": at the largest number of layers; "all": the mean over `layers`, first averaged within each seed;
        "step": from `against_layers` to `layers` within one series.
    series, against : names from `series_of`; "baseline" for the base.
    layers, against_layers : numbers of layers included; (0,) for the base.
    difference : float
    half_width, p : of Welch's interval and test; NaN if either side has one seed.
    paired : half-width of the interval of the per-seed differences; NaN against the base and for one common seed.
    seeds : number of seeds included on each side.
    common : number of seeds in common; 0 against the base.
    seeds_half_width : half-width of Welch's interval over seeds alone, on these test images.
    test_error : standard error of the difference that the test images cause; 0 if unknown.
    test_error_exact : True if it is from the images that each run got right, False for its upper bound.
    detectable : smallest true difference that shows (p < .05, Welch) in four of five such experiments.
    """

    what: str
    series: str
    against: str
    layers: tuple[int, ...]
    against_layers: tuple[int, ...]
    difference: float
    half_width: float
    p: float
    paired: float
    seeds: tuple[int, int]
    common: int
    seeds_half_width: float = math.nan
    test_error: float = 0.0
    test_error_exact: bool = False
    detectable: float = math.nan


Points = Mapping[tuple[str, str, int], Answers]
"""The runs of each point by source, arm and number of layers."""


def points_of(runs: Sequence[RunRecord]) -> Points:
    """Return the runs of each point."""
    groups: dict[tuple[str, str, int], list[RunRecord]] = {}
    for run in runs:
        groups.setdefault((run.source, run.arm, run.layers), []).append(run)
    return {key: Answers.of(group) for key, group in groups.items()}


def series_of(cells: Sequence[Cell]) -> dict[str, list[Cell]]:
    """Return a curve's cells by series, in order of layers. A series is an arm, with its source if it has several."""
    sources: dict[str, set[str]] = {}
    for cell in cells:
        sources.setdefault(cell.arm, set()).add(cell.source)
    series: dict[str, list[Cell]] = {}
    for cell in cells:
        series.setdefault(cell.arm if len(sources[cell.arm]) == 1 else f"{cell.arm} {cell.source}", []).append(cell)
    return {name: sorted(group, key=lambda c: c.layers) for name, group in series.items()}


def contrasts_of(base: Cell, cells: Sequence[Cell], *, runs: Sequence[RunRecord] = ()) -> tuple[Contrast, ...]:
    """Compare every series with `random` and the base, and the main ones with themselves one step earlier.

    Series are compared at the largest common number of layers and, if they have several in common, pooled over these.
    Without the `runs` of all cells, the intervals are over seeds alone.
    """
    points = points_of(runs)
    series = {name: [c for c in group if c.top1] for name, group in series_of(cells).items()}
    series = {name: group for name, group in series.items() if group}
    contrasts: list[Contrast] = []
    reference = series.get(REFERENCE)
    for name, group in series.items():
        if reference and name != REFERENCE:
            there = {c.layers: c for c in reference}
            both = [(c, there[c.layers]) for c in group if c.layers in there]
            contrasts += _against(name, REFERENCE, both, points)
        contrasts += _against(name, base.arm, [(c, base) for c in group], points)
    for name, group in series.items():
        if group[0].arm in MAIN and len(group) > 1:
            contrasts.append(_contrast("step", (name, name), [group[-1]], [group[-2]], common=True, points=points))
    return tuple(c for c in contrasts if min(c.seeds))


def _against(name: str, other: str, both: Sequence[tuple[Cell, Cell]], points: Points) -> list[Contrast]:
    if not both:
        return []
    cells, others = [a for a, _ in both], [b for _, b in both]
    paired = others[0].layers > 0
    contrasts = [_contrast("last", (name, other), cells[-1:], others[-1:], common=paired, points=points)]
    if len(both) > 1:
        contrasts.append(_contrast("all", (name, other), cells, others, common=paired, points=points))
    return contrasts


def _contrast(
    what: str, names: tuple[str, str], cells: Sequence[Cell], others: Sequence[Cell], *, common: bool, points: Points
) -> Contrast:
    a, b = _by_seed(cells), _by_seed(others)
    both = sorted(set(a) & set(b)) if common else []
    if both:  # one difference for both intervals, over the common seeds
        a, b = {seed: a[seed] for seed in both}, {seed: b[seed] for seed in both}
    sides = [_answers(cells, list(a), points), _answers(others, list(b), points)]
    error = error_of_difference(*sides)
    difference = welch(list(a.values()), list(b.values()), further=error.variance).of_shares()
    by_pair = error_of_difference(*sides, paired=True).variance if both else 0.0
    paired = paired_half_width([a[seed] - b[seed] for seed in both], further=by_pair)
    layers, other = (tuple(dict.fromkeys(c.layers for c in part)) for part in (cells, others))
    return Contrast(
        what,
        names[0],
        names[1],
        layers,
        other,
        difference.difference,
        difference.half_width,
        difference.p,
        of_shares(paired),
        (len(a), len(b)),
        len(both),
        welch(list(a.values()), list(b.values())).of_shares().half_width,
        error.sd,
        error.exact,
        difference.detectable,
    )


def _answers(cells: Sequence[Cell], seeds: Sequence[int], points: Points) -> Answers:
    """Return the answers of a side of a contrast: the mean over its cells, for these seeds."""
    known = [points.get((c.source, c.arm, c.layers)) for c in cells]
    found = [point for point in known if point is not None and all(seed in point.top1 for seed in seeds)]
    if len(found) < len(cells):
        return Answers({}, 0, None)
    return Answers.mean(found, seeds)


def _by_seed(cells: Sequence[Cell]) -> Mapping[int, float]:
    """Return each seed's mean over the cells, for the seeds that all cells have."""
    values = [dict(zip(cell.seeds, cell.top1, strict=True)) for cell in cells]
    kept = set(values[0]).intersection(*values)
    return {seed: mean([v[seed] for v in values]) for seed in sorted(kept)}


def sentence(contrast: Contrast) -> str:
    """Describe a contrast: the difference in points, its intervals, the seeds, and whether the intervals exclude 0."""
    c = contrast
    points = f"{100 * c.difference:+.1f} points"
    if c.what == "step":
        subject = f"{c.series} from {c.against_layers[0]} to {counted(c.layers[0], 'layer')}: {points}"
    elif c.what == "all":
        subject = f"{c.series} minus {c.against}, mean over {counted(len(c.layers), 'number')} of layers: {points}"
    else:
        subject = f"{c.series} minus {c.against} at {counted(c.layers[0], 'layer')}: {points}"
    if min(c.seeds) < 2:
        return f"{subject}; no interval (needs two seeds)."
    over = "; over seeds and test images" if c.test_error else ""
    over += "" if c.test_error_exact or not c.test_error else ", at most"
    seeds = (
        counted(c.seeds[0], "seed") if c.seeds[0] == c.seeds[1] else f"{c.seeds[0]} and {counted(c.seeds[1], 'seed')}"
    )
    spans = {"Welch": c.half_width} | ({"seed by seed": c.paired} if c.common > 1 else {})
    known = {name: width for name, width in spans.items() if not math.isnan(width)}
    if not known:
        return f"{subject}, {seeds}; no interval{UNKNOWN}."
    texts = {name: f"{100 * (c.difference - w):+.1f} to {100 * (c.difference + w):+.1f}" for name, w in known.items()}
    within = {abs(c.difference) <= width for width in known.values()}
    verdict = (
        f"0 is inside: variation between seeds{' or of the test images' if c.test_error else ''} could explain it"
        if within == {True}
        else "0 is outside"
        if within == {False}
        else "the intervals disagree about 0: more seeds are needed"
    )
    none = f"no interval{UNKNOWN}"
    if "Welch" in texts:
        paired = f"; seed by seed {texts.get('seed by seed', none)}" if "seed by seed" in spans else ""
        said = f"95 % interval {texts['Welch']} (Welch, {seeds}{over}){paired}"
    else:
        said = f"95 % interval seed by seed {texts['seed by seed']} ({seeds}{over}); Welch's: {none}"
    return f"{subject}, {said}; {verdict}."
