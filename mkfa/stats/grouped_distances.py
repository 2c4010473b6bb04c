"""Groups of things between which only distances are known: do groups differ, and do they scatter alike?

All functions take squared distances, (N, N), symmetric with a zero diagonal, and a group for each row. Estimates of
squared distances that are unbiased can be negative; nothing here needs their roots.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from mkfa.array_types import F64

Labels = NDArray[np.intp]
_SAME = 1e-9
"""Statistics that differ by this share count as equal: other orders of the same sums."""


@dataclass(frozen=True, slots=True)
class GroupTest:
    """A test of groups by permutation of their members.

    Attributes
    ----------
    statistic : pseudo-F; NaN where it does not exist, infinite where members of a group do not differ.
    share : R², the share of all squared distances that is between groups; NaN for tests of dispersion.
    p : the share of arrangements with a statistic at least as large.
    least : the smallest p that so few members allow.
    m : arrangements that were looked at: all of them if `exact`, else random ones besides the real one.
    exact : True if every arrangement was looked at.
    """

    statistic: float
    share: float
    p: float
    least: float
    m: int
    exact: bool


def arrangements(sizes: Sequence[int]) -> int:
    """Return in how many ways members can be divided into groups of these sizes; groups of one size are exchangeable.

    Examples
    --------
    >>> arrangements([2, 2]), arrangements([3, 3]), arrangements([2, 3])
    (3, 10, 10)
    """
    ways = math.factorial(sum(sizes))
    for size in sizes:
        ways //= math.factorial(size)
    for size in set(sizes):
        ways //= math.factorial(list(sizes).count(size))
    return ways


def permanova(squared: F64, group: Sequence[int], *, permutations: int = 999, seed: int = 0) -> GroupTest:
    """Test whether groups lie at different places (Anderson 2001, Austral Ecology 26:32).

    Pseudo-F = (SS_A / (a - 1)) / (SS_W / (N - a)), where SS_T is the sum of the squared distances of all pairs over N,
    SS_W for each group that of its pairs over its size, and SS_A = SS_T - SS_W. Members are permuted; where there are
    no more arrangements than `permutations`, all of them are looked at and p is exact. Arrangements are ordered by
    SS_W, which is the order of pseudo-F, and goes on where unbiased distances make SS_W zero or negative.

    Parameters
    ----------
    squared : (N, N) squared distances.
    group : (N,) number of the group of each row.

    Examples
    --------
    >>> d = np.array([[0, 1, 1, 4], [1, 0, 3, 2], [1, 3, 0, 3], [4, 2, 3, 0]], float)
    >>> test = permanova(d**2, [0, 0, 1, 1])
    >>> round(test.statistic, 6), round(test.p, 3), round(test.least, 3), test.exact
    (2.0, 0.667, 0.333, True)
    """
    labels, sizes = _labels(group)
    total = len(labels)
    if len(sizes) < 2 or total <= len(sizes):
        return _nothing()
    whole = float(squared.sum() / (2 * total))

    def within(some: Labels) -> F64:
        member = (some[:, None, :] == np.arange(len(sizes))[None, :, None]).astype(np.float64)  # (m, a, N)
        sums = np.einsum("man,man->ma", member @ squared, member)
        return np.asarray((sums / (2 * member.sum(axis=2))).sum(axis=1))

    inside = float(within(labels[None])[0])
    if whole == 0:
        return _nothing()
    test = _tested(-inside, labels, sizes, lambda some: -within(some), permutations, seed, same=_SAME * abs(whole))
    if whole < 0:
        return replace(test, statistic=math.nan)
    ratio = (whole - inside) / inside if inside > _SAME * whole else math.inf
    return replace(test, statistic=ratio * (total - len(sizes)) / (len(sizes) - 1), share=1 - inside / whole)


def dispersion(squared: F64, group: Sequence[int], *, permutations: int = 999, seed: int = 0) -> GroupTest:
    """Test whether groups scatter alike, as PERMDISP does (Anderson 2006, Biometrics 62:245), by their variances.

    Half the mean squared distance between members of a group is their variance about its centroid. The statistic is
    sum (n_g - 1) (v_g - v)² over v², with the variances v_g of the groups and their mean v, weighted alike. Groups are
    moved to one place, so that it does not count: all distances between two groups change by one number, which makes
    their mean that of the distances within both. Then members are permuted. That is exact where groups are of one law,
    and finds less where they lie far apart. Distances to centroids, the usual statistic, pass too often for distances
    such as 1 - coverage, which are far from Euclidean (in 16 to 30 % of groups that scatter alike, at a level of 5 %).
    Groups of one or two are left out.

    Parameters
    ----------
    squared : (N, N) squared distances.
    group : (N,) number of the group of each row.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x = np.concatenate([rng.normal(size=(12, 3)), 6 * rng.normal(size=(12, 3))])
    >>> d = ((x[:, None] - x[None]) ** 2).sum(axis=2)
    >>> dispersion(d, [0] * 12 + [1] * 12).p < 0.01
    True
    """
    labels, _ = _labels(group)
    counts = np.bincount(labels)
    keep = np.flatnonzero(counts[labels] > 2)
    labels, sizes = _labels(labels[keep])
    if len(sizes) < 2:
        return _nothing()
    moved = _moved(squared[np.ix_(keep, keep)], labels)
    weight = np.array(sizes, np.float64) - 1

    def statistic(some: Labels) -> F64:
        member = (some[:, None, :] == np.arange(len(sizes))[None, :, None]).astype(np.float64)  # (m, a, N)
        variance = np.einsum("man,man->ma", member @ moved, member) / (2 * (weight + 1) * weight)
        mean = variance @ weight / weight.sum()
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray((variance - mean[:, None]) ** 2 @ weight / mean**2)

    observed = float(statistic(labels[None])[0])
    return _tested(observed, labels, sizes, statistic, permutations, seed, same=_SAME * abs(observed))


def _moved(squared: F64, labels: Labels) -> F64:
    """Return squared distances, those between two groups moved so that their mean is that within both."""
    out = squared.copy()
    member = [np.flatnonzero(labels == g) for g in np.unique(labels)]
    within = [float(squared[np.ix_(rows, rows)].sum()) / (len(rows) * (len(rows) - 1)) for rows in member]
    for a, b in combinations(range(len(member)), 2):
        between = np.ix_(member[a], member[b])
        out[between] += (within[a] + within[b]) / 2 - squared[between].mean()
        out[np.ix_(member[b], member[a])] = out[between].T
    return out


@dataclass(frozen=True, slots=True)
class Components:
    """Where squared distances come from, with models as a random effect.

    Attributes
    ----------
    group, model, sample : variance between groups, between models of a group, and of one model's sample of filters.
        The expected squared distance of two models is 2 (model + sample) in one group, and 2 group more in two.
    group_low, group_high : 95 % interval of `group`, models left out one by one; NaN with fewer than two of a group.
    """

    group: float
    model: float
    sample: float
    group_low: float
    group_high: float

    @property
    def group_share(self) -> float:
        """The share of the variance of models that is between groups, 0 to 1 (intraclass correlation)."""
        total = max(self.group, 0.0) + max(self.model, 0.0)
        return max(self.group, 0.0) / total if total > 0 else math.nan


def variance_components(squared: F64, group: Sequence[int], *, halves: F64 | None = None) -> Components:
    """Estimate variance components from squared distances by analysis of variance (Searle, Casella & McCulloch 1992).

    The estimator sets mean squares to their expectations: SS_W / (N - a) is that of a model and its sample,
    (SS_A / (a - 1) - SS_W / (N - a)) / n0 is that of groups, n0 = (N - sum n_g² / N) / (a - 1). It is unbiased for
    Euclidean distances; an estimate may be negative, which stands for none.

    Parameters
    ----------
    squared : (N, N) squared distances.
    group : (N,) number of the group of each row.
    halves : (N,) squared distance between two disjoint samples of each model, as large as those in `squared`; their
        mean over 2 is the variance of a sample. None: 0.

    Examples
    --------
    >>> d = np.array([[0, 0, 4, 4], [0, 0, 4, 4], [4, 4, 0, 0], [4, 4, 0, 0]], float)  # two places, 2 apart
    >>> parts = variance_components(d, [0, 0, 1, 1])
    >>> parts.group, parts.model, parts.group_share
    (2.0, 0.0, 1.0)
    """
    labels, sizes = _labels(group)
    noise = float(np.mean(halves) / 2) if halves is not None else 0.0
    between, inside = _mean_squares(squared, labels)
    low = high = math.nan
    if min(sizes) > 1 and len(sizes) > 1 and len(labels) > len(sizes) + 1:
        n = len(labels)
        keep = [np.delete(np.arange(n), i) for i in range(n)]
        left = np.array([_mean_squares(squared[np.ix_(k, k)], labels[k])[0] for k in keep])
        spread = 1.96 * math.sqrt((n - 1) / n * float(((left - left.mean()) ** 2).sum()))
        low, high = between - spread, between + spread
    return Components(between, inside - noise, noise, low, high)


def _mean_squares(squared: F64, labels: Labels) -> tuple[float, float]:
    """Return the variance of groups, and that of members within them."""
    total, sizes = len(labels), np.bincount(labels)
    sizes = sizes[sizes > 0]
    if len(sizes) < 2 or total <= len(sizes):
        return math.nan, math.nan
    inside = sum(
        float(squared[np.ix_(labels == g, labels == g)].sum()) / (2 * int((labels == g).sum()))
        for g in np.unique(labels)
    )
    whole = float(squared.sum()) / (2 * total)
    mean_inside = inside / (total - len(sizes))
    each = (total - float((sizes**2).sum()) / total) / (len(sizes) - 1)
    return ((whole - inside) / (len(sizes) - 1) - mean_inside) / each, mean_inside


def principal_coordinates(squared: F64, dimensions: int = 2) -> tuple[F64, F64]:
    """Return coordinates whose distances are as near as can be, classical scaling (Torgerson 1952; Gower 1966).

    Returns
    -------
    coordinates : (N, dimensions) float64; the largest |coordinate| of each axis is positive.
    share : (dimensions,) of the sum of all |eigenvalues|.

    Examples
    --------
    >>> x = np.array([0.0, 1.0, 3.0])
    >>> place, share = principal_coordinates((x[:, None] - x) ** 2, 1)
    >>> (place[:, 0] - place[0, 0]).round(6).tolist(), share.round(6).tolist()
    ([0.0, 1.0, 3.0], [1.0])
    """
    n = len(squared)
    centre = np.eye(n) - 1 / n
    value, vector = np.linalg.eigh(-0.5 * centre @ squared @ centre)
    order = np.argsort(-value)[:dimensions]
    place = np.zeros((n, dimensions))
    axes = vector[:, order] * np.sqrt(np.clip(value[order], 0, None))
    sign = np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])
    place[:, : axes.shape[1]] = axes * np.where(sign == 0, 1, sign)
    size = float(np.abs(value).sum())
    share = np.zeros(dimensions)
    share[: len(order)] = np.clip(value[order], 0, None) / size if size else 0
    return place, share


def _labels(group: Sequence[int] | Labels) -> tuple[Labels, list[int]]:
    _, labels = np.unique(np.asarray(group), return_inverse=True)
    return np.asarray(labels, np.intp), np.bincount(labels).tolist()


def _nothing() -> GroupTest:
    return GroupTest(math.nan, math.nan, math.nan, math.nan, 0, False)


def _tested(
    observed: float,
    labels: Labels,
    sizes: list[int],
    statistic: Callable[[Labels], F64],
    permutations: int,
    seed: int,
    *,
    same: float,
) -> GroupTest:
    """Test whether a statistic is large among those of other arrangements; what differs by up to `same` is equal."""
    if math.isnan(observed):
        return _nothing()
    ways = arrangements(sizes)
    exact = ways <= permutations
    if exact:
        drawn = np.concatenate([statistic(block) for block in _blocks(_divisions(labels, sizes))])
        beyond = int((drawn >= observed - same).sum())
        return GroupTest(observed, math.nan, beyond / len(drawn), 1 / ways, len(drawn), True)
    rng = np.random.default_rng([seed, 1])
    shuffled = (rng.permutation(labels) for _ in range(permutations))
    drawn = np.concatenate([statistic(block) for block in _blocks(shuffled)])
    p = (1 + int((drawn >= observed - same).sum())) / (1 + permutations)
    return GroupTest(observed, math.nan, p, 1 / (1 + permutations), permutations, False)


def _blocks(rows: Iterator[Labels], size: int = 256) -> Iterator[Labels]:
    block: list[Labels] = []
    for row in rows:
        block.append(row)
        if len(block) == size:
            yield np.stack(block)
            block = []
    if block:
        yield np.stack(block)


def _divisions(labels: Labels, sizes: list[int]) -> Iterator[Labels]:
    """Yield each way of dividing the members into groups of these sizes once."""

    def fill(out: Labels, free: tuple[int, ...], left: tuple[int, ...]) -> Iterator[Labels]:
        if not left:
            yield out.copy()
            return
        # the first free member goes into one of the open groups; of open groups of one size only into one
        first, rest = free[0], free[1:]
        for size in sorted(set(sizes[g] for g in left)):
            group = next(g for g in left if sizes[g] == size)
            for others in combinations(rest, size - 1):
                out[[first, *others]] = group
                yield from fill(out, tuple(x for x in rest if x not in others), tuple(g for g in left if g != group))

    yield from fill(labels.copy(), tuple(range(len(labels))), tuple(range(len(sizes))))
