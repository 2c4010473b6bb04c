"""The measure of CNN Filter DB: KL divergence of PCA coefficients (Gavrikov & Keuper, CVPR 2022)."""

from __future__ import annotations

import numpy as np

from mkfa.array_types import F32, F64, I64

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
    pooled = np.concatenate([a, b])
    pooled = pooled - pooled.mean(axis=0)
    value, vector = np.linalg.eigh((pooled.T @ pooled).astype(np.float64))
    value = np.clip(value, 0, None)
    peak = np.take_along_axis(vector, np.abs(vector).argmax(axis=0)[None], axis=0)
    score = pooled @ (vector * np.where(peak < 0, -1, 1)).astype(np.float32)
    low, high = score.min(), score.max()
    spread = high - low if high > low else np.float32(1)
    bins = np.minimum(((score - low) * np.float32(BINS / spread)).astype(np.int64), BINS - 1)
    p, q = (_histogram(part) for part in (bins[: len(a)], bins[len(a) :]))
    weight = value / max(float(value.sum()), np.finfo(float).tiny)
    return float(((p - q) * np.log(p / q)).sum(axis=1) @ weight)


def _histogram(bins: I64) -> F64:
    """Return the shares of `BINS` bins for each component, (components, BINS); empty ones take the epsilon."""
    n, components = bins.shape
    count = np.bincount((bins + BINS * np.arange(components)).ravel(), minlength=components * BINS)
    share = np.where(count == 0, np.finfo(np.float32).eps, count / n).reshape(components, BINS)
    return np.asarray(share / share.sum(axis=1, keepdims=True), np.float64)
