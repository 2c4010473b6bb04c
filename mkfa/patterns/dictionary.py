"""The dictionary that filters are looked up in: atoms of every class, and which classes coincide.

Classes are nested: a difference of Gaussians may be, up to gain and offset, a Gaussian; a steered derivative at
angle 0 is the one along x. So classes are entered simplest first, and a pattern that an earlier class explains to
`same` of its energy is left out: it carries the earlier name. `mkfa.patterns.coincidence` counts what that does.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from mkfa.array_types import F32, F64, I32
from mkfa.errors import MkfaError
from mkfa.frozen import FrozenDict
from mkfa.patterns.families import FAMILIES, Family, Kernels, kernels
from mkfa.patterns.named_sets import named_set
from mkfa.patterns.wide_families import WIDE

NOISE = 0.01
"""Share of a filter's energy that is taken to be noise where patterns must be told apart: 20 dB."""
_FINEST = 0.003  # the fine samples of a class lie this close to any of its patterns
FAMILY_BASES = FrozenDict({"families": FAMILIES, "wide": WIDE})
COORDINATES = 3
"""Most coordinates that a class has."""
_DENSE_TAPS = 121
_CONSTANT = 1e-5
_BLOCK = 1 << 20  # scores held at once: they fit the cache


def version(basis: str) -> int:
    """Return the version of a basis, which stands beside every result; results without one have version 1.

    Version 1 of "families" (until November 2026) had no T - g Laplacian; offsets of a Gaussian were free, a coordinate
    cost 0.005 and patterns had one name from R² 0.98, both at every kernel size.

    Examples
    --------
    >>> version("families"), version("eight")
    (2, 1)
    """
    return 2 if basis == "families" else 1


def same(kh: int, kw: int) -> float:
    """Return the share of energy, R², from which two patterns of a kernel size carry one name.

    Where d of the energy of a pattern is not another's, the R² of the two differ by d, with a standard deviation of
    2 sqrt(d NOISE / (K - 1)) in kernels of K taps. The limit is where d is two standard deviations: R² 0.98 at 3x3,
    0.993 at 5x5, 0.997 at 7x7.

    Examples
    --------
    >>> round(same(3, 3), 4), round(same(5, 5), 4)
    (0.98, 0.9933)
    """
    return 1 - max(16 * NOISE / max(kh * kw - 1, 1), _FINEST)


@dataclass(frozen=True, slots=True, eq=False)
class Dictionary:
    """Atoms for one kernel size.

    Attributes
    ----------
    basis : "families", "wide" or the name of a named set.
    size : (kh, kw)
    names, titles : C classes, simplest first; one that coincides with simpler ones throughout has no atoms.
    free : (V,) int32, number of fitted coordinates of each variant, a chosen offset included.
    atoms : (A, K) float32, zero-mean, unit norm, ordered by class, within a class by variant.
    start : (C + 1,) int32; the atoms of class c are start[c]:start[c + 1].
    runs : (class, first atom, atom after the last) of atoms of one class with the same number of fitted coordinates.
    variant : (A,) int32, of each atom: index into `families`, or the class for a named set.
    coordinates : (A, COORDINATES) float64, of each atom; unused ones are 0.
    families : the V variants, or () for a named set.
    variant_class : (V,) int32
    general : (V,) int32, the variant that a fit is polished in: that with a scale for each axis instead of one scale.
    step : (V, COORDINATES) float64, distance of dictionary levels; 0 where there is no such coordinate.
    known, known_class : (D, K) float32 and (D,) int32, fine samples of all classes less what coincides, by class.
    """

    basis: str
    size: tuple[int, int]
    names: tuple[str, ...]
    titles: tuple[str, ...]
    free: I32
    atoms: F32
    start: I32
    runs: tuple[tuple[int, int, int], ...]
    variant: I32
    coordinates: F64
    families: tuple[Family, ...]
    variant_class: I32
    general: I32
    step: F64
    known: F32
    known_class: I32

    def patterns(self, variant: int, coordinates: F64) -> F32:
        """Return patterns of a variant at (n, COORDINATES) coordinates, (n, K) float32, zero-mean, unit norm."""
        if not self.families:
            return np.repeat(self.atoms[variant : variant + 1], len(coordinates), axis=0)
        family = self.families[variant]
        return unit(family.make(kernels(*self.size), coordinates[:, : len(family.axes)]))[0]


