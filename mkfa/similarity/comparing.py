"""Compare the filters of two or more banks: every measure between its floor and chance.

The design, for each kernel size and dilation that both banks have:

- from each bank n usable filters are drawn, evenly over its layers, and everything below happens at that size;
- floor: disjoint halves of one bank, the mean over both banks;
- chance: one bank is replaced by a null bank, the other stays (`mkfa.similarity.replacement`); the mean is the ceiling;
- a bank compared with itself is compared by disjoint halves, so that copies do not count: it lies at its floor;
- one test was chosen beforehand (`mkfa.similarity.settings.PRIMARY`); all other p-values are exploratory;
- have the banks a common parent? then they are not independent evidence (`mkfa.similarity.lineage`);
- does likeness depend on depth? (`mkfa.similarity.depth_trend`);
- are the banks different at all? layers are exchanged between them (`mkfa.similarity.layer_tests`);
- intervals: layers are left out one by one (`mkfa.similarity.layer_intervals`).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np

from mkfa.arguments import check_arguments
from mkfa.array_types import F32, F64, I64
from mkfa.banks.bank import FilterBank, Kind
from mkfa.banks.library import BankLike, Banks, load_bank, load_banks, several_banks
from mkfa.errors import MkfaError
from mkfa.frozen import FrozenDict
from mkfa.nulls.covariance import pooled_in_words
from mkfa.nulls.draws import NULLS, STRICT
from mkfa.progress import Advance, Progress, follow
from mkfa.similarity.chance import by_stage, strictest_nulls, summarise, widen, widened
from mkfa.similarity.comparison import Comparison
from mkfa.similarity.depth_trend import PERMUTATIONS, TURNS, DepthTrend, depth_trend, depth_trend_within
from mkfa.similarity.kind_comparison import KindComparison, NullResult
from mkfa.similarity.layer_intervals import layer_intervals, no_interval, unlike
from mkfa.similarity.layer_tests import exchange_layers
from mkfa.similarity.lineage import families, find_lineage
from mkfa.similarity.matrix import Comparisons, bank_matrices, primary_tests, related_pairs
from mkfa.similarity.measures.table import MEASURES
from mkfa.similarity.pairs import Plan, take
from mkfa.similarity.replacement import NETWORK_DRAWS, Side, curves_of, draw_against
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
from mkfa.similarity.score import DIRECTIONS_SEED, THRESHOLDS, Scores, coverage_curve, make_plan, score
from mkfa.similarity.settings import BANDWIDTH, PRIMARY, CompareSettings, make_settings
from mkfa.threads import one_thread
from mkfa.words import counted


def compare(  # noqa: PLR0913 (options are keywords)
    a: BankLike,
    b: BankLike,
    *,
    draws: int = 999,
    permutations: int | None = None,
    measures: str | Sequence[str] | None = None,
    nulls: str | Sequence[str] | None = None,
    kernel_size: str | Sequence[Any] | None = None,
    sample: int = 192,
    threshold: float = 0.9,
    bandwidth: float | None = BANDWIDTH,
    bootstrap: int | None = None,
    splits: int = 8,
    ceiling: str = "gaussian",
    seed: int = 0,
    progress: Progress = None,
) -> Comparison:
    """Compare two banks: every measure between its floor and chance, for each kernel size that both have.

    Parameters
    ----------
    a, b : name, path or bank.
    draws : draws of each null, and exchanges of layers; at least 19.
    permutations : former name of `draws`.
    measures : names in `mkfa.similarity.measures.table.MEASURES`; "moments" stands for three. Default: all built-in.
    nulls : names in `mkfa.nulls.draws.NULLS`. Default: all but "init".
    kernel_size : sizes to compare, e.g. "5x5" or ["3x3", "5x5"]. Default: all that both banks have.
    sample : filters taken from each bank; fewer where a bank has not twice as many.
    threshold : |cos| at which `coverage_at` counts a filter as covered.
    bandwidth : kernel width of `mmd`; None takes the median of 1 - cos^2.
    bootstrap : no longer used: intervals leave out one layer after the other. A number gives a FutureWarning.
    splits : split halves of each bank, averaged for the floor.
    ceiling : the null whose mean is the ceiling; the first of `nulls` where it is not among them.
    seed : of every random draw.
    progress : True for a bar, or a function of (done, total) null banks.

    Raises
    ------
    MkfaError
        No common kernel size and dilation, too few usable filters, an option out of range, or a null that cannot be
        drawn for a bank.
    UnknownNameError
        Unknown bank, measure or null.

    Examples
    --------
    >>> import mkfa
    >>> comparison = mkfa.compare(
    ...     "efficientnet_lite0", "ppocrv4_rec", kernel_size="5x5", draws=19, measures=["coverage", "energy"]
    ... )
    >>> comparison
    <Comparison: efficientnet_lite0 and ppocrv4_rec, 5x5 coverage 0.7... (p = 0.0...)>
    >>> kind = comparison.kinds[0]
    >>> kind.measures, kind.fraction.shape, kind.nulls[0].null
    (('coverage', 'energy'), (2,), 'shuffled')
    """
    check_arguments(compare, locals())
    settings = make_settings(
        measures=measures,
        nulls=nulls,
        kernel_size=kernel_size,
        draws=draws,
        permutations=permutations,
        sample=sample,
        threshold=threshold,
        bandwidth=bandwidth,
        bootstrap=bootstrap,
        splits=splits,
        ceiling=ceiling,
        seed=seed,
    )
    one, other = load_bank(a), load_bank(b)
    with follow(progress, "null banks", total_draws(one, other, settings)) as advance:
        return _compare(one, other, settings, advance)


def compare_many(banks: Banks, *, progress: Progress = None, **options: Any) -> Comparisons:
    """Compare every pair of banks; pairs that share no kernel size are skipped.

    Parameters
    ----------
    banks : names, paths or banks, at least two; names that occur twice get a number.
    progress, options : the keywords of `mkfa.compare`.

    Raises
    ------
    MkfaError
        No pair can be compared, or as `mkfa.compare`.

    Examples
    --------
    >>> import mkfa
    >>> banks = ["ppocrv4_det", "ppocrv4_rec", "mobilenet_v2"]
    >>> result = mkfa.compare_many(banks, kernel_size="3x3", draws=19, measures="energy", nulls="gaussian")
    >>> result
    <Comparisons: ppocrv4_det, ppocrv4_rec, mobilenet_v2: 3 of 3 pairs compared>
    >>> result.matrices[0].value.shape
    (3, 3)
    """
    check_arguments(compare, options)
    settings = make_settings(**options)
    given = several_banks(banks)
    if len(given) < 2:
        raise MkfaError("compare", f"needs two banks, got {len(given)}", "name two or more")
    loaded = distinct_names(load_banks(given))
    total = 0
    for a, b in combinations(loaded, 2):
        with suppress(MkfaError):  # raised again below
            total += total_draws(a, b, settings)
    pairs: list[Comparison | None] = []
    problems: list[MkfaError] = []
    with follow(progress, "null banks", total) as advance:
        for a, b in combinations(loaded, 2):
            try:
                pairs.append(_compare(a, b, settings, advance))
            except MkfaError as error:
                problems.append(error)
                pairs.append(None)
    if not any(pairs):
        raise problems[0]
    matrices = bank_matrices(loaded, pairs) if len(loaded) > 2 else ()
    names = [bank.name for bank in loaded]
    return Comparisons(
        names=tuple(names),
        pairs=tuple(pairs),
        matrices=matrices,
        skipped=tuple(map(str, problems)),
        families=families(names, related_pairs(pairs, len(names))),
        primary=primary_tests(names, pairs),
    )


def distinct_names(banks: Sequence[FilterBank]) -> list[FilterBank]:
    """Return the banks with a number behind names that occur twice."""
    names = [bank.name for bank in banks]
    return [
        replace(bank, name=f"{bank.name} ({i + 1})") if names.count(bank.name) > 1 else bank
        for i, bank in enumerate(banks)
    ]


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
    """Return the number of null banks that a comparison draws, for a progress bar; raises as `compare`."""
    each = sum(NETWORK_DRAWS if NULLS.find(null).network else settings.permutations for null in settings.nulls)
    return each * len(usable_kinds(a, b, settings))


def _compare(a: FilterBank, b: FilterBank, settings: CompareSettings, advance: Advance) -> Comparison:
    kinds = usable_kinds(a, b, settings)
    for name in settings.nulls:
        for bank in (a, b):
            _check_drawn(name, bank, settings.seed)
    lineage = find_lineage(a, b, seed=settings.seed)
    compared = tuple(
        _compare_kind(a, b, kind, settings=settings, related=lineage.found, advance=advance) for kind in kinds
    )
    notes = [lineage.in_words(a.name, b.name)]
    for bank in (a, b):
        if bank.unknown_dilation:
            notes.append(f"{bank.name}: the checkpoint does not record the dilation of some layers; it was taken as 1")
    if STRICT in settings.nulls:
        pooled = [(bank.name, size, pooled_in_words(make_cloud(bank, size).layer)) for size in kinds for bank in (a, b)]
        notes += [f"{name}, {size}: {text}" for name, size, text in pooled if text]
    for kind in compared:
        if kind.same:
            notes.append(f"{kind.kind}: both banks have the same filters; disjoint halves of them were compared")
        elif kind.shared:
            share = f"{kind.shared} of {counted(kind.usable[0], 'filter')} of {a.name}"
            notes.append(f"{kind.kind}: {share} occur in {b.name} bit for bit")
    return Comparison(a.name, b.name, settings, compared, left_out(a, b, kinds), tuple(notes), lineage)


def _check_drawn(name: str, bank: FilterBank, seed: int) -> None:
    """Refuse, before the work, a null that is a whole network and cannot be drawn for a bank."""
    draw = NULLS.find(name).network
    if draw is not None:
        bank.remember(("can be drawn", name), lambda: bool(draw(bank, seed)))


@dataclass(frozen=True, slots=True)
class _Samples:
    """Two banks at one kernel size: equal samples of their filters, and how they are scored.

    `rows` are the filters of each sample. `judged` are the places of the plan's measures among all that were asked for;
    the others are computed on all filters and have a value only.
    """

    kind: Kind
    settings: CompareSettings
    clouds: tuple[Cloud, Cloud]
    rows: tuple[I64, I64]
    sides: tuple[Side, Side]
    plan: Plan
    judged: tuple[int, ...]
    same: bool

    def rng(self, *stream: int) -> np.random.Generator:
        """Return the random numbers of one part of the comparison; recorded results depend on the streams."""
        return _rng(self.settings, self.kind, *stream)

    def widen(self, values: F64) -> F64:
        """Return values (..., J) of the judged measures as values of all, NaN for the others."""
        return widen(values, self.judged, len(self.settings.measures))


def _rng(settings: CompareSettings, kind: Kind, *stream: int) -> np.random.Generator:
    return np.random.default_rng([settings.seed, kind.kh, kind.kw, kind.dh, kind.dw, *stream])


def _compare_kind(
    a: FilterBank, b: FilterBank, kind: Kind, *, settings: CompareSettings, related: bool, advance: Advance
) -> KindComparison:
    samples = _draw_samples(a, b, kind, settings)
    one, other = samples.sides
    with one_thread():
        observed = score(one.sample, other.sample)
        floors = [
            _halves(cloud, len(one.rows), settings.splits, samples.plan, samples.rng(2, i))
            for i, cloud in enumerate(samples.clouds)
        ]
        interval, no_interval = _intervals(samples, observed, related=related)
        parts = _disjoint(samples.clouds[0], samples.rows) if samples.same else (None, None)
        exchange = exchange_layers(
            *samples.clouds, parts, plan=samples.plan, m=settings.permutations, rng=samples.rng(4)
        )
        floor_layers = samples.widen(_floor_between_layers(samples.clouds, len(one.rows), samples.plan, samples.rng(5)))
    floor = np.concatenate([half.values for halves in floors for half in halves]).mean(axis=0)
    stages = [_stages(side) for side in samples.sides]
    groups = stages[0][1], stages[1][1]
    nulls = _against_nulls(samples, observed, floor, groups, advance)
    sizes = np.concatenate([side.sample.size for side in samples.sides])
    layers, layer_floor = observed.layers[0], _layer_floor(floors)
    return KindComparison(
        kind=kind,
        n=len(one.rows),
        usable=(len(samples.clouds[0]), len(samples.clouds[1])),
        **_layer_facts("a", one, stages[0][0]),
        **_layer_facts("b", other, stages[1][0]),
        per_layer=(int(sizes[sizes > 0].min()), int(sizes.max())),
        measures=settings.measures,
        **_values(samples, observed),
        interval=interval,
        no_interval=no_interval,
        floor=samples.widen(floor),
        floor_layers=floor_layers,
        **_chance_facts(nulls, settings),
        bandwidth=samples.plan.bandwidth,
        **_coverage_facts(observed, floors, settings.threshold),
        layer_measures=samples.plan.by_layer,
        layer_value=layers,
        layer_floor=layer_floor,
        stage_value=by_stage(layers, groups),
        stage_floor=by_stage(layer_floor, groups),
        nulls=nulls,
        exchange=exchange,
        depth_trend=_trend(samples, layers, nulls),
        shared=shared_filters(*samples.clouds),
        same=samples.same,
    )


def _draw_samples(a: FilterBank, b: FilterBank, kind: Kind, settings: CompareSettings) -> _Samples:
    """Draw equal samples of both banks, disjoint halves where these have the same filters, and plan the measures."""
    clouds = make_cloud(a, kind), make_cloud(b, kind)
    same, n = same_filters(*clouds), sample_size(*clouds, settings.sample)
    rng = _rng(settings, kind, 0)
    rows = split(clouds[0], n, rng) if same else (split(clouds[0], n, rng)[0], split(clouds[1], n, rng)[0])
    pooled = np.concatenate([cloud.vector[chosen] for cloud, chosen in zip(clouds, rows, strict=True)])
    judged = tuple(i for i, name in enumerate(settings.measures) if MEASURES.find(name).whole is None)
    plan = make_plan(
        (kind.kh, kind.kw),
        tuple(settings.measures[i] for i in judged),
        threshold=settings.threshold,
        bandwidth=settings.bandwidth or median_bandwidth(pooled),
        rng=np.random.default_rng([DIRECTIONS_SEED, kind.kh, kind.kw]),
    )
    one, other = (
        Side(bank, cloud, np.sort(chosen), take(cloud, chosen, plan))
        for bank, cloud, chosen in zip((a, b), clouds, rows, strict=True)
    )
    return _Samples(kind, settings, clouds, rows, (one, other), plan, judged, same)


def _intervals(samples: _Samples, observed: Scores, *, related: bool) -> tuple[F64, tuple[str, ...]]:
    """Return the interval of each measure, (2, M), and why it has none, "" where it has one."""
    one, other = (side.sample for side in samples.sides)
    layers = len(np.unique(one.layer)), len(np.unique(other.layer))
    measures = samples.settings.measures
    lacking = no_interval(measures, layers, shared=samples.same or related, apart=unlike(one, other))
    interval = np.full((2, len(samples.judged)), np.nan)
    if not all(lacking):
        interval = layer_intervals(one, other, observed.values[0])
    interval = samples.widen(interval)
    reasons = (
        why or ("" if np.isfinite(low) else "its value does not differ between layers")
        for why, low in zip(lacking, interval[0], strict=True)
    )
    return interval, tuple(reasons)


def _against_nulls(
    samples: _Samples, observed: Scores, floor: F64, groups: tuple[F32, F32], advance: Advance
) -> tuple[NullResult, ...]:
    """Put null banks of every null in place of each side, and set the observed values beside the draws."""
    settings, nulls = samples.settings, []
    for null in map(NULLS.find, settings.nulls):
        draws = draw_against(null, samples.sides, m=settings.permutations, seed=settings.seed, advance=advance)
        found = summarise(draws, observed, floor, measures=samples.plan.measures, groups=groups)
        nulls.append(widened(found, samples.judged, len(settings.measures)))
    return tuple(nulls)


def _values(samples: _Samples, observed: Scores) -> dict[str, Any]:
    """Return the values of all measures, and those among them that were computed on all usable filters."""
    weights = [cloud.weight.reshape(len(cloud), -1) for cloud in samples.clouds]
    whole = {name: MEASURES.find(name).whole for name in samples.settings.measures}
    full = {name: float(measure(*weights)) for name, measure in whole.items() if measure is not None}
    value = samples.widen(observed.values[0])
    value[[samples.settings.measures.index(name) for name in full]] = list(full.values())
    return {"value": value, "all_filters": FrozenDict(full)}


def _ceiling(nulls: Sequence[NullResult], settings: CompareSettings) -> NullResult:
    return next((null for null in nulls if null.null == settings.ceiling), nulls[0])


def _chance_facts(nulls: Sequence[NullResult], settings: CompareSettings) -> dict[str, Any]:
    """Return the ceiling, the strictest null of each measure, and the places of the values under both."""
    ceiling, hardest = _ceiling(nulls, settings), strictest_nulls(nulls, settings.measures)
    by_name = {null.null: null.fraction for null in nulls}
    return {
        "ceiling": ceiling.mean,
        "ceiling_null": ceiling.null,
        "fraction": ceiling.fraction,
        "strictest": hardest,
        "fraction_strictest": np.array([by_name[name][i] if name else np.nan for i, name in enumerate(hardest)]),
    }


def _trend(samples: _Samples, layers: F32, nulls: Sequence[NullResult]) -> DepthTrend:
    """Test whether coverage depends on depth; within a network, that beyond the primary null, or the ceiling's."""
    settings, rng = samples.settings, samples.rng(6)
    depth = _depths(samples.clouds[0]), _depths(samples.clouds[1])
    if not samples.same:
        one, other = samples.sides
        with one_thread():
            return depth_trend(one.sample, other.sample, depth, m=TURNS, rng=rng, seed=settings.seed)
    null = next((null for null in nulls if null.null == PRIMARY[1]), _ceiling(nulls, settings))
    beyond = layers[0] - null.layer_mean[0]
    return depth_trend_within(beyond, depth[0], null=null.null, m=PERMUTATIONS, rng=rng, seed=settings.seed)


