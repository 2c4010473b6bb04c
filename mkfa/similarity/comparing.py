"""Compare the filters of two or more banks: every measure between its floor and chance.

The design, for each kernel size and dilation that both banks have:

- from each bank n usable filters are drawn, evenly over its layers, and everything below happens at that size;
- floor: disjoint halves of one bank, the mean over both banks;
- chance: one bank is replaced by a null bank, the other stays (`mkfa.similarity.replacement`); the mean is the ceiling;
- a bank compared with itself is compared by disjoint halves, so that copies do not count: it lies at its floor;
- are the banks different at all? layers are exchanged between them (`mkfa.similarity.layer_tests`);
- intervals: layers are resampled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np

from mkfa.array_types import F32, F64
from mkfa.banks.bank import FilterBank, Kind
from mkfa.errors import MkfaError
from mkfa.frozen import FrozenDict
from mkfa.nulls.draws import NULLS
from mkfa.similarity.comparison import CompareSettings, Comparison, KindComparison, NullResult, fraction
from mkfa.similarity.layer_tests import bootstrap_layers, centred_interval, exchange_layers
from mkfa.similarity.measures.coverage import coverage_curve
from mkfa.similarity.measures.kernels import median_bandwidth
from mkfa.similarity.measures.pca_kl import pca_kl, peak_scaled
from mkfa.similarity.replacement import (
    NETWORK_DRAWS,
    Advance,
    Draws,
    curves_of,
    draw_against,
    floor_scores,
    networks_against,
    single_blas,
)
from mkfa.similarity.samples import (
    MIN_FILTERS,
    Cloud,
    common_kinds,
    left_out,
    make_cloud,
    same_filters,
    sample_size,
    shared_filters,
    split,
    split_layers,
)
from mkfa.similarity.score import (
    ALIKE_IS_MORE,
    BY_LAYER,
    THRESHOLDS,
    Plan,
    Profile,
    Scores,
    make_plan,
    profile,
    score,
    take,
)
from mkfa.stats.p_values import holm, p_value


def compare(
    a: FilterBank, b: FilterBank, *, settings: CompareSettings | None = None, advance: Advance = lambda _: None
) -> Comparison:
    """Compare two banks, kind by kind.

    Parameters
    ----------
    advance : called with 1 for every draw done; `total_draws` says how many there will be.

    Raises
    ------
    MkfaError
        No kernel size and dilation in common, or none with enough usable filters.
    """
    settings = settings or CompareSettings()
    kinds = usable_kinds(a, b, settings)
    compared = tuple(_compare_kind(a, b, kind, settings=settings, advance=advance) for kind in kinds)
    notes = []
    for bank in (a, b):
        if bank.unknown_dilation:
            notes.append(f"{bank.name}: the source does not tell the dilation of some layers; it was taken as 1")
    for kind in compared:
        if kind.same:
            notes.append(f"{kind.kind}: both banks hold the same filters; disjoint halves of them were compared")
        elif kind.shared:
            share = f"{kind.shared} of {kind.usable[0]} filters of {a.name}"
            notes.append(f"{kind.kind}: {share} occur in {b.name} bit for bit")
    return Comparison(a.name, b.name, settings, compared, left_out(a, b, kinds), tuple(notes))


def usable_kinds(a: FilterBank, b: FilterBank, settings: CompareSettings) -> tuple[Kind, ...]:
    """Return the common kinds of which both banks have enough usable filters; raises as `compare`."""
    kinds = common_kinds(a, b, settings.kernels)
    sizes = {kind: (len(make_cloud(a, kind)), len(make_cloud(b, kind))) for kind in kinds}
    enough = tuple(kind for kind in kinds if min(sizes[kind]) >= MIN_FILTERS)
    if not enough:
        counts = "; ".join(f"{kind}: {x} in {a.name}, {y} in {b.name}" for kind, (x, y) in sizes.items())
        problem = f"have fewer than {MIN_FILTERS} usable filters of every common kind ({counts})"
        remedy = "see 'mkfa show' for dead and flat filters, or compare other banks"
        raise MkfaError(f"{a.name} and {b.name}", problem, remedy)
    return enough


def total_draws(a: FilterBank, b: FilterBank, settings: CompareSettings) -> int:
    """Return how often `compare` will call `advance`; raises as `compare`."""
    each = sum(NETWORK_DRAWS if NULLS.find(null).network else settings.permutations for null in settings.nulls)
    return each * len(usable_kinds(a, b, settings))


def _compare_kind(
    a: FilterBank, b: FilterBank, kind: Kind, *, settings: CompareSettings, advance: Advance
) -> KindComparison:
    clouds = make_cloud(a, kind), make_cloud(b, kind)
    same = same_filters(*clouds)
    n = sample_size(*clouds, settings.sample)
    seeds = [settings.seed, kind.kh, kind.kw, kind.dh, kind.dw]
    rng = np.random.default_rng([*seeds, 0])
    rows = split(clouds[0], n, rng) if same else (split(clouds[0], n, rng)[0], split(clouds[1], n, rng)[0])
    samples = take(clouds[0], rows[0]), take(clouds[1], rows[1])
    bandwidth = settings.bandwidth or median_bandwidth(samples[0].vector[0], samples[1].vector[0])
    plan = make_plan(
        (kind.kh, kind.kw),
        settings.measures,  # type: ignore[arg-type]
        threshold=settings.threshold,
        bandwidth=bandwidth,
        rng=np.random.default_rng([*seeds, 1]),
    )
    with single_blas():
        sides = profile(samples[0], plan, root=True), profile(samples[1], plan, root=True)
        observed = score(*sides, plan)
        floors = [
            floor_scores(c, n, plan=plan, splits=settings.splits, rng=np.random.default_rng([*seeds, 2, i]))
            for i, c in enumerate(clouds)
        ]
        floor = np.concatenate([s.values for part in floors for s in part]).mean(axis=0)
        draws = bootstrap_layers(*samples, plan=plan, draws=settings.bootstrap, rng=np.random.default_rng([*seeds, 3]))
        halves = _disjoint(clouds[0], rows) if same else (None, None)
        exchange = exchange_layers(
            *clouds, halves, plan=plan, m=settings.permutations, rng=np.random.default_rng([*seeds, 4])
        )
        floor_layers = _floor_between_layers(clouds, n, plan, np.random.default_rng([*seeds, 5]))
    layer_floor = _layer_floor(floors)
    stages = _stages(clouds[0]), _stages(clouds[1])
    groups = _groups(sides, stages)
    results = []
    for name in settings.nulls:
        null = NULLS.find(name)
        if null.network:
            found = networks_against(null, sides, clouds, banks=(a, b), plan=plan, seed=settings.seed, advance=advance)
        else:
            found = draw_against(
                null, sides, clouds, plan=plan, m=settings.permutations, seed=settings.seed, advance=advance
            )
        results.append(_summarise(found, observed, floor, (plan, groups)))
    ceiling = next((r for r in results if r.null == settings.ceiling), results[0])
    near = observed.nearest_a[0], observed.nearest_b[0]
    sizes = np.concatenate([s.size[s.size > 0] for s in sides])
    full = {"pca_kl": pca_kl(*(peak_scaled(c.weight) for c in clouds))} if "pca_kl" in plan.measures else {}
    return KindComparison(
        kind=kind,
        n=n,
        usable=(len(clouds[0]), len(clouds[1])),
        layers_a=tuple(x.name for x in clouds[0].layers),
        layers_b=tuple(x.name for x in clouds[1].layers),
        numbers_a=tuple(x.index + 1 for x in clouds[0].layers),
        numbers_b=tuple(x.index + 1 for x in clouds[1].layers),
        depth_a=np.array([x.depth for x in clouds[0].layers]),
        depth_b=np.array([x.depth for x in clouds[1].layers]),
        per_layer=(int(sizes.min()), int(sizes.max())),
        measures=plan.measures,
        value=observed.values[0],
        interval=centred_interval(draws, observed.values[0]),
        floor=floor,
        floor_layers=floor_layers,
        ceiling=ceiling.mean,
        ceiling_null=ceiling.null,
        fraction=ceiling.fraction,
        directed=np.array([x.mean(dtype=np.float64) if x.size else np.nan for x in near]),
        directed_at=np.array([(x >= settings.threshold).mean() if x.size else np.nan for x in near]),
        bandwidth=bandwidth,
        all_filters=FrozenDict(full),
        thresholds=THRESHOLDS,
        curve=np.stack([coverage_curve(x, THRESHOLDS) for x in near]),
        curve_floor=np.concatenate([curves_of(s) for part in floors for s in part]).mean(axis=0),
        layer_value=observed.layers[0],
        layer_floor=layer_floor,
        stages_a=stages[0][0],
        stages_b=stages[1][0],
        stage_value=_by_stage(observed.layers[0], groups),
        stage_floor=_by_stage(layer_floor, groups),
        nulls=tuple(results),
        exchange=exchange,
        shared=shared_filters(*clouds),
        same=same,
    )


def _disjoint(cloud: Cloud, rows: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return two halves of a cloud that contain the samples: the first sample, and everything else."""
    return np.sort(rows[0]), np.setdiff1d(np.arange(len(cloud)), rows[0])


