"""Families of analytic patterns with continuous parameters, for any kernel size (numpy only).

A family is a map from coordinates to patterns. Scales use the coordinate w = ln(1 + t / TAU) with t = sigma^2: at
fine scales a kernel changes with t, at coarse ones with ln t, so equal steps in w are about equal steps in shape.
Separable families have a scale for each axis; steered and radial ones one scale. Everywhere x points right and
y points up: row 0 of a kernel has the largest y.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mkfa.array_types import F32, F64
from mkfa.patterns.scale_space import OPERATORS, profile

TAU = 0.2
"""Variance at which the scale coordinate turns from linear to logarithmic, pixels squared."""
_STRETCH = float(np.log(2.4))
"""Range of ln(larger sigma / smaller). Up to a ratio of 1 + sqrt(2), a Gaussian that is elongated in any direction is
the product of Gaussians along x, y and a diagonal."""
_H = 0.5
_TABLE = 4096
_SURROUND = (0.35, 3.05)
"""Range of the extra variance of the wider Gaussian of a difference: sigma 0.29 to 2, in w."""
_BALANCE = (-1.2, 1.2)
"""Range of ln g, g the weight of the wider Gaussian: 0.3 to 3.3. Both have unit sum, so 1 is balanced."""
_WEIGHT = (-1.6, 1.6)
"""Range of ln g, g the weight of the Laplacian that is subtracted from its Gaussian: 0.2 to 5."""


def scale_to_coordinate(sigma: ArrayLike) -> F64:
    """Return w = ln(1 + sigma^2 / TAU)."""
    return np.log1p(np.square(np.asarray(sigma, np.float64)) / TAU)


def coordinate_to_scale(w: ArrayLike) -> F64:
    """Return sigma = sqrt(TAU (exp(w) - 1))."""
    return np.sqrt(TAU * np.expm1(np.maximum(np.asarray(w, np.float64), 0)))


def sigma_limit(taps: int) -> float:
    """Return the largest sigma fitted along an axis of so many taps: half of them.

    Beyond it a cropped Gaussian is a parabola and a cropped first difference a ramp, whatever sigma is.
    """
    return taps / 2


@dataclass(frozen=True, slots=True)
class Axis:
    """One coordinate of a family: its range, the number of dictionary levels, and whether it wraps round."""

    name: str
    low: float
    high: float
    levels: int
    periodic: bool = False

    @property
    def step(self) -> float:
        return (self.high - self.low) / (self.levels if self.periodic else self.levels - 1)

    def grid(self, refine: int = 1) -> F64:
        """Return the levels, `refine` times as dense as the dictionary's."""
        if self.periodic:
            return np.linspace(self.low, self.high, self.levels * refine, endpoint=False)
        return np.linspace(self.low, self.high, (self.levels - 1) * refine + 1)


class Kernels:
    """One-dimensional kernels of every operator for a kernel size, tabulated over the scale coordinate.

    Linear interpolation in a table of 4096 entries is exact to 1e-6 of a kernel's largest tap.
    """

    def __init__(self, kh: int, kw: int) -> None:
        self.size = (kh, kw)
        top = max(sigma_limit(kh), sigma_limit(kw)) ** 2 + coordinate_to_scale(_SURROUND[1]) ** 2
        self.limit = float(scale_to_coordinate(np.sqrt(top)))
        variance = coordinate_to_scale(np.linspace(0, self.limit, _TABLE + 1)) ** 2
        self._table: dict[int, tuple[F32, F32]] = {}
        for taps in {kh, kw}:
            values = np.stack([profile(operator, taps, variance) for operator in OPERATORS])
            self._table[taps] = (values.astype(np.float32), np.diff(values, axis=1).astype(np.float32))

    def at(self, operator: str, taps: int, w: F64) -> F32:
        """Return (n, taps) float32 kernels at the scale coordinates w, (n,)."""
        return self.with_slope(OPERATORS.index(operator), taps, w)[0]

    def with_slope(self, operator: int | NDArray[np.intp], taps: int, w: F64) -> tuple[F32, F32]:
        """Return kernels as `at` does and their derivatives in w; operators are rows of `OPERATORS`, one or (n,)."""
        values, difference = self._table[taps]
        place = np.clip(w, 0, self.limit) * (_TABLE / self.limit)
        index = np.minimum(place.astype(np.int64), _TABLE - 1)
        part = (place - index).astype(np.float32)
        slope = difference[operator, index]
        return values[operator, index] + part[:, None] * slope, slope * np.float32(_TABLE / self.limit)

    def product(self, operators: tuple[str, str], wx: F64, wy: F64) -> F32:
        """Return separable patterns of an operator along x and one along y, (n, kh, kw) float32."""
        kh, kw = self.size
        return outer(self.at(operators[1], kh, wy), self.at(operators[0], kw, wx))