def _layer_facts(letter: str, side: Side, stages: tuple[str, ...]) -> dict[str, Any]:
    layers = side.cloud.layers
    return {
        f"layers_{letter}": tuple(layer.name for layer in layers),
        f"numbers_{letter}": tuple(layer.index + 1 for layer in layers),
        f"depth_{letter}": _depths(side.cloud),
        f"stages_{letter}": stages,
    }


def _depths(cloud: Cloud) -> F64:
    return np.array([layer.depth for layer in cloud.layers], np.float64)


def _coverage_facts(observed: Scores, floors: list[list[Scores]], threshold: float) -> dict[str, Any]:
    near = observed.nearest_a[0], observed.nearest_b[0]
    return {
        "directed": np.array([x.mean(dtype=np.float64) if x.size else np.nan for x in near]),
        "directed_at": np.array([(x >= threshold).mean() if x.size else np.nan for x in near]),
        "thresholds": THRESHOLDS,
        "curve": np.stack([coverage_curve(x) for x in near]),
        "curve_floor": np.concatenate([curves_of(half) for halves in floors for half in halves]).mean(axis=0),
    }


def median_bandwidth(vector: F32) -> float:
    """Return the median of 1 - cos^2 over all pairs of filters (N, K), the usual kernel width of `mmd`."""
    squares = np.square(vector @ vector.T)[np.triu_indices(len(vector), 1)]
    return max(float(np.median(1 - np.minimum(squares, 1))), 1e-3)


