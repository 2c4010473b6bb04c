"""The atlas of one or more banks: clusters of their filters, prototypes, who has which, and a map."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mkfa.arguments import check_arguments
from mkfa.array_types import F32, F64, I32, I64, AnyArray
from mkfa.banks.bank import Kind
from mkfa.banks.library import Banks
from mkfa.clusters.count import (
    NULLS,
    Choice,
    check_draws,
    choose_clusters,
    counts_tried,
    find_null,
    null_clouds,
    pair_rand,
)
from mkfa.clusters.lines import LineClusters, assign_lines, cluster_lines, halves, subsample
from mkfa.clusters.map import DensityClusters, density_clusters, map_filters
from mkfa.clusters.pool import DEPTHS, Pool, pool_banks
from mkfa.errors import MkfaError
from mkfa.frozen import ByContent
from mkfa.nulls.draws import STRICT
from mkfa.progress import Advance, Progress, follow
from mkfa.storage.records import Result
from mkfa.threads import in_threads, one_thread
from mkfa.words import counted

SAMPLE = 4000
"""Filters that the number of clusters, the density clusters and the map rest on, where there are more."""
_FIT_MOST = 20_000
"""Filters that the prototypes are fitted to, where there are more; all filters are then assigned."""
_RESTARTS = 20
_REFITS = 5
_HALVES = 6

WEAK = 0.5
"""R² under which no family of patterns is named on the map."""
CLASS_GROUPS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("blob", ("delta", "gaussian")),
    ("centre-surround", ("laplacian", "dog", "centre_minus_laplacian")),
    ("one-sided d/dx", ("forward_dx", "backward_dx")),
    ("one-sided d/dy", ("forward_dy", "backward_dy")),
    ("central d/dx", ("central_dx",)),
    ("central d/dy", ("central_dy",)),
    ("oblique edge", ("oriented_first",)),
    ("second order", ("dxx", "dyy", "dxy", "oriented_second")),
)
"""Groups of the families in `mkfa.patterns.families`: few enough for colours that differ clearly."""
CLASSES = (*(title for title, _ in CLASS_GROUPS), f"none (R² < {WEAK})")


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Stability(ByContent):
    """How well the final clustering recurs.

    Attributes
    ----------
    refits : fits of all filters from different seeds.
    seeds : (pairs of refits,) their adjusted Rand index.
    null_seeds : the same for a null cloud of that size.
    recurrence : (k,) mean over random halves of the Jaccard index of a cluster with the best matching one found
        there (Hennig 2007, Comput. Stat. Data Anal. 52:258): 0.75 and above recurs, under 0.5 dissolves.
    """

    refits: int
    seeds: F64
    null_seeds: F64
    recurrence: F64


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class FilterMap(ByContent):
    """A map of n sampled filters.

    Attributes
    ----------
    row : (n,) int64, row in the pool.
    position : (n, 2) float32, UMAP.
    """

    row: I64
    position: F32


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Atlas(Result):
    """Clusters of the pooled filters of B banks.

    Attributes
    ----------
    pool, choice, clusters : the filters, the number of clusters and why, the clusters.
    stability : how well they recur.
    bank_share : (B, k) float64, share of each bank's filters in each cluster.
    third_share : (3, k) float64, the same by thirds of depth (`mkfa.clusters.pool.DEPTHS`); NaN where a third has
        no filter.
    layer_share : (R, k) float64, the same by layer; `layer_rows` (R, 2) int32 has bank and row in its layer table.
    filter_class : (N,) int8, row in `CLASSES`: group of the best fitting family.
    class_share : (k, C) float64, classes of each cluster's filters.
    prototype_class, prototype_r2 : (k,) title of each prototype's best fitting family, and R².
    density, null_density : clusters by density of a sample, and of a null cloud of its size.
    density_row : (n,) int64, that sample's rows in the pool.
    map : the map, or None when it was not asked for.
    seed, sample, null : parameters.
    """

    KIND: ClassVar[str] = "atlas"

    pool: Pool
    choice: Choice
    clusters: LineClusters
    stability: Stability
    bank_share: F64
    third_share: F64
    layer_share: F64
    layer_rows: I32
    filter_class: NDArray[np.int8]
    class_share: F64
    prototype_class: tuple[str, ...]
    prototype_r2: F32
    density: DensityClusters
    null_density: DensityClusters
    density_row: I64
    map: FilterMap | None
    seed: int
    sample: int
    null: str = STRICT

    def headline(self) -> str:
        """Return the banks, and how many clusters their filters form."""
        pool, choice = self.pool, self.choice
        return (
            f"{', '.join(pool.banks)}, {counted(len(pool), 'filter')} of {pool.kind}: "
            f"{counted(choice.clusters, 'cluster')} ({choice.verdict}, p = {choice.p:.3g})"
        )

    def rows(self) -> list[dict[str, Any]]:
        """Return one row a cluster, the largest first."""
        clusters, owners = self.clusters, [f"share of {owner}" for owner in (*self.pool.banks, *DEPTHS)]
        shares = np.vstack([self.bank_share, self.third_share])
        of_all = self.pool.shares(clusters.label, len(clusters.prototype))
        return [
            {
                "size": int(size),
                "share": float(share),
                "class": self.prototype_class[j],
                "class_r2": float(self.prototype_r2[j]),
                "recurrence": float(self.stability.recurrence[j]),
                "mean_r2": r2,
                **dict(zip(owners, shares[:, j].tolist(), strict=True)),
            }
            for j, (size, share, r2) in enumerate(zip(clusters.size, of_all, clusters.mean_r2, strict=True))
        ]

    def facts(self) -> dict[str, Any]:
        """Return all but the arrays of one row a filter."""
        pool, choice, stable = self.pool, self.choice, self.stability
        each = [
            {
                **dict(list(row.items())[:6]),
                "share_of_bank": dict(zip(pool.banks, self.bank_share[:, j].tolist(), strict=True)),
                "share_of_depth": dict(zip(DEPTHS, self.third_share[:, j].tolist(), strict=True)),
                "prototype": self.clusters.prototype[j],
            }
            for j, row in enumerate(self.rows())
        ]
        return {
            **pool.facts(),
            "seed": self.seed,
            "sample": choice.sample,
            "nulls": choice.nulls,
            "null": self.null,
            "clusters": choice.clusters,
            "verdict": choice.verdict,
            "reason": choice.reason,
            "p": choice.p,
            "energy": self.clusters.energy,
            "choice": choice.criteria.columns(),
            "classes": CLASSES,
            "seed_stability": {
                "mean": float(stable.seeds.mean()),
                "low": float(stable.seeds.min()),
                "high": float(stable.seeds.max()),
                "null_mean": float(stable.null_seeds.mean()),
            },
            "density": {
                "clusters": self.density.count,
                "outside": self.density.outside,
                "null_clusters": self.null_density.count,
                "null_outside": self.null_density.outside,
                "smallest": self.density.smallest,
                "sample": len(self.density_row),
            },
            "prototypes": each,
        }

    def to_arrays(self) -> dict[str, AnyArray]:
        """Return prototypes, shares, criteria, and cluster, class and place of each filter."""
        names = ("bank_share", "third_share", "layer_share", "layer_rows", "class_share", "prototype_r2")
        kind = self.pool.kind
        arrays: dict[str, AnyArray] = {
            "prototype": self.clusters.prototype.reshape(-1, kind.kh, kind.kw),
            **{name: getattr(self, name) for name in names},
            "prototype_class": np.array(self.prototype_class),
            "recurrence": self.stability.recurrence,
            **self.pool.to_arrays(),
            "filters/cluster": self.clusters.label,
            "filters/cosine": self.clusters.cosine,
            "filters/class": self.filter_class,
            "density/filter": self.density_row,
            "density/cluster": self.density.label,
            **{f"choice/{name}": column for name, column in self.choice.criteria.columns().items()},
        }
        if self.map is not None:
            arrays |= {"map/filter": self.map.row, "map/position": self.map.position}
        return arrays


def build_atlas(
    banks: Banks,
    *,
    kernel_size: str | Kind | None = None,
    clusters: int | None = None,
    seed: int = 0,
    sample: int = SAMPLE,
    draws: int = NULLS,
    null: str = STRICT,
    with_map: bool = False,
    progress: Progress = None,
) -> Atlas:
    """Cluster the usable filters of one kernel kind of several banks, modulo sign, gain and offset.

    Parameters
    ----------
    banks : one or several names, paths or banks.
    kernel_size : such as "5x5"; None takes the one with most filters.
    clusters : their number; None chooses it (`mkfa.clusters.count`).
    seed : of every random draw.
    sample : filters used to choose the number, for density clusters and the map; drawn where there are more.
    draws : null clouds that the number is judged against, at least 19: with fewer, p cannot reach 0.05.
    null : what clusters are judged against, a name in `mkfa.nulls.draws.NULLS` other than "init".
    with_map : also compute the UMAP map (loads umap: seconds).
    progress : True for a bar, or a function of (done, total) numbers of clusters tried.

    Raises
    ------
    MkfaError
        Fewer than 20 usable filters, more clusters than filters, too few draws, or a null that is drawn as a whole
        network.
    UnknownNameError
        Unknown bank or null.

    Examples
    --------
    >>> import mkfa
    >>> atlas = mkfa.build_atlas(["ppocrv4_det"], kernel_size="3x3", clusters=4, sample=40)
    >>> atlas
    <Atlas: ppocrv4_det, 336 filters of 3x3: 4 clusters (given, p = ...)>
    >>> atlas.clusters.prototype.shape, atlas.third_share.shape
    ((4, 9), (3, 4))
    """
    check_arguments(build_atlas, locals())
    find_null(null)
    if sample < 20:
        raise MkfaError("sample", counted(sample, "filter is too few", "filters are too few"), "give at least 20")
    if clusters is not None and clusters < 1:
        raise MkfaError("clusters", counted(clusters, "cluster is too few", "clusters are too few"), "give at least 1")
    check_draws(draws)
    pool = pool_banks(banks, kernel_size=kernel_size)
    _check(pool, clusters, sample)
    total = len(counts_tried(min(len(pool.independent), sample), clusters))
    with one_thread(), follow(progress, "numbers of clusters", total) as advance:
        how: dict[str, Any] = {"sample": sample, "draws": draws, "null": null, "with_map": with_map}
        return _build(pool, clusters, seed=seed, advance=advance, **how)


def _build(
    pool: Pool, clusters: int | None, *, seed: int, sample: int, draws: int, null: str, with_map: bool, advance: Advance
) -> Atlas:
    independent, place = pool.independent, pool.place[pool.counted]
    chance: dict[str, Any] = {"null": null, "size": (pool.kind.kh, pool.kind.kw)}
    choice = choose_clusters(
        independent, seed=seed, asked=clusters, sample=sample, nulls=draws, layer=place, advance=advance, **chance
    )
    rng = np.random.default_rng((seed, 1))
    chosen = subsample(len(independent), _FIT_MOST, rng)
    fitted = independent[chosen]
    found = cluster_lines(fitted, choice.clusters, seed=seed, restarts=_RESTARTS)
    if len(fitted) < len(pool):
        label, cosine = assign_lines(pool.vector, found.prototype)
        energy = float(np.square(cosine[pool.counted], dtype=np.float64).mean())
        found = LineClusters(found.prototype, label, cosine, energy, found.seed, found.restarts)
    row = np.flatnonzero(pool.counted)[subsample(len(independent), sample, rng)]
    cloud = pool.vector[row]
    among = (np.cumsum(pool.counted) - 1)[row]
    null_filters = null_clouds(independent, among, layer=place, **chance)(rng)
    density, null_density = in_threads(density_clusters, (cloud, null_filters))
    filter_class = _classes(pool.vector, pool.kind)[0]
    _, titles, r2 = _classes(found.prototype, pool.kind)
    layer_rows, of_layer = np.unique(np.stack([pool.bank, pool.layer], axis=1), axis=0, return_inverse=True)
    return Atlas(
        pool=pool,
        choice=choice,
        clusters=found,
        stability=_stability(fitted, found, seed, null_clouds(independent, chosen, layer=place, **chance)),
        bank_share=_shares(pool.bank, found, len(pool.banks)),
        third_share=_shares(pool.third[pool.counted], found.label[pool.counted], len(DEPTHS), len(found.prototype)),
        layer_share=_shares(of_layer, found, len(layer_rows)),
        layer_rows=layer_rows.astype(np.int32),
        filter_class=filter_class,
        class_share=_shares(found.label[pool.counted], filter_class[pool.counted], len(found.prototype), len(CLASSES)),
        prototype_class=titles,
        prototype_r2=r2,
        density=density,
        null_density=null_density,
        density_row=row,
        map=FilterMap(row, map_filters(cloud, seed=seed)) if with_map else None,
        seed=seed,
        sample=sample,
        null=null,
    )


def _check(pool: Pool, clusters: int | None, sample: int) -> None:
    count = int(pool.counted.sum())
    if count < 20:
        problem = f"{counted(count, 'usable filter')} of {pool.kind}, too few for an atlas (20)"
        raise MkfaError(", ".join(pool.banks), problem, "add banks or choose another kernel")
    most = min(count, sample) // 2
    if clusters is not None and clusters > most:
        raise MkfaError(
            "clusters",
            f"{counted(clusters, 'cluster')} of {counted(count, 'filter')} cannot be judged on halves",
            f"choose 1 to {most}",
        )


def _shares(
    owner: NDArray[np.integer], found: LineClusters | NDArray[np.integer], owners: int, columns: int | None = None
) -> F64:
    """Return (owners, k): which share of each owner's filters has each label; NaN for an owner without filters."""
    label, k = (found.label, len(found.prototype)) if isinstance(found, LineClusters) else (found, columns or 0)
    count = np.bincount(owner.ravel().astype(np.int64) * k + label, minlength=owners * k).reshape(owners, k)
    total = count.sum(axis=1, keepdims=True)
    return np.where(total > 0, count / np.maximum(total, 1), np.nan)