def _floor_between_layers(clouds: tuple[Cloud, Cloud], n: int, plan: Plan, rng: np.random.Generator) -> F64:
    """Return the measures between every other layer of a bank and the layers between, the mean over both banks."""
    found = []
    for cloud in clouds:
        rows = split_layers(cloud, n, rng) if len(cloud.layers) > 1 else None
        if rows is not None:
            x, y = (take(cloud, r) for r in rows)
            found.append(score(profile(x, plan, root=True), profile(y, plan), plan).values[0])
    return np.mean(found, axis=0) if found else np.full(len(plan.measures), np.nan)


def _layer_floor(floors: list[list[Scores]]) -> F32:
    """Return for each pair of layers the mean of both layers' own floors, (3, L_a, L_b)."""
    own = []
    for part in floors:
        diagonal = np.stack([np.einsum("kll->kl", s.layers[0]) for s in part])
        own.append(diagonal.mean(axis=0))
    return np.asarray((own[0][:, :, None] + own[1][:, None, :]) / 2, np.float32)


def _stages(cloud: Cloud) -> tuple[tuple[str, ...], np.ndarray]:
    """Group layers by the network's stages, or by thirds of its depth where the source tells no stages."""
    stage = [layer.stage for layer in cloud.layers]
    if min(stage) >= 0:
        names, group = np.unique(stage, return_inverse=True)
        return tuple(f"stage {s}" for s in names), group
    third = np.minimum((np.array([layer.depth for layer in cloud.layers]) * 3).astype(int), 2)
    present, group = np.unique(third, return_inverse=True)
    return tuple(("early", "middle", "late")[t] for t in present), group


