"""How many layers may be frozen before more than a margin of accuracy is lost: the answer that a curve ends with.

**What is estimated.** Of the numbers of layers that were tried, the largest up to which none loses more than the margin
against the base. The estimate takes the means as they are.

**Its interval** comes from two chains of one-sided tests at 2.5 %, each in an order that is fixed beforehand, so that
no correction for the number of tests is needed (Hsu and Berger 1999, JASA 94, 468-482: stepwise intervals without
multiplicity adjustment; Maurer, Hothorn and Lehmacher 1995). From the fewest layers upwards, as long as each loses less
than the margin with confidence: the last is the lower end. From the most layers downwards, as long as each loses more
than the margin with confidence: the interval ends one layer below the last. Each test is one end of a cell's interval
against the base, over seeds and test images (`mkfa.results.cells`). The interval holds the true number with 95 %
confidence if the loss does not shrink again between the numbers tried.

**When there is no answer.** "No loss" means something only if a loss could have been seen. Without an arm that must
hurt (delta, box), or if that arm is not shown to lose more than the margin, or loses less than `SENSITIVE` standard
errors of the differences that are judged, the answer is that nothing can be said, and why.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from mkfa.arms.arms import find_arm
from mkfa.errors import UnknownNameError
from mkfa.frozen import ByContent
from mkfa.results.cells import Cell
from mkfa.results.contrasts import MAIN, REFERENCE, Contrast, series_of
from mkfa.stats.intervals import ROUNDING
from mkfa.words import counted

MARGIN = 0.01
"""Loss of accuracy that counts as none, as a share."""
SENSITIVE = 5.0
"""An arm that must hurt has to lose this many standard errors of the differences that are judged (their median)."""

_CONTROLS = {
    "delta": "identity kernels (delta), which mix no pixels",
    "box": "mean kernels (box), which mix all pixels alike",
}


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Allowance(ByContent):
    """How many layers one series of a curve may freeze.

    Attributes
    ----------
    series, arm : its name as in `mkfa.results.contrasts.series_of`, and its arm.
    layers : numbers of layers that were tried and finished.
    estimate : largest of these up to which no mean loses more than the margin; 0 if the first loses more.
    low, high : the 95 % interval; `high` is one less than the fewest layers that are shown to lose more. None without
        one, as with one seed.
    """

    series: str
    arm: str
    layers: tuple[int, ...]
    estimate: int
    low: int | None
    high: int | None

    @property
    def known(self) -> bool:
        """True if the interval excludes anything."""
        return self.low is not None and (self.low, self.high) != (0, self.layers[-1])


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Answer(ByContent):
    """The answer that a curve ends with.

    Attributes
    ----------
    sentence : str
    margin : loss that counts as none, as a share.
    refused : why the curve cannot say anything; "" if it can.
    allowances : for every series, also if the curve cannot say anything.
    """

    sentence: str
    margin: float
    refused: str
    allowances: tuple[Allowance, ...]


def answer(base: Cell, cells: Sequence[Cell], *, contrasts: Sequence[Contrast] = (), margin: float = MARGIN) -> Answer:
    """Return how many layers may be frozen with each series' filters, in numbers and in a sentence.

    Parameters
    ----------
    base : the base runs.
    cells : the points of the curve, compared with these base runs.
    contrasts : those of `contrasts_of`; the sentence ends with what borrowed filters are worth beside random ones.
    margin : loss that counts as none, as a share.

    Examples
    --------
    >>> from mkfa.results.cells import make_cell
    >>> from mkfa.results.record import RunRecord
    >>> answer(make_cell([RunRecord("", "digits", "baseline", 0, 0)], ()), []).refused
    'no base run is done'
    """
    series = {name: [c for c in group if c.top1] for name, group in series_of(cells).items()}
    series = {name: group for name, group in series.items() if group}
    if not base.top1:
        return _refuse("no base run is done", margin, ())
    found = tuple(_allowance(name, group, margin) for name, group in series.items())
    reason = _blind(base, [cell for group in series.values() for cell in group], margin)
    if reason:
        return _refuse(reason, margin, found)
    sentence = _sentence(found, cells, margin)
    return Answer(" ".join([sentence, *_beside_random(contrasts, series)]), margin, "", found)


def _allowance(name: str, cells: Sequence[Cell], margin: float) -> Allowance:
    """Return one series' number; `cells` are in order of layers."""
    layers = tuple(c.layers for c in cells)
    kept = [c.relative >= -margin - ROUNDING for c in cells]
    estimate = _last(layers, kept)
    if any(not c.half_width > ROUNDING for c in cells):
        return Allowance(name, cells[0].arm, layers, estimate, None, None)
    low = _last(layers, [c.relative - c.half_width > -margin for c in cells])
    lost = _last(layers[::-1], [c.relative + c.half_width < -margin for c in reversed(cells)])
    return Allowance(name, cells[0].arm, layers, estimate, low, lost - 1 if lost else layers[-1])


def _last(layers: Sequence[int], holds: Sequence[bool]) -> int:
    """Return the last number of layers before the first that does not hold; 0 if there is none."""
    last = 0
    for number, one in zip(layers, holds, strict=True):
        if not one:
            return last
        last = number
    return last


