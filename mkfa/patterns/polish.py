"""Polish fits to the optimum by damped Gauss-Newton steps, in batches (numpy only).

With u(p) the zero-mean unit pattern and f the filter, cos = <f, u>. The derivatives U of u are orthogonal to u, so
f ~ c u + c U dp has the least-squares step dp = (U^T U)^-1 U^T f / c, damped as by Levenberg and Marquardt: gain and
offset never enter (variable projection, Golub & Pereyra 1973). Parameters that trade off against each other, such as
the two scales and the weight of a difference of Gaussians, need this; others are at the optimum to 1e-5 of R2 before.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mkfa.array_types import F32, F64
from mkfa.patterns.dictionary import Dictionary, ranges

_STEPS = {0: 0, 1: 6, 2: 6, 3: 25}  # by number of coordinates
_ENOUGH = 2e-6  # a gain in R2 below this ends the polishing of a filter
_DIFFERENCE = 0.005  # of a coordinate, for derivatives


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
    for each in np.unique(variant).tolist():
        rows = np.flatnonzero(variant == each)
        place[rows], cosine[rows] = _polish_alike(vectors[rows], each, place[rows], book)
    return place, cosine


def _polish_alike(vectors: F32, variant: int, place: F64, book: Dictionary) -> tuple[F64, F32]:
    pattern = book.patterns(variant, place)
    cosine = np.einsum("nk,nk->n", vectors, pattern)
    count = int((book.step[variant] > 0).sum())
    low, high = (bound[variant, :count] for bound in ranges(book))
    damping = np.full(len(vectors), 1e-6)
    active = np.arange(len(vectors)) if count else np.zeros(0, np.intp)
    for _ in range(_STEPS[count]):
        if not len(active):
            break
        step = _step(
            vectors[active],
            (variant, place[active]),
            cosine[active],
            damping=damping[active],
            book=book,
            bounds=(low, high),
        )
        trial = place[active]
        trial[:, :count] = np.clip(trial[:, :count] + step, low, high)
        found_pattern = book.patterns(variant, trial)
        found = np.einsum("nk,nk->n", vectors[active], found_pattern)
        gain = np.square(found) - np.square(cosine[active])
        better = gain > 0
        take = active[better]
        place[take], cosine[take] = trial[better], found[better]
        damping[active] = np.where(better, damping[active] / 10, damping[active] * 30)
        active = active[(gain > _ENOUGH) | (~better & (damping[active] < 1e2))]
    return place, cosine


def _step(
    vectors: F32, at: tuple[int, F64], cosine: F32, *, damping: F64, book: Dictionary, bounds: tuple[F64, F64]
) -> F64:
    """Return the damped Gauss-Newton step of each fit, (n, P)."""
    variant, place = at
    pattern, count = book.patterns(variant, place), len(bounds[0])
    change = np.where(place[:, :count] + _DIFFERENCE > bounds[1], -_DIFFERENCE, _DIFFERENCE)
    slopes = np.empty((len(vectors), count, vectors.shape[1]), np.float32)
    for i in range(count):
        moved = place.copy()
        moved[:, i] += change[:, i]
        slopes[:, i] = (book.patterns(variant, moved) - pattern) / change[:, i, None].astype(np.float32)
    normal = (slopes @ slopes.transpose(0, 2, 1)).astype(np.float64)
    gradient = (slopes @ vectors[:, :, None])[:, :, 0].astype(np.float64)
    # The slopes are orthogonal to the pattern but for the finite difference: take its share out.
    along = (slopes @ pattern[:, :, None])[:, :, 0].astype(np.float64)
    gradient -= along * cosine[:, None]
    # A coordinate at its bound that would leave it does not move.
    stuck = ((place[:, :count] <= bounds[0]) & (gradient * cosine[:, None] < 0)) | (
        (place[:, :count] >= bounds[1]) & (gradient * cosine[:, None] > 0)
    )
    gradient[stuck] = 0
    normal[stuck[:, :, None] | stuck[:, None, :]] = 0
    scale = np.einsum("nii->ni", normal)
    scale += damping[:, None] * scale + 1e-9
    strength = np.where(np.abs(cosine) < 1e-6, np.float32(1e-6), cosine)[:, None]
    return np.asarray(np.linalg.solve(normal, gradient[:, :, None])[:, :, 0] / strength, np.float64)
