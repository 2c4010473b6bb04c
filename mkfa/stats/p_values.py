"""p-values from draws under a null, and their correction for several tests."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from mkfa.array_types import F64


def p_value(observed: ArrayLike, draws: ArrayLike, *, larger: bool) -> F64:
    """Return the Monte Carlo p-value (1 + b) / (1 + m), never 0 (Phipson & Smyth 2010, equation 2).

    Parameters
    ----------
    observed : (...) float
    draws : (m, ...) float, the statistic under the null.
    larger : bool
        True counts draws >= observed (is the value larger than chance?), False draws <= observed.

    Examples
    --------
    >>> float(p_value(3.0, [1.0, 2.0, 3.0], larger=True))
    0.5
    """
    observed, draws = np.asarray(observed, float), np.asarray(draws, float)
    beyond = draws >= observed if larger else draws <= observed
    return np.asarray((1 + beyond.sum(axis=0)) / (1 + len(draws)), dtype=np.float64)


def p_text(p: float) -> str:
    """Return a p-value with three decimals, or its first digit where those would be zeros: no p-value is zero.

    Examples
    --------
    >>> p_text(0.0104), p_text(0.0002)
    ('0.010', '0.0002')
    """
    text = f"{p:.3f}"
    return f"{p:.1g}" if p > 0 and float(text) == 0 else text


def holm(p: ArrayLike) -> F64:
    """Return p-values adjusted for a family of tests by Holm (1979); NaN entries stay NaN and do not count.

    Examples
    --------
    >>> holm([0.01, 0.04, 0.03]).tolist()
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p, dtype=np.float64)
    flat, out = p.ravel(), np.full(p.size, np.nan)
    tested = np.flatnonzero(~np.isnan(flat))
    order = tested[np.argsort(flat[tested], kind="stable")]
    steps = flat[order] * (len(order) - np.arange(len(order)))
    out[order] = np.minimum(np.maximum.accumulate(steps), 1) if len(order) else steps
    return out.reshape(p.shape)
