"""All measures between two equal samples at once, sharing what they have in common.

A comparison evaluates some ten thousand pairs of samples (null banks, split halves, resampled layers), so every
sample is profiled once and pairs are computed from profiles, in float32 blocks that stay in the cache, several null
banks at a time: NumPy then computes outside Python's lock for long enough that threads run side by side.
`mkfa.similarity.measures.cosines` has each measure by itself; the tests hold the two against each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from mkfa.array_types import F32, F64, I64
from mkfa.errors import UnknownNameError, nearest
from mkfa.similarity.measures import moments, pca_kl, transport
from mkfa.similarity.measures.responses import debiased_cka, gram, stimuli, u_centred
from mkfa.similarity.samples import Cloud

Measure = Literal[
    "coverage",
    "coverage_at",
    "matching",
    "transport",
    "mmd",
    "energy",
    "bures",
    "frobenius",
    "angles",
    "pca_kl",
    "responses",
]
MEASURES: tuple[Measure, ...] = get_args(Measure)
ALIKE_IS_MORE = frozenset({"coverage", "coverage_at", "responses"})
"""Similarities; the others are distances."""
BY_LAYER: tuple[Measure, ...] = ("coverage", "mmd", "energy")
"""Measures that a dozen filters of a layer can bear; the others need more filters than taps."""
MATCHED = 64
"""Filters in the assignment of `matching`: its time grows with the cube of their number."""
EXACT_TRANSPORT = 64
"""Up to this many filters `transport` is exact with cost 1 - |cos| (then, samples being equal, it is `matching`);
beyond, it is sliced."""
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
    """Filters of some layers of a bank; or D null banks in its place, which have its layers.

    Attributes
    ----------
    weight : (D, n, K) float32, taps as harvested; D is 1 for filters of a bank.
    vector : (D, n, K) float32, canonical.
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
        return len(self.layer)


def take(cloud: Cloud, rows: I64) -> Sample:
    """Return the filters of these rows, in order of layers."""
    rows = np.sort(rows)
    return Sample(
        cloud.weight[rows].reshape(1, len(rows), -1),
        cloud.vector[rows][None],
        cloud.gain[rows],
        cloud.offset[rows],
        cloud.layer[rows],
        len(cloud.layers),
    )


@dataclass(frozen=True, slots=True)
class Plan:
    """What is the same for every pair of a comparison: which measures, and their fixed inputs."""

    measures: tuple[Measure, ...]
    threshold: float
    bandwidth: float
    theta: F32
    patches: F32 | None
    rank: int

    def wants(self, *names: str) -> bool:
        return any(name in self.measures for name in names)


def make_plan(
    size: tuple[int, int], chosen: tuple[Measure, ...], *, threshold: float, bandwidth: float, rng: np.random.Generator
) -> Plan:
    """Draw the directions and make the stimuli for one kernel size."""
    k = size[0] * size[1]
    theta = transport.directions(k, DIRECTIONS, rng) if "transport" in chosen else np.zeros((k, 0), np.float32)
    patches = stimuli(*size) if "responses" in chosen else None
    return Plan(chosen, threshold, bandwidth, theta, patches, moments.subspace_rank(k))


@dataclass(frozen=True, slots=True)
class Profile:
    """What a sample contributes to every pair that it takes part in; fields that no measure needs are None.

    Attributes
    ----------
    start, size : (L,) first row and number of rows of each layer.
    members : (L, n) indicator of layers: sums over layers are matrix products, ten times faster than `reduceat`.
    padded : (L, longest) rows of each layer, the last one repeated.
    within : (2, D) mean kernel and mean distance over pairs of different filters of the sample.
    within_layer : (2, D, L) the same inside each layer; NaN where the sample has fewer than two of the layer.
    """

    sample: Sample
    size: I64
    members: F32
    padded: I64
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
    size, n, depth = np.diff(edges), len(sample), len(sample.vector)
    members = (np.arange(sample.layers)[:, None] == sample.layer[None]).astype(np.float32)
    within, within_layer = np.full((2, depth), np.nan), np.full((2, depth, sample.layers), np.nan)
    vector = sample.vector
    if plan.wants("mmd", "energy"):
        for i, block in enumerate(_transform(_squares(vector, vector), plan)):
            block.reshape(depth, -1)[:, :: n + 1] = 0  # a filter with itself is no pair
            sums = members @ block  # (D, L, n)
            within[i] = sums.sum(axis=(1, 2), dtype=np.float64) / (n * (n - 1))
            with np.errstate(invalid="ignore"):
                pairs = np.where(size > 1, size * (size - 1.0), np.nan)
            within_layer[i] = np.einsum("dln,ln->dl", sums, members) / pairs
    moment = None
    if plan.wants(*_MOMENTS):
        moment = (vector.swapaxes(1, 2) @ vector).astype(np.float64) / n
    return Profile(
        sample,
        size,
        members,
        _padded(edges[:-1], size),
        within,
        within_layer,
        np.sort(np.abs(plan.theta.T @ vector.swapaxes(1, 2)), axis=2) if plan.wants("transport") else None,
        moment,
        moments.root(moment[0])[None] if moment is not None and root else None,
        np.linalg.eigh(moment)[1][..., -plan.rank :] if moment is not None and plan.wants("angles") else None,
        u_centred(gram(vector, plan.patches)) if plan.patches is not None else None,
        _peak_scaled(sample.weight) if plan.wants("pca_kl") else None,
    )


