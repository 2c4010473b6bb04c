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
from dataclasses import replace
from functools import partial
from itertools import combinations
from typing import Any

import numpy as np

from mkfa.array_types import F32, F64, I64
from mkfa.banks.bank import FilterBank, Kind
from mkfa.banks.library import BankLike, load_bank
from mkfa.errors import MkfaError
from mkfa.frozen import FrozenDict
from mkfa.nulls.draws import NULLS
from mkfa.progress import Advance, Progress, follow
from mkfa.similarity.chance import by_stage, strictest_nulls, summarise, widen, widened
from mkfa.similarity.comparison import Comparison
from mkfa.similarity.depth_trend import PERMUTATIONS, depth_trend
from mkfa.similarity.kind_comparison import KindComparison
from mkfa.similarity.layer_intervals import layer_intervals, no_interval, unlike
from mkfa.similarity.layer_tests import exchange_layers
from mkfa.similarity.lineage import families, find_lineage
from mkfa.similarity.matrix import Comparisons, bank_matrices, primary_tests, related_pairs
from mkfa.similarity.measures.table import MEASURES
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
from mkfa.similarity.score import DIRECTIONS_SEED, THRESHOLDS, Plan, Scores, coverage_curve, make_plan, score, take
from mkfa.similarity.settings import BANDWIDTH, PRIMARY, CompareSettings, make_settings
from mkfa.threads import one_thread


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