def dictionary(basis: str, kh: int, kw: int) -> Dictionary:
    """Return the dictionary of a basis, "families", "wide" or a named set ("eight"), for a kernel size; made once.

    Raises
    ------
    UnknownNameError
        There is no such basis.
    MkfaError
        On so small a kernel the basis has no pattern but a constant.
    """
    return _families(basis, kh, kw) if basis in FAMILY_BASES else _named(basis, kh, kw)


def family_dictionary(basis: str, families: tuple[Family, ...], size: tuple[int, int]) -> Dictionary:
    """Return a dictionary of some families, simplest first, for a kernel size; raises MkfaError as `dictionary` does.

    Examples
    --------
    >>> family_dictionary("two", FAMILIES[:2], (3, 3)).names
    ('delta', 'gaussian')
    """
    kh, kw = size
    table, limit = kernels(kh, kw), same(kh, kw)
    names = tuple(dict.fromkeys(f.name for f in families))
    owner = np.array([names.index(f.name) for f in families], np.int32)
    known, known_class = np.zeros((0, kh * kw), np.float32), np.zeros(0, np.int32)
    atoms, places, variants = [], [], []
    for index in range(len(names)):
        members = [(i, families[i]) for i in np.flatnonzero(owner == index).tolist()]
        found, place, variant = _class_grid(members, table, limit)
        by = explained_by(found, known, known_class, limit=limit)
        atoms.append(found[by < 0])
        places.append(place[by < 0])
        variants.append(variant[by < 0])
        dense = _dense(members, table)
        dense = dense[explained_by(dense, known, known_class, limit=limit) < 0]
        known = np.concatenate([known, dense])
        known_class = np.concatenate([known_class, np.full(len(dense), index, np.int32)])
    start = np.cumsum([0, *(len(a) for a in atoms)]).astype(np.int32)
    if not start[-1]:
        raise MkfaError(
            f"{kh}x{kw} kernels", "are so small that every pattern is constant", "choose a bank with larger kernels"
        )
    step = np.zeros((len(families), COORDINATES))
    for row, family in zip(step, families, strict=True):
        row[: len(family.axes)] = [axis.step for axis in family.coordinates(kh, kw)]
    titles = {f.name: f.title for f in families}
    free, variant = np.array([f.free for f in families], np.int32), np.concatenate(variants).astype(np.int32)
    return Dictionary(
        basis=basis,
        size=(kh, kw),
        names=names,
        titles=tuple(titles[n] for n in names),
        free=free,
        atoms=np.concatenate(atoms),
        start=start,
        runs=_runs(owner[variant], free[variant]),
        variant=variant,
        coordinates=np.concatenate(places),
        families=families,
        variant_class=owner,
        general=np.array([_general(i, families) for i in range(len(families))], np.int32),
        step=step,
        known=known,
        known_class=known_class,
    )


def _general(index: int, families: tuple[Family, ...]) -> int:
    """Return the family of the same class and offset with a scale for each axis, or the family itself."""
    family = families[index]
    if family.axes != ("s",):
        return index
    wanted = (family.name, family.offset, ("x", "y"))
    return next((i for i, f in enumerate(families) if (f.name, f.offset, f.axes) == wanted), index)


def _runs(owner: I32, free: I32) -> tuple[tuple[int, int, int], ...]:
    """Return (class, first, end) of the stretches of equal class and number of fitted coordinates."""
    new = np.flatnonzero((np.diff(owner) != 0) | (np.diff(free) != 0)) + 1
    first = [0, *new.tolist()]
    return tuple((int(owner[a]), a, b) for a, b in zip(first, [*first[1:], len(owner)], strict=True))


@lru_cache(maxsize=16)
def _named(name: str, kh: int, kw: int) -> Dictionary:
    chosen = named_set(name, kh, kw)
    n = len(chosen.labels)
    every = np.arange(n + 1, dtype=np.int32)
    none = np.zeros((n, COORDINATES))
    return Dictionary(
        basis=name,
        size=(kh, kw),
        names=chosen.labels,
        titles=chosen.labels,
        free=np.zeros(n, np.int32),
        atoms=chosen.patterns.reshape(n, -1),
        start=every,
        runs=tuple((i, i, i + 1) for i in range(n)),
        variant=every[:-1],
        coordinates=none,
        families=(),
        variant_class=every[:-1],
        general=every[:-1],
        step=none,
        known=chosen.patterns.reshape(n, -1),
        known_class=every[:-1],
    )


