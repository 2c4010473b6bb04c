"""Differences between the arms of a curve, over seeds, with intervals (uses numpy and scipy's t only).

**What a seed fixes.** Runs with planted filters and the same seed start from the same weights, except for those that
the arm sets, and see the same images in the same order with the same augmentation. Base runs start from different
weights (`mkfa.training.run.network_seed`). So two arms, or two points of an arm, may be compared as pairs by seed
(paired t). An arm and the base may not; they are compared as independent samples (Welch 1947). If both comparisons
are valid, both intervals are given: `half_width` is Welch's, `paired` is that of the per-seed differences. Runs that
share a seed, or filters (`selffer` and the base), are positively correlated, which makes Welch's interval too wide,
not too narrow.

Accuracies and differences are shares (0-1).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mkfa.frozen import ByContent
from mkfa.results.cells import Cell
from mkfa.stats.intervals import ROUNDING, mean, paired_half_width, welch

REFERENCE = "random"
"""The arm that all others are compared with: untrained filters."""
MAIN = ("transfer", "stack")
"""Arms whose last step, from the second-largest to the largest number of layers, is also tested."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Contrast(ByContent):
    """One series of a curve minus another, or minus itself at another number of layers.

    Attributes
    ----------
    what : str
        "last": at the largest number of layers; "all": the mean over `layers`, first averaged within each seed;
        "step": from `against_layers` to `layers` within one series.
    series, against : str
        Names from `series_of`; "baseline" for the base.
    layers, against_layers : tuple of int
        Numbers of layers included; (0,) for the base.
    difference : float
    half_width, p : float
        Of Welch's interval and test; NaN if either side has one seed.
    paired : float
        Half-width of the interval of the per-seed differences; NaN against the base and for one common seed.
    seeds : tuple of two ints
        Number of seeds included on each side.
    common : int
        Number of seeds in common; 0 against the base.
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


def series_of(cells: Sequence[Cell]) -> dict[str, list[Cell]]:
    """Return a curve's cells by series, in order of layers. A series is an arm, with its source if it has several."""
    sources: dict[str, set[str]] = {}
    for cell in cells:
        sources.setdefault(cell.arm, set()).add(cell.source)
    series: dict[str, list[Cell]] = {}
    for cell in cells:
        series.setdefault(cell.arm if len(sources[cell.arm]) == 1 else f"{cell.arm} {cell.source}", []).append(cell)
    return {name: sorted(group, key=lambda c: c.layers) for name, group in series.items()}


def contrasts_of(base: Cell, cells: Sequence[Cell]) -> tuple[Contrast, ...]:
    """Compare every series with `random` and the base, and the main ones with themselves one step earlier.

    Series are compared at the largest common number of layers and, if they have several in common, pooled over these.
    """
    series = {name: [c for c in group if c.top1] for name, group in series_of(cells).items()}
    series = {name: group for name, group in series.items() if group}
    contrasts: list[Contrast] = []
    reference = series.get(REFERENCE)
    for name, group in series.items():
        if reference and name != REFERENCE:
            there = {c.layers: c for c in reference}
            both = [(c, there[c.layers]) for c in group if c.layers in there]
            contrasts += _against(name, REFERENCE, both)
        contrasts += _against(name, base.arm, [(c, base) for c in group])
    for name, group in series.items():
        if group[0].arm in MAIN and len(group) > 1:
            contrasts.append(_contrast("step", (name, name), [group[-1]], [group[-2]], common=True))
    return tuple(c for c in contrasts if min(c.seeds))


def _against(name: str, other: str, both: Sequence[tuple[Cell, Cell]]) -> list[Contrast]:
    if not both:
        return []
    cells, others = [a for a, _ in both], [b for _, b in both]
    paired = others[0].layers > 0
    contrasts = [_contrast("last", (name, other), cells[-1:], others[-1:], common=paired)]
    if len(both) > 1:
        contrasts.append(_contrast("all", (name, other), cells, others, common=paired))
    return contrasts


def _contrast(
    what: str, names: tuple[str, str], cells: Sequence[Cell], others: Sequence[Cell], *, common: bool
) -> Contrast:
    a, b = _by_seed(cells), _by_seed(others)
    both = sorted(set(a) & set(b)) if common else []
    if both:  # one difference for both intervals, over the common seeds
        a, b = {seed: a[seed] for seed in both}, {seed: b[seed] for seed in both}
    difference = welch(list(a.values()), list(b.values()))
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
        paired_half_width([a[seed] - b[seed] for seed in both]),
        (len(a), len(b)),
        len(both),
    )


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
        subject = f"{c.series} from {c.against_layers[0]} to {c.layers[0]} layers: {points}"
    elif c.what == "all":
        subject = f"{c.series} minus {c.against}, mean over {len(c.layers)} numbers of layers: {points}"
    else:
        subject = f"{c.series} minus {c.against} at {c.layers[0]} layers: {points}"
    if math.isnan(c.half_width):
        return f"{subject}; no interval (needs two seeds)."
    seeds = f"{c.seeds[0]} seeds" if c.seeds[0] == c.seeds[1] else f"{c.seeds[0]} and {c.seeds[1]} seeds"
    widths = [c.half_width] if math.isnan(c.paired) else [c.half_width, c.paired]
    if any(width < ROUNDING for width in widths):
        return f"{subject}, {seeds}; no interval, because the seeds do not differ."
    spans = [f"{100 * (c.difference - w):+.1f} to {100 * (c.difference + w):+.1f}" for w in widths]
    within = {abs(c.difference) <= width for width in widths}
    verdict = (
        "0 is inside: variation between seeds could explain it"
        if within == {True}
        else "0 is outside"
        if within == {False}
        else "the intervals disagree about 0: more seeds are needed"
    )
    paired = f"; seed by seed {spans[1]}" if len(spans) > 1 else ""
    return f"{subject}, 95 % interval {spans[0]} (Welch, {seeds}){paired}; {verdict}."