def outer(along_y: F32, along_x: F32) -> F32:
    """Return separable kernels, (n, kh, kw), of kernels along y, (n, kh), and x, (n, kw); row 0 has the largest y."""
    return np.asarray(along_y[:, ::-1, None] * along_x[:, None, :], dtype=np.float32)


Make = Callable[[Kernels, F64], F32]


@dataclass(frozen=True, slots=True)
class Family:
    """A class of patterns, or the variant of one with an offset of its own.

    Attributes
    ----------
    name : str
        Key of the class in files, e.g. "forward_dx"; the variants of a class share it.
    title : str
        For tables and figures.
    axes : names of the coordinates: "x", "y" (scale coordinate of sigma_x, sigma_y), "s" (of both), "angle"
        (radians, anticlockwise from x), "surround" (scale coordinate of the variance that a difference of
        Gaussians' wider one has more), "balance" (ln of the wider one's weight), "weight" (ln of the Laplacian's),
        "turn" (radians, all round: the direction of a one-sided difference), "shift" (of the centre along the direction
        of differentiation, pixels), "stretch" (ln of the larger sigma over the smaller).
    make : (Kernels, (n, P) coordinates) -> (n, kh, kw) float32, neither centred nor normalised.
    offset : (x, y) of the pattern's centre of symmetry, pixels.
    angle : direction of differentiation, degrees anticlockwise from x; None where it is a coordinate or has no meaning.
    operators : of a separable family, along x and along y; () for the others.
    chosen : number of coordinates that a filter has fitted by the choice among the class's variants: an offset along
        one axis counts as one.
    """

    name: str
    title: str
    axes: tuple[str, ...]
    make: Make
    offset: tuple[float, float] = (0.0, 0.0)
    angle: float | None = None
    operators: tuple[str, str] | tuple[()] = ()
    chosen: int = 0

    @property
    def free(self) -> int:
        """Number of fitted coordinates, an offset that was chosen included."""
        return len(self.axes) + self.chosen

    def coordinates(self, kh: int, kw: int) -> tuple[Axis, ...]:
        """Return the range and dictionary levels of each coordinate for a kernel size."""
        return tuple(_axis(name, kh, kw) for name in self.axes)


def _axis(name: str, kh: int, kw: int) -> Axis:
    if name == "angle":
        return Axis(name, 0.0, float(np.pi), 16, periodic=True)
    if name == "surround":
        return Axis(name, *_SURROUND, 7)
    if name == "balance":
        return Axis(name, *_BALANCE, 7)
    if name == "weight":
        return Axis(name, *_WEIGHT, 7)
    if name == "turn":
        return Axis(name, 0.0, 2 * float(np.pi), 24, periodic=True)
    if name == "shift":
        return Axis(name, -_H, _H, 5)
    if name == "stretch":
        return Axis(name, 0.0, _STRETCH, 4)
    taps = {"x": kw, "y": kh, "s": max(kh, kw)}[name]
    high = float(scale_to_coordinate(sigma_limit(taps)))
    return Axis(name, 0.0, high, max(4, round(high / 0.45) + 1))


def _separable(
    name: str,
    title: str,
    operators: tuple[str, str],
    offset: tuple[float, float] = (0, 0),
    angle: float | None = None,
    *,
    chosen: int = 0,
) -> Family:
    def make(kernels: Kernels, c: F64) -> F32:
        return kernels.product(operators, c[:, 0], c[:, 1])

    return Family(name, title, ("x", "y"), make, offset, angle, operators, chosen)


def _isotropic_gaussian(kernels: Kernels, c: F64) -> F32:
    return kernels.product(("smooth", "smooth"), c[:, 0], c[:, 0])


def _delta(kernels: Kernels, c: F64) -> F32:
    zero = np.zeros(len(c))
    return kernels.product(("smooth", "smooth"), zero, zero)


def _laplacian(kernels: Kernels, c: F64) -> F32:
    w = c[:, 0]
    return kernels.product(("second", "smooth"), w, w) + kernels.product(("smooth", "second"), w, w)


