"""All measures between two equal samples at once, sharing what they have in common (layer 4).

A comparison evaluates some ten thousand pairs of samples (null banks, split halves, resampled layers), so every
sample is profiled once and pairs are computed from profiles, in float32 blocks that stay in the cache.
`mkfa.measures` has each measure by itself; the tests hold the two against each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from mkfa import measures
from mkfa.bank import F32
from mkfa.clouds import I64, Cloud
from mkfa.errors import UnknownNameError, nearest
from mkfa.measures import F64
from mkfa.responses import debiased_cka, gram, stimuli, u_centred

Measure = Literal["coverage", "coverage_at", "matching", "transport", "mmd", "energy",
                  "bures", "frobenius", "angles", "pca_kl", "responses"]  # fmt: skip
MEASURES: tuple[Measure, ...] = get_args(Measure)
ALIKE_IS_MORE = frozenset({"coverage", "coverage_at", "responses"})
"""Similarities; the others are distances."""
BY_LAYER: tuple[Measure, ...] = ("coverage", "mmd", "energy")
"""Measures that a dozen filters of a layer can bear; the others need more filters than taps."""
MATCHED = 96
"""Filters in the assignment of `matching`: its time grows with the cube of their number."""
EXACT_TRANSPORT = 64
"""Up to this many filters `transport` is exact with cost 1 - |cos|, beyond it is sliced."""
DIRECTIONS = 64
THRESHOLDS: F64 = np.linspace(0, 1, 41)
_MOMENTS = ("bures", "frobenius", "angles")


def check_measures(names: tuple[str, ...]) -> tuple[Measure, ...]:
    """Return the measures of these names; "moments" stands for its three. Raises `UnknownNameError`."""
    wanted: list[str] = []
    for name in names:
        wanted.extend(_MOMENTS if name == "moments" else (name,))
    for name in wanted:
        if name not in MEASURES:
            remedy = nearest(name, MEASURES) or f"choose from moments, {', '.join(MEASURES)}"
            raise UnknownNameError(name, "is no measure", remedy)
    return tuple(m for m in MEASURES if m in wanted)


@dataclass(frozen=True, slots=True)
class Sample:
    """Filters of some layers of a bank.

    Attributes
    ----------
    weight : (n, kh, kw) float32, as harvested.
    vector : (n, K) float32, canonical.
    gain, offset : (n,) float32.
    layer : (n,) int64, ascending, position among the layers of the cloud.
    layers : number of layers of the cloud, L.
    """

    weight: F32
    vector: F32
    gain: F32
    offset: F32
    layer: I64
    layers: int

    def __len__(self) -> int:
        return len(self.vector)


def take(cloud: Cloud, rows: I64) -> Sample:
    """Return the filters of these rows, in order of layers."""
    rows = np.sort(rows)
    return Sample(cloud.weight[rows], cloud.vector[rows], cloud.gain[rows], cloud.offset[rows],
                  cloud.layer[rows], len(cloud.layers))  # fmt: skip


@dataclass(frozen=True, slots=True)
class Plan:
    """What is the same for every pair of a comparison: which measures, and their fixed inputs."""

    measures: tuple[Measure, ...]
    threshold: float
    bandwidth: float
    theta: F32
    patches: F32 | None
    rank: int
    by_layer: bool = True

    def wants(self, *names: str) -> bool:
        return any(name in self.measures for name in names)


def make_plan(kind_size: tuple[int, int], chosen: tuple[Measure, ...], *, threshold: float, bandwidth: float,
              rng: np.random.Generator) -> Plan:  # fmt: skip
    """Draw the directions and make the stimuli for one kernel size."""
    k = kind_size[0] * kind_size[1]
    theta = measures.directions(k, DIRECTIONS, rng) if "transport" in chosen else np.zeros((k, 0), np.float32)
    patches = stimuli(*kind_size) if "responses" in chosen else None
    return Plan(chosen, threshold, bandwidth, theta, patches, measures.subspace_rank(k))


@dataclass(frozen=True, slots=True)
class Profile:
    """What a sample contributes to every pair that it takes part in; fields that no measure needs are None.

    Attributes
    ----------
    within : (2,) mean kernel and mean distance over pairs of different filters of the sample.
    within_layer : (2, L) the same inside each layer; NaN where the sample has fewer than two of the layer.
    start, size : (L,) first row and number of rows of each layer.
    members : (L, n) indicator of layers.
    """

    sample: Sample
    start: I64
    size: I64
    members: F32
    within: F64
    within_layer: F64
    slices: F32 | None
    moment: F64 | None
    root: F64 | None
    leading: F64 | None
    gram: F32 | None
    scaled: F32 | None


def profile(sample: Sample, plan: Plan, *, root: bool = False) -> Profile:
    """Profile a sample; `root` also takes the square root of its second moment, which one side of a pair must have."""
    edges = np.searchsorted(sample.layer, np.arange(sample.layers + 1))
    start, size = edges[:-1], np.diff(edges)
    members = _members(sample.layer, sample.layers)
    within, within_layer = np.full(2, np.nan), np.full((2, sample.layers), np.nan)
    if plan.wants("mmd", "energy"):
        for i, block in enumerate(_kernel_and_distance(sample.vector, sample.vector, plan)):
            np.fill_diagonal(block, 0)
            within[i] = block.sum(dtype=np.float64) / (len(sample) * (len(sample) - 1))
            if plan.by_layer:
                within_layer[i] = _inside(block, members, size)
    needs_moment = plan.wants(*_MOMENTS)
    moment = measures.second_moment(sample.vector) if needs_moment else None
    return Profile(
        sample, start, size, members, within, within_layer,
        measures.slices(sample.vector, plan.theta) if plan.wants("transport") else None,
        moment,
        measures.root(moment) if moment is not None and root else None,
        measures.leading(moment, plan.rank) if moment is not None and plan.wants("angles") else None,
        u_centred(gram(sample.vector, plan.patches)) if plan.patches is not None else None,
        measures.peak_scaled(sample.weight) if plan.wants("pca_kl") else None,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Scores:
    """Measures of one pair of samples.

    Attributes
    ----------
    values : (M,) float64, in the order of the plan's measures.
    layers : (3, L_a, L_b) float32, the measures of `BY_LAYER`; NaN where a layer has no filter in the sample.
    nearest_a, nearest_b : (n,) float32, |cos| of each filter to its nearest in the other sample.
    """

    values: F64
    layers: F32
    nearest_a: F32
    nearest_b: F32


def score(a: Profile, b: Profile, plan: Plan) -> Scores:
    """Compute all measures of the plan between two profiled samples."""
    x, y = a.sample.vector, b.sample.vector
    layers = np.full((len(BY_LAYER), len(a.size), len(b.size)), np.nan, np.float32)
    found: dict[str, float] = {}
    forth, back = np.square(x @ y.T), np.square(y @ x.T)  # both ways: maxima over rows are ten times faster
    if plan.by_layer:
        best_in_a, best_in_b = _block_max(forth, a), _block_max(back, b)  # (L_a, n_b), (L_b, n_a)
        near_b, near_a = best_in_a.max(axis=0), best_in_b.max(axis=0)
        layers[0] = (_block_mean(best_in_b, a).T + _block_mean(best_in_a, b)) / 2
    else:
        near_b, near_a = (np.sqrt(np.minimum(c.max(axis=0), np.float32(1))) for c in (forth, back))
    found["coverage"] = float(near_a.mean(dtype=np.float64) + near_b.mean(dtype=np.float64)) / 2
    found["coverage_at"] = float((near_a >= plan.threshold).mean() + (near_b >= plan.threshold).mean()) / 2
    if plan.wants("mmd", "energy"):
        for i, (block, sign) in enumerate(zip(_transform(forth, plan), (-2, 2), strict=True)):
            cross = float(block.mean(dtype=np.float64))
            found[BY_LAYER[1 + i]] = sign * (cross - (a.within[i] + b.within[i]) / 2)
            if plan.by_layer:
                middle = (a.within_layer[i][:, None] + b.within_layer[i][None]) / 2
                layers[1 + i] = sign * (_block_cross(block, a, b) - middle)
    if plan.wants("matching"):
        found["matching"] = _match(a.sample, b.sample)[0]
    if plan.wants("transport"):
        found["transport"] = _transport(a, b)
    if a.moment is not None and b.moment is not None:
        found.update(_moments(a, b, plan))
    if a.scaled is not None and b.scaled is not None:
        found["pca_kl"] = measures.pca_kl(a.scaled, b.scaled)
    if a.gram is not None and b.gram is not None:
        found["responses"] = debiased_cka(a.gram, b.gram)
    return Scores(np.array([found[m] for m in plan.measures]), layers, near_a, near_b)


def match_rows(n: int) -> I64:
    """Return the rows that `matching` uses: `MATCHED` of n, evenly spread over the layers."""
    return np.linspace(0, n - 1, min(n, MATCHED)).astype(np.int64)


def matched_costs(a: Sample, b: Sample) -> tuple[F64, I64]:
    """Return the cost 1 - |cos| of each matched filter of A and the row in A that it has."""
    _, cost = _match(a, b)
    return cost, match_rows(len(a))


def _match(a: Sample, b: Sample) -> tuple[float, F64]:
    from scipy.optimize import linear_sum_assignment

    cost = 1 - measures.cosines(a.vector[match_rows(len(a))], b.vector[match_rows(len(b))])
    chosen = cost[linear_sum_assignment(cost)].astype(np.float64)
    return float(chosen.mean()), chosen


def _transport(a: Profile, b: Profile) -> float:
    if max(len(a.sample), len(b.sample)) <= EXACT_TRANSPORT:
        return measures.transport_exact(a.sample.vector, b.sample.vector)
    assert a.slices is not None
    assert b.slices is not None
    return measures.slices_distance(a.slices, b.slices)


def _moments(a: Profile, b: Profile, plan: Plan) -> dict[str, float]:
    assert a.moment is not None
    assert b.moment is not None
    found = {"frobenius": measures.frobenius(a.moment, b.moment)}
    if plan.wants("bures"):
        one, other = (a, b) if a.root is not None else (b, a)
        assert other.moment is not None
        found["bures"] = measures.bures(one.root if one.root is not None else measures.root(a.moment), other.moment)
    if a.leading is not None and b.leading is not None:
        found["angles"] = measures.mean_angle(a.leading, b.leading)
    return found


def _kernel_and_distance(x: F32, y: F32, plan: Plan) -> tuple[F32, F32]:
    return _transform(np.square(x @ y.T), plan)


def _transform(square: F32, plan: Plan) -> tuple[F32, F32]:
    """Turn cos^2 into the kernel of `mmd` and the distance of `energy`; `square` is used up."""
    np.subtract(np.float32(1), square, out=square)
    np.maximum(square, np.float32(0), out=square)
    kernel = np.exp(square * np.float32(-1 / plan.bandwidth))
    return kernel, np.sqrt(square, out=square)


def _block_max(square: F32, rows: Profile) -> F32:
    """Return the largest |cos| within each layer's rows, (L, columns); 0 for layers without rows."""
    out = np.zeros((len(rows.size), square.shape[1]), np.float32)
    for i, (start, size) in enumerate(zip(rows.start.tolist(), rows.size.tolist(), strict=True)):
        if size:
            np.max(square[start : start + size], axis=0, out=out[i])
    np.minimum(out, np.float32(1), out=out)
    return np.sqrt(out, out=out)


