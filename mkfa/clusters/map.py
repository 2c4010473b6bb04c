"""A map of filters modulo sign: UMAP positions and density clusters (umap, sklearn inside functions)."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np

from mkfa.array_types import F32, F64, I32
from mkfa.clusters.lines import distances, projectors
from mkfa.frozen import ByContent

NEIGHBOURS = 15
MIN_DISTANCE = 0.1
_CORE = 10
"""HDBSCAN's min_samples: neighbours that make a point's density."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class DensityClusters(ByContent):
    """Density clusters of a sample.

    Attributes
    ----------
    label : (n,) int32, -1 where a filter lies in no dense region.
    smallest : int, the least size of a cluster.
    """

    label: I32
    smallest: int

    @property
    def count(self) -> int:
        return int(self.label.max(initial=-1)) + 1

    @property
    def outside(self) -> float:
        """Share of filters in no cluster."""
        return float((self.label < 0).mean()) if len(self.label) else float("nan")


def map_filters(vector: F32, *, seed: int) -> F32:
    """Place unit vectors in the plane so that near ones modulo sign stay near, (n, 2) float32.

    UMAP (McInnes, Healy & Melville 2018, arXiv 1802.03426) on the exact nearest neighbours by the chordal distance
    sqrt(1 - cos^2), started from the first two principal components of the projectors f f^T, so that the same
    seed gives the same map.

    Parameters
    ----------
    vector : (n, K) float32, n >= 4; memory grows with n^2 (4 n^2 bytes).
    """
    neighbours = min(NEIGHBOURS, len(vector) - 1)
    chord = np.sqrt(distances(vector))
    index = np.argpartition(chord, neighbours - 1, axis=1)[:, :neighbours]
    far = np.take_along_axis(chord, index, axis=1)
    order = np.argsort(far, axis=1, kind="stable")
    index, far = np.take_along_axis(index, order, axis=1), np.take_along_axis(far, order, axis=1)
    start = _principal(projectors(vector))
    with warnings.catch_warnings():  # of TensorFlow, of one thread with a seed, of no search index: none concerns us
        warnings.simplefilter("ignore")
        from umap import UMAP

        reducer = UMAP(
            n_neighbors=neighbours,
            min_dist=MIN_DISTANCE,
            random_state=seed,
            n_jobs=1,
            init=start,
            precomputed_knn=(index.astype(np.int32), far.astype(np.float32)),
        )
        return np.asarray(reducer.fit_transform(vector), np.float32)


def density_clusters(vector: F32) -> DensityClusters:
    """Find dense regions of unit vectors modulo sign with HDBSCAN on the chordal distance.

    Source: Campello, Moulavi & Sander (2013), PAKDD. Memory grows with n^2.
    """
    from sklearn.cluster import HDBSCAN

    smallest = max(10, len(vector) // 100)
    if len(vector) < max(smallest, _CORE) + 1:
        return DensityClusters(np.full(len(vector), -1, np.int32), smallest)
    model = HDBSCAN(min_cluster_size=smallest, min_samples=_CORE, metric="precomputed", copy=False)
    chord: F64 = np.sqrt(distances(vector)).astype(np.float64)
    return DensityClusters(np.asarray(model.fit(chord).labels_, np.int32), smallest)


def _principal(rows: F32) -> F32:
    """Return the first two principal components, (n, 2) float32, the first with standard deviation 1e-4.

    Small, as UMAP expects of a start (Kobak & Linderman 2021, Nature Biotechnology 39:156).
    """
    centred = rows - rows.mean(axis=0)
    _, axes = np.linalg.eigh(centred.T.astype(np.float64) @ centred)
    top = axes[:, :-3:-1]
    top *= np.where(np.take_along_axis(top, np.abs(top).argmax(axis=0)[None], axis=0) < 0, -1, 1)
    out = centred @ top
    return np.asarray(out / max(float(out[:, 0].std()), 1e-12) * 1e-4, np.float32)