@dataclass(frozen=True, slots=True)
class Scores:
    """Measures of D pairs of samples.

    Attributes
    ----------
    values : (D, M) float64, in the order of the plan's measures.
    layers : (D, 3, L_a, L_b) float32, the measures of `BY_LAYER`; NaN where a layer has no filter in the sample.
    nearest_a, nearest_b : (D, n) float32, |cos| of each filter to its nearest in the other sample; (D, 0) where
        coverage was not asked for.
    """

    values: F64
    layers: F32
    nearest_a: F32
    nearest_b: F32


def score(a: Profile, b: Profile, plan: Plan) -> Scores:
    """Compute all measures of the plan between two profiled samples; where one has D = 1 it meets all of the other."""
    x, y = a.sample.vector, b.sample.vector
    depth = max(len(x), len(y))
    layers = np.full((len(BY_LAYER), depth, len(a.size), len(b.size)), np.nan, np.float32)
    found: dict[str, F64] = {}
    near_a = near_b = np.zeros((depth, 0), np.float32)
    forth = _squares(x, y) if plan.wants("coverage", "coverage_at", "mmd", "energy") else x
    if plan.wants("coverage", "coverage_at"):
        back = _squares(y, x)  # both ways: maxima over rows are ten times faster
        best_in_a, best_in_b = _block_max(forth, a), _block_max(back, b)  # (D, L_a, n_b), (D, L_b, n_a)
        near_b, near_a = best_in_a.max(axis=1), best_in_b.max(axis=1)
        layers[0] = (_mean_best(best_in_b, a, b).swapaxes(1, 2) + _mean_best(best_in_a, b, a)) / 2
        found["coverage"] = (near_a.mean(axis=1, dtype=np.float64) + near_b.mean(axis=1, dtype=np.float64)) / 2
        found["coverage_at"] = ((near_a >= plan.threshold).mean(axis=1) + (near_b >= plan.threshold).mean(axis=1)) / 2
    if plan.wants("mmd", "energy"):
        pairs = a.size[:, None] * b.size[None]
        for i, (block, sign) in enumerate(zip(_transform(forth, plan), (-2, 2), strict=True)):
            sums = a.members @ block @ b.members.T  # (D, L_a, L_b)
            cross = sums.sum(axis=(1, 2), dtype=np.float64) / pairs.sum()
            found[BY_LAYER[1 + i]] = sign * (cross - (a.within[i] + b.within[i]) / 2)
            with np.errstate(invalid="ignore"):
                middle = (a.within_layer[i][:, :, None] + b.within_layer[i][:, None]) / 2
                layers[1 + i] = sign * (sums / pairs - middle)
    if plan.wants("matching"):
        found["matching"] = np.array([costs.mean() for costs in matched_costs(a.sample, b.sample)])
    if plan.wants("transport"):
        found["transport"] = _transport(a, b)
    if a.moment is not None and b.moment is not None:
        found.update(_moments(a, b, plan))
    if a.scaled is not None and b.scaled is not None:
        found["pca_kl"] = _pca_kl(a.scaled, b.scaled)
    if a.gram is not None and b.gram is not None:
        found["responses"] = debiased_cka(a.gram, b.gram)
    values = np.stack([np.broadcast_to(found[m], depth) for m in plan.measures], axis=1)
    return Scores(values, layers.swapaxes(0, 1), near_a, near_b)


def match_rows(n: int) -> I64:
    """Return the rows that `matching` uses: `MATCHED` of n, evenly spread over the layers."""
    return np.linspace(0, n - 1, min(n, MATCHED)).astype(np.int64)


def matched_costs(a: Sample, b: Sample) -> list[F64]:
    """Return for each of D pairs the cost 1 - |cos| of every matched filter of A, in the order of `match_rows`."""
    from scipy.optimize import linear_sum_assignment

    x, y = a.vector[:, match_rows(len(a))], b.vector[:, match_rows(len(b))]
    cost = 1 - np.minimum(np.abs(x @ y.swapaxes(1, 2)), np.float32(1))
    return [c[linear_sum_assignment(c)].astype(np.float64) for c in cost]