def _oriented_first(kernels: Kernels, c: F64) -> F32:
    """Steer the first derivatives: cos(a) D0x T + sin(a) D0y T (Lindeberg 1993, book, equation 5.54)."""
    w, cos, sin = c[:, 0], *_direction(c[:, 1])
    along_x, along_y = kernels.product(("central", "smooth"), w, w), kernels.product(("smooth", "central"), w, w)
    return np.asarray(cos * along_x + sin * along_y, np.float32)


def _oriented_second(kernels: Kernels, c: F64) -> F32:
    """Steer the second derivatives: cos^2 D2x T + 2 cos sin D0x D0y T + sin^2 D2y T (the same, equation 5.54)."""
    w, cos, sin = c[:, 0], *_direction(c[:, 1])
    mixed = kernels.product(("central", "central"), w, w)
    along_x, along_y = kernels.product(("second", "smooth"), w, w), kernels.product(("smooth", "second"), w, w)
    return np.asarray(cos**2 * along_x + 2 * cos * sin * mixed + sin**2 * along_y, np.float32)


def _direction(angle: F64) -> tuple[F32, F32]:
    return np.cos(angle).astype(np.float32)[:, None, None], np.sin(angle).astype(np.float32)[:, None, None]


def _difference_of_gaussians(kernels: Kernels, c: F64) -> F32:
    narrow = c[:, 0]
    wide = np.log(np.exp(narrow) + np.exp(c[:, 1]) - 1)  # variances add: exp(w) - 1 is t / TAU
    weight = np.exp(c[:, 2]).astype(np.float32)[:, None, None]
    surround = kernels.product(("smooth", "smooth"), wide, wide)
    return kernels.product(("smooth", "smooth"), narrow, narrow) - weight * surround


def _centre_minus_laplacian(kernels: Kernels, c: F64) -> F32:
    w, weight = c[:, 0], np.exp(c[:, 1]).astype(np.float32)[:, None, None]
    return kernels.product(("smooth", "smooth"), w, w) - weight * _laplacian(kernels, c)


_SHIFTS = (("smooth", 0.0), ("smooth-", -_H), ("smooth+", _H))
_GAUSSIANS = [
    _separable("gaussian", "Gaussian", (along_x, along_y), (x, y), chosen=(x != 0) + (y != 0))
    for along_x, x in _SHIFTS
    for along_y, y in _SHIFTS
]
FAMILIES: tuple[Family, ...] = (
    Family("delta", "delta", (), _delta),
    Family("gaussian", "Gaussian", ("s",), _isotropic_gaussian),
    *sorted(_GAUSSIANS, key=lambda family: family.free),
    _separable("forward_dx", "forward d/dx", ("forward", "smooth"), (-_H, 0), 0),
    _separable("backward_dx", "backward d/dx", ("backward", "smooth"), (_H, 0), 0),
    _separable("central_dx", "central d/dx", ("central", "smooth"), (0, 0), 0),
    _separable("forward_dy", "forward d/dy", ("smooth", "forward"), (0, -_H), 90),
    _separable("backward_dy", "backward d/dy", ("smooth", "backward"), (0, _H), 90),
    _separable("central_dy", "central d/dy", ("smooth", "central"), (0, 0), 90),
    _separable("dxx", "d2/dx2", ("second", "smooth"), (0, 0), 0),
    _separable("dyy", "d2/dy2", ("smooth", "second"), (0, 0), 90),
    _separable("dxy", "d2/dxdy", ("central", "central")),
    Family("laplacian", "Laplacian", ("s",), _laplacian),
    Family("oriented_first", "oriented first", ("s", "angle"), _oriented_first),
    Family("oriented_second", "oriented second", ("s", "angle"), _oriented_second),
    Family("centre_minus_laplacian", "T - g Laplacian", ("s", "weight"), _centre_minus_laplacian),
    Family("dog", "DoG", ("s", "surround", "balance"), _difference_of_gaussians),
)
"""All families, simplest first: where two coincide, the earlier one names the pattern.

Real filters are off centre by half a pixel (networks with one-sided padding above all), so the Gaussian has variants
with its centre there, and first differences are forward, backward and central. A centred Gaussian also has a variant
with one scale: it is compared with the Laplacian, which has one too.
What else was tried, and gained more on filters without patterns than on real ones, is in `tests/benchmarks`."""


@lru_cache(maxsize=16)
def kernels(kh: int, kw: int) -> Kernels:
    """Return the tabulated kernels of a size, made once."""
    return Kernels(kh, kw)