def _stability(vector: F32, found: LineClusters, seed: int, draw: Callable[[np.random.Generator], F32]) -> Stability:
    k, rng = len(found.prototype), np.random.default_rng((seed, 2))

    def refits(cloud: F32) -> F64:
        def labels(draw: int) -> I32:
            return cluster_lines(cloud, k, seed=draw, restarts=_RESTARTS).label

        return pair_rand(list(in_threads(labels, rng.integers(2**31, size=_REFITS).tolist())))

    reference = assign_lines(vector, found.prototype)[0]
    recurrence = np.zeros(k)
    for label in halves(vector, k, rng, runs=_HALVES, restarts=_RESTARTS):
        recurrence += _jaccard(reference, label, k) / _HALVES
    return Stability(_REFITS, refits(vector), refits(draw(rng)), recurrence)


def _jaccard(reference: I32, other: I32, k: int) -> F64:
    """Return for each cluster its largest Jaccard index with one of the other clustering, (k,)."""
    both = np.bincount(reference.astype(np.int64) * k + other, minlength=k * k).reshape(k, k)
    union = both.sum(axis=1, keepdims=True) + both.sum(axis=0) - both
    return np.asarray((both / np.maximum(union, 1)).max(axis=1), np.float64)


def _classes(vector: F32, kind: Kind) -> tuple[NDArray[np.int8], tuple[str, ...], F32]:
    """Return the row in `CLASSES` of each filter's best fitting family, that family's title, and R².

    Families that coincide at this kernel size go by the title that they share, as `mkfa assign` prints it.
    """
    from mkfa.patterns.coincidence import table_rows
    from mkfa.patterns.dictionary import dictionary
    from mkfa.patterns.fit import fit

    book, rows = dictionary("families", kind.kh, kind.kw), table_rows("families", [(kind.kh, kind.kw)])
    group = {name: i for i, (_, members) in enumerate(CLASS_GROUPS) for name in members}
    of = rows.of[kind.kh, kind.kw]
    first = [rows.names[row].split("/")[0] for row in of.tolist()]
    row = np.array([group[name] for name in first] + [len(CLASS_GROUPS)], np.int8)  # the last: no class
    fitted = fit(vector, book)
    classes = np.where(fitted.r2 < WEAK, np.int8(len(CLASS_GROUPS)), row[fitted.label])
    return classes, tuple(rows.titles[of[i]] for i in fitted.label), fitted.r2
