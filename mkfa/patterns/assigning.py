"""Assign an analytic pattern to every filter of a bank, beside what chance gives (numpy only).

Filters are fitted kernel size by kernel size (and dilation by dilation) in chunks; the same fit is made of null
filters, so that every filter gets a p-value: how often a null filter of that size is fitted as well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mkfa.array_types import F32, I32, BoolArray
from mkfa.banks.bank import FilterBank, FilterGroup, Kind, dead_filters
from mkfa.banks.bank_file import Analysis
from mkfa.banks.canonical import canonical, normalise
from mkfa.banks.library import BankLike, load_bank
from mkfa.errors import MkfaError, UnknownNameError, nearest
from mkfa.frozen import FrozenDict
from mkfa.nulls.draws import DEFAULT_NULLS, NULLS
from mkfa.patterns.dictionary import Dictionary, dictionary
from mkfa.patterns.families import NAMED_SETS
from mkfa.patterns.fit import CHUNK, MOST_THREADS, Fit, Parameters, fit, parameters

BASES = ("families", *NAMED_SETS)
DRAWS = 10000
"""Null filters drawn for each null and kernel size: p-values down to 1e-4."""
PIECE = MOST_THREADS * CHUNK
"""Filters brought into canonical form at once, so that memory does not grow with a bank."""


@dataclass(frozen=True, slots=True)
class NullFits:
    """Fits of null filters of one kernel size.

    Attributes
    ----------
    name : which null.
    r2 : (D,) float32, ascending.
    label : (D,) int16, classes, in the same order.
    """

    name: str
    r2: F32
    label: NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class KindAssignment:
    """The assignment of all filters of one kernel size and dilation.

    Rows are those of `bank.of_kind(kind)`; `row` gives their place under /filters/<kh>x<kw>.

    Attributes
    ----------
    kind : Kind
    row, layer : (N,) int32
    dead, flat, nonfinite : (N,) bool, filters without a class (label -1, R2 and p NaN in files), and why.
    fit : Fit
    parameters : Parameters
    gain : (N,) float32, so that weight ~ gain * pattern + offset, the pattern zero-mean and of unit norm; its sign
        says on or off.
    offset : (N,) float32
    p : (N,) float32, p-value of R2 under the chosen null; NaN for unusable filters.
    nulls : what each null gives; the chosen one is first.
    """

    kind: Kind
    row: I32
    layer: I32
    dead: BoolArray
    flat: BoolArray
    nonfinite: BoolArray
    fit: Fit
    parameters: Parameters
    gain: F32
    offset: F32
    p: F32
    nulls: tuple[NullFits, ...]

    @property
    def usable(self) -> BoolArray:
        return ~(self.dead | self.flat | self.nonfinite)

    @property
    def unscored(self) -> Mapping[str, int]:
        """How many filters are not scored, by reason."""
        return {"dead": int(self.dead.sum()), "flat": int(self.flat.sum()), "non-finite": int(self.nonfinite.sum())}


@dataclass(frozen=True, slots=True)
class Assignment:
    """Every filter of a bank with its pattern.

    Attributes
    ----------
    bank : name of the bank.
    basis : "families" or a named set.
    names, titles : classes that labels index.
    kinds : an assignment for each kernel size and dilation, those with most filters first.
    null : the null that p-values and thresholds refer to.
    draws, seed : of the nulls.
    skipped : kernel sizes that the basis has no pattern for, with the reason.
    """

    bank: str
    basis: str
    names: tuple[str, ...]
    titles: tuple[str, ...]
    kinds: tuple[KindAssignment, ...]
    null: str
    draws: int
    seed: int
    skipped: Mapping[str, str]

    def __len__(self) -> int:
        return sum(int(k.usable.sum()) for k in self.kinds)


def assign(
    bank: BankLike,
    basis: str = "families",
    *,
    null: str = "shuffled",
    draws: int = DRAWS,
    seed: int = 0,
    advance: Callable[[int], object] | None = None,
) -> Assignment:
    """Assign a pattern of a basis to every filter of a bank.

    Parameters
    ----------
    null : the null for p-values; those of `DEFAULT_NULLS` are fitted as well.
    draws : null filters for each null and kernel size.
    advance : called with the number of filters done, null filters included.

    Raises
    ------
    UnknownNameError
        There is no such basis or null.
    MkfaError
        No filter can be fitted; or the null cannot be drawn for this bank.

    Examples
    --------
    >>> import mkfa
    >>> result = mkfa.assign("ppocrv4_det", basis="eight", draws=99)
    >>> [(str(kind.kind), kind.fit.r2.shape) for kind in result.kinds]
    [('5x5', (2112,)), ('3x3', (336,))]
    """
    bank = load_bank(bank)
    if basis not in BASES:
        raise UnknownNameError(basis, "is no basis", nearest(basis, BASES) or f"choose one of {', '.join(BASES)}")
    NULLS.find(null)
    if draws < 99:
        raise MkfaError(f"{draws} null draws", "are too few for a 1 % threshold", "ask for at least 99")
    draw_network = NULLS.find(null).network
    untrained = draw_network(bank, seed) if draw_network else None
    kinds: list[KindAssignment] = []
    skipped: dict[str, str] = {}
    names: tuple[str, ...] = ()
    titles: tuple[str, ...] = ()
    for number, kind in enumerate(bank.kinds):
        try:
            book = dictionary(basis, kind.kh, kind.kw)
        except UnknownNameError:
            raise
        except MkfaError as error:
            skipped[str(kind)] = error.problem
            continue
        names, titles = book.names, book.titles
        rng = np.random.default_rng([seed, number])
        found = _assign_kind(
            bank, kind, book=book, order=_in_order(null), draws=draws, rng=rng, untrained=untrained, advance=advance
        )
        kinds.append(found)
    if not any(k.usable.any() for k in kinds):
        raise MkfaError(bank.name, "has no filter that a pattern can be fitted to", "choose a bank with live filters")
    return Assignment(bank.name, basis, names, titles, tuple(kinds), null, draws, seed, FrozenDict(skipped))


def work(bank: FilterBank, *, null: str, draws: int) -> int:
    """Return how many filters `assign` will fit, for a progress bar."""
    return len(bank) + len(bank.kinds) * draws * len(_in_order(null))


def _in_order(null: str) -> tuple[str, ...]:
    """Return the names of the nulls that are fitted, the chosen one first."""
    return (null, *(name for name in DEFAULT_NULLS if name != null))


def _assign_kind(
    bank: FilterBank,
    kind: Kind,
    *,
    book: Dictionary,
    order: tuple[str, ...],
    draws: int,
    rng: np.random.Generator,
    untrained: FilterBank | None,
    advance: Callable[[int], object] | None,
) -> KindAssignment:
    group = bank.of_kind(kind)
    row = np.flatnonzero(np.isin(bank.groups[kind.kh, kind.kw].layer, np.unique(group.layer))).astype(np.int32)
    fitted, gain, offset, flat, nonfinite = _fit_group(group, book, advance)
    dead = dead_filters(group) & ~nonfinite
    flat &= ~dead
    usable = ~(dead | flat | nonfinite)
    fitted.label[dead], fitted.variant[dead], fitted.runner_up[dead] = -1, -1, -1
    fitted.coordinates[dead], fitted.cosine[dead], fitted.runner_up_r2[dead] = 0, 0, 0
    live = group.weight[usable] if not usable.all() else group.weight
    nulls = []
    if len(live):
        for name in order:
            source = untrained.of_kind(kind) if untrained is not None and name == order[0] else None
            nulls.append(_fit_null(name, live, book, draws=draws, rng=rng, source=source, advance=advance))
    p = np.full(len(group), np.nan, np.float32)
    if nulls:
        beyond = len(nulls[0].r2) - np.searchsorted(nulls[0].r2, fitted.r2[usable], side="left")
        p[usable] = (1 + beyond) / (1 + len(nulls[0].r2))  # as mkfa.stats.p_values.p_value, for sorted draws
    return KindAssignment(
        kind,
        row,
        group.layer,
        dead,
        flat,
        nonfinite,
        fitted,
        parameters(fitted, book),
        gain * fitted.cosine,
        offset,
        p,
        tuple(nulls),
    )


def _fit_group(
    group: FilterGroup, book: Dictionary, advance: Callable[[int], object] | None
) -> tuple[Fit, F32, F32, BoolArray, BoolArray]:
    """Fit all filters of a group chunk by chunk; return the fit, norms, offsets, and which are flat, non-finite."""
    n = len(group)
    gain, offset = np.empty(n, np.float32), np.empty(n, np.float32)
    flat, nonfinite = np.empty(n, bool), np.empty(n, bool)
    parts = []
    for begin in range(0, n, PIECE):
        rows = slice(begin, min(begin + PIECE, n))
        weight = group.weight[rows].reshape(rows.stop - rows.start, -1)
        vector, gain[rows], offset[rows], flat[rows], nonfinite[rows] = normalise(weight)
        parts.append(fit(vector, book, advance=advance))
    joined = {f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Fit)}
    return Fit(**joined), gain, offset, flat, nonfinite


def _fit_null(
    name: str,
    live: F32,
    book: Dictionary,
    *,
    draws: int,
    rng: np.random.Generator,
    source: FilterGroup | None,
    advance: Callable[[int], object] | None,
) -> NullFits:
    """Fit null filters drawn from usable filters, or from an untrained network's (`source`)."""
    if source is not None:
        vectors = canonical(source)
        rows = vectors.vector[vectors.usable]
        chosen = rng.choice(len(rows), min(draws, len(rows)), replace=False)
        rows = rows[chosen]
    else:
        # Without replacement where there are enough filters; else each is used several times, differently.
        chosen = rng.choice(len(live), draws, replace=len(live) < draws)
        rows = normalise(NULLS.find(name).sample(live[chosen], rng).reshape(draws, -1))[0]
    fitted = fit(rows, book, advance=advance)
    order = np.argsort(fitted.r2, kind="stable")
    return NullFits(name, fitted.r2[order], fitted.label[order])


