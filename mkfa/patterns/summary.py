"""What an assignment says: shares, coverage, intervals, examples (numpy only)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mkfa.array_types import F32, F64
from mkfa.frozen import FrozenDict
from mkfa.patterns.basis_assignment import BasisAssignment, KindAssignment
from mkfa.patterns.coincidence import Merge, Merged, Rows, merged_classes, table_rows
from mkfa.patterns.dictionary import dictionary, same, version
from mkfa.patterns.fit import Fit, models, parsimony
from mkfa.stats.intervals import SHARE_RULE, share_over_groups

CURVE = np.linspace(0, 1, 101)
"""R² of the points of coverage curves."""


@dataclass(frozen=True, slots=True)
class ClassShare:
    """One row of the table of classes: its share of the scored filters with a 95 % interval over layers, and its
    share of null filters.

    `name` and `title` name all classes that the row counts, `merged` those that coincide with the first one, at which
    kernel size and over which share of their range. `on` is the share with positive gain; nulls are weighted by the
    filters of each kernel size.
    """

    name: str
    title: str
    filters: int
    share: float
    low: float
    high: float
    median_r2: float
    on: float
    null_share: float
    merged: tuple[Merged, ...]


@dataclass(frozen=True, slots=True)
class Coverage:
    """How much of a set of filters the basis covers, beside a null.

    Attributes
    ----------
    null : which null.
    filters : number of scored filters.
    median_r2, null_median_r2 : of the filters and of the null.
    fixed, null_fixed : share with R² at least the fixed value.
    fixed_low, fixed_high : 95 % interval of `fixed` over layers; NaN where `mkfa.stats.intervals.SHARE_RULE` has none.
    threshold : R² that 1 % of the null passes.
    beyond : share above that threshold; chance is 1 %.
    beyond_low, beyond_high : the same for `beyond`.
    curve, null_curve : (101,) share with R² at least `CURVE`.
    """

    null: str
    filters: int
    median_r2: float
    null_median_r2: float
    fixed: float
    fixed_low: float
    fixed_high: float
    null_fixed: float
    threshold: float
    beyond: float
    beyond_low: float
    beyond_high: float
    curve: F64
    null_curve: F64


@dataclass(frozen=True, slots=True)
class LayerShare:
    """One layer, numbered from 1: filters scored and not, coverage, the share of each row of classes."""

    layer: int
    name: str
    depth: float
    kind: str
    filters: int
    dead: int
    median_r2: float
    median_margin: float
    fixed: float
    beyond: float
    shares: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class KindSummary:
    """One kernel size: counts, coverage beside each null, median margin and p, and the classes that coincide there.

    `same` is the R² from which two patterns carry one name, `parsimony` that which a fitted coordinate must earn.
    """

    kind: str
    filters: int
    unscored: Mapping[str, int]
    median_margin: float
    median_p: float
    coverage: tuple[Coverage, ...]
    merges: tuple[Merge, ...]
    same: float
    parsimony: float


@dataclass(frozen=True, slots=True)
class AssignmentSummary:
    """The summary of an assignment, with the parameters that made it.

    `names` and `titles` are the classes that labels index, `classes` the rows of the table, which may count several.
    `whole` has the bank's coverage beside each null, the chosen one first: each kernel size against its own null.
    `interval_rule` says when a share has an interval.
    """

    bank: str
    basis: str
    basis_version: int
    null: str
    draws: int
    seed: int
    r2: float
    filters: int
    unscored: Mapping[str, int]
    median_margin: float
    names: tuple[str, ...]
    titles: tuple[str, ...]
    classes: tuple[ClassShare, ...]
    whole: tuple[Coverage, ...]
    kinds: tuple[KindSummary, ...]
    layers: tuple[LayerShare, ...]
    skipped: Mapping[str, str]
    interval_rule: str = SHARE_RULE


def summarise(assignment: BasisAssignment) -> AssignmentSummary:
    """Summarise an assignment; intervals of shares are over layers (`mkfa.stats.intervals.share_over_groups`)."""
    kinds, r2 = [k for k in assignment.kinds if k.usable.any()], assignment.r2
    layers = layer_shares(assignment)
    unscored = {why: sum(k.unscored[why] for k in assignment.kinds) for why in ("dead", "flat", "non-finite")}
    margins = np.concatenate([k.fit.margin[k.usable] for k in kinds])
    return AssignmentSummary(
        bank=assignment.bank.name,
        basis=assignment.basis,
        basis_version=version(assignment.basis),
        null=assignment.null,
        draws=assignment.draws,
        seed=assignment.seed,
        r2=r2,
        filters=len(assignment),
        unscored=FrozenDict(unscored),
        median_margin=float(np.median(margins)),
        names=assignment.names,
        titles=assignment.titles,
        classes=_classes(assignment, kinds, layers),
        whole=tuple(_coverage(kinds, i, r2) for i in range(len(kinds[0].nulls))),
        kinds=tuple(_kind(assignment, k) for k in kinds),
        layers=layers,
        skipped=assignment.skipped,
    )


def _kind(assignment: BasisAssignment, part: KindAssignment) -> KindSummary:
    size = part.kind.kh, part.kind.kw
    coverage = tuple(_coverage([part], i, assignment.r2) for i in range(len(part.nulls)))
    usable = part.usable
    return KindSummary(
        str(part.kind),
        int(usable.sum()),
        part.unscored,
        float(np.median(part.fit.margin[usable])),
        float(np.median(part.p[usable])),
        coverage,
        merged_classes(*size, assignment.basis),
        same(*size),
        parsimony(*size),
    )


def _coverage(kinds: list[KindAssignment], which: int, r2: float) -> Coverage:
    """Return the coverage of all filters of some kernel sizes beside one null; nulls are weighted by filters."""
    fits = [k.fit.r2[k.usable] for k in kinds]
    nulls = [k.nulls[which].r2 for k in kinds]
    weight = np.array([len(f) for f in fits], float) / sum(len(f) for f in fits)
    limits = [float(np.quantile(n, 0.99)) for n in nulls]
    fixed = np.concatenate([f >= r2 for f in fits])
    beyond = np.concatenate([f > limit for f, limit in zip(fits, limits, strict=True)])
    layer = np.concatenate([k.layer[k.usable] for k in kinds])
    counts = np.stack([np.bincount(layer, fixed), np.bincount(layer, beyond)], axis=1).astype(np.float64)
    low, high = share_over_groups(counts, np.bincount(layer))
    everything = np.sort(np.concatenate(fits))
    pooled = [_share_from(n, CURVE) for n in nulls]
    # The median of a mixture of nulls: the first R² at which the weighted share above falls to a half.
    mixed = np.concatenate(nulls)
    mass = np.concatenate([np.full(len(n), w / len(n)) for n, w in zip(nulls, weight, strict=True)])
    order = np.argsort(mixed)
    middle = int(np.searchsorted(np.cumsum(mass[order]), 0.5))
    return Coverage(
        null=kinds[0].nulls[which].name,
        filters=len(everything),
        median_r2=float(np.median(everything)),
        null_median_r2=float(mixed[order][min(middle, len(mixed) - 1)]),
        fixed=float(fixed.mean()),
        fixed_low=float(low[0]),
        fixed_high=float(high[0]),
        null_fixed=float(sum(w * np.mean(n >= r2) for n, w in zip(nulls, weight, strict=True))),
        threshold=float(np.dot(weight, limits)),
        beyond=float(beyond.mean()),
        beyond_low=float(low[1]),
        beyond_high=float(high[1]),
        curve=_share_from(everything, CURVE),
        null_curve=np.asarray(sum(w * c for w, c in zip(weight, pooled, strict=True)), np.float64),
    )


def _share_from(ascending: F32, at: F64) -> F64:
    """Return the share of values that are at least `at`."""
    return np.asarray(1 - np.searchsorted(ascending, at.astype(np.float32), side="left") / len(ascending), np.float64)


def rows_of(assignment: BasisAssignment) -> Rows:
    """Return the rows of the assignment's table of classes."""
    return table_rows(assignment.basis, [(k.kind.kh, k.kind.kw) for k in assignment.kinds])


