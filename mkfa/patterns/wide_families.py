"""Families beyond `FAMILIES`: elongated or one-sided in any direction, third order, shifted (numpy only).

They describe patterns that some filters have, but each gains more R² on filters without patterns than on real ones
(`tests/benchmarks/basis_gain.py` measures that). So they are a basis of their own, "wide", with its own nulls.
"""

from __future__ import annotations

import numpy as np

from mkfa.array_types import F32, F64
from mkfa.patterns.families import FAMILIES, Family, Kernels, coordinate_to_scale, kernels, outer, scale_to_coordinate
from mkfa.patterns.scale_space import positions


def _oblique(table: Kernels, c: F64) -> F32:
    """Return T one pixel away in direction a, interpolated between four positions, less T.

    That is cos D±x T + sin D±y T + cos sin D±x D±y T, forward along x where cos is positive, else backward, and along
    y by the sign of sin.
    """
    w, (kh, kw) = c[:, 0], table.size
    cos, sin = (part(c[:, 1]).astype(np.float32)[:, None] for part in (np.cos, np.sin))
    x = np.where(cos >= 0, table.at("forward", kw, w), table.at("backward", kw, w))
    y = np.where(sin >= 0, table.at("forward", kh, w), table.at("backward", kh, w))
    along_x, along_y = outer(table.at("smooth", kh, w), cos * x), outer(sin * y, table.at("smooth", kw, w))
    return np.asarray(along_x + along_y + outer(sin * y, cos * x), np.float32)


def _third(table: Kernels, c: F64) -> F32:
    """Steer the third derivatives: the cube of cos(a) Dx + sin(a) Dy, Dx^3 = D0x D2x (Lindeberg 1993, JMIV)."""
    w, a = c[:, 0], c[:, 1]
    cos, sin = (part(a).astype(np.float32)[:, None, None] for part in (np.cos, np.sin))
    terms = (
        cos**3 * table.product(("third", "smooth"), w, w),
        3 * cos**2 * sin * table.product(("second", "central"), w, w),
        3 * cos * sin**2 * table.product(("central", "second"), w, w),
        sin**3 * table.product(("smooth", "third"), w, w),
    )
    return np.asarray(sum(terms), np.float32)


def _shifted_dx(table: Kernels, c: F64) -> F32:
    """D0x T - o D2x T: the central difference at o = 0, the forward at -1/2, the backward at 1/2."""
    shift = c[:, 2].astype(np.float32)[:, None, None]
    central = table.product(("central", "smooth"), c[:, 0], c[:, 1])
    return np.asarray(central - shift * table.product(("second", "smooth"), c[:, 0], c[:, 1]), np.float32)


def _shifted_dy(table: Kernels, c: F64) -> F32:
    shift = c[:, 2].astype(np.float32)[:, None, None]
    central = table.product(("smooth", "central"), c[:, 0], c[:, 1])
    return np.asarray(central - shift * table.product(("smooth", "second"), c[:, 0], c[:, 1]), np.float32)


def elongated(table: Kernels, c: F64) -> F32:
    """Return elongated Gaussians one position wider on every side, (n, kh + 2, kw + 2) float32, row 0 the largest y.

    The covariance matrix has the variance t along the angle and t exp(2 stretch) across it. With d = |Cxy|, the kernel
    is the product of discrete Gaussians of variance Cxx - d along x, Cyy - d along y and d along a diagonal (Lindeberg
    2017, arXiv 1701.02127, without its term of fourth order): its covariance is exact and it is nowhere negative.

    Parameters
    ----------
    c : (n, 3) scale coordinate of t, stretch, angle.
    """
    kh, kw = table.size
    t, ratio, cos, sin = coordinate_to_scale(c[:, 0]) ** 2, np.exp(2 * c[:, 1]), np.cos(c[:, 2]), np.sin(c[:, 2])
    cxx, cyy, cxy = t * (cos**2 + ratio * sin**2), t * (sin**2 + ratio * cos**2), t * (1 - ratio) * cos * sin
    d = np.abs(cxy)
    x, y = (np.arange(p[0] - 1, p[-1] + 2) for p in (positions(kw), positions(kh)))
    far = 4 + 2 * max(kh, kw)  # three standard deviations of the widest diagonal Gaussian
    k = np.arange(-far, far + 1)
    reach = int(max(np.abs(x).max(), np.abs(y).max())) + far
    line = kernels(2 * reach + 1, 2 * reach + 1)

    def gaussian(variance: F64) -> F32:
        return line.at("smooth", 2 * reach + 1, scale_to_coordinate(np.sqrt(np.maximum(variance, 0))))

    diagonal = gaussian(d)[:, reach + k]
    along_x = gaussian(cxx - d)[:, reach + x[:, None] - k]
    up = gaussian(cyy - d)
    along_y = np.where((cxy >= 0)[:, None, None], up[:, reach + y[:, None] - k], up[:, reach + y[:, None] + k])
    found = (along_y * diagonal[:, None]) @ along_x.transpose(0, 2, 1)
    return np.asarray(found[:, ::-1], np.float32)


def _elongated_gaussian(table: Kernels, c: F64) -> F32:
    return elongated(table, c)[:, 1:-1, 1:-1]


def _elongated_first(table: Kernels, c: F64) -> F32:
    g, cos, sin = elongated(table, c), np.cos(c[:, 2]), np.sin(c[:, 2])
    along_x, along_y = (g[:, 1:-1, 2:] - g[:, 1:-1, :-2]) / 2, (g[:, :-2, 1:-1] - g[:, 2:, 1:-1]) / 2
    return np.asarray(cos[:, None, None] * along_x + sin[:, None, None] * along_y, np.float32)


def _elongated_second(table: Kernels, c: F64) -> F32:
    g, cos, sin = elongated(table, c), np.cos(c[:, 2])[:, None, None], np.sin(c[:, 2])[:, None, None]
    middle = g[:, 1:-1, 1:-1]
    xx = g[:, 1:-1, 2:] - 2 * middle + g[:, 1:-1, :-2]
    yy = g[:, :-2, 1:-1] - 2 * middle + g[:, 2:, 1:-1]
    xy = (g[:, :-2, 2:] - g[:, :-2, :-2] - g[:, 2:, 2:] + g[:, 2:, :-2]) / 4
    return np.asarray(cos**2 * xx + 2 * cos * sin * xy + sin**2 * yy, np.float32)


WIDER: tuple[Family, ...] = (
    Family("oblique_one_sided", "oblique one-sided", ("s", "turn"), _oblique),
    Family("oriented_third", "oriented third", ("s", "angle"), _third),
    Family("shifted_first", "shifted first", ("x", "y", "shift"), _shifted_dx, angle=0),
    Family("shifted_first", "shifted first", ("x", "y", "shift"), _shifted_dy, angle=90),
    Family("elongated_gaussian", "elongated Gaussian", ("s", "stretch", "angle"), _elongated_gaussian),
    Family("elongated_first", "elongated first", ("s", "stretch", "angle"), _elongated_first),
    Family("elongated_second", "elongated second", ("s", "stretch", "angle"), _elongated_second),
)
WIDE: tuple[Family, ...] = tuple(sorted((*FAMILIES, *WIDER), key=lambda family: len(family.axes) == 3))
"""The basis "wide", simplest first."""
