"""Judge claims from banks: how many filters the eight key filters explain, and whether two domains' filters are alike.

Both are compared with covariance noise, which keeps the second moments of the filters and no pattern. The banks are the
bundled ones, or those that are named; untrained banks and 3x3 kernels (which the eight explain whatever they are) are
left out.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mkfa.banks.library import Banks, list_banks, load_bank, load_banks
from mkfa.evidence.claims import Claim, Statement
from mkfa.evidence.effects import Effect
from mkfa.evidence.judge import verdict_of
from mkfa.evidence.run_table import Scale
from mkfa.evidence.statements import Finding, words
from mkfa.evidence.verdict import Verdict
from mkfa.progress import Progress, follow
from mkfa.stats.intervals import LEVEL, error_of, share_over_groups, smallest_visible
from mkfa.words import counted

if TYPE_CHECKING:
    from mkfa.banks.bank import FilterBank

R2 = 0.9
"""R^2 from which a filter counts as a x + b of a key filter."""
DRAWS = 2000
"""Null filters drawn for a bank's share."""
LEAST = 5
"""Smallest kernels that are used: eight patterns with gain and offset nearly span all 3x3 filters."""
COMPARED = 999
"""Draws of covariance noise for a pair's p-value."""
SEED = 0
"""Of all draws."""
PARENT = "a common parent"
"""What is named in place of a control where two banks have one parent."""


def banks_at_hand(banks: Banks = ()) -> tuple[FilterBank, ...]:
    """Return the named banks; by default the bundled ones of published networks, without base runs of small ones."""
    if named := load_banks(banks):
        return named
    bundled = (load_bank(entry.name) for entry in list_banks() if entry.bundled)
    return tuple(bank for bank in bundled if not bank.provenance.source.startswith("run:"))


def judge_banks(claim: Claim, banks: Banks = (), *, progress: Progress = None) -> Verdict:
    """Judge a claim about banks by the banks at hand."""
    loaded = banks_at_hand(banks)
    units, note = (_shares if claim.supports[0].rule == "share" else _likenesses)(loaded, progress)
    findings = tuple(
        _finding(statement, claim, units, side)
        for side in ("supports", "contradicts")
        for statement in getattr(claim, side)
    )
    missing = () if units else (f"runs: {note}",)
    scale = Scale("banks", counted(len(loaded), "trained network"), what="depthwise")
    basis = ", ".join(bank.name for bank in loaded)
    return verdict_of(claim, findings, missing=missing, scale=scale, basis=basis, command=claim.command)


def _finding(statement: Statement, claim: Claim, units: tuple[Effect, ...], side: str) -> Finding:
    text = words(statement, claim)
    if not units:
        return Finding(text, side, None, rule=statement.rule)
    if statement.rule == "share":
        margin, above = claim.margin_of(statement) / 100, statement.side == "above"
        worst = min(units, key=lambda e: -math.inf if not e.known else e.low if above else e.high)
        shown = [e.label for e in units if (e.above(margin) if above else e.below(margin))]
        holds = len(shown) == len(units) if above else bool(shown)  # it must hold for every bank; one bank contradicts
        return Finding(text, side, holds, worst, units, note=_count(shown, units), rule=statement.rule, every=True)
    closer = [e for e in units if e.p <= 1 - LEVEL]
    parents = [e for e in units if e.control == PARENT]
    worst = max(units, key=lambda e: e.p)
    if statement.side == "closer":
        holds = len(closer) == len(units) and not parents
    else:
        holds = bool(closer) and all(e.control == PARENT for e in closer)
    note = _count([f"{e.label} (p = {e.p:.3g})" for e in closer], units)
    if parents:
        note += f"; a common parent: {', '.join(e.label for e in parents)}"
    return Finding(text, side, holds, worst, units, worst.p, note, rule=statement.rule, every=True)


def _count(shown: Sequence[str], units: Sequence[Effect]) -> str:
    return f"{len(shown)} of {len(units)}" + (f": {', '.join(shown)}" if shown else "")


