"""The smallest set of filters that explains a library up to gain and offset: the master keys of these banks.

Many candidate prototypes are found by clustering; the one whose loss costs least explained energy is removed, again
and again; each smaller set is polished (its filters are moved to where they explain most). Every library of filters
is explained better by more keys, so the curve stands beside that of null libraries treated the same way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import numpy as np

from mkfa.arguments import check_arguments
from mkfa.array_types import F32, F64, I64, AnyArray
from mkfa.banks.bank import Kind
from mkfa.banks.library import Banks
from mkfa.clusters.count import described, find_null, null_clouds, pooling
from mkfa.clusters.lines import LineClusters, assign_lines, cluster_lines, polish_lines, subsample
from mkfa.clusters.named_match import Match, match_keys
from mkfa.clusters.pool import Pool, pool_banks
from mkfa.errors import MkfaError
from mkfa.frozen import ByContent
from mkfa.nulls.draws import STRICT
from mkfa.progress import Progress, follow
from mkfa.stats.p_values import p_text, p_value
from mkfa.storage.records import Result
from mkfa.threads import in_threads, one_thread
from mkfa.words import counted

SAMPLE = 5000
CANDIDATES = 100
MOST = 32
"""Largest number of keys looked at."""
ELBOW = 0.95
"""The elbow is the smallest number of keys whose lead over the null is this share of the largest lead. It can tell up
to 20 equally frequent keys: the last of n brings 1 / n of the lead."""
COVERED = 0.8
"""R² from which a filter counts as covered."""
ALPHA = 0.05
NULLS = 19
"""Null libraries: the fewest with which p can reach ALPHA."""
_TOLERANCE = 1e-4


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Curve(ByContent):
    """What n = 1..M keys explain.

    Attributes
    ----------
    r2 : (M,) mean best R² of the library with its own keys.
    coverage : (M,) share of its filters with R² >= COVERED.
    null_r2, null_sd, null_coverage : (M,) the same for null libraries with their own keys: mean, standard deviation.
    cross_r2 : (M,) mean best R² of null filters with the real keys.
    """

    r2: F64
    coverage: F64
    null_r2: F64
    null_sd: F64
    null_coverage: F64
    cross_r2: F64

    @property
    def lead(self) -> F64:
        """(M,) how much more of the real library is explained than of a null one."""
        return self.r2 - self.null_r2


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Keys(Result):
    """The key filters of some banks.

    Attributes
    ----------
    pool : the filters.
    clusters : the n keys (`prototype`), the key of every filter and its cosine.
    chosen : "elbow", "none" (the library is explained no better than a null one) or "given" (asked for).
    reason : a sentence for the reader.
    p : p-value of the curve's mean against null libraries.
    curve : the elbow curve.
    coverage : share of all filters with R² >= COVERED (of those that are counted, see `Pool`).
    match : the keys beside the named set.
    seed, sample, nulls, candidates, null : parameters; `sample` is the number of filters used.
    """

    KIND: ClassVar[str] = "keys"

    pool: Pool
    clusters: LineClusters
    chosen: str
    reason: str
    p: float
    curve: Curve
    coverage: float
    match: Match
    seed: int
    sample: int
    nulls: int
    candidates: int
    null: str = STRICT

    def headline(self) -> str:
        """Return the banks, the number of keys and what they explain."""
        pool = self.pool
        return (
            f"{', '.join(pool.banks)}, {counted(len(pool), 'filter')} of {pool.kind}: "
            f"{counted(len(self.clusters.prototype), 'key')} ({self.chosen}), mean R² {self.clusters.energy:.3f} "
            f"(p = {self.p:.3g})"
        )

    def rows(self) -> list[dict[str, Any]]:
        """Return one row a key: its share of the filters, the nearest pattern of the named set up to symmetry, and the
        pattern that it has one to one and as oriented."""
        match = self.match
        return [
            {
                "share": float(share),
                "nearest": match.labels[match.nearest[j]],
                "cosine": float(match.cosine[j]),
                "assigned": match.labels[match.assigned[j]] if match.assigned[j] >= 0 else None,
                "assigned_cosine": float(match.assigned_cosine[j]),
            }
            for j, share in enumerate(self.pool.shares(self.clusters.label, len(self.clusters.prototype)))
        ]

    def facts(self) -> dict[str, Any]:
        """Return all but the arrays of one row a filter."""
        return {
            **self.pool.facts(),
            "seed": self.seed,
            "sample": self.sample,
            "nulls": self.nulls,
            "null": self.null,
            "candidates": self.candidates,
            "elbow": ELBOW,
            "covered_r2": COVERED,
            "keys": len(self.clusters.prototype),
            "chosen": self.chosen,
            "reason": self.reason,
            "p": self.p,
            "mean_r2": self.clusters.energy,
            "coverage": self.coverage,
            "curve": self.curve,
            "match": self.match.summary(),
            "each": [row | {"key": key} for row, key in zip(self.rows(), self.clusters.prototype, strict=True)],
        }

    def to_arrays(self) -> dict[str, AnyArray]:
        """Return the keys, their partners, the curve, and the key of each filter."""
        return {
            "key": self.clusters.prototype.reshape(-1, self.pool.kind.kh, self.pool.kind.kw),
            **self.pool.to_arrays(),
            "filters/key": self.clusters.label,
            "filters/cosine": self.clusters.cosine,
            **{
                f"match/{name}": getattr(self.match, name)
                for name in ("nearest", "cosine", "partner", "assigned", "assigned_cosine")
            },
            **{f"curve/{field.name}": getattr(self.curve, field.name) for field in fields(Curve)},
        }


def find_keys(  # noqa: PLR0913 (options are keywords)
    banks: Banks,
    *,
    kernel_size: str | Kind | None = None,
    keys: int | None = None,
    most: int = MOST,
    candidates: int = CANDIDATES,
    draws: int = NULLS,
    nulls: int | None = None,
    null: str = STRICT,
    sample: int = SAMPLE,
    seed: int = 0,
    progress: Progress = None,
) -> Keys:
    """Find the key filters of one kernel kind of several banks.

    Parameters
    ----------
    banks : one or several names, paths or banks.
    kernel_size : such as "5x5"; None takes the one with most filters.
    keys : their number; None takes the elbow.
    most : largest number looked at.
    candidates : prototypes that elimination starts from.
    draws : null libraries, at least 19: with fewer, p cannot reach 0.05.
    nulls : former name of `draws`.
    null : what null libraries are draws of, a name in `mkfa.nulls.draws.NULLS` other than "init".
    sample : filters that keys are found on, drawn where there are more; the result is measured on all.
    seed : of every random draw.
    progress : True for a bar, or a function of (done, total) libraries: the filters, and the nulls.

    Raises
    ------
    MkfaError
        Fewer than 20 usable filters, numbers that do not fit together, or a null that is drawn as a whole network.
    UnknownNameError
        Unknown bank or null.

    Examples
    --------
    >>> import mkfa
    >>> keys = mkfa.find_keys(["ppocrv4_det"], kernel_size="3x3", keys=4, most=6, candidates=8, sample=100)
    >>> keys
    <Keys: ppocrv4_det, 336 filters of 3x3: 4 keys (given), mean R² 0.6... (p = ...)>
    >>> keys.clusters.prototype.shape, keys.curve.r2.shape
    ((4, 9), (6,))
    """
    check_arguments(find_keys, locals())
    nulls = draws if nulls is None else nulls
    find_null(null)
    _check_numbers(keys, most, sample, candidates=candidates, nulls=nulls)
    pool = pool_banks(banks, kernel_size=kernel_size)
    rng = np.random.default_rng(seed)
    independent = pool.independent
    rows = subsample(len(independent), sample, rng)
    cloud, layer = independent[rows], pool.place[pool.counted]
    _check(pool)
    candidates = min(candidates, len(cloud) // 2)
    most = min(max(most, keys or 0), candidates)
    _check_count(keys, most, candidates)
    draw = null_clouds(independent, rows, null=null, layer=layer, size=(pool.kind.kh, pool.kind.kw))
    drawn = [(cloud, int(rng.integers(2**31)))]
    for _ in range(nulls):
        drawn.append((draw(rng), int(rng.integers(2**31))))
    ladders = []
    with follow(progress, "libraries of filters", 1 + nulls) as advance:
        for ladder in in_threads(lambda library: eliminate(library[0], candidates, most, seed=library[1]), drawn):
            ladders.append(ladder)
            advance(1)
    with one_thread():
        own = [_explained(library, ladder) for (library, _), ladder in zip(drawn, ladders, strict=True)]
        cross = np.array([_explained(library, ladders[0])[0] for library, _ in drawn[1:]])
    r2, covered = (np.array(values) for values in zip(*own, strict=True))
    ladder = ladders[0]
    curve = Curve(
        r2[0], covered[0], r2[1:].mean(axis=0), r2[1:].std(axis=0), covered[1:].mean(axis=0), cross.mean(axis=0)
    )
    p = float(p_value(r2[0].mean(), r2[1:].mean(axis=1), larger=True))
    n, chosen, reason = choose_count(curve, p, nulls=nulls, count=keys, null=null)
    reason += pooling(null, layer, found=chosen == "elbow")
    label, cosine = assign_lines(pool.vector, ladder[n - 1])
    r2 = np.square(cosine[pool.counted], dtype=np.float64)
    energy = float(r2.mean())
    clusters = LineClusters(ladder[n - 1], label, cosine, energy, seed, 1)
    match = match_keys(ladder[n - 1], pool.kind, null_keys=[x[n - 1] for x in ladders[1:]], null=null, rng=rng)
    coverage = float((r2 >= COVERED).mean())
    return Keys(pool, clusters, chosen, reason, p, curve, coverage, match, seed, len(cloud), nulls, candidates, null)


def key_filters(
    banks: Banks,
    *,
    keys: int,
    kernel_size: str | Kind | None = None,
    candidates: int = CANDIDATES,
    sample: int = SAMPLE,
    seed: int = 0,
) -> F32:
    """Return the filters that `find_keys` finds for a given number of keys, (keys, kh, kw) float32, without its nulls.

    Parameters and errors as `find_keys`; `most` is the larger of `keys` and its default.

    Examples
    --------
    >>> key_filters(["ppocrv4_det"], kernel_size="3x3", keys=4, candidates=8, sample=100).shape
    (4, 3, 3)
    """
    _check_numbers(keys, MOST, sample, candidates=candidates, nulls=NULLS)
    pool = pool_banks(banks, kernel_size=kernel_size)
    rng = np.random.default_rng(seed)
    independent = pool.independent
    cloud = independent[subsample(len(independent), sample, rng)]
    _check(pool)
    candidates = min(candidates, len(cloud) // 2)
    most = min(max(MOST, keys), candidates)
    _check_count(keys, most, candidates)
    with one_thread():
        ladder = eliminate(cloud, candidates, most, seed=int(rng.integers(2**31)))
    return ladder[keys - 1].reshape(-1, pool.kind.kh, pool.kind.kw)


def eliminate(vector: F32, candidates: int, most: int, *, seed: int) -> list[F32]:
    """Return polished key sets of 1, 2, ..., `most` filters, each (n, K) float32, found by greedy elimination."""
    start = cluster_lines(vector, candidates, seed=seed, restarts=1, tolerance=_TOLERANCE).prototype
    order = elimination_order(np.square(vector @ start.T))
    return [polish_lines(vector, start[order[-n:]], tolerance=_TOLERANCE).prototype for n in range(1, most + 1)]


def elimination_order(r2: F32) -> I64:
    """Return the candidates in the order in which they are best removed, (M,) int64.

    Parameters
    ----------
    r2 : (N, M) float32, what each candidate explains of each filter.

    Removing a candidate costs the filters that it serves best the difference to their second best: with best and
    second best kept, a removal re-reads only the filters that it touches.
    """
    n, m = r2.shape
    score = r2.astype(np.float32, copy=True)
    rows = np.arange(n)
    alive = np.ones(m, dtype=bool)
    best, second = _two_best(score)
    out = np.empty(m, np.int64)
    for step in range(m - 1):
        loss = np.bincount(best, score[rows, best] - score[rows, second], minlength=m)
        gone = int(np.where(alive, loss, np.inf).argmin())
        out[step], alive[gone] = gone, False
        score[:, gone] = -1
        touched = np.flatnonzero((best == gone) | (second == gone))
        best[touched], second[touched] = _two_best(score[touched])
    out[m - 1] = int(alive.argmax())
    return out


def choose_count(
    curve: Curve, p: float, *, nulls: int, count: int | None = None, null: str = STRICT
) -> tuple[int, str, str]:
    """Return the number of keys, how it was chosen, and a sentence saying why."""
    lead = curve.lead
    top = int(lead.argmax())
    n = 1 + int(np.flatnonzero(lead >= ELBOW * lead[top])[0]) if lead[top] > 0 else 1
    least = f", the least that {counted(nulls, 'null')} can give" if p * (nulls + 1) < 1.5 else ""
    if count is not None:
        r2, chance = curve.r2[count - 1], curve.null_r2[count - 1]
        given = counted(count, "key was asked for", "keys were asked for")
        return count, "given", f"{given}; mean R² {r2:.3f}, null {chance:.3f} (p = {p_text(p)}{least})."
    if p > ALPHA or lead[top] <= 0:
        why = f"explained no better than {described(null)} (p = {p_text(p)}, {counted(nulls, 'null')})"
        return 1, "none", f"No keys: these filters are {why}; only the leading pattern is kept."
    own = counted(n, "reaches", "reach")
    reached = f"mean R² {curve.r2[n - 1]:.3f} where a null library's own {own} {curve.null_r2[n - 1]:.3f}"
    largest = f"({lead[top]:.3f} at {counted(top + 1, 'key')}; p = {p_text(p)}{least})"
    return n, "elbow", f"{counted(n, 'key')}: {reached}; that lead is {ELBOW:.0%} or more of the largest {largest}."


def _explained(vector: F32, ladder: Sequence[F32]) -> tuple[F64, F64]:
    """Return the mean best R² and the coverage of each key set of a ladder."""
    r2 = [np.square(assign_lines(vector, keys)[1], dtype=np.float64) for keys in ladder]
    return np.array([x.mean() for x in r2]), np.array([(x >= COVERED).mean() for x in r2])


def _two_best(score: F32) -> tuple[I64, I64]:
    if score.shape[1] == 1:
        zero = np.zeros(len(score), np.int64)
        return zero, zero
    two = np.argpartition(-score, 1, axis=1)[:, :2]
    value = np.take_along_axis(score, two, axis=1)
    swap = (value[:, 1] > value[:, 0]).astype(np.int64)
    every = np.arange(len(score))
    return two[every, swap], two[every, 1 - swap]


def _check(pool: Pool) -> None:
    if (count := int(pool.counted.sum())) < 20:
        problem = f"{counted(count, 'usable filter')} of {pool.kind}, too few for keys (20)"
        raise MkfaError(", ".join(pool.banks), problem, "add banks or choose another kernel")


def _check_numbers(keys: int | None, most: int, sample: int, *, candidates: int, nulls: int) -> None:
    """Refuse numbers that no library of filters allows."""
    if sample < 20:
        raise MkfaError("sample", counted(sample, "filter is too few", "filters are too few"), "give at least 20")
    if nulls < NULLS:
        few = counted(nulls, "null library is", "null libraries are")
        raise MkfaError("draws", f"{few} too few: p cannot reach {ALPHA}", f"give at least {NULLS}")
    if candidates < 1:
        raise MkfaError(
            "candidates", counted(candidates, "prototype is too few", "prototypes are too few"), "give at least 1"
        )
    if most < 1:
        raise MkfaError("most", counted(most, "key is too few", "keys are too few"), "give at least 1")
    if keys is not None and keys < 1:
        raise MkfaError("keys", counted(keys, "key is too few", "keys are too few"), "give at least 1")


def _check_count(count: int | None, most: int, candidates: int) -> None:
    if count is not None and count > most:
        reach = f"at most half as many as filters can be told apart, or as candidates: {candidates}"
        raise MkfaError(
            "keys", counted(count, "key is out of reach", "keys are out of reach"), f"choose 1 to {most} ({reach})"
        )