def _groups(sides: tuple[Profile, Profile], stages: tuple[tuple[tuple[str, ...], np.ndarray], ...]) -> tuple[F32, F32]:
    """Return the (S, L) indicators of both banks' stages, without layers that are not in the sample."""
    out = []
    for side, (names, group) in zip(sides, stages, strict=True):
        member = (np.arange(len(names))[:, None] == group[None]) & (side.size > 0)[None]
        out.append(member.astype(np.float32))
    return out[0], out[1]


def _by_stage(layers: F32, groups: tuple[F32, F32]) -> F64:
    """Return the mean over the layer pairs of each pair of stages, (..., S_a, S_b)."""
    known = np.isfinite(layers)
    sums = groups[0] @ np.where(known, layers, 0) @ groups[1].T
    counts = groups[0] @ known.astype(np.float32) @ groups[1].T
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(sums / counts, np.float64)


def _summarise(draws: Draws, observed: Scores, floor: F64, plan: tuple[Plan, tuple[F32, F32]]) -> NullResult:
    measures, groups = plan[0].measures, plan[1]
    alike = np.array([m in ALIKE_IS_MORE for m in measures])
    value, layers = observed.values[0], observed.layers[0]
    sides, farther = (_one_sided(value, draws.values, larger) for larger in (alike, ~alike))
    both = draws.values.reshape(-1, len(measures))
    mean = both.mean(axis=0)
    low, high = np.quantile(both, (0.025, 0.975), axis=0)
    sign = np.array([1 if m in ALIKE_IS_MORE else -1 for m in BY_LAYER], np.float32)[:, None, None]
    layer_p, layer_max = _pair_p(sign * layers, sign * draws.layers)
    stage_p, _ = _pair_p(_by_stage(sign * layers, groups), _by_stage(sign * draws.layers, groups))
    apart = (floor < low) | (floor > high)  # else the gap is noise, and a place in it would mean nothing
    place = np.where(apart, fraction(value, floor, mean), np.nan)
    band = np.quantile(draws.curve, (0.025, 0.975), axis=0)
    return NullResult(
        draws.null,
        len(draws.values),
        mean,
        low,
        high,
        sides,
        sides.max(axis=0),
        farther.max(axis=0),
        place,
        np.stack([draws.curve.mean(axis=0), *band]),
        draws.layers.mean(axis=(0, 1)),
        layer_p,
        _holm_each(layer_p),
        layer_max,
        stage_p.astype(np.float64),
        _holm_each(stage_p).astype(np.float64),
    )