def _classes(
    assignment: BasisAssignment, kinds: list[KindAssignment], layers: tuple[LayerShare, ...]
) -> tuple[ClassShare, ...]:
    rows = rows_of(assignment)
    row = np.concatenate([rows.of[k.kind.kh, k.kind.kw][k.fit.label[k.usable]] for k in kinds])
    r2 = np.concatenate([k.fit.r2[k.usable] for k in kinds])
    on = np.concatenate([k.gain[k.usable] > 0 for k in kinds])
    sizes = np.array([layer.filters for layer in layers], np.intp)
    counts = np.array([layer.shares for layer in layers]) * sizes[:, None]
    low, high = share_over_groups(np.nan_to_num(counts), sizes)
    total, out = len(row), []
    for index, (name, title, merged) in enumerate(zip(rows.names, rows.titles, rows.merged, strict=True)):
        mine = row == index
        null = sum(
            k.usable.sum() / total * np.mean(rows.of[k.kind.kh, k.kind.kw][k.nulls[0].label] == index) for k in kinds
        )
        some = bool(mine.any())
        out.append(
            ClassShare(
                name,
                title,
                int(mine.sum()),
                float(mine.mean()),
                float(low[index]),
                float(high[index]),
                float(np.median(r2[mine])) if some else float("nan"),
                float(on[mine].mean()) if some else float("nan"),
                float(null),
                merged,
            )
        )
    return tuple(out)