def _members(layer: I64, layers: int) -> F32:
    """Return the (L, n) indicator of layers: sums over layers become matrix products, ten times faster than reduceat."""
    return (np.arange(layers)[:, None] == layer[None]).astype(np.float32)


def _block_mean(best: F32, columns: Profile) -> NDArray[np.floating]:
    with np.errstate(invalid="ignore"):
        mean = best @ columns.members.T / columns.size
    mean[~best.any(axis=1)] = np.nan  # a layer without filters in the sample is no neighbour
    return np.asarray(mean)


def _block_cross(block: F32, a: Profile, b: Profile) -> NDArray[np.floating]:
    with np.errstate(invalid="ignore"):
        return np.asarray(a.members @ block @ b.members.T / (a.size[:, None] * b.size[None]))


def _inside(block: F32, members: F32, size: I64) -> F64:
    """Return the mean over pairs of different filters inside each layer; the diagonal of `block` is 0."""
    sums = np.einsum("ln,ln->l", members @ block, members)
    with np.errstate(invalid="ignore"):
        return np.where(size > 1, sums / (size * (size - 1.0)), np.nan)


def null_sample(sample: Sample, weight: F32) -> Sample:
    """Put null filters in a sample's place, with the gain and offset of the filters that they replace.

    Only `pca_kl` sees gain and offset, and chance must not differ from the bank in what it is not about.

    Parameters
    ----------
    weight : (n, kh, kw) float32, null filters of any scale.
    """
    vector = weight.reshape(len(weight), -1)
    vector = vector - vector.mean(axis=1, keepdims=True)
    norm = np.sqrt(np.einsum("nk,nk->n", vector, vector))[:, None]
    vector = np.where(norm > 0, vector / np.where(norm > 0, norm, 1), sample.vector)
    raw = sample.gain[:, None] * vector + sample.offset[:, None]
    return Sample(raw.reshape(weight.shape), vector, sample.gain, sample.offset, sample.layer, sample.layers)