def _one_sided(observed: F64, draws: F64, larger: np.ndarray) -> F64:
    """Return p-values (2, M) from draws (m, 2, M), one direction for each measure."""
    return np.where(larger, p_value(observed, draws, larger=True), p_value(observed, draws, larger=False))


def _pair_p(observed: np.ndarray, draws: np.ndarray) -> tuple[F32, F32]:
    """Return p-values for pairs of layers, plain and adjusted for the maximum over pairs; larger is more alike.

    Parameters
    ----------
    observed : (3, L_a, L_b); draws : (m, 2, 3, L_a, L_b). NaN stays NaN.

    The adjusted p-value is the share of draws in which the largest standardised statistic of any pair reaches the
    pair's own (Westfall & Young 1993, single step). Standardisation is by all draws with the observed one, which
    keeps it symmetric between them.
    """
    plain, adjusted = [], []
    for side in (0, 1):
        part = np.concatenate([observed[None], draws[:, side]])
        gap = np.isnan(observed)
        sd = part.std(axis=0)
        part -= part.mean(axis=0)
        part /= np.where(sd > 0, sd, 1)
        plain.append(np.where(gap, np.nan, (part >= part[0]).mean(axis=0)))
        top = np.sort(np.where(gap, -np.inf, part).max(axis=(2, 3)), axis=0)  # (1 + m, 3)
        reached = np.stack([len(top) - np.searchsorted(top[:, i], part[0, i]) for i in range(len(top.T))])
        adjusted.append(np.where(gap, np.nan, reached / len(top)))
    return np.maximum(*plain).astype(np.float32), np.maximum(*adjusted).astype(np.float32)


def _holm_each(p: F32) -> F32:
    return np.stack([holm(x) for x in p]).astype(np.float32)


def compare_many(
    banks: Sequence[FilterBank],
    *,
    settings: CompareSettings | None = None,
    advance: Advance = lambda _: None,
    tell: Callable[[MkfaError], None] = lambda _: None,
) -> tuple[Comparison | None, ...]:
    """Compare every pair of banks, in the order (0, 1), (0, 2), ..., (1, 2), ...; None where nothing is in common.

    Parameters
    ----------
    tell : called with the reason for every pair that cannot be compared.

    Raises
    ------
    MkfaError
        No pair has anything in common.
    """
    out: list[Comparison | None] = []
    problems: list[MkfaError] = []
    for a, b in combinations(banks, 2):
        try:
            out.append(compare(a, b, settings=settings, advance=advance))
        except MkfaError as error:
            problems.append(error)
            out.append(None)
    if not any(out):
        raise problems[0] if problems else MkfaError("compare_many", "needs two banks", "name another one")
    for problem in problems:
        tell(problem)
    return tuple(out)


def distinct_names(banks: Sequence[FilterBank]) -> list[FilterBank]:
    """Return the banks with a number behind names that occur twice."""
    names = [bank.name for bank in banks]
    return [
        replace(bank, name=f"{bank.name} ({i + 1})") if names.count(bank.name) > 1 else bank
        for i, bank in enumerate(banks)
    ]
