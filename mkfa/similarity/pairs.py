"""Two samples of filters, and what several measures need of them.

A comparison scores some ten thousand pairs of samples (null banks, split halves, banks less a layer). So whatever
depends on one sample is computed once, in float32 blocks that stay in the cache, for several null banks at a time:
NumPy then computes outside Python's lock for long enough that threads run side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import numpy as np

from mkfa.array_types import F32, F64, I64
from mkfa.similarity.measures.responses import gram, stimuli, u_centred
from mkfa.similarity.samples import Cloud

T = TypeVar("T")


class once(Generic[T]):
    """A property that is computed when first needed; without the lock of `cached_property` before Python 3.12."""

    def __init__(self, compute: Callable[[Any], T]) -> None:
        self.compute = compute
        self.name = compute.__name__

    def __get__(self, item: Any, owner: Any = None) -> T:
        value: T = self.compute(item)
        item.__dict__[self.name] = value
        return value


@dataclass(frozen=True, slots=True)
class Plan:
    """What is the same for every pair: names of measures, threshold, bandwidth, directions (K, D), kernel size.

    `by_layer` are the J measures of pairs of layers, `mkfa.similarity.measures.table.layer_measures`.
    """

    measures: tuple[str, ...]
    by_layer: tuple[str, ...]
    threshold: float
    bandwidth: float
    theta: F32
    size: tuple[int, int]


@dataclass(frozen=True, eq=False)
class Sample:
    """Filters of some layers of a bank, or D null banks in its place, which have its layers.

    The properties are what a sample contributes to every pair that it is in.

    Attributes
    ----------
    vector : (D, n, K) float32, canonical; D is 1 for filters of a bank.
    layer : (n,) int64, ascending, position among the layers of the cloud.
    layers : number of layers of the cloud, L.
    drawn : True for null banks.
    """

    vector: F32
    layer: I64
    layers: int
    plan: Plan
    drawn: bool = False

    def __len__(self) -> int:
        return len(self.layer)

    @once
    def size(self) -> I64:
        """(L,) number of rows of each layer."""
        return np.asarray(np.bincount(self.layer, minlength=self.layers), np.int64)

    @once
    def members(self) -> F32:
        """(L, n) indicator of layers: sums over layers are matrix products, ten times faster than `reduceat`."""
        return np.asarray(np.arange(self.layers)[:, None] == self.layer[None], np.float32)

    @once
    def padded(self) -> I64:
        """(L, longest) rows of each layer, the last one repeated."""
        start, step = np.cumsum(self.size) - self.size, np.arange(max(int(self.size.max(initial=1)), 1))
        rows = np.minimum(start[:, None] + step[None], (start + self.size - 1)[:, None])
        return np.asarray(np.maximum(rows, 0), np.int64)

    @once
    def within(self) -> tuple[F64, F64]:
        """Mean kernel and mean distance over pairs of different filters, (2, D), and inside each layer, (2, D, L).

        NaN where the sample has fewer than two filters of the layer.
        """
        n, depth, size = len(self), len(self.vector), self.size
        whole, layers = np.empty((2, depth)), np.empty((2, depth, self.layers))
        for i, block in enumerate(_transform(_squares(self.vector, self.vector), self.plan.bandwidth)):
            block.reshape(depth, -1)[:, :: n + 1] = 0  # a filter with itself does not count
            sums = self.members @ block  # (D, L, n)
            whole[i] = sums.sum(axis=(1, 2), dtype=np.float64) / (n * (n - 1))
            pairs = np.where(size > 1, size * (size - 1.0), np.nan)
            layers[i] = np.einsum("dln,ln->dl", sums, self.members) / pairs
        return whole, layers

    @once
    def slices(self) -> F32:
        """(D, directions, n) sorted |projections|."""
        return np.sort(np.abs(self.plan.theta.T @ self.vector.swapaxes(1, 2)), axis=2)

    @once
    def moment(self) -> F64:
        """(D, K, K) second moments."""
        return (self.vector.swapaxes(1, 2) @ self.vector).astype(np.float64) / len(self)

    @once
    def root(self) -> F64:
        """(1, K, K) symmetric square root of the first second moment."""
        value, vector = np.linalg.eigh(self.moment[0])
        return np.asarray((vector * np.sqrt(np.clip(value, 0, None))) @ vector.T)[None]

    @once
    def leading(self) -> F64:
        """(D, K, r) leading eigenvectors of the second moments, a quarter of the zero-mean ones (6 of 24 for 5x5)."""
        rank = max((self.vector.shape[2] - 1) // 4, 1)
        return np.asarray(np.linalg.eigh(self.moment)[1][..., -rank:])

    @once
    def gram(self) -> F32:
        """(D, S, S) centred Gram matrices of the responses to the stimuli."""
        return u_centred(gram(self.vector, stimuli(*self.plan.size)))


def take(cloud: Cloud, rows: I64, plan: Plan) -> Sample:
    """Return the filters of these rows, in order of layers."""
    rows = np.sort(rows)
    return Sample(cloud.vector[rows][None], cloud.layer[rows], len(cloud.layers), plan)


def null_sample(sample: Sample, weight: F32) -> Sample:
    """Put D null banks in a sample's place.

    Parameters
    ----------
    weight : (D, n, K) float32, null filters of any scale; a flat one leaves the filter that it would replace.
    """
    vector = weight - weight.mean(axis=2, keepdims=True)
    norm = np.sqrt(np.einsum("dnk,dnk->dn", vector, vector))[..., None]
    vector = np.where(norm > 0, vector / np.where(norm > 0, norm, 1), sample.vector)
    return replace(sample, vector=vector, drawn=True)


class Pair:
    """Two samples, and what several measures need of them; `mkfa.similarity.measures.table` has the measures."""

    def __init__(self, a: Sample, b: Sample) -> None:
        self.a, self.b = a, b
        self.plan = a.plan
        self.depth = max(len(a.vector), len(b.vector))

    def one_by_one(self) -> Iterator[tuple[F32, F32]]:
        """Yield the filters of both samples, (n_a, K) and (n_b, K), for each of the D pairs."""
        x, y = self.a.vector, self.b.vector
        return ((x[min(d, len(x) - 1)], y[min(d, len(y) - 1)]) for d in range(self.depth))

    @once
    def squares(self) -> F32:
        """(D, n_a, n_b) cos^2; `discrepancies` uses it up."""
        return _squares(self.a.vector, self.b.vector)

    @once
    def nearest(self) -> tuple[F32, F32, F32]:
        """Return |cos| of each filter to its nearest, (D, n_a) and (D, n_b), and the coverage of layer pairs."""
        a, b = self.a, self.b
        back = _squares(b.vector, a.vector)  # both ways: maxima over rows are ten times faster
        best_in_a, best_in_b = _block_max(self.squares, a), _block_max(back, b)  # (D, L_a, n_b), (D, L_b, n_a)
        layers = (_mean_best(best_in_b, a, b).swapaxes(1, 2) + _mean_best(best_in_a, b, a)) / 2
        return best_in_b.max(axis=1), best_in_a.max(axis=1), np.asarray(layers, np.float32)

    @once
    def discrepancies(self) -> tuple[F64, F32]:
        """Return mmd and energy of the samples, (2, D), and of layer pairs, (2, D, L_a, L_b).

        The means over pairs leave out each filter with itself, so both are unbiased (mmd may be negative).
        """
        a, b = self.a, self.b
        pairs = a.size[:, None] * b.size[None]
        square = self.squares
        del self.__dict__["squares"]
        whole, layers = [], []
        for i, (block, sign) in enumerate(zip(_transform(square, self.plan.bandwidth), (-2, 2), strict=True)):
            sums = a.members @ block @ b.members.T  # (D, L_a, L_b)
            cross = sums.sum(axis=(1, 2), dtype=np.float64) / pairs.sum()
            (all_a, layers_a), (all_b, layers_b) = a.within, b.within
            whole.append(sign * (cross - (all_a[i] + all_b[i]) / 2))
            with np.errstate(invalid="ignore"):
                middle = (layers_a[i][:, :, None] + layers_b[i][:, None]) / 2
                layers.append(sign * (sums / pairs - middle))
        return np.stack(whole), np.stack(layers)


def _squares(x: F32, y: F32) -> F32:
    """Return cos^2 between all filters, (D, n_x, n_y)."""
    out = x @ y.swapaxes(1, 2)
    return np.asarray(np.multiply(out, out, out=out))


def _transform(square: F32, bandwidth: float) -> tuple[F32, F32]:
    """Turn cos^2 into the kernel of `mmd` and the distance of `energy`; `square` is used up."""
    np.subtract(np.float32(1), square, out=square)
    np.maximum(square, np.float32(0), out=square)
    kernel = square * np.float32(-1 / bandwidth)
    return np.exp(kernel, out=kernel), np.sqrt(square, out=square)


def _block_max(square: F32, rows: Sample) -> F32:
    """Return the largest |cos| within each layer's rows, (D, L, columns); 0 for layers without rows."""
    out = square.take(rows.padded, axis=1).max(axis=2)
    out[:, rows.size == 0] = 0
    np.minimum(out, np.float32(1), out=out)
    return np.asarray(np.sqrt(out, out=out))


def _mean_best(best: F32, counted: Sample, near: Sample) -> F32:
    """Return the mean over each layer's filters of their best |cos| in every layer of `near`, (D, L_near, L)."""
    with np.errstate(invalid="ignore"):
        mean = best @ counted.members.T / counted.size.astype(np.float32)
    mean[:, near.size == 0] = np.nan
    return np.asarray(mean)