def to_analysis(assignment: Assignment, bank: FilterBank) -> Analysis:
    """Return the assignment for storage under /analysis/assign-<basis>.

    For each kernel size, arrays "<kh>x<kw>.<what>" with one row for each row of /filters/<kh>x<kw>: label (index
    into the parameters' `classes`, -1 for none), r2, runner_up, runner_up_r2, p, gain, offset, sigma_x, sigma_y,
    centre_x, centre_y, angle, surround, weight; NaN where there is no such value. "null.<kind>.<name>" holds the
    ascending R2 of the null filters.
    """
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    for part in assignment.kinds:
        total = len(bank.groups[part.kind.kh, part.kind.kw])
        missing = ~part.usable
        for name, values in _columns(part).items():
            key = f"{part.kind.kh}x{part.kind.kw}.{name}"
            whole = values.dtype.kind == "i"
            if key not in arrays:
                arrays[key] = np.full(total, -1 if whole else np.nan, values.dtype)
            arrays[key][part.row] = np.where(missing, values.dtype.type(-1 if whole else np.nan), values)
        for null in part.nulls:
            arrays[f"null.{part.kind}.{null.name}"] = null.r2
    described = {
        "basis": assignment.basis,
        "classes": list(assignment.names),
        "titles": list(assignment.titles),
        "null": assignment.null,
        "draws": assignment.draws,
        "seed": assignment.seed,
        "skipped": dict(assignment.skipped),
    }
    return Analysis(f"assign-{assignment.basis}", FrozenDict(arrays), FrozenDict(described))


def _columns(part: KindAssignment) -> dict[str, np.ndarray[Any, Any]]:
    found: dict[str, np.ndarray[Any, Any]] = {
        "label": part.fit.label,
        "r2": part.fit.r2,
        "runner_up": part.fit.runner_up,
        "runner_up_r2": part.fit.runner_up_r2,
        "p": part.p,
        "gain": part.gain,
        "offset": part.offset,
    }
    for field in fields(Parameters):
        name = field.name.replace("offset_", "centre_")
        found[name] = getattr(part.parameters, field.name)
    return found