def _transport(a: Profile, b: Profile) -> F64:
    if max(len(a.sample), len(b.sample)) <= EXACT_TRANSPORT:
        x, y = a.sample.vector, b.sample.vector
        pairs = ((x[min(d, len(x) - 1)], y[min(d, len(y) - 1)]) for d in range(max(len(x), len(y))))
        return np.array([transport.transport_exact(f, g) for f, g in pairs])
    assert a.slices is not None
    assert b.slices is not None
    if a.slices.shape[2] != b.slices.shape[2]:  # resampled layers: sizes differ
        return np.array([transport.slices_distance(a.slices[0], b.slices[0])])
    return np.asarray(np.sqrt(np.square(a.slices - b.slices).mean(axis=(1, 2), dtype=np.float64)))


def _moments(a: Profile, b: Profile, plan: Plan) -> dict[str, F64]:
    assert a.moment is not None
    assert b.moment is not None
    found = {"frobenius": np.linalg.norm(a.moment - b.moment, axis=(1, 2))}
    if plan.wants("bures"):
        one, other = (a.root, b.moment) if a.root is not None else (b.root, a.moment)
        assert one is not None
        fidelity = np.sqrt(np.clip(np.linalg.eigvalsh(one @ other @ one), 0, None)).sum(axis=1)
        traces = np.trace(a.moment, axis1=1, axis2=2) + np.trace(b.moment, axis1=1, axis2=2)
        found["bures"] = np.sqrt(np.clip(traces - 2 * fidelity, 0, None))
    if a.leading is not None and b.leading is not None:
        cosine = np.linalg.svd(a.leading.swapaxes(1, 2) @ b.leading, compute_uv=False)
        found["angles"] = np.degrees(np.arccos(np.clip(cosine, -1, 1))).mean(axis=1)
    return found


def _pca_kl(a: F32, b: F32) -> F64:
    """`pca_kl.pca_kl` for D pairs at once."""
    depth = max(len(a), len(b))
    pooled = np.concatenate([np.broadcast_to(x, (depth, *x.shape[1:])) for x in (a, b)], axis=1)
    return pca_kl.pca_kl_pooled(pooled, a.shape[1])


def _peak_scaled(weight: F32) -> F32:
    peak = np.maximum(weight.max(axis=2), -weight.min(axis=2))[..., None]
    return np.asarray(weight / np.where(peak > 0, peak, 1), np.float32)


def _squares(x: F32, y: F32) -> F32:
    """Return cos^2 between all filters, (D, n_x, n_y)."""
    out = x @ y.swapaxes(1, 2)
    return np.asarray(np.multiply(out, out, out=out))


def _transform(square: F32, plan: Plan) -> tuple[F32, F32]:
    """Turn cos^2 into the kernel of `mmd` and the distance of `energy`; `square` is used up."""
    np.subtract(np.float32(1), square, out=square)
    np.maximum(square, np.float32(0), out=square)
    kernel = square * np.float32(-1 / plan.bandwidth)
    return np.exp(kernel, out=kernel), np.sqrt(square, out=square)


def _block_max(square: F32, rows: Profile) -> F32:
    """Return the largest |cos| within each layer's rows, (D, L, columns); 0 for layers without rows."""
    out = square.take(rows.padded, axis=1).max(axis=2)
    out[:, rows.size == 0] = 0
    np.minimum(out, np.float32(1), out=out)
    return np.asarray(np.sqrt(out, out=out))


def _padded(start: I64, size: I64) -> I64:
    step = np.arange(max(int(size.max(initial=1)), 1))
    rows = np.minimum(start[:, None] + step[None], (start + size - 1)[:, None])
    return np.asarray(np.maximum(rows, 0), np.int64)


def _mean_best(best: F32, counted: Profile, near: Profile) -> F32:
    """Return the mean over each layer's filters of their best |cos| in every layer of `near`, (D, L_near, L)."""
    with np.errstate(invalid="ignore"):
        mean = best @ counted.members.T / counted.size.astype(np.float32)
    mean[:, near.size == 0] = np.nan
    return np.asarray(mean)


def null_sample(sample: Sample, weight: F32) -> Sample:
    """Put D null banks in a sample's place, with the gain and offset of the filters that they replace.

    Only `pca_kl` sees gain and offset, and chance must not differ from the bank in what it is not about.

    Parameters
    ----------
    weight : (D, n, K) float32, null filters of any scale.
    """
    vector = weight - weight.mean(axis=2, keepdims=True)
    norm = np.sqrt(np.einsum("dnk,dnk->dn", vector, vector))[..., None]
    vector = np.where(norm > 0, vector / np.where(norm > 0, norm, 1), sample.vector)
    raw = sample.gain[:, None] * vector + sample.offset[:, None]
    return Sample(raw, vector, sample.gain, sample.offset, sample.layer, sample.layers)
