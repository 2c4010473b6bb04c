"""Filters that share the second moments of others and nothing else: the nulls "covariance" and "covariance-layer".

The filters are unit vectors, so a normal with their second moment would not do: scaled to unit norm its draws are
rounder (the first eigenvalue of 5x5 filters falls from .38 to .29), and any real bank would seem close beside them.
`sphere_covariance` corrects the normal.

The moment is known from the bank's own filters, and is as uncertain as they are few. Draws that scatter about it would
scatter about the truth more than the bank does, and two banks of one covariance would pass for closer than chance. So
what is drawn is a whole null bank, as large as the real one and moved until its second moment is the real one's
(`exact_moment`), and of it a sample as large as the real sample. In the moment it scatters as the real sample does, so
that measures of moments can be judged too (tests/benchmarks has the rates of false alarms).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mkfa.array_types import F32, F64, I64, BoolArray
from mkfa.banks.canonical import normalise
from mkfa.words import counted

_RANK = 1e-7
"""Eigenvalues below this share of the largest are rounding errors."""
_CLOSE = 1e-4
"""Relative error of the second moment at which draws are good enough: that of 192 filters is .1 or more."""
_WHOLE = 8
THIN = 4
"""Fewer filters of a layer say nothing of its second moments."""
_STEPS = 20
_RELAXATION = 1.3
"""Scaling rows to unit norm undoes a part of each step; steps longer by this converge fastest (3x3 to 7x7 filters)."""


def tap_covariance(weight: F32) -> F64:
    """Return the second moment of the canonical filters, (K, K) float64.

    A filter's sign is arbitrary, so the cloud is symmetric about zero and this is its covariance.

    Examples
    --------
    >>> import numpy as np
    >>> tap_covariance(np.array([[[1.0, -1.0]], [[-3.0, 3.0]]], np.float32)).round(6).tolist()
    [[0.5, -0.5], [-0.5, 0.5]]
    """
    vector, _, _, _, _ = normalise(weight.reshape(len(weight), -1))
    return _moment(vector)


def fit_covariance(weight: F32, layer: I64, rows: I64) -> Callable[[np.random.Generator], F32]:
    """Return draw(rng): normal filters with the second moment of a bank, (n, kh, kw) float32 of unit norm.

    Layers weigh as they do in the sample, which takes equally many filters of each where it can: with the moment of all
    filters the large late layers would decide, and the null would differ from the sample in the proportions of layers.

    Parameters
    ----------
    weight : (N, kh, kw) float32, usable filters of one kernel size.
    layer : (N,) int64, layer of each.
    rows : (n,) int64, the sample of them in whose place the draws stand.
    """
    return _fit(weight, layer, rows, by_layer=False)


def fit_layer_covariance(weight: F32, layer: I64, rows: I64) -> Callable[[np.random.Generator], F32]:
    """Return draw(rng): as `fit_covariance`, but each filter is drawn with the covariance of its own layer.

    Each layer has its own moment, although that of a layer with fewer filters than taps is singular. Shrunk towards
    the moment of all layers, be it as if one filter more of that moment were there, layers become rounder than they
    are, and banks that are draws of this null pass for closer than chance, or for clustered (in 30 % of banks with
    layers of 16 filters of 5x5). The second moment of all layers together stays exact.

    Layers of fewer than `THIN` filters are taken together: draws of their moments would be those filters again.
    """
    number, count = np.unique(layer, return_counts=True)
    together = np.where(np.isin(layer, number[count < THIN]), -1, layer)
    return _fit(weight, together, rows, by_layer=True)


def pooled_in_words(layer: I64) -> str:
    """Return which layers "covariance-layer" takes together, as the end of a sentence; "" for none.

    Parameters
    ----------
    layer : (N,) int64, the layer of each filter.

    Examples
    --------
    >>> pooled_in_words(np.array([0] * 9 + [1] * 3 + [2] * 2))
    '2 of 3 layers have fewer than 4 filters, and covariance-layer takes these together'
    >>> pooled_in_words(np.zeros(20, np.int64))
    'all filters are of one layer, so that covariance-layer is covariance'
    """
    count = np.unique(layer, return_counts=True)[1]
    thin = int((count < THIN).sum())
    if len(count) == 1:
        return "all filters are of one layer, so that covariance-layer is covariance"
    if thin < 2:
        return ""
    if thin == len(count):
        return f"no layer has {THIN} filters, so that covariance-layer is covariance"
    have = "has" if thin == 1 else "have"
    few = f"{thin} of {counted(len(count), 'layer')} {have} fewer than {THIN} filters"
    return f"{few}, and covariance-layer takes these together"


def _fit(weight: F32, layer: I64, rows: I64, *, by_layer: bool) -> Callable[[np.random.Generator], F32]:
    taps, shape = weight[0].size if len(weight) else 0, (len(rows), *weight.shape[1:])
    vector, _, _, _, _ = normalise(weight.reshape(len(weight), -1))
    numbers, place, taken = np.unique(layer[rows], return_inverse=True, return_counts=True)
    place, share = place.ravel(), taken / max(len(rows), 1)
    parts = [vector[layer == number] for number in numbers]
    moments = [_moment(part) for part in parts]
    moment = np.asarray(np.einsum("l,lij->ij", share, moments)) if len(moments) else np.zeros((taps, taps))
    size = _bank_size(share, np.array([len(part) for part in parts]), len(rows))
    if by_layer and len(parts) > 1:
        more = (share * max(size - len(rows), 0)).round().astype(np.int64)
        place = np.concatenate([place, np.repeat(np.arange(len(parts)), more)])
    else:
        moments, place = [moment], np.zeros(max(size, len(rows)), np.int64)
    roots = [symmetric_root(sphere_covariance(x)).astype(np.float32) for x in moments]
    half = symmetric_root(moment)

    def draw(rng: np.random.Generator) -> F32:
        drawn = rng.standard_normal((len(place), taps), dtype=np.float32)
        for i, root in enumerate(roots):
            here: slice | BoolArray = slice(None) if len(roots) == 1 else place == i
            drawn[here] = drawn[here] @ root
        bank = exact_moment(drawn, moment, half) if size else _unit(drawn)
        return bank[: len(rows)].reshape(shape)

    return draw


def _bank_size(share: F64, filters: I64, n: int) -> int:
    """Return how many filters tell as much of the layers' mean moment as the bank's do (Kish), at least n.

    0 stands for more than `_WHOLE` times n: then the moment is known well beside the scatter of n filters, and single
    draws serve as well as a whole bank.
    """
    known = 1 / float((share**2 / filters).sum()) if n else 0
    return 0 if known > _WHOLE * n else max(n, round(known))


def exact_moment(drawn: F32, moment: F64, half: F64 | None = None) -> F32:
    """Move filters linearly, and as little as possible, until their second moment at unit norm is `moment`.

    Each step is the linear map that takes the present moment C to M, M^1/2 (M^1/2 C M^1/2)^-1/2 M^1/2 (the optimal
    transport between normals), or near the end its first-order term; then rows are scaled to unit norm. It does not
    depend on the choice of eigenvectors, so that draws repeat on any machine.

    Parameters
    ----------
    drawn : (n, K) float32.
    moment : (K, K) float64, of trace 1; its rank must be at most n. With n near the rank, or filters that cannot be
        moved there, the result is as near as 20 steps come.
    half : its symmetric root, if it is at hand.

    Returns
    -------
    (n, K) float32, rows of unit norm.

    Examples
    --------
    >>> import numpy as np
    >>> moment = np.diag([0.7, 0.2, 0.1])
    >>> exact = exact_moment(np.random.default_rng(0).standard_normal((50, 3)).astype(np.float32), moment)
    >>> bool(np.allclose(exact.T @ exact / 50, moment, atol=1e-4))
    True
    """
    half = symmetric_root(moment) if half is None else half
    value, basis = np.linalg.eigh(moment)
    keep = value > _RANK * max(float(value[-1]), 1e-300)
    if not keep.any():
        return drawn
    value, basis = value[keep], basis[:, keep]
    gain = _RELAXATION / (value[:, None] + value)
    out, size, n = _unit(drawn), float(np.linalg.norm(value)), np.float32(max(len(drawn), 1))
    best, least = out, np.inf
    for _ in range(_STEPS):
        gap = moment - out.T @ out / n
        error = float(np.linalg.norm(gap)) / size
        if error < least:
            best, least = out, error
        if error < _CLOSE:
            break
        if error > 0.05:
            step = half @ _inverse_root(half @ (moment - gap) @ half) @ half
        else:
            step = np.eye(len(moment)) + basis @ (basis.T @ gap @ basis * gain) @ basis.T
        out = _unit(out @ step.astype(np.float32))
    return best


def sphere_covariance(moment: F64) -> F64:
    """Return the covariance of a normal whose draws, scaled to unit norm, have this second moment; both (K, K).

    With x ~ N(0, diag s), E[x_i^2 / |x|^2] is the integral over t > 0 of s_i / (1 + 2 s_i t) * prod_j (1 + 2 s_j
    t)^(-1/2), which is taken by the trapezoid rule in log t; s is found by the fixed point s_i <- s_i * wanted_i /
    got_i.
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


