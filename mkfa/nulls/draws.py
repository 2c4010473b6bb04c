"""Null filters: what chance gives (torch and timm only inside `init_bank`).

Every null is drawn from an explicit generator, so that a result can name its seed.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

from mkfa.array_types import F32
from mkfa.errors import UnknownNameError, nearest
from mkfa.nulls.covariance import covariance_root, sample_covariance, sphere_covariance, tap_covariance

Null = Literal["shuffled", "gaussian", "blurred", "covariance"]
NULLS: tuple[Null, ...] = get_args(Null)
"""Nulls drawn filter by filter; `init` (an untrained network) is a bank of its own: `init_bank`."""

WHAT = {
    "shuffled": "taps of each filter permuted: keeps its values, destroys its shape",
    "gaussian": "independent normal taps",
    "blurred": "independent normal taps smoothed with a Gaussian of sigma 1: smooth, but of no pattern",
    "covariance": "normal with the bank's own tap covariance: second moments without individual patterns",
    "init": "the same architecture, untrained",
}
_BLUR_RADIUS = 5


def check_null(name: str) -> Null:
    """Return `name` if it is a null drawn filter by filter; raises `UnknownNameError` otherwise."""
    for known in NULLS:
        if name == known:
            return known
    raise UnknownNameError(name, "is no null", nearest(name, NULLS) or f"choose one of {', '.join(NULLS)}")


def draw_null(null: Null, weight: F32, rng: np.random.Generator) -> F32:
    """Draw as many null filters as there are filters.

    Parameters
    ----------
    weight : (N, kh, kw) float32, usable filters of one kernel size.

    Returns
    -------
    (N, kh, kw) float32, not normalised.
    """
    n, kh, kw = weight.shape
    if null == "shuffled":
        return np.asarray(rng.permuted(weight.reshape(n, -1), axis=1).reshape(n, kh, kw), np.float32)
    if null == "gaussian":
        return rng.standard_normal((n, kh, kw), dtype=np.float32)
    if null == "blurred":
        return _blurred(n, kh, kw, rng)
    return sample_covariance(sphere_covariance(tap_covariance(weight)), n, rng).reshape(n, kh, kw)


def normal_root(null: Null, weight: F32) -> F32 | None:
    """Return R (K, K) such that z @ R.T, z white, is a draw of this null; None for those that need more than that.

    For many small draws: `draw_null` makes the same distributions, but takes the root each time anew.
    """
    if null == "covariance":
        return covariance_root(tap_covariance(weight))
    if null == "blurred":
        rows, columns = (_blur_matrix(k).astype(np.float64) for k in weight.shape[1:])
        return covariance_root(np.kron(rows @ rows.T, columns @ columns.T).astype(np.float64))
    return None


def _blurred(n: int, kh: int, kw: int, rng: np.random.Generator) -> F32:
    """Smooth white noise with the discrete Gaussian of variance 1, on a grid with a margin: no border effect.

    Separable and linear, so a filter is G_h Z G_w^T with Z white on the wider grid.
    """
    rows, columns = _blur_matrix(kh), _blur_matrix(kw)
    out = np.empty((n, kh, kw), np.float32)
    for start in range(0, n, 65536):
        part = min(65536, n - start)
        noise = rng.standard_normal((part, rows.shape[1], columns.shape[1]), dtype=np.float32)
        out[start : start + part] = rows @ noise @ columns.T
    return out


def _blur_matrix(k: int) -> F32:
    """Return the (k, k + 2r) matrix of the discrete analogue of the Gaussian, T(n; t) = exp(-t) I_n(t), t = 1."""
    from scipy.special import ive

    taps = ive(np.abs(np.arange(-_BLUR_RADIUS, _BLUR_RADIUS + 1)), 1.0)
    matrix = np.zeros((k, k + 2 * _BLUR_RADIUS), np.float32)
    for row in range(k):
        matrix[row, row : row + len(taps)] = taps
    return matrix
