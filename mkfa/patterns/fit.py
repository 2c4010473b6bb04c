"""Fit filters to a dictionary: one matrix product, then a batched refinement (numpy only).

A fit is invariant to gain and offset: filters and patterns are compared as zero-mean unit vectors, and
R² = cos^2 is the share of a filter's variance over its taps that gain * pattern + offset explains.

1. Each filter's best atom in every class, by one matrix product.
2. For the `CANDIDATES` most plausible classes, refinement in the continuous parameters (`mkfa.patterns.refine`).
3. Among the refined classes the one of largest R² - `parsimony` * P, P the number of its fitted coordinates (delta
   0, Laplacian and Gaussian of one scale 1, difference of Gaussians 3, others 2, and one more for each axis along which
   a Gaussian is off centre): a class with more to fit must explain that much more. Classes that coincide with a simpler
   one are not in the dictionary where they do (`mkfa.patterns.dictionary`).
4. The chosen pattern is polished to the optimum (`mkfa.patterns.polish`), a Gaussian with a scale for each axis.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mkfa.array_types import F32, I32
from mkfa.frozen import ByContent
from mkfa.patterns.dictionary import COORDINATES, Dictionary
from mkfa.patterns.families import coordinate_to_scale
from mkfa.patterns.polish import polish
from mkfa.patterns.refine import neighbourhoods
from mkfa.patterns.refine import refine as refine_hits
from mkfa.threads import in_threads

CANDIDATES = 3
UNEXPLAINED = 0.04
"""Share of a filter's energy that is taken to be noise where classes of different complexity are compared."""
CHUNK = 8192
MOST_THREADS = 4
"""Chunks fitted at once; each needs about 30 MB."""
_BLOCK_BYTES = 8 << 20


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Fit(ByContent):
    """The best pattern of each of N filters.

    Attributes
    ----------
    label : (N,) int16, class: index into the dictionary's names; -1 where a filter was all zero.
    variant : (N,) int16, variant of the class (its offset); -1 as above.
    coordinates : (N, COORDINATES) float32, as `mkfa.patterns.families.Family` orders them, 0 where there are fewer.
    cosine : (N,) float32, of filter and pattern; its sign is that of the gain (on or off).
    runner_up : (N,) int16, best other class by R², -1 where there is none.
    runner_up_r2 : (N,) float32
    """

    label: NDArray[np.int16]
    variant: NDArray[np.int16]
    coordinates: F32
    cosine: F32
    runner_up: NDArray[np.int16]
    runner_up_r2: F32

    @property
    def r2(self) -> F32:
        """(N,) float32, cos²."""
        return np.square(self.cosine)

    @property
    def margin(self) -> F32:
        """(N,) float32, R² less the runner-up's; below 0 where a simpler class was preferred."""
        return self.r2 - self.runner_up_r2


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Parameters(ByContent):
    """What the coordinates of N fits mean; NaN where a class has no such parameter.

    Attributes
    ----------
    sigma_x, sigma_y : (N,) float32, pixels.
    offset_x, offset_y : (N,) float32, pixels: half a pixel for one-sided differences, y up.
    angle : (N,) float32, direction of differentiation, degrees anticlockwise from x in [0, 180).
    surround : (N,) float32, sigma of a difference of Gaussians' wider one.
    weight : (N,) float32, of a difference of Gaussians' wider one, or g of T - g L(T).
    stretch : (N,) float32, of elongated patterns the larger sigma over the smaller, which sigma_x and sigma_y give.
    """

    sigma_x: F32
    sigma_y: F32
    offset_x: F32
    offset_y: F32
    angle: F32
    surround: F32
    weight: F32
    stretch: F32


def parsimony(kh: int, kw: int) -> float:
    """Return the R² that a fitted coordinate must earn in kernels of that size: Schwarz's criterion.

    The criterion asks ln K noise variances of the squared error, K the number of taps; here those are of noise that is
    `UNEXPLAINED` of a filter's energy.

    Examples
    --------
    >>> [round(parsimony(k, k), 4) for k in (3, 5, 7)]
    [0.011, 0.0054, 0.0032]
    """
    taps = kh * kw
    return float(UNEXPLAINED * np.log(taps) / max(taps - 1, 1))


def fit(vectors: F32, book: Dictionary, *, refine: bool = True, advance: Callable[[int], object] | None = None) -> Fit:
    """Fit canonical filters to a dictionary; memory beyond the result does not grow with N.

    Parameters
    ----------
    vectors : (N, K) float32, rows zero-mean and of unit norm (`mkfa.banks.canonical`); all-zero rows get no class.
    refine : False stops at the dictionary's atoms: a little faster, R² a little lower.
    advance : called with the number of filters done.
    """
    n = len(vectors)
    label, variant, runner_up = np.empty((3, n), np.int16)
    cosine, runner_up_r2 = np.empty((2, n), np.float32)
    out = Fit(label, variant, np.empty((n, COORDINATES), np.float32), cosine, runner_up, runner_up_r2)
    if refine and n:
        neighbourhoods(book)  # made before threads would make it twice

    def work(rows: slice) -> int:
        _fit_chunk(vectors[rows], book, refine, _rows(out, rows))
        return int(rows.stop - rows.start)

    chunks = [slice(begin, min(begin + CHUNK, n)) for begin in range(0, n, CHUNK)]
    for done in in_threads(work, chunks, most=MOST_THREADS):
        if advance:
            advance(done)
    return out