def _halves(cloud: Cloud, n: int, splits: int, plan: Plan, rng: np.random.Generator) -> list[Scores]:
    """Score disjoint halves of a bank, `splits` times; every half has the same number of filters of each layer."""
    return [score(*(take(cloud, rows, plan) for rows in split(cloud, n, rng))) for _ in range(splits)]


def _disjoint(cloud: Cloud, rows: tuple[I64, I64]) -> tuple[I64, I64]:
    """Return two halves of a cloud that contain the samples: the first sample, and everything else."""
    return np.sort(rows[0]), np.setdiff1d(np.arange(len(cloud)), rows[0])


def _floor_between_layers(clouds: tuple[Cloud, Cloud], n: int, plan: Plan, rng: np.random.Generator) -> F64:
    """Return the measures between every other layer of a bank and the layers between, the mean over both banks."""
    values = []
    for cloud in clouds:
        rows = split_layers(cloud, n, rng) if len(cloud.layers) > 1 else None
        if rows is not None:
            values.append(score(*(take(cloud, r, plan) for r in rows)).values[0])
    return np.mean(values, axis=0) if values else np.full(len(plan.measures), np.nan)


def _layer_floor(floors: list[list[Scores]]) -> F32:
    """Return for each pair of layers the mean of both layers' own floors, (J, L_a, L_b)."""
    own = []
    for halves in floors:
        diagonal = np.stack([np.einsum("kll->kl", s.layers[0]) for s in halves])
        own.append(diagonal.mean(axis=0))
    return np.asarray((own[0][:, :, None] + own[1][:, None, :]) / 2, np.float32)


def _stages(side: Side) -> tuple[tuple[str, ...], F32]:
    """Return the network's stages, or thirds of its depth where these are unknown, and which layers they have, (S, L).

    Layers that are not in the sample belong to none.
    """
    layers = side.cloud.layers
    stage = [layer.stage for layer in layers]
    if min(stage) >= 0:
        numbers, group = np.unique(stage, return_inverse=True)
        names = tuple(f"stage {s}" for s in numbers)
    else:
        third = np.minimum((np.array([layer.depth for layer in layers]) * 3).astype(int), 2)
        numbers, group = np.unique(third, return_inverse=True)
        names = tuple(("early", "middle", "late")[t] for t in numbers)
    member = (np.arange(len(names))[:, None] == group[None]) & (side.sample.size > 0)[None]
    return names, member.astype(np.float32)
