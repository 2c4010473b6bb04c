"""Filters as bytes for the page: 8-bit weights, scales, classes, R² and p, one bank and kernel size after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mkfa.array_types import F32, I32, I64, AnyArray
from mkfa.banks.bank import FilterBank, Kind
from mkfa.banks.usable import usable_filters
from mkfa.patterns.basis_assignment import BasisAssignment
from mkfa.patterns.summary import rows_of

LEVELS, COARSE_LEVELS = 127, 63
"""Steps between 0 and a filter's largest weight; the coarse ones on a page with more than `FINE` filters."""
FINE = 10_000
LOG_STEP = 0.002
"""Step of the logarithm in which scales are stored: a weight is right to 0.1 % of itself, and to one level."""
NO_CLASS, DEAD, FLAT, NON_FINITE = 255, 254, 253, 252
"""Codes of filters without a class: not assigned, and the three reasons why a filter is unusable."""
P_STEP = 0.02
"""Step of -log10 p."""

Blobs = dict[str, bytes]
"""What a page carries beside its text, by name; compressed and encoded by `mkfa.report.html`."""


@dataclass(frozen=True, slots=True)
class Shown:
    """The filters of one bank and kernel size on the page: `row` are rows of `bank.of_kind(kind)`, ascending."""

    bank: int
    kind: Kind
    row: I64
    layer: I32
    channel: I32
    """Of the shown filters."""
    whole: bool = field(default=True)
    """True if all filters are shown."""


