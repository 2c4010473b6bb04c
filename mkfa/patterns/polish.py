"""Polish fits to the optimum by damped Gauss-Newton steps, in batches (numpy only).

With u(p) the zero-mean unit pattern and f the filter, cos = <f, u>. The derivatives U of u are orthogonal to u, so
f ~ c u + c U dp has the least-squares step dp = (U^T U)^-1 U^T f / c, damped as by Levenberg and Marquardt: gain and
offset never enter (variable projection, Golub & Pereyra 1973).

Most filters follow a separable family, one kernel along x times one along y. Their cosines and derivatives need inner
products along the axes only, and all these families are polished in one batch.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from mkfa.array_types import F32, F64
from mkfa.patterns.dictionary import Dictionary, ranges
from mkfa.patterns.families import kernels
from mkfa.patterns.scale_space import OPERATORS

_STEPS = {0: 0, 1: 12, 2: 12, 3: 25}  # most filters need two, but those that need more must not stop early
_ENOUGH = 2e-6  # a gain in R² below this ends the polishing of a filter
_DIFFERENCE = 0.005  # of a coordinate, for derivatives
_DAMPING = 0.01  # of the first step; a step that gains divides it by 3, one that does not multiplies it by 10

Measure = Callable[[NDArray[np.intp], F64], tuple[F64, F64, F64]]
"""(rows, their (n, P) coordinates) -> cosines (n,), U^T f (n, P) and U^T U (n, P, P)."""


def polish(vectors: F32, variant: NDArray[np.integer], place: F64, *, book: Dictionary) -> tuple[F64, F32]:
    """Move fits to the next maximum of cos^2.

    Parameters
    ----------
    vectors : (N, K) float32, canonical filters.
    variant : (N,) the variant each was fitted to.
    place : (N, COORDINATES) coordinates to start from.

    Returns
    -------
    (N, COORDINATES) coordinates and (N,) cosines; |cosine| is never below that of the start.
    """
    place, cosine = place.copy(), np.zeros(len(vectors), np.float32)
    low, high = ranges(book)
    separable = [i for i, family in enumerate(book.families) if family.operators]
    groups = [np.flatnonzero(np.isin(variant, separable))]
    groups += [np.flatnonzero(variant == i) for i in np.unique(variant).tolist() if i not in separable]
    for rows in groups:
        if not len(rows):
            continue
        mine, count = variant[rows], int((book.step[variant[rows[0]]] > 0).sum())
        measure = _separable(vectors[rows], mine, book) if mine[0] in separable else _any(vectors[rows], mine[0], book)
        bounds = low[mine, :count], high[mine, :count]
        place[rows, :count], cosine[rows] = _climb(measure, place[rows, :count], bounds, steps=_STEPS[count])
    return place, cosine


def _climb(measure: Measure, place: F64, bounds: tuple[F64, F64], *, steps: int) -> tuple[F64, F64]:
    """Take steps until none gains; return coordinates and cosines."""
    low, high = bounds
    active = np.arange(len(place))
    cosine, gradient, normal = measure(active, place)
    damping = np.full(len(place), _DAMPING)
    for _ in range(steps):
        c, g, h = cosine[active], gradient[active], normal[active]
        # A coordinate at its bound that would leave it does not move.
        up = g * c[:, None]
        stuck = ((place[active] <= low[active]) & (up < 0)) | ((place[active] >= high[active]) & (up > 0))
        g[stuck] = 0
        h[stuck[:, :, None] | stuck[:, None, :]] = 0
        diagonal = np.einsum("nii->ni", h)
        diagonal += damping[active, None] * diagonal + 1e-9
        step = np.linalg.solve(h, g[:, :, None])[:, :, 0]
        open_ = np.einsum("np,np->n", step, g) > _ENOUGH / 2  # what a quadratic cos^2 would gain
        active, step, c = active[open_], step[open_], c[open_]
        if not len(active):
            break
        step /= np.where(np.abs(c) < 1e-6, 1e-6, c)[:, None]
        trial = np.clip(place[active] + step, low[active], high[active])
        found = measure(active, trial)
        gain = np.square(found[0]) - np.square(c)
        better = gain > 0
        take = active[better]
        place[take] = trial[better]
        cosine[take], gradient[take], normal[take] = (part[better] for part in found)
        damping[active] *= np.where(better, 1 / 3, 10)
        active = active[(gain > _ENOUGH) | (~better & (damping[active] < 1e2))]
    return place, cosine


def _any(vectors: F32, variant: int, book: Dictionary) -> Measure:
    """Measure filters of one variant; derivatives are differences of patterns."""
    high = ranges(book)[1][variant]
    count = int((book.step[variant] > 0).sum())

    def measure(rows: NDArray[np.intp], place: F64) -> tuple[F64, F64, F64]:
        at = np.pad(place, ((0, 0), (0, book.step.shape[1] - count)))
        pattern, mine = book.patterns(variant, at), vectors[rows]
        slopes = np.empty((len(rows), count, vectors.shape[1]), np.float32)
        for i in range(count):
            moved = at.copy()
            change = np.where(place[:, i] + _DIFFERENCE > high[i], -_DIFFERENCE, _DIFFERENCE)
            moved[:, i] += change
            slopes[:, i] = (book.patterns(variant, moved) - pattern) / change[:, None].astype(np.float32)
        cosine = np.einsum("nk,nk->n", mine, pattern).astype(np.float64)
        gradient = (slopes @ mine[:, :, None])[:, :, 0].astype(np.float64)
        # The slopes are orthogonal to the pattern but for the finite difference: take its share out.
        along = (slopes @ pattern[:, :, None])[:, :, 0].astype(np.float64)
        normal = (slopes @ slopes.transpose(0, 2, 1)).astype(np.float64)
        return cosine, gradient - along * cosine[:, None], normal

    return measure


def _separable(vectors: F32, variant: NDArray[np.integer], book: Dictionary) -> Measure:
    """Measure filters of separable families.

    With X, Y the kernels along x and y, <X Y, X' Y'> = <X, X'> <Y, Y'>; centring takes off the product of their sums
    over the number of taps.
    """
    kh, kw = book.size
    table = kernels(kh, kw)
    flipped = np.ascontiguousarray(vectors.reshape(-1, kh, kw)[:, ::-1])  # y up, as kernels are tabulated
    along_x, along_y = (
        np.array([OPERATORS.index(f.operators[axis]) if f.operators else -1 for f in book.families])[variant]
        for axis in (0, 1)
    )

    def measure(rows: NDArray[np.intp], place: F64) -> tuple[F64, F64, F64]:
        x = np.stack(table.with_slope(along_x[rows], kw, place[:, 0]), axis=1)  # (n, 2, kw): kernel, its derivative
        y = np.stack(table.with_slope(along_y[rows], kh, place[:, 1]), axis=1)
        overlap = (y @ flipped[rows] @ x.transpose(0, 2, 1)).astype(np.float64)
        x, y = x.astype(np.float64), y.astype(np.float64)
        xx, yy = x @ x.transpose(0, 2, 1), y @ y.transpose(0, 2, 1)
        sx, sy = x.sum(axis=2), y.sum(axis=2)
        # The pattern and its two derivatives, of unit norm once centred: rows of (y, x) products.
        of = ((0, 0), (0, 1), (1, 0))
        gram = np.empty((len(rows), 3, 3))
        for i, (yi, xi) in enumerate(of):
            for j, (yj, xj) in enumerate(of[: i + 1]):
                mean = sx[:, xi] * sy[:, yi] * sx[:, xj] * sy[:, yj] / (kh * kw)
                gram[:, i, j] = gram[:, j, i] = xx[:, xi, xj] * yy[:, yi, yj] - mean
        square = np.maximum(gram[:, 0, 0], 1e-12)
        norm = np.sqrt(square)
        cosine = overlap[:, 0, 0] / norm
        share = gram[:, 1:, 0] / square[:, None]
        slope = np.stack([overlap[:, 0, 1], overlap[:, 1, 0]], axis=1) / norm[:, None]
        normal = gram[:, 1:, 1:] / square[:, None, None] - share[:, :, None] * share[:, None, :]
        return cosine, slope - share * cosine[:, None], normal

    return measure
