"""Assign an analytic pattern to every filter of a bank, beside what chance gives (numpy only).

Filters are fitted kernel size by kernel size (and dilation by dilation) in chunks; the same fit is made of null
filters, so that every filter gets a p-value: how often a null filter of that size is fitted as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import numpy as np

from mkfa.arguments import check_arguments
from mkfa.array_types import F32, AnyArray, BoolArray
from mkfa.banks.bank import FilterBank, Kind
from mkfa.banks.canonical import normalise
from mkfa.banks.library import BankLike, load_bank
from mkfa.banks.usable import UsableFilters, usable_filters
from mkfa.errors import MkfaError, UnknownNameError, nearest
from mkfa.frozen import FrozenDict
from mkfa.nulls.draws import DEFAULT_NULLS, NULLS
from mkfa.patterns.assignment import Assignment, Assignments
from mkfa.patterns.basis_assignment import KindAssignment, NullFits
from mkfa.patterns.dictionary import FAMILY_BASES, Dictionary, dictionary
from mkfa.patterns.fit import Fit, fit, parameters
from mkfa.patterns.named_sets import NAMED_SETS
from mkfa.progress import Advance, Progress, follow
from mkfa.several import as_several
from mkfa.words import counted

BASES = (*FAMILY_BASES, *NAMED_SETS)
DRAWS = 10000
"""Null filters drawn for each null and kernel size: p-values down to 1e-4."""
NOT_ASKED = "not asked for"
"""Why a kernel size is skipped that `kernel_size` leaves out."""
Sizes = str | Kind | Sequence[str | Kind] | None
"""Kernel sizes: one, several by commas or in a list, or None for all."""


def assign(
    bank: BankLike,
    *,
    basis: str = "families",
    null: str = "shuffled",
    draws: int = DRAWS,
    r2: float = 0.9,
    kernel_size: Sizes = None,
    seed: int = 0,
    progress: Progress = None,
) -> Assignment:
    """Assign a pattern of a basis to every filter of a bank.

    Parameters
    ----------
    bank : name, path or bank.
    basis : "families" (Gaussian derivatives of any scale), "wide" (with elongated, oblique one-sided, third-order and
        shifted ones, which gain more on filters without patterns than on real ones) or a named set, "eight".
    null : the null for p-values, a name in `mkfa.nulls.draws.NULLS`; the default nulls are fitted as well.
    draws : null filters for each null and kernel size; at least 99.
    r2 : R² from which a filter counts as covered.
    kernel_size : sizes to assign, e.g. "5x5" or ["3x3", "7x7 dilated 3x3"]. Default: all of the bank. A filter gets the
        same pattern and p-value either way; the other sizes are listed in `skipped`.
    seed : of every random draw.
    progress : True for a bar, or a function of (done, total) filters, null filters included.

    Raises
    ------
    UnknownNameError
        Unknown bank, basis or null, or the bank has no filter of a size.
    MkfaError
        No filter can be fitted, too few draws, or a null that cannot be drawn for this bank.

    Examples
    --------
    >>> import mkfa
    >>> result = mkfa.assign("ppocrv4_det", basis="eight", draws=99)
    >>> result
    <Assignment: ppocrv4_det, 2,440 filters, basis eight: ... % fit better than 99 % of shuffled filters>
    >>> [(str(kind.kind), kind.fit.r2.shape) for kind in result.kinds]
    [('5x5', (2112,)), ('3x3', (336,))]
    >>> mkfa.assign("ppocrv4_det", basis="eight", draws=99, kernel_size="3x3")
    <Assignment: ppocrv4_det, 336 filters, basis eight: ... % fit better than 99 % of shuffled filters>
    """
    check_arguments(assign, locals())
    options = {"null": null, "draws": draws, "r2": r2, "kernel_size": kernel_size, "seed": seed}
    return assign_bases(bank, [basis], progress=progress, **options).parts[0]


def assign_bases(
    bank: BankLike, bases: Sequence[str] = BASES, *, progress: Progress = None, **options: Any
) -> Assignments:
    """Assign patterns of several bases; options are the keywords of `mkfa.assign`, which says what it raises.

    Examples
    --------
    >>> result = assign_bases("ppocrv4_det", ["eight"], draws=99)
    >>> sorted(result.to_dict()["assignments"][0])[:3]
    ['bank', 'basis', 'basis_version']
    """
    null, draws = options.get("null", "shuffled"), options.get("draws", DRAWS)
    check_options(bases, null, draws)
    loaded, nulls = load_bank(bank), _nulls(null)
    kinds = asked_kinds(loaded, options.pop("kernel_size", None))
    total = len(bases) * (sum(len(loaded.of_kind(kind).layer) for kind in kinds) + len(kinds) * draws * len(nulls))
    with follow(progress, "filters", total) as advance:
        return Assignments(tuple(_assign(loaded, basis, kinds, advance=advance, **options) for basis in bases))


def asked_kinds(bank: FilterBank, kernel_size: Sizes = None) -> tuple[Kind, ...]:
    """Return the kinds of a bank that `kernel_size` names, all dilations of a size without one; None: all.

    Raises UnknownNameError: the bank has no filter of a size.

    Examples
    --------
    >>> [str(kind) for kind in asked_kinds(load_bank("mobilenet_v2"), "3x3")]
    ['3x3']
    """
    if kernel_size is None:
        return bank.kinds
    parts = kernel_size.split(",") if isinstance(kernel_size, str) else as_several(kernel_size)
    sizes = [size for part in parts if (size := " ".join(str(part).lower().split()))]
    for size in sizes:
        if not any(size in (str(kind), f"{kind.kh}x{kind.kw}") for kind in bank.kinds):
            there = ", ".join(map(str, bank.kinds))
            raise UnknownNameError(f"kernel size {size}", f"{bank.name} has no filter of it", f"choose from {there}")
    if not sizes:
        raise MkfaError("kernel size", "names nothing", "name a size, or leave it out for all")
    return tuple(kind for kind in bank.kinds if {str(kind), f"{kind.kh}x{kind.kw}"} & set(sizes))


def check_options(bases: Sequence[str], null: str, draws: int) -> None:
    """Refuse an unknown basis or null, or too few draws; raises as `assign`."""
    for basis in bases:
        if basis not in BASES:
            raise UnknownNameError(basis, "unknown basis", nearest(basis, BASES) or f"choose one of {', '.join(BASES)}")
    NULLS.find(null)
    if draws < 99:
        raise MkfaError(
            "draws",
            f"{counted(draws, 'null draw is', 'null draws are')} too few for a 1 % threshold",
            "ask for at least 99",
        )


def _nulls(null: str) -> tuple[str, ...]:
    """Return the names of the nulls that are fitted, the chosen one first."""
    return (null, *(name for name in DEFAULT_NULLS if name != null))


def _assign(
    bank: FilterBank,
    basis: str,
    asked: Sequence[Kind],
    *,
    advance: Advance,
    null: str = "shuffled",
    draws: int = DRAWS,
    r2: float = 0.9,
    seed: int = 0,
) -> Assignment:
    draw_network = NULLS.find(null).network
    untrained = draw_network(bank, seed) if draw_network else None
    kinds: list[KindAssignment] = []
    skipped: dict[str, str] = {}
    names: tuple[str, ...] = ()
    titles: tuple[str, ...] = ()
    for number, kind in enumerate(bank.kinds):
        if kind not in asked:
            skipped[str(kind)] = NOT_ASKED
            continue
        try:
            book = dictionary(basis, kind.kh, kind.kw)
        except MkfaError as error:
            skipped[str(kind)] = error.problem
            continue
        names, titles = book.names, book.titles
        filters = usable_filters(bank, kind)
        rng = np.random.default_rng([seed, number])
        fitted = fit(filters.vector, book, advance=advance)
        nulls = []
        for name in _nulls(null) if len(filters) else ():
            if untrained is not None and name == null:
                rows = usable_filters(untrained, kind).vector
                rows = rows[rng.choice(len(rows), min(draws, len(rows)), replace=False)]
            else:
                rows = _null_rows(name, filters, draws, rng)
            nulls.append(_null_fits(name, fit(rows, book, advance=advance)))
        kinds.append(_kind_assignment(bank, filters, book=book, fitted=fitted, nulls=tuple(nulls)))
    if not any(k.usable.any() for k in kinds):
        raise MkfaError(bank.name, "has no filter that a pattern can be fitted to", "choose a bank with live filters")
    return Assignment(bank, basis, names, titles, tuple(kinds), null, draws, seed, r2, FrozenDict(skipped))


def _null_rows(name: str, filters: UsableFilters, draws: int, rng: np.random.Generator) -> F32:
    """Draw null filters in canonical form: without replacement where there are enough, else each several times."""
    chosen = rng.choice(len(filters), draws, replace=len(filters) < draws)
    drawn = NULLS.find(name).prepare(filters.weight, filters.layer.astype(np.int64), chosen)(rng)
    return normalise(drawn.reshape(draws, -1))[0]


def _null_fits(name: str, fitted: Fit) -> NullFits:
    order = np.argsort(fitted.r2, kind="stable")
    return NullFits(name, fitted.r2[order], fitted.label[order])


def _kind_assignment(
    bank: FilterBank, filters: UsableFilters, *, book: Dictionary, fitted: Fit, nulls: tuple[NullFits, ...]
) -> KindAssignment:
    kind: Kind = filters.kind
    layer = bank.of_kind(kind).layer
    row = np.flatnonzero(np.isin(bank.groups[kind.kh, kind.kw].layer, np.unique(layer))).astype(np.int32)
    usable = ~(filters.dead | filters.flat | filters.nonfinite)
    p = np.full(len(filters), np.nan, np.float32)
    if nulls:
        beyond = len(nulls[0].r2) - np.searchsorted(nulls[0].r2, fitted.r2, side="left")
        p[:] = (1 + beyond) / (1 + len(nulls[0].r2))  # as mkfa.stats.p_values.p_value, for sorted draws
    whole = Fit(*(_spread(getattr(fitted, f.name), usable) for f in fields(Fit)))
    return KindAssignment(
        kind,
        row,
        layer,
        filters.dead,
        filters.flat,
        filters.nonfinite,
        whole,
        parameters(whole, book),
        _spread(filters.gain * fitted.cosine, usable),
        _spread(filters.offset, usable),
        _spread(p, usable, np.nan),
        nulls,
    )


def _spread(values: AnyArray, usable: BoolArray, none: float = 0) -> AnyArray:
    """Return values of usable filters as those of all filters; the others get `none`, -1 where values are integers."""
    if usable.all():
        return values
    out = np.full((len(usable), *values.shape[1:]), -1 if values.dtype.kind == "i" else none, values.dtype)
    out[usable] = values
    return out
