"""Differences between the arms of a curve, over seeds, with intervals (numpy and scipy's t alone).

**What a seed holds equal.** Runs with planted filters begin, seed by seed, from the same weights in all that no arm
sets, and see the same images in the same order with the same augmentation, whatever their arm; base runs begin from
others (`mkfa.training.run.network_seed`). So two arms, or two points of an arm, may be compared seed by seed
(paired t); an arm and the base may not, and are compared as independent samples (Welch 1947). Both intervals are
given where both may be: `half_width` is Welch's, `paired` that of the differences seed by seed. Runs that go up and
down together, as they share a seed or, `selffer` and the base, filters, make Welch's interval too wide, not too narrow.

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
"""The arm that all others are held against: filters that nobody learned."""
MAIN = ("transfer", "stack")
"""Arms whose last step is looked at."""


@dataclass(frozen=True, slots=True, eq=False)
class Contrast(ByContent):
    """One series of a curve less another, or less itself at another number of layers.

    Attributes
    ----------
    what : str
        "last", at the largest number of layers; "all", the mean over `layers`, taken seed by seed first; "step", from
        `against_layers` to `layers` within one series.
    series, against : str
        Names as `series_of` gives them; "baseline" for the base.
    layers, against_layers : tuple of int
        Numbers of layers that went in; (0,) for the base.
    difference : float
    half_width, p : float
        Of Welch's interval and test; NaN if either has one seed.
    paired : float
        Half width of the interval of the differences seed by seed; NaN against the base and for one common seed.
    seeds : tuple of two ints
        How many seeds went in, of either.
    common : int
        Seeds that both have; 0 against the base.
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
    """Return a curve's cells by series, in order of layers: the arm's name, with its source where it has several."""
    sources: dict[str, set[str]] = {}
    for cell in cells:
        sources.setdefault(cell.arm, set()).add(cell.source)
    series: dict[str, list[Cell]] = {}
    for cell in cells:
        series.setdefault(cell.arm if len(sources[cell.arm]) == 1 else f"{cell.arm} {cell.source}", []).append(cell)
    return {name: sorted(group, key=lambda c: c.layers) for name, group in series.items()}


def contrasts_of(base: Cell, cells: Sequence[Cell]) -> tuple[Contrast, ...]:
    """Hold every series against `random` and the base, and the main ones against themselves one step before.

    At the largest number of layers that both have, and pooled over all that both have where these are several.
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
    if both:  # one difference for both intervals: of the seeds that both have
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
    """Return each seed's mean over the cells, of the seeds that all cells have."""
    values = [dict(zip(cell.seeds, cell.top1, strict=True)) for cell in cells]
    kept = set(values[0]).intersection(*values)
    return {seed: mean([v[seed] for v in values]) for seed in sorted(kept)}


def sentence(contrast: Contrast) -> str:
    """Return a contrast in words: the difference in points, its intervals, seeds, and whether they leave 0 out."""
    c = contrast
    points = f"{100 * c.difference:+.1f} points"
    if c.what == "step":
        subject = f"{c.series} from {c.against_layers[0]} to {c.layers[0]} layers: {points}"
    elif c.what == "all":
        subject = f"{c.series} less {c.against}, mean over {len(c.layers)} numbers of layers: {points}"
    else:
        subject = f"{c.series} less {c.against} at {c.layers[0]} layers: {points}"
    if math.isnan(c.half_width):
        return f"{subject}; no interval, which takes two seeds."
    seeds = f"{c.seeds[0]} seeds" if c.seeds[0] == c.seeds[1] else f"{c.seeds[0]} and {c.seeds[1]} seeds"
    widths = [c.half_width] if math.isnan(c.paired) else [c.half_width, c.paired]
    if any(width < ROUNDING for width in widths):
        return f"{subject}, {seeds}; no interval, as the seeds do not differ."
    spans = [f"{100 * (c.difference - w):+.1f} to {100 * (c.difference + w):+.1f}" for w in widths]
    within = {abs(c.difference) <= width for width in widths}
    verdict = (
        "0 lies inside: seeds alone could make it"
        if within == {True}
        else "0 lies outside"
        if within == {False}
        else "they disagree on 0: more seeds are needed"
    )
    paired = f"; seed by seed {spans[1]}" if len(spans) > 1 else ""
    return f"{subject}, 95 % interval {spans[0]} (Welch, {seeds}){paired}; {verdict}."