def sample_covariance(covariance: F64, n: int, rng: np.random.Generator) -> F32:
    """Draw (n, K) float32 from a centred normal with this (K, K) covariance, which may be singular."""
    root = symmetric_root(covariance).astype(np.float32)
    return np.asarray(rng.standard_normal((n, len(root)), dtype=np.float32) @ root, np.float32)


def symmetric_root(covariance: F64) -> F64:
    """Return the symmetric root R (K, K), R @ R the covariance; small negative eigenvalues count as 0.

    V sqrt(w), which also is a root, turns with the eigenvectors: where eigenvalues are equal these are arbitrary, and
    another machine would draw other filters from the same seed.

    Examples
    --------
    >>> import numpy as np
    >>> symmetric_root(np.array([[2.0, 0.0], [0.0, 2.0]])).round(6).tolist()
    [[1.414214, 0.0], [0.0, 1.414214]]
    """
    value, vector = np.linalg.eigh(covariance)
    return np.asarray((vector * np.sqrt(np.clip(value, 0, None))) @ vector.T, np.float64)


def _inverse_root(matrix: F64) -> F64:
    """Return the symmetric inverse root on the range of a positive semidefinite matrix."""
    value, vector = np.linalg.eigh(matrix)
    keep = value > 1e-10 * max(float(value[-1]), 1e-300)
    scale = np.where(keep, 1 / np.sqrt(np.where(keep, value, 1)), 0)
    return np.asarray((vector * scale) @ vector.T, np.float64)


def _moment(vector: F32) -> F64:
    return np.asarray(vector.T.astype(np.float64) @ vector / max(len(vector), 1), np.float64)


def _unit(rows: F32) -> F32:
    norm = np.sqrt(np.einsum("nk,nk->n", rows, rows))[:, None]
    return np.asarray(rows / np.where(norm > 0, norm, 1), np.float32)