def _shares(banks: Sequence[FilterBank], progress: Progress) -> tuple[tuple[Effect, ...], str]:
    """Return for every bank and kernel size the share of filters that the eight explain, less covariance noise's."""
    from mkfa.patterns.assigning import assign

    units: list[Effect] = []
    with follow(progress, "banks", len(banks)) as advance:
        for bank in banks:
            if any(min(kind.kh, kind.kw) >= LEAST for kind in bank.kinds):
                found = assign(bank, basis="eight", null="covariance", draws=DRAWS, seed=SEED, r2=R2)
                units += [
                    _share(f"{bank.name}, {part.kind}", part.fit.r2, part.layer, part.usable, part.nulls[0].r2)
                    for part in found.kinds
                    if min(part.kind.kh, part.kind.kw) >= LEAST and part.usable.any()
                ]
            advance(1)
    return tuple(units), f"a bank with kernels of {LEAST}x{LEAST} or larger"


def _share(label: str, r2: np.ndarray, layer: np.ndarray, usable: np.ndarray, null: np.ndarray) -> Effect:
    """Return a share less the null's; the interval is over layers (jackknife), and over the draws of the null."""
    layers = np.unique(layer[usable])
    covered = (r2 >= R2) & usable
    counts = np.array([[covered[layer == i].sum()] for i in layers])
    sizes = np.array([usable[layer == i].sum() for i in layers])
    value, chance = float(covered.sum() / usable.sum()), float((null >= R2).mean())
    low, high = (float(end[0]) for end in share_over_groups(counts, sizes))
    draw = 1.96 * float(np.sqrt(chance * (1 - chance) / len(null)))
    below, above = np.hypot(value - low, draw), np.hypot(high - value, draw)
    difference = value - chance
    return Effect(
        label,
        difference,
        difference - float(below),
        difference + float(above),
        detectable=smallest_visible(error_of(2 * float(below))),
        sensitivity=1 - chance,
        control="a bank of nothing but a x + b of the eight",
        sample=f"{counted(int(usable.sum()), 'filter')} of {counted(len(layers), 'layer')}; "
        f"{counted(len(null), 'draw')} of covariance, seed {SEED}",
    )


def _likenesses(banks: Sequence[FilterBank], progress: Progress) -> tuple[tuple[Effect, ...], str]:
    """Return for every pair of domains and kernel size the primary test, under noise of each layer's covariance."""
    from mkfa.similarity.comparing import compare
    from mkfa.similarity.settings import PRIMARY

    pairs = [
        (a, b)
        for a, b in itertools.combinations(banks, 2)
        if a.provenance.training_set != b.provenance.training_set and {*a.groups} & {*b.groups}
    ]
    units: list[Effect] = []
    with follow(progress, "pairs of banks", len(pairs)) as advance:
        for a, b in pairs:
            found = compare(a, b, measures=PRIMARY[0], nulls=PRIMARY[1], draws=COMPARED, seed=SEED)
            control = PARENT if found.lineage.found else "two halves of one network"
            for kind in found.kinds:
                null = next(n for n in kind.nulls if n.null == PRIMARY[1])
                i = kind.row(PRIMARY[0])
                error = error_of(float(null.high[i] - null.low[i]))
                units.append(
                    Effect(
                        f"{a.name} and {b.name}, {kind.kind}",
                        float(kind.value[i] - null.mean[i]),
                        p=float(null.p[i]),
                        detectable=smallest_visible(error, sides=1),
                        sensitivity=float(kind.floor[i] - null.mean[i]),
                        control=control,
                        unit="cosine",
                        sample=f"{counted(kind.n, 'filter')} of each; {counted(int(null.draws[i]), 'draw')} of "
                        f"{null.null}, seed {SEED}",
                    )
                )
            advance(1)
    return tuple(units), "banks of two domains with kernels of one size"