def parameters(fitted: Fit, book: Dictionary) -> Parameters:
    """Return what the coordinates of a fit mean."""
    n = len(fitted.label)
    value = {name: np.full(n, np.nan, np.float32) for name in Parameters.__dataclass_fields__}
    for index, family in enumerate(book.families):
        rows = fitted.variant == index
        place = fitted.coordinates[rows].astype(np.float64)
        value["offset_x"][rows], value["offset_y"][rows] = family.offset
        if family.angle is not None:
            value["angle"][rows] = family.angle
        for column, axis in enumerate(family.axes):
            at = place[:, column]
            if axis in ("x", "s"):
                value["sigma_x"][rows] = coordinate_to_scale(at)
            if axis in ("y", "s"):
                value["sigma_y"][rows] = coordinate_to_scale(at)
            if axis == "angle":
                value["angle"][rows] = np.degrees(at) % 180
            if axis == "surround":
                wide = np.square(coordinate_to_scale(place[:, 0])) + np.square(coordinate_to_scale(at))
                value["surround"][rows] = np.sqrt(wide)
            if axis in ("weight", "balance"):
                value["weight"][rows] = np.exp(at)
            if axis == "stretch":
                value["stretch"][rows] = np.exp(at)
            if axis == "turn":
                value["angle"][rows] = np.degrees(at) % 180
                value["offset_x"][rows], value["offset_y"][rows] = -np.cos(at) / 2, -np.sin(at) / 2
            if axis == "shift":
                direction = np.radians(family.angle or 0)
                value["offset_x"][rows], value["offset_y"][rows] = at * np.cos(direction), at * np.sin(direction)
    return Parameters(**value)


def models(fitted: Fit, book: Dictionary) -> F32:
    """Return the fitted pattern of each filter, (N, K) float32, zero-mean and of unit norm, signed by the cosine."""
    out = np.zeros((len(fitted.label), book.atoms.shape[1]), np.float32)
    for index in np.unique(fitted.variant[fitted.variant >= 0]).tolist():
        rows = np.flatnonzero(fitted.variant == index)
        out[rows] = book.patterns(index, fitted.coordinates[rows].astype(np.float64))
    return out * np.where(fitted.cosine < 0, np.float32(-1), np.float32(1))[:, None]


def _rows(out: Fit, rows: slice) -> Fit:
    return Fit(*(getattr(out, name)[rows] for name in Fit.__dataclass_fields__))


def _fit_chunk(vectors: F32, book: Dictionary, refine: bool, out: Fit) -> None:
    """Fit one chunk and write into `out`, views of the result."""
    price = np.float32(parsimony(*book.size)) * book.free.astype(np.float32)  # of each variant
    atom, score, worth = _best_atoms(vectors, book, price)
    keep = min(CANDIDATES, len(book.names))
    # In order of classes, so that on a tie the simpler one wins.
    chosen = np.sort(np.argpartition(-worth, keep - 1, axis=1)[:, :keep], axis=1)
    pick = np.take_along_axis(atom, chosen, axis=1).ravel()
    repeated = np.repeat(vectors, keep, axis=0)
    if refine:
        place, cosine = refine_hits(repeated, pick, book)
    else:
        place, cosine = book.coordinates[pick], np.einsum("nk,nk->n", repeated, book.atoms[pick])
    present = np.take_along_axis(score, chosen, axis=1) >= 0  # a class without atoms has score -1
    r2 = np.where(present, np.square(cosine).reshape(-1, keep), np.float32(-1))
    best = (r2 - price[book.variant[pick]].reshape(-1, keep)).argmax(axis=1)
    every = np.arange(len(vectors))
    flat = every * keep + best
    out.label[:], out.variant[:] = chosen[every, best], book.variant[pick[flat]]
    if refine:
        place = place[flat]
        one_scale = book.general[out.variant] != out.variant
        place[one_scale, 1] = place[one_scale, 0]
        out.variant[:] = book.general[out.variant]
        place, cosine = polish(vectors, out.variant, place, book=book)
        out.coordinates[:], out.cosine[:] = place, cosine
    else:
        out.coordinates[:], out.cosine[:] = place[flat], cosine[flat]
    r2[every, best] = -1
    second = r2.argmax(axis=1)
    runner = r2[every, second]
    out.runner_up[:] = np.where(runner >= 0, chosen[every, second], -1)
    out.runner_up_r2[:] = np.maximum(runner, 0)
    empty = ~vectors.any(axis=1)
    out.label[empty], out.variant[empty], out.runner_up[empty] = -1, -1, -1
    out.coordinates[empty], out.cosine[empty], out.runner_up_r2[empty] = 0, 0, 0


def _best_atoms(vectors: F32, book: Dictionary, price: F32) -> tuple[I32, F32, F32]:
    """Return the best atom of each class, (N, C) int32, its |cosine| and its R² less its price; -1 without atoms."""
    n, classes = len(vectors), len(book.names)
    atom = np.zeros((n, classes), np.int32)
    score, worth = np.full((2, n, classes), np.float32(-1))
    block = max(64, _BLOCK_BYTES // (4 * len(book.atoms)))
    buffer = np.empty((min(block, n), len(book.atoms)), np.float32)
    transposed = np.ascontiguousarray(book.atoms.T)
    for begin in range(0, n, block):
        part = vectors[begin : begin + block]
        product = np.matmul(part, transposed, out=buffer[: len(part)])
        np.abs(product, out=product)
        rows = np.arange(len(part))
        for index, first, last in book.runs:
            best = product[:, first:last].argmax(axis=1) + first
            here = product[rows, best]
            value = np.square(here) - price[book.variant[first]]
            better = value > worth[begin : begin + block, index]
            np.copyto(atom[begin : begin + block, index], best, where=better, casting="same_kind")
            np.copyto(score[begin : begin + block, index], here, where=better)
            np.copyto(worth[begin : begin + block, index], value, where=better)
    return atom, score, worth
