"""The measure of CNN Filter DB: KL divergence of PCA coefficients (Gavrikov & Keuper, CVPR 2022)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mkfa.array_types import F32, F64

BINS = 70


def peak_scaled(weight: F32) -> F32:
    """Return filters over their largest |tap|, (..., K) float32, as CNN Filter DB scales them."""
    peak = np.maximum(weight.max(axis=-1), -weight.min(axis=-1))[..., None]
    return np.asarray(weight / np.where(peak > 0, peak, 1), np.float32)


def pca_kl(a: F32, b: F32) -> float:
    """Return the distribution shift of CNN Filter DB between clouds of `peak_scaled` filters, (N, K).

    PCA of the pooled filters with all K components; 70 bins on one range common to all components and both clouds;
    empty bins take the float32 epsilon, and the histograms are normalised again; symmetric Kullback-Leibler divergence
    (nats) weighted by the explained variance. Gavrikov & Keuper, CVPR 2022, section 4.2. Sign and offset are seen.
    """
    return float(pca_kl_pooled(np.concatenate([a, b])[None], len(a))[0])


def pca_kl_pooled(pooled: F32, first: int) -> F64:
    """Return `pca_kl` for D pairs, (D,), from their pooled filters (D, N, K), the first `first` rows being A's."""
    depth, _, k = pooled.shape
    pooled = pooled - pooled.mean(axis=1, keepdims=True)
    value, vector = np.linalg.eigh((pooled.swapaxes(1, 2) @ pooled).astype(np.float64))
    value = np.clip(value, 0, None)
    peak = np.take_along_axis(vector, np.abs(vector).argmax(axis=1)[:, None], axis=1)
    score = pooled @ (vector * np.where(peak < 0, -1, 1)).astype(np.float32)
    low, high = score.min(axis=(1, 2), keepdims=True), score.max(axis=(1, 2), keepdims=True)
    spread = np.where(high > low, high - low, 1)
    bins = np.minimum(((score - low) * (BINS / spread).astype(np.float32)).astype(np.int32), BINS - 1)
    bins += BINS * np.arange(depth * k, dtype=np.int32).reshape(depth, 1, k)
    p, q = (_histogram(part, depth * k).reshape(depth, k, BINS) for part in (bins[:, :first], bins[:, first:]))
    weight = value / np.maximum(value.sum(axis=1, keepdims=True), np.finfo(float).tiny)
    return np.asarray(np.einsum("dkh,dk->d", (p - q) * np.log(p / q), weight), np.float64)


def _histogram(bins: NDArray[np.int32], components: int) -> F64:
    """Return the shares of `BINS` bins for each component, (components, BINS); empty ones take the epsilon."""
    count = np.bincount(bins.ravel(), minlength=components * BINS).reshape(components, BINS)
    share = np.where(count == 0, np.finfo(np.float32).eps, count / bins.shape[1])
    return np.asarray(share / share.sum(axis=1, keepdims=True), np.float64)