def compare_many(banks: Sequence[BankLike], *, progress: Progress = None, **options: Any) -> Comparisons:
    """Compare every pair of banks; pairs that share no kernel size are skipped.

    Parameters
    ----------
    banks : names, paths or banks, at least two; names that occur twice get a number.
    options : the keywords of `mkfa.compare`.

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
    settings = make_settings(**options)
    if len(banks) < 2:
        raise MkfaError("compare", f"needs two banks, got {len(banks)}", "name two or more")
    loaded = distinct_names([load_bank(bank) for bank in banks])
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
    lineage = find_lineage(a, b, seed=settings.seed)
    compared = tuple(
        _compare_kind(a, b, kind, settings=settings, related=lineage.found, advance=advance) for kind in kinds
    )
    notes = []
    if lineage.found and not all(kind.same for kind in compared):
        notes.append(lineage.in_words(a.name, b.name))
    for bank in (a, b):
        if bank.unknown_dilation:
            notes.append(f"{bank.name}: the checkpoint does not record the dilation of some layers; it was taken as 1")
    for kind in compared:
        if kind.same:
            notes.append(f"{kind.kind}: both banks have the same filters; disjoint halves of them were compared")
        elif kind.shared:
            share = f"{kind.shared} of {kind.usable[0]} filters of {a.name}"
            notes.append(f"{kind.kind}: {share} occur in {b.name} bit for bit")
    return Comparison(a.name, b.name, settings, compared, left_out(a, b, kinds), tuple(notes), lineage)


def _compare_kind(
    a: FilterBank, b: FilterBank, kind: Kind, *, settings: CompareSettings, related: bool, advance: Advance
) -> KindComparison:
    def rng(*stream: int) -> np.random.Generator:
        return np.random.default_rng([settings.seed, kind.kh, kind.kw, kind.dh, kind.dw, *stream])

    clouds = make_cloud(a, kind), make_cloud(b, kind)
    same, n = same_filters(*clouds), sample_size(*clouds, settings.sample)
    draw = rng(0)
    rows = split(clouds[0], n, draw) if same else (split(clouds[0], n, draw)[0], split(clouds[1], n, draw)[0])
    pooled = np.concatenate([cloud.vector[chosen] for cloud, chosen in zip(clouds, rows, strict=True)])
    bandwidth = settings.bandwidth or median_bandwidth(pooled)
    judged = [i for i, name in enumerate(settings.measures) if MEASURES.find(name).whole is None]
    measures = tuple(settings.measures[i] for i in judged)
    directions = np.random.default_rng([DIRECTIONS_SEED, kind.kh, kind.kw])
    plan = make_plan((kind.kh, kind.kw), measures, threshold=settings.threshold, bandwidth=bandwidth, rng=directions)
    one, other = (
        Side(bank, cloud, np.sort(chosen), take(cloud, chosen, plan))
        for bank, cloud, chosen in zip((a, b), clouds, rows, strict=True)
    )
    with one_thread():
        observed = score(one.sample, other.sample)
        floors = [_halves(cloud, n, settings.splits, plan, rng(2, i)) for i, cloud in enumerate(clouds)]
        layers_in = len(np.unique(one.sample.layer)), len(np.unique(other.sample.layer))
        apart = unlike(one.sample, other.sample)
        lacking = no_interval(settings.measures, layers_in, shared=same or related, apart=apart)
        interval = np.full((2, len(measures)), np.nan)
        if not all(lacking):
            interval = layer_intervals(one.sample, other.sample, observed.values[0])
        parts = _disjoint(clouds[0], rows) if same else (None, None)
        exchange = exchange_layers(*clouds, parts, plan=plan, m=settings.permutations, rng=rng(4))
        floor_layers = _floor_between_layers(clouds, n, plan, rng(5))
    layers = observed.layers[0]
    floor = np.concatenate([half.values for halves in floors for half in halves]).mean(axis=0)
    layer_floor = _layer_floor(floors)
    stages = [_stages(side) for side in (one, other)]
    groups = stages[0][1], stages[1][1]
    nulls = []
    for null in map(NULLS.find, settings.nulls):
        draws = draw_against(null, (one, other), m=settings.permutations, seed=settings.seed, advance=advance)
        nulls.append(summarise(draws, observed, floor, measures=measures, groups=groups))
    place = partial(widen, places=judged, total=len(settings.measures))
    value, full = place(observed.values[0]), _on_all_filters(settings.measures, clouds)
    value[[settings.measures.index(name) for name in full]] = list(full.values())
    interval, floor, floor_layers = place(interval), place(floor), place(floor_layers)
    lacking = tuple(
        why or ("" if np.isfinite(low) else "its value does not differ between layers")
        for why, low in zip(lacking, interval[0], strict=True)
    )
    nulls = [widened(null, judged, len(settings.measures)) for null in nulls]
    hardest = strictest_nulls(nulls, settings.measures)
    by_name = {null.null: null.fraction for null in nulls}
    ceiling = next((null for null in nulls if null.null == settings.ceiling), nulls[0])
    sizes = np.concatenate([side.sample.size for side in (one, other)])
    at = next((n for n in nulls if n.null == PRIMARY[1]), ceiling)
    trend = depth_trend(
        layers[0] - at.layer_mean[0],
        (_depths(clouds[0]), _depths(clouds[1])),
        null=at.null,
        same=same,
        m=PERMUTATIONS,
        seed=settings.seed,
        rng=rng(6),
    )
    return KindComparison(
        kind=kind,
        n=n,
        usable=(len(clouds[0]), len(clouds[1])),
        **_layer_facts("a", one, stages[0][0]),
        **_layer_facts("b", other, stages[1][0]),
        per_layer=(int(sizes[sizes > 0].min()), int(sizes.max())),
        measures=settings.measures,
        value=value,
        interval=interval,
        no_interval=lacking,
        floor=floor,
        floor_layers=floor_layers,
        ceiling=ceiling.mean,
        ceiling_null=ceiling.null,
        fraction=ceiling.fraction,
        strictest=hardest,
        fraction_strictest=np.array([by_name[n][i] if n else np.nan for i, n in enumerate(hardest)]),
        bandwidth=bandwidth,
        all_filters=FrozenDict(full),
        **_coverage_facts(observed, floors, settings.threshold),
        layer_measures=plan.by_layer,
        layer_value=layers,
        layer_floor=layer_floor,
        stage_value=by_stage(layers, groups),
        stage_floor=by_stage(layer_floor, groups),
        nulls=tuple(nulls),
        exchange=exchange,
        depth_trend=trend,
        shared=shared_filters(*clouds),
        same=same,
    )


def _on_all_filters(measures: tuple[str, ...], clouds: tuple[Cloud, Cloud]) -> dict[str, float]:
    weights = [cloud.weight.reshape(len(cloud), -1) for cloud in clouds]
    whole = {name: MEASURES.find(name).whole for name in measures}
    return {name: float(measure(*weights)) for name, measure in whole.items() if measure is not None}


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