def _blind(base: Cell, cells: Sequence[Cell], margin: float) -> str:
    """Return why the curve could not have seen a loss; "" if it could."""
    must = [cell for cell in cells if _must_hurt(cell.arm)]
    if not must:
        return (
            "no arm that must hurt (delta, box) was trained, so that 'no loss' could also mean that this network does "
            "not depend on its filters; add delta to --arms"
        )
    known = [cell for cell in must if cell.half_width > ROUNDING]
    if not known:
        return "its arm that must hurt has no interval, which takes enough seeds that differ; raise --seeds"
    worst = min(known, key=lambda cell: cell.relative + cell.half_width)
    errors = [_standard_error(base, cell) for cell in cells if len(cell.top1) > 1]
    if worst.relative + worst.half_width >= -margin or -worst.relative < SENSITIVE * statistics.median(errors):
        return (
            f"{worst.arm}, which must hurt, changes accuracy by {100 * worst.relative:+.1f} ± "
            f"{100 * worst.half_width:.1f} points at {counted(worst.layers, 'layer')}: filters hardly matter in this "
            "setting, or the seeds differ too much; choose a more sensitive one (mkfa explain sensitivity) or raise "
            "--seeds"
        )
    return ""


def _standard_error(base: Cell, cell: Cell) -> float:
    """Return the standard error of a cell's difference from the base, over seeds and test images."""
    parts = [one.std**2 / len(one.top1) for one in (base, cell)]
    return math.sqrt(sum(parts) + cell.test_error**2)


def _must_hurt(arm: str) -> bool:
    try:
        return find_arm(arm).must_hurt
    except UnknownNameError:  # a result of another version
        return False


def _refuse(reason: str, margin: float, found: tuple[Allowance, ...]) -> Answer:
    return Answer(f"How many layers may be frozen cannot be said: {reason}.", margin, reason, found)


def _sentence(found: Sequence[Allowance], cells: Sequence[Cell], margin: float) -> str:
    borrowed = [a for a in found if a.arm in MAIN]
    if not borrowed:
        borrowed = [a for a in found if a.arm != REFERENCE and not _must_hurt(a.arm)]
    random = [a for a in found if a.arm == REFERENCE]
    sources = {name: group[0].source for name, group in series_of(cells).items()}
    parts = []
    for i, a in enumerate([*borrowed, *random]):
        with_what = "with random ones" if a.arm == REFERENCE else f"with filters from {sources[a.series]}"
        if a.arm not in (*MAIN, REFERENCE):
            with_what = f"with arm {a.series}"
        parts.append(f"{with_what} {_number(a, first=i == 0)}")
    if borrowed and not random:
        parts.append("random ones were not trained")
    control = "".join(
        f" For comparison, {_CONTROLS.get(a.arm, a.series)}: {_number(a, first=False)}."
        for a in found
        if _must_hurt(a.arm)
    )
    tried = sorted({n for a in found for n in a.layers})
    points = "a point is" if math.isclose(margin, 0.01) else counted(100 * margin, "point is", "points are")
    asked = f"How many layers may be frozen before more than {points} lost, of {_tried(tried)} tried?"
    return f"{asked} {_capital('; '.join(parts))}.{control}"


def _beside_random(contrasts: Sequence[Contrast], series: Mapping[str, Sequence[Cell]]) -> list[str]:
    """Say what borrowed filters are worth beside random ones at the largest number of layers that both have."""
    told = []
    for c in contrasts:
        known = c.half_width > ROUNDING  # also False for NaN
        if c.what != "last" or c.against != REFERENCE or series[c.series][0].arm not in MAIN or not known:
            continue
        points = f"{100 * c.difference:+.1f} points, 95 % interval {100 * (c.difference - c.half_width):+.1f} to "
        points += f"{100 * (c.difference + c.half_width):+.1f}"
        who = f"with {counted(c.layers[0], 'layer')} frozen, filters from {series[c.series][0].source}"
        beyond = "better" if c.difference > 0 else "worse"
        outside = abs(c.difference) > c.half_width
        told.append(f"{_capital(who)} are {f'{beyond} than' if outside else 'not told from'} random ones: {points}.")
    return told


def _number(a: Allowance, *, first: bool) -> str:
    whole = a.layers[-1]
    estimate = f"all {whole}" if a.estimate == whole else str(a.estimate)
    if a.low is None:
        return f"{estimate}, no interval (takes two seeds that differ, or more)"
    if not a.known:
        return f"anything from 0 to {whole} is possible: these seeds do not tell"
    return f"{estimate} ({'95 % interval ' if first else ''}{a.low} to {a.high})"


def _tried(numbers: Sequence[int]) -> str:
    step = {b - a for a, b in pairwise(numbers)}
    if len(numbers) < 4 or len(step) > 1:
        return ", ".join(map(str, numbers))
    return f"{numbers[0]} to {numbers[-1]}" if step == {1} else f"{numbers[0]}, {numbers[1]}, ... {numbers[-1]}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