@lru_cache(maxsize=8)
def _families(basis: str, kh: int, kw: int) -> Dictionary:
    return family_dictionary(basis, FAMILY_BASES[basis], (kh, kw))


def _class_grid(members: list[tuple[int, Family]], table: Kernels, limit: float) -> tuple[F32, F64, I32]:
    """Return a class's patterns on the dictionary's levels, their coordinates and variants.

    A variant's pattern that an earlier variant of the class explains to `limit` is left out.
    """
    found, places = np.zeros((0, table.size[0] * table.size[1]), np.float32), np.zeros((0, COORDINATES))
    owner = np.zeros(0, np.int32)
    for variant, family in members:
        pattern, place = grid(family, table, 1)
        new = explained_by(pattern, found, owner, limit=limit) < 0
        found, places = np.concatenate([found, pattern[new]]), np.concatenate([places, place[new]])
        owner = np.concatenate([owner, np.full(int(new.sum()), variant, np.int32)])
    return found, places, owner


def _dense(members: list[tuple[int, Family]], table: Kernels) -> F32:
    """Return a class's patterns on finer levels, which stand for the continuous class."""
    parts = []
    for _, family in members:
        small = table.size[0] * table.size[1] <= _DENSE_TAPS
        parts.append(grid(family, table, 3 if small and len(family.axes) <= 2 else 1)[0])
    return np.concatenate(parts)


def grid(family: Family, table: Kernels, refine: int) -> tuple[F32, F64]:
    """Return a family's patterns on its levels, (n, K), without constant ones, and (n, COORDINATES) coordinates."""
    levels = [axis.grid(refine) for axis in family.coordinates(*table.size)]
    mesh = np.meshgrid(*levels, indexing="ij")
    place = np.stack([m.ravel() for m in mesh], axis=1) if mesh else np.zeros((1, 0))
    pattern, norm = unit(family.make(table, place))
    keep = norm > _CONSTANT
    return pattern[keep], np.pad(place, ((0, 0), (0, COORDINATES - place.shape[1])))[keep]


def unit(pattern: F32) -> tuple[F32, F32]:
    """Centre and normalise patterns, (n, kh, kw); return (n, K) and the norms before, (n,). Constant ones become 0."""
    flat = pattern.reshape(len(pattern), pattern.shape[1] * pattern.shape[2])
    flat = flat - flat.mean(axis=1, keepdims=True)
    norm = np.sqrt(np.einsum("nk,nk->n", flat, flat))
    flat *= np.divide(1, norm, out=np.zeros_like(norm), where=norm > _CONSTANT)[:, None]
    return flat, norm


def explained_by(pattern: F32, known: F32, known_class: I32, *, limit: float) -> I32:
    """Return the class that explains each pattern to `limit` of its energy, -1 where none does; (n,) int32."""
    out = np.full(len(pattern), -1, np.int32)
    if not len(known):
        return out
    block = max(1, _BLOCK // len(known))
    buffer = np.empty((min(block, len(pattern)), len(known)), np.float32)
    for begin in range(0, len(pattern), block):
        part = pattern[begin : begin + block]
        score = np.matmul(part, known.T, out=buffer[: len(part)])
        best = np.abs(score, out=score).argmax(axis=1)
        fit = np.take_along_axis(score, best[:, None], axis=1)[:, 0] ** 2
        out[begin : begin + block] = np.where(fit >= limit, known_class[best], -1)
    return out


def ranges(book: Dictionary) -> tuple[F64, F64]:
    """Return the lowest and highest value of each variant's coordinates, (V, COORDINATES); an angle has no bounds."""
    low = np.full(book.step.shape, -np.inf)
    high = np.full(book.step.shape, np.inf)
    for index, family in enumerate(book.families):
        for column, axis in enumerate(family.coordinates(*book.size)):
            if not axis.periodic:
                low[index, column], high[index, column] = axis.low, axis.high
    return low, high
