"""Discrete scale-space kernels: the discrete analogue of the Gaussian and small-support differences.

The equations, numbered as the functions cite them, on the integers n and for a variance t = sigma^2 >= 0:

(1) T(n; t) = exp(-t) I_n(t), I_n the modified Bessel functions; T(n; 0) is the unit impulse.
(2) (D+ f)(n) = f(n + 1) - f(n)                      forward difference, centred at n + 1/2
(3) (D- f)(n) = f(n) - f(n - 1)                      backward difference, centred at n - 1/2
(4) D0 = (D+ + D-) / 2                               central difference
(5) D2 = D+ D-                                       second difference, f(n + 1) - 2 f(n) + f(n - 1)
(6) L = D2 along x + D2 along y                      five-point Laplacian
(7) (A+ f)(n) = (f(n + 1) + f(n)) / 2                average, moves a kernel's centre by -1/2; A- f by +1/2

Fitted scales of depthwise filters are 0.4 to 1.4 pixels, where sampled Gaussians are wrong and (1) is exact: its
variance is t and its sum 1, at every t. Sources: Lindeberg, "Scale-space for discrete signals", PAMI 12(3), 1990,
for (1); Lindeberg, "Discrete derivative approximations with scale-space properties", JMIV 3(4), 1993, for (4)-(6);
Lindeberg, "Discrete approximations of Gaussian smoothing and Gaussian derivatives", JMIV 66, 2024
(arXiv 2311.11317), for their accuracy at fine scales.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from mkfa.array_types import F64, I64
from mkfa.frozen import FrozenDict

Difference = Callable[[F64], F64]


def smoothing(positions: ArrayLike, variance: ArrayLike) -> F64:
    """Return T(n; t), equation (1).

    Parameters
    ----------
    positions : integers n, pixels; broadcast against `variance`.
    variance : t >= 0, pixels squared.
    """
    from scipy.special import ive

    n, t = np.broadcast_arrays(np.asarray(positions, np.int64), np.asarray(variance, np.float64))
    return np.asarray(ive(np.abs(n), t), dtype=np.float64)


def forward(f: F64) -> F64:
    """Return D+ f along the last axis, equation (2), or D- f, equation (3); the result is one shorter.

    Its first entry is D+ f at f's first position, and D- f at f's second.
    """
    return f[..., 1:] - f[..., :-1]


def central(f: F64) -> F64:
    """Return D0 f along the last axis, equation (4); the result lacks f's first and last position."""
    return (forward(f)[..., 1:] + forward(f)[..., :-1]) / 2


def second(f: F64) -> F64:
    """Return D2 f = D+ D- f along the last axis, equation (5); the result lacks f's first and last position."""
    return forward(forward(f))


def third(f: F64) -> F64:
    """Return D0 D2 f along the last axis; the result lacks f's first two and last two positions."""
    return central(second(f))


def average(f: F64) -> F64:
    """Return A+ f along the last axis, equation (7), or A- f, the same values one position further on."""
    return (f[..., 1:] + f[..., :-1]) / 2


def _same(f: F64) -> F64:
    return f


# Operator, and how many positions it takes off the front and off the back. "smooth-" is A+ T, centred at -1/2.
_OPERATORS: FrozenDict[str, tuple[Difference, int, int]] = FrozenDict(
    {
        "smooth": (_same, 0, 0),
        "smooth-": (average, 0, 1),
        "smooth+": (average, 1, 0),
        "forward": (forward, 0, 1),
        "backward": (forward, 1, 0),
        "central": (central, 1, 1),
        "second": (second, 1, 1),
        "third": (third, 2, 2),
    }
)
OPERATORS = tuple(_OPERATORS)


def positions(taps: int) -> I64:
    """Return the pixel coordinate of each of `taps` taps, ascending, with 0 at index taps // 2."""
    return np.arange(taps, dtype=np.int64) - taps // 2


def profile(operator: str, taps: int, variance: ArrayLike) -> F64:
    """Return a one-dimensional kernel: a difference operator applied to T, cropped to a number of taps.

    The infinite kernel is cropped, not the signal: T is taken one position beyond the crop before differencing.

    Parameters
    ----------
    operator : one of `OPERATORS`.
    taps : number of taps; tap i is at `positions(taps)[i]`.
    variance : (...) t >= 0.

    Returns
    -------
    (..., taps) float64
    """
    apply, front, back = _OPERATORS[operator]
    at = positions(taps)
    wide = np.arange(at[0] - front, at[-1] + back + 1)
    return apply(smoothing(wide, np.asarray(variance, np.float64)[..., None]))