def choose_filters(
    banks: Sequence[FilterBank], most: int, *, wanted: Mapping[tuple[int, Kind], I64] | None = None
) -> tuple[Shown, ...]:
    """Return which filters the page shows: all, or as many from each layer, evenly over its channels.

    Parameters
    ----------
    most : number of filters over all banks.
    wanted : rows of a bank and kind that are shown in any case (those on the map).
    """
    cap = _cap([layer.channels for bank in banks for layer in bank.layers], most)
    out = []
    for number, bank in enumerate(banks):
        for kind in bank.kinds:
            group = bank.of_kind(kind)
            keep = np.zeros(len(group), bool)
            start = 0
            for layer in (one for one in bank.layers if one.kind == kind):
                n = min(cap, layer.channels)
                keep[start + np.arange(n) * layer.channels // n] = True
                start += layer.channels
            if wanted and (number, kind) in wanted:
                keep[wanted[number, kind]] = True
            row = np.flatnonzero(keep)
            out.append(Shown(number, kind, row, group.layer[row], group.channel[row], len(row) == len(group)))
    return tuple(out)


def _cap(sizes: Sequence[int], most: int) -> int:
    """Return the largest number of filters of a layer so that all layers together give at most `most`, at least 1.

    Examples
    --------
    >>> _cap([10, 100, 1000], 210), _cap([10, 100, 1000], 2000)
    (100, 1000)
    """
    left, layers = most, len(sizes)
    for size in sorted(sizes):
        if size * layers > left:
            return max(left // layers, 1)
        left, layers = left - size, layers - 1
    return max(sizes, default=1)


def levels_for(filters: int) -> int:
    """Return the number of steps between 0 and a filter's largest weight on a page with that many filters."""
    return LEVELS if filters <= FINE else COARSE_LEVELS


def quantise(weight: F32, levels: int = LEVELS) -> tuple[NDArray[np.int8], NDArray[np.int16]]:
    """Return filters in steps of their largest |weight|, (N, K) int8, and the logarithms of these scales, (N,) int16.

    weight ~ steps / levels * exp(logarithm * LOG_STEP), right to half a step. A filter that is zero or not finite has
    steps 0 and the least logarithm.

    Examples
    --------
    >>> steps, logarithm = quantise(np.array([[[1.0, -0.5]]], np.float32))
    >>> steps.tolist(), logarithm.tolist()
    ([[127, -64]], [0])
    """
    rows = weight.reshape(len(weight), -1)
    finite = np.isfinite(rows).all(axis=1)
    top = np.where(finite, np.abs(rows).max(axis=1, initial=0), 0).astype(np.float64)
    known = top > 0
    steps = np.zeros(rows.shape, np.int8)
    steps[known] = np.round(rows[known] / top[known, None] * levels).astype(np.int8)
    logarithm = np.full(len(rows), -32768, np.int16)
    logarithm[known] = np.clip(np.round(np.log(top[known]) / LOG_STEP), -32767, 32767).astype(np.int16)
    return steps, logarithm


def pack_group(
    shown: Shown, bank: FilterBank, assignment: BasisAssignment | None, *, levels: int, blobs: Blobs
) -> dict[str, Any]:
    """Add the bytes of one bank and kernel size to `blobs`; return what the page says of them."""
    kind = shown.kind
    name = f"filters-{shown.bank}-{str(kind).replace(' ', '-')}"
    steps, logarithm = quantise(bank.of_kind(kind).weight[shown.row], levels)
    blobs[f"{name}-weight"] = steps.tobytes()
    blobs[f"{name}-scale"] = planes(logarithm)
    if not shown.whole:
        blobs[f"{name}-channel"] = planes(shown.channel.astype(np.uint32))
    columns = filter_columns(bank, kind, assignment)
    for key in ("class", "r2", "p"):
        if key in columns:
            blobs[f"{name}-{key}"] = columns[key][shown.row].tobytes()
    layers, counts = np.unique(shown.layer, return_counts=True)
    return {
        "bank": shown.bank,
        "kind": str(kind),
        "kh": kind.kh,
        "kw": kind.kw,
        "blob": name,
        "filters": len(bank.of_kind(kind)),
        "shown": len(shown.row),
        "layers": [[int(a), int(b)] for a, b in zip(layers, counts, strict=True)],
        "levels": levels,
        "log_step": LOG_STEP,
        "p_step": P_STEP,
        "columns": [key for key in ("class", "r2", "p") if key in columns],
        "unusable": dict(usable_filters(bank, kind).excluded),
    }


def filter_columns(bank: FilterBank, kind: Kind, assignment: BasisAssignment | None) -> dict[str, AnyArray]:
    """Return class, R² and p of each filter of a kind as bytes, (N,) uint8 each; without an assignment only the class.

    Classes are rows of the assignment's table; R² is in steps of 1/254 and -log10 p in steps of `P_STEP`, 255 where
    there is none.
    """
    filters = usable_filters(bank, kind)
    label = np.full(len(filters.dead), NO_CLASS, np.uint8)
    label[filters.dead], label[filters.flat], label[filters.nonfinite] = DEAD, FLAT, NON_FINITE
    part = next((k for k in assignment.kinds if k.kind == kind), None) if assignment else None
    if assignment is None or part is None:
        return {"class": label}
    usable = part.usable & (part.fit.label >= 0)
    row = rows_of(assignment).of[kind.kh, kind.kw]
    label[usable] = row[part.fit.label[usable]]
    r2, p = np.full((2, len(label)), 255, np.uint8)
    r2[usable] = np.round(np.clip(part.fit.r2[usable], 0, 1) * 254)
    known = usable & np.isfinite(part.p) & (part.p > 0)
    p[known] = np.clip(np.round(-np.log10(part.p[known]) / P_STEP), 0, 254)
    return {"class": label, "r2": r2, "p": p}


def planes(values: NDArray[np.integer[Any]]) -> bytes:
    """Return integers as all their lowest bytes, then all the next, which compress better apart.

    Examples
    --------
    >>> planes(np.array([1, 258], np.uint16)).hex()
    '01020001'
    """
    little = np.ascontiguousarray(values.astype(values.dtype.newbyteorder("<")))
    return little.view(np.uint8).reshape(-1, values.dtype.itemsize).T.tobytes()