def layer_shares(assignment: BasisAssignment) -> tuple[LayerShare, ...]:
    """Return coverage and shares of the rows of classes of each layer, in order of execution."""
    out = {}
    rows_of_classes = rows_of(assignment)
    width = len(rows_of_classes.names)
    nan = float("nan")
    for part in assignment.kinds:
        limit = float(np.quantile(part.nulls[0].r2, 0.99)) if part.nulls else nan
        for index in np.unique(part.layer).tolist():
            rows = part.layer == index
            scored = rows & part.usable
            value, margin, n = part.fit.r2[scored], part.fit.margin[scored], int(scored.sum())
            layer = assignment.bank.layers[index]
            row = rows_of_classes.of[part.kind.kh, part.kind.kw][part.fit.label[scored]]
            counts = np.bincount(row, minlength=width)
            out[index] = LayerShare(
                index + 1,
                layer.name,
                layer.depth,
                str(part.kind),
                n,
                int((rows & part.dead).sum()),
                float(np.median(value)) if n else nan,
                float(np.median(margin)) if n else nan,
                float(np.mean(value >= assignment.r2)) if n else nan,
                float(np.mean(value > limit)) if n else nan,
                tuple((counts / n).tolist()) if n else (nan,) * width,
            )
    return tuple(out[index] for index in sorted(out))


@dataclass(frozen=True, slots=True)
class Example:
    """One filter beside its model: (kh, kw) each, the model with gain and offset, so that both have one scale."""

    filter: F32
    model: F32
    title: str
    r2: float


Examples = tuple[Example, ...]


def examples(assignment: BasisAssignment, *, count: int = 6) -> tuple[Examples, Examples]:
    """Return the best and the worst fits of the kernel size with most scored filters, at most one best of a row."""
    part = max(assignment.kinds, key=lambda k: (int(k.usable.sum()), -k.kind.kh))
    scored = np.flatnonzero(part.usable)
    order = scored[np.argsort(-part.fit.r2[scored], kind="stable")]
    row = rows_of(assignment).of[part.kind.kh, part.kind.kw][part.fit.label[order]]
    _, first = np.unique(row, return_index=True)
    best = order[np.sort(first)][:count]
    worst = order[::-1][:count]
    return _examples(assignment, part, best), _examples(assignment, part, worst)


def _examples(
    assignment: BasisAssignment, part: KindAssignment, rows: np.ndarray[tuple[int], np.dtype[np.intp]]
) -> Examples:
    book = dictionary(assignment.basis, part.kind.kh, part.kind.kw)
    chosen = Fit(*(getattr(part.fit, name)[rows] for name in Fit.__dataclass_fields__))
    pattern = models(chosen, book).reshape(-1, part.kind.kh, part.kind.kw)
    weight = assignment.bank.of_kind(part.kind).weight[rows]
    model = pattern * np.abs(part.gain[rows])[:, None, None] + part.offset[rows][:, None, None]
    titles = [assignment.titles[i] for i in chosen.label.tolist()]
    return tuple(Example(w, m, t, float(r)) for w, m, t, r in zip(weight, model, titles, chosen.r2, strict=True))
