"""How many clusters of filters there are, judged against filters without patterns.

Three questions, in this order:

1. Is there structure at all? T = mean over the swept k of log(W(1) / W(k)), W(k) the mean 1 - cos^2 that k prototypes
   leave, against T of clouds of the same second moments (p = (1 + b) / (1 + m)).
2. Is there a number of clusters? Gap(k) = mean log W_null(k) - log W(k) (Tibshirani, Walther & Hastie 2001, J. R. Stat.
   Soc. B 63:411), the null being those clouds: the smallest k that no larger one of the sweep beats by more than its
   error s. (The paper asks only the next k; on a gap that keeps growing, a chance dip then passes for an answer.)
3. Does a clustering recur? Adjusted Rand index of clusterings found on random halves and extended to all filters;
   0.8 and above is good recovery (Steinley 2004, Psychological Methods 9:386).

Where filters form a continuum the gap grows for ever and (2) has no answer; then the finest division that recurs
is taken, and called that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mkfa.array_types import F32, F64, I64
from mkfa.banks.canonical import normalise
from mkfa.clusters.lines import cluster_lines, halves, silhouette, subsample
from mkfa.errors import MkfaError
from mkfa.frozen import ByContent
from mkfa.nulls.covariance import pooled_in_words
from mkfa.nulls.draws import NULLS as NULL_TABLE
from mkfa.nulls.draws import STRICT, Null
from mkfa.progress import Advance
from mkfa.stats.p_values import p_text, p_value
from mkfa.threads import in_threads, one_thread
from mkfa.words import counted

Verdict = Literal["clusters", "continuum", "none", "given"]

SWEEP = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 32)
"""Numbers of clusters tried."""
STABLE = 0.8
"""Adjusted Rand index between halves from which a clustering counts as recurring."""
ALPHA = 0.05
NULLS = 19
"""Null clouds: the fewest with which p can reach ALPHA."""
_SWEEP_RESTARTS = 2
_TOLERANCE = 1e-4
"""Of the fits of the sweep: 1e-5 moves the energy by .0005 and costs twice the time (measured, 5x5 filters)."""
_HALVES = 6
_HALF_RESTARTS = 8
_NULL_CLOUDS = 2
"""Null clouds whose stability is measured; the other nulls serve the gap."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Criteria(ByContent):
    """What was measured at each of S swept numbers of clusters.

    Attributes
    ----------
    counts : (S,) int64.
    energy, null_energy : (S,) mean cos^2 with the prototype, real and mean of the nulls.
    gap, gap_error : (S,) gap statistic and s(k), the nulls' standard deviation times sqrt(1 + 1 / m).
    stability, stability_low, stability_high : (S,) adjusted Rand index over pairs of halves, mean and range.
    null_stability : (S,) its mean for null clouds.
    silhouette, null_silhouette : (S,) mean silhouette; NaN for one cluster.
    """

    counts: I64
    energy: F64
    null_energy: F64
    gap: F64
    gap_error: F64
    stability: F64
    stability_low: F64
    stability_high: F64
    null_stability: F64
    silhouette: F64
    null_silhouette: F64

    def columns(self) -> dict[str, F64 | I64]:
        """Return the arrays by name."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Choice(ByContent):
    """The number of clusters, why, and the criteria it rests on.

    Attributes
    ----------
    clusters : int
        The number chosen.
    verdict : "clusters" (the gap stops growing there), "continuum" (it does not: the finest division that recurs),
        "none" (no more structure than the null) or "given" (the user chose).
    reason : a sentence for the reader.
    p : p-value of structure beyond the null's second moments.
    criteria : what it rests on.
    sample, nulls, seed : filters used, null clouds, seed.
    """

    clusters: int
    verdict: Verdict
    reason: str
    p: float
    criteria: Criteria
    sample: int
    nulls: int
    seed: int


def choose_clusters(  # noqa: PLR0913 (options are keywords)
    vector: F32,
    *,
    seed: int,
    counts: Sequence[int] = SWEEP,
    asked: int | None = None,
    sample: int = 4000,
    nulls: int = NULLS,
    null: str = STRICT,
    layer: I64 | None = None,
    size: tuple[int, int] | None = None,
    advance: Advance = lambda amount: None,
) -> Choice:
    """Choose the number of clusters of unit vectors modulo sign.

    Parameters
    ----------
    vector : (N, K) float32, canonical filters.
    counts : ascending numbers of clusters; 1 is always tried, those above N / 10 are not.
    asked : a number to use; criteria are then measured at 1 and there.
    sample : filters used; drawn without replacement where there are more.
    nulls : null clouds drawn, at least 19.
    null, layer, size : see `null_clouds`.
    advance : called with 1 after each count, for a progress bar.

    Raises
    ------
    MkfaError
        So few null clouds that p cannot reach 0.05, or a null that is drawn as a whole network.
    UnknownNameError
        Unknown null.
    """
    check_draws(nulls)
    rng = np.random.default_rng(seed)
    rows = subsample(len(vector), sample, rng)
    cloud = vector[rows]
    draw = null_clouds(vector, rows, null=null, layer=layer, size=size)
    chance = [draw(rng) for _ in range(nulls)]
    tried = counts_tried(len(cloud), asked, counts)
    with one_thread():
        left, shape = _measure(cloud, chance, tried, seed=int(rng.integers(2**31)), advance=advance)
    log_left = np.log(left)
    gap = log_left[:, 1:].mean(axis=1) - log_left[:, 0]
    error = log_left[:, 1:].std(axis=1) * np.sqrt(1 + 1 / nulls)
    drop = (log_left[0] - log_left).mean(axis=0)
    p = float(p_value(drop[0], drop[1:], larger=True))
    measured = Criteria(np.array(tried), 1 - left[:, 0], 1 - left[:, 1:].mean(axis=1), gap, error, *shape.T)
    clusters, verdict, reason = decide(measured, p, nulls=nulls, asked=asked, null=null)
    reason += pooling(null, layer, found=verdict in ("clusters", "continuum"))
    return Choice(clusters, verdict, reason, p, measured, len(cloud), nulls, seed)


def decide(
    measured: Criteria, p: float, *, nulls: int, asked: int | None = None, null: str = STRICT
) -> tuple[int, Verdict, str]:
    """Apply the rule of this module; return the number, the verdict and the reason."""
    counts, gap, error, stability = measured.counts, measured.gap, measured.gap_error, measured.stability
    least = f", the least that {counted(nulls, 'null')} can give" if p * (nulls + 1) < 1.5 else ""
    structure = f"structure beyond the {null} null: p = {p_text(p)}{least}"
    if asked is not None:
        at = float(stability[counts == asked][0])
        given = counted(asked, "cluster was asked for", "clusters were asked for")
        return asked, "given", f"{given} (adjusted Rand of halves {at:.2f}; {structure})."
    if p > ALPHA:
        return 1, "none", f"No clusters beyond {described(null)} (p = {p_text(p)}, {counted(nulls, 'null')})."
    for row in range(1, len(counts) - 1):  # of the last nothing is known about what comes after it
        if np.all(gap[row] >= gap[row + 1 :] - error[row + 1 :]) and stability[row] >= STABLE:
            k = int(counts[row])
            why = f"the gap over the {null} null stops growing there and the clustering recurs on halves"
            return k, "clusters", f"{counted(k, 'cluster')}: {why} (adjusted Rand {stability[row]:.2f}; {structure})."
    recurring = np.flatnonzero((stability >= STABLE) & (counts > 1))
    if len(recurring):
        row, which, limit = int(recurring[-1]), "{} is the finest division that recurs on halves", "at least"
    else:
        row = 1 + int(stability[1:].argmax()) if len(counts) > 1 else 0
        which, limit = "no division recurs on halves, {} comes nearest", "under"
    k = int(counts[row])
    what = f"the gap over the {null} null names no number up to {int(counts[-1])} that recurs ({structure})"
    recurs = f"{which.format(k)} (adjusted Rand {stability[row]:.2f}, {limit} {STABLE})"
    return k, "continuum", f"{counted(k, 'group')} of a continuum, not countable clusters: {what}; {recurs}."


def half_stability(vector: F32, k: int, *, seed: int, runs: int = _HALVES) -> F64:
    """Return the adjusted Rand index of each pair of clusterings found on random halves, (runs (runs - 1) / 2,)."""
    if k == 1:
        return np.ones(runs * (runs - 1) // 2)
    rng = np.random.default_rng(seed)
    return pair_rand(halves(vector, k, rng, runs=runs, restarts=_HALF_RESTARTS, tolerance=_TOLERANCE))


def pair_rand(labels: Sequence[NDArray[np.integer]]) -> F64:
    """Return the adjusted Rand index (Hubert & Arabie 1985) of each pair of labellings."""
    from sklearn.metrics import adjusted_rand_score

    pairs = [(a, b) for i, a in enumerate(labels) for b in labels[:i]]
    return np.array([adjusted_rand_score(a, b) for a, b in pairs], dtype=np.float64)


def check_draws(nulls: int) -> None:
    """Refuse so few null clouds that p cannot reach `ALPHA`."""
    if nulls < NULLS:
        few = counted(nulls, "null cloud is", "null clouds are")
        raise MkfaError("draws", f"{few} too few: p cannot reach {ALPHA}", f"give at least {NULLS}")


def find_null(name: str) -> Null:
    """Return a null that is drawn from filters, by its name; raises as `null_clouds`."""
    part = NULL_TABLE.find(name)
    if part.network is not None:
        problem = "is a whole network, and filters of several banks have none"
        raise MkfaError(f"null {name}", problem, "choose one that is drawn from filters, e.g. covariance")
    return part


def null_clouds(
    vector: F32,
    rows: I64 | None = None,
    *,
    null: str = STRICT,
    layer: I64 | None = None,
    size: tuple[int, int] | None = None,
) -> Callable[[np.random.Generator], F32]:
    """Return a function of a generator that draws filters of a null, in canonical form, (n, K) float32.

    The default has the same second moments, layer by layer, and no other pattern: the strict null.

    Parameters
    ----------
    vector : (N, K) float32, canonical filters.
    rows : (n,) int64, those that the draws stand for; None: all.
    null : a name in `mkfa.nulls.draws.NULLS`.
    layer : (N,) int64, the layer of each filter, for nulls that keep layers apart.
    size : kernel height and width, for nulls that look at them.

    Raises
    ------
    MkfaError
        The null is drawn as a whole network.
    UnknownNameError
        Unknown null.
    """
    draw = find_null(null).prepare(vector.reshape(-1, *(size or (vector.shape[1], 1))), layer, rows)

    def cloud(rng: np.random.Generator) -> F32:
        drawn = draw(rng)
        return normalise(drawn.reshape(len(drawn), -1))[0]

    return cloud


def pooling(null: str, layer: I64 | None, *, found: bool) -> str:
    """Return a sentence on layers that a covariance null takes together, with a space before it, or "".

    Parameters
    ----------
    layer : (N,) the layer of each filter; None: they are not known.
    found : whether structure was found, which the pooled null may owe to layers that differ.
    """
    if null == "covariance":
        passes = " Noise whose second moments differ from layer to layer passes this null too, covariance-layer not."
        return passes if found else ""
    if null != STRICT:
        return ""
    if layer is None:
        return " Layers are not known, so that covariance-layer is covariance."
    text = pooled_in_words(layer)
    return f" {text[0].upper()}{text[1:]}." if text else ""


def described(null: str) -> str:
    """Return in words what the clouds of a null are."""
    moments = {
        "covariance": "filters with the bank's second moments",
        STRICT: "filters with the second moments of each layer",
    }
    return moments.get(null, f"filters of the null {null}")


def _measure(
    cloud: F32, chance: Sequence[F32], tried: Sequence[int], *, seed: int, advance: Advance
) -> tuple[F64, F64]:
    """Return what each number of clusters leaves unexplained, (S, 1 + nulls), and the six measures of shape, (S, 6)."""
    rng = np.random.default_rng(seed)
    # one row a count: the residual energy of the cloud and of each null, at equal effort
    left = np.empty((len(tried), 1 + len(chance)))
    shape = np.full((len(tried), 6), np.nan)
    for row, k in enumerate(tried):
        draw = int(rng.integers(2**31))
        one = partial(cluster_lines, k=k, seed=draw, restarts=_SWEEP_RESTARTS, tolerance=_TOLERANCE)
        found = list(in_threads(one, (cloud, *chance)))
        left[row] = [max(1 - c.energy, 1e-12) for c in found]
        real = half_stability(cloud, k, seed=draw)
        null = np.concatenate([half_stability(c, k, seed=draw) for c in chance[:_NULL_CLOUDS]])
        shape[row] = [
            real.mean(),
            real.min(),
            real.max(),
            null.mean(),
            silhouette(cloud, found[0].label, seed=draw),
            silhouette(chance[0], found[1].label, seed=draw),
        ]
        advance(1)
    return left, shape


def counts_tried(n: int, asked: int | None = None, counts: Sequence[int] = SWEEP) -> list[int]:
    """Return the numbers of clusters that n filters are clustered into; 1 and the one that is asked for always."""
    return sorted({1, asked} if asked is not None else {1} | {k for k in counts if k <= max(n // 10, 1)})
