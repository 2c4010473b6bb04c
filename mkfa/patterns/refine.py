"""Refine dictionary hits in the continuous parameters, in batches (numpy only).

Around every atom lies a fine grid that reaches to the neighbouring atoms, less the positions where a simpler class
coincides, so that a refined pattern still belongs to its class. All filters that hit one atom are scored on
its grid by one matrix product; one Newton step from finite differences about the best position then finds the
maximum of cos^2 between the grid's positions.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from mkfa.array_types import F32, F64, I32, I64, BoolArray
from mkfa.patterns.dictionary import COORDINATES, Dictionary, ranges, same

_RADIUS = {0: 0, 1: 3, 2: 3, 3: 2}  # positions on either side of the atom, by number of coordinates
_KEEP_BYTES = 192 << 20
# R² of an atom with a simpler class from which its neighbourhood is checked for coincidence. With up to two coordinates
# a check of all finds no more (3x3 to 7x7); with three the levels are further apart, so all are checked.
_NEAR = {0: 0.85, 1: 0.85, 2: 0.85, 3: 0.0}


@dataclass(frozen=True, slots=True)
class Neighbourhood:
    """The fine grids around all atoms of a dictionary that have the same number of coordinates.

    Attributes
    ----------
    radius : positions on either side along a coordinate; the grid has G = (2 radius + 1)^P positions.
    atoms : (B,) int32, rows in the dictionary.
    place : (B, G, COORDINATES) float64
    inside : (B, G) bool, positions in the class's range where no simpler class coincides.
    patterns : (B, G, K) float32, zero where outside; None when too large to keep (then made atom by atom).
    """

    radius: int
    atoms: I32
    place: F64
    inside: BoolArray
    patterns: F32 | None

    def of(self, book: Dictionary, at: int) -> F32:
        """Return the patterns around the atom in row `at`, (G, K)."""
        if self.patterns is not None:
            kept: F32 = self.patterns[at]
            return kept
        found = book.patterns(int(book.variant[self.atoms[at]]), self.place[at])
        found[~self.inside[at]] = 0
        return found


@lru_cache(maxsize=4)
def neighbourhoods(book: Dictionary) -> tuple[Neighbourhood, ...]:
    """Return the neighbourhoods of a dictionary, one for each number of coordinates; made once."""
    kh, kw = book.size
    free = (book.step > 0).sum(axis=1)[book.variant]
    low, high = ranges(book)
    out = []
    for count in np.unique(free).tolist():
        radius = _RADIUS[count]
        atoms = np.flatnonzero(free == count).astype(np.int32)
        variant = book.variant[atoms]
        shift = np.zeros(((2 * radius + 1) ** count, COORDINATES))
        if count:
            axes = np.meshgrid(*[np.arange(-radius, radius + 1) / radius] * count, indexing="ij")
            shift[:, :count] = np.stack([a.ravel() for a in axes], axis=1)
        place = book.coordinates[atoms][:, None] + shift * book.step[variant][:, None]
        above, below = place >= low[variant][:, None] - 1e-9, place <= high[variant][:, None] + 1e-9
        inside = np.asarray((above & below).all(axis=2), np.bool_)
        patterns = np.zeros((*inside.shape, kh * kw), np.float32) if inside.size * kh * kw * 4 <= _KEEP_BYTES else None
        for each in np.unique(variant).tolist():
            for rows in _blocks(np.flatnonzero(variant == each)):
                found = book.patterns(each, place[rows].reshape(-1, COORDINATES))
                _exclude(inside, rows, found.reshape(len(rows), -1, kh * kw), book, each)
                if patterns is not None:
                    patterns[rows] = found.reshape(len(rows), -1, kh * kw)
        if patterns is not None:
            patterns[~inside] = 0
        out.append(Neighbourhood(radius, atoms, place, inside, patterns))
    return tuple(out)


def _blocks(rows: NDArray[np.intp]) -> list[NDArray[np.intp]]:
    return [rows[i : i + 64] for i in range(0, len(rows), 64)]


def _exclude(inside: BoolArray, rows: NDArray[np.intp], found: F32, book: Dictionary, variant: int) -> None:
    """Take positions where a simpler class coincides out of `inside`; `found` is (len(rows), G, K).

    Angles obey the triangle inequality: only patterns of simpler classes that lie as near to the atom as the farthest
    position of its grid, and the angle of coincidence more, can coincide with one of its positions.
    """
    before = book.known[book.known_class < book.variant_class[variant]]
    if not len(before):
        return
    centre = found[:, found.shape[1] // 2]
    similarity = np.abs(centre @ before.T)
    count, limit = int((book.step[variant] > 0).sum()), same(*book.size)
    for i in np.flatnonzero(np.square(similarity.max(axis=1)) >= _NEAR[count]).tolist():
        here = found[i, inside[rows[i]]]
        reach = np.arccos(np.clip(np.abs(here @ centre[i]).min(initial=1), 0, 1)) + np.arccos(np.sqrt(limit)) + 1e-3
        close = before[similarity[i] >= np.cos(min(reach, np.pi / 2))]
        if len(close):
            inside[rows[i], inside[rows[i]]] = np.square(np.abs(here @ close.T).max(axis=1)) < limit


def refine(vectors: F32, pick: I32, book: Dictionary) -> tuple[F64, F32]:
    """Refine M pairs of a filter and an atom.

    Parameters
    ----------
    vectors : (M, K) float32, canonical filters.
    pick : (M,) the atom that each was looked up as.

    Returns
    -------
    (M, COORDINATES) coordinates and (M,) cosines; |cosine| is never below the atom's own.
    """
    place, cosine = np.empty((len(pick), COORDINATES)), np.empty(len(pick), np.float32)
    for around in neighbourhoods(book):
        row_of = np.full(len(book.atoms), -1, np.int32)
        row_of[around.atoms] = np.arange(len(around.atoms), dtype=np.int32)
        mine = np.flatnonzero(row_of[pick] >= 0)
        if len(mine):
            mine = mine[np.argsort(pick[mine], kind="stable")]
            place[mine], cosine[mine] = _refine_alike(vectors[mine], row_of[pick[mine]], around, book)
    return place, cosine


def _refine_alike(vectors: F32, at: I32, around: Neighbourhood, book: Dictionary) -> tuple[F64, F32]:
    """Refine pairs of one neighbourhood, sorted by its row `at`."""
    score = np.empty((len(at), around.inside.shape[1]), np.float32)
    rows, first = np.unique(at, return_index=True)
    for row, begin, end in zip(rows.tolist(), first.tolist(), [*first[1:].tolist(), len(at)], strict=True):
        np.matmul(vectors[begin:end], around.of(book, row).T, out=score[begin:end])
    best = np.abs(score).argmax(axis=1)
    every = np.arange(len(at))
    cosine, place = score[every, best], around.place[at, best]
    if around.radius == 0:
        return place, cosine
    variant = book.variant[around.atoms[at]]
    step = book.step[variant] / around.radius
    count = int((step[0] > 0).sum())
    np.square(score, out=score)
    newton = place.copy()
    newton[:, :count] += _newton(score, best, around.inside[at], count) * step[:, :count]
    order = np.argsort(variant, kind="stable")
    kinds, start = np.unique(variant[order], return_index=True)
    for kind, group in zip(kinds.tolist(), np.split(order, start[1:]), strict=True):
        found = np.einsum("nk,nk->n", vectors[group], book.patterns(kind, newton[group]))
        better = np.abs(found) > np.abs(cosine[group])  # a score far from quadratic may make the step overshoot
        take = group[better]
        cosine[take], place[take] = found[better], newton[take]
    return place, cosine


def _newton(score: F32, best: NDArray[np.intp], inside: BoolArray, count: int) -> F64:
    """Return the Newton step from each score's best position, (M, count) in grid steps, each within one step.

    Off-diagonal curvatures are bounded so that the Hessian stays negative definite. Coordinates whose neighbours lie
    outside the range or the grid do not move.
    """
    side = round(score.shape[1] ** (1 / count))
    index = np.stack(np.unravel_index(best, (side,) * count), axis=1)
    stride = np.array([side ** (count - 1 - i) for i in range(count)])
    every = np.arange(len(score))

    def at(shift: I64) -> tuple[F64, BoolArray]:
        moved = index + shift
        flat = np.clip(moved, 0, side - 1) @ stride
        valid: BoolArray = ((moved >= 0) & (moved < side)).all(axis=1) & inside[every, flat]
        return score[every, flat].astype(np.float64), valid

    unit = np.eye(count, dtype=np.int64)
    centre = score[every, best].astype(np.float64)
    gradient, hessian = np.zeros((len(score), count)), np.zeros((len(score), count, count))
    free = np.zeros((len(score), count), bool)
    for i in range(count):
        (above, ok_above), (below, ok_below) = at(unit[i]), at(-unit[i])
        curvature = above - 2 * centre + below
        free[:, i] = ok_above & ok_below & (curvature < 0)
        gradient[:, i] = np.where(free[:, i], (above - below) / 2, 0)
        hessian[:, i, i] = np.where(free[:, i], curvature, -1)
    for i in range(count):
        for j in range(i):
            corners = [at(a * unit[i] + b * unit[j]) for a, b in ((1, 1), (-1, -1), (1, -1), (-1, 1))]
            known = free[:, i] & free[:, j] & np.all([ok for _, ok in corners], axis=0)
            mixed = (corners[0][0] + corners[1][0] - corners[2][0] - corners[3][0]) / 4
            bound = 0.95 / (count - 1) * np.sqrt(hessian[:, i, i] * hessian[:, j, j])
            hessian[:, i, j] = hessian[:, j, i] = np.where(known, np.clip(mixed, -bound, bound), 0)
    return np.asarray(np.clip(-np.linalg.solve(hessian, gradient[:, :, None])[:, :, 0], -1, 1), np.float64)
