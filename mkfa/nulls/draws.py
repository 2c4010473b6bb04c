"""Null filters: what chance gives (torch and timm only inside `init_bank`).

Every null is drawn from an explicit generator, so that a result can name its seed.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from mkfa.banks.bank import F32, FilterBank, FilterGroup, make_bank
from mkfa.banks.canonical import canonical, normalise
from mkfa.errors import MkfaError, UnknownNameError, nearest
from mkfa.readers.timm.catalogue import layers_of

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


def usable_filters(group: FilterGroup) -> FilterGroup:
    """Return the filters that analyses use: neither dead nor flat nor non-finite."""
    keep = canonical(group).usable
    bias = None if group.bias is None else group.bias[keep]
    return FilterGroup(group.weight[keep], group.layer[keep], group.channel[keep], bias)


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


def tap_covariance(weight: F32) -> NDArray[np.float64]:
    """Return the second moment of the canonical filters, (K, K) float64.

    A filter's sign is arbitrary, so the cloud is symmetric about zero and this is its covariance.
    """
    vector, _, _, _, _ = normalise(weight.reshape(len(weight), -1))
    return np.asarray(vector.T.astype(np.float64) @ vector / max(len(vector), 1), dtype=np.float64)


def sphere_covariance(moment: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the covariance of a normal whose draws, scaled to unit norm, have this second moment; both (K, K).

    Drawing with the second moment itself gives a cloud that is rounder once its draws are scaled to unit norm (the
    first eigenvalue of 5x5 filters falls from .38 to .29), and rounder chance flatters any real cloud. With
    x ~ N(0, diag s), E[x_i^2 / |x|^2] is the integral over t > 0 of s_i / (1 + 2 s_i t) * prod_j (1 + 2 s_j t)^(-1/2),
    which is taken by the trapezoid rule in log t; s is found by the fixed point s_i <- s_i * wanted_i / got_i.
    """
    value, vector = np.linalg.eigh(moment)
    keep = value > 1e-9 * max(float(value[-1]), 1e-300) if len(value) else np.zeros(0, dtype=bool)
    if keep.sum() < 2:
        return moment
    wanted = value[keep] / value[keep].sum()
    s = wanted.copy()
    for _ in range(500):
        log_t = np.linspace(np.log(1e-8 / s.max()), np.log(1e10 / s.min()), 400)
        ts = np.exp(log_t)[:, None] * s
        got = (ts / (1 + 2 * ts) * np.exp(-0.5 * np.log1p(2 * ts).sum(axis=1))[:, None]).sum(axis=0)
        step = wanted / (got / got.sum())
        s = s * step / (s * step).sum()
        if np.abs(step - 1).max() < 1e-6:
            break
    full = np.zeros_like(value)
    full[keep] = s * value[keep].sum()
    return np.asarray((vector * full) @ vector.T, dtype=np.float64)


def sample_covariance(covariance: NDArray[np.float64], n: int, rng: np.random.Generator) -> F32:
    """Draw (n, K) float32 from a centred normal with this (K, K) covariance, which may be singular."""
    root = _root(covariance)
    return np.asarray(rng.standard_normal((n, len(root)), dtype=np.float32) @ root.T, np.float32)


def normal_root(null: Null, weight: F32) -> F32 | None:
    """Return R (K, K) such that z @ R.T, z white, is a draw of this null; None for those that need more than that.

    For many small draws: `draw_null` makes the same distributions, but takes the root each time anew.
    """
    if null == "covariance":
        return _root(tap_covariance(weight))
    if null == "blurred":
        rows, columns = (_blur_matrix(k).astype(np.float64) for k in weight.shape[1:])
        return _root(np.kron(rows @ rows.T, columns @ columns.T).astype(np.float64))
    return None


def _root(covariance: NDArray[np.float64]) -> F32:
    value, vector = np.linalg.eigh(covariance)
    return np.asarray(vector * np.sqrt(np.clip(value, 0, None)), np.float32)


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


def init_bank(bank: FilterBank, seed: int) -> FilterBank:
    """Return a bank of the same architecture, untrained, from timm with this seed.

    Raises
    ------
    MkfaError
        The bank names no architecture, one that this timm cannot build, or one with other depthwise layers.
    """
    architecture = bank.provenance.architecture.split(".")[0]
    if not architecture:
        raise MkfaError(
            bank.name,
            "names no architecture, so the null 'init' cannot be drawn",
            "harvest it with --arch NAME or choose another null",
        )
    import timm
    import torch

    if not timm.is_model(architecture):
        raise MkfaError(architecture, "is no architecture that this timm can build", "choose another null")
    # By place in the order of execution, not by name: checkpoints name the same layers in many ways.
    graph = layers_of(architecture)
    ours = [(layer.channels, layer.kh, layer.kw) for layer in bank.layers]
    if ours != [(g.shape[0], *g.shape[2:]) for g in graph]:
        raise MkfaError(bank.name, f"has other depthwise layers than timm's {architecture}", "choose another null")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        state = timm.create_model(architecture, pretrained=False).state_dict()
    layers = [
        (layer, state[g.key].detach().float().numpy().reshape(-1, layer.kh, layer.kw), None)
        for layer, g in zip(bank.layers, graph, strict=True)
    ]
    return make_bank(f"{bank.name} untrained (seed {seed})", layers, bank.provenance)
