"""Planted filters of a known class, made with pyscsp (Lindeberg's own code), not with mkfa."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from pyscsp.discscsp import dirdermask, dxmask, dxxmask, dxymask, dymask, dyymask, make1Ddiscgaussfilter
from scipy.ndimage import correlate

WIDE = 61
MIDDLE = WIDE // 2
FORWARD, BACKWARD = np.array([[0.0, -1, 1]]), np.array([[-1.0, 1, 0]])
LAPLACIAN = np.zeros((3, 3))
LAPLACIAN[1:2] += dxxmask()
LAPLACIAN[:, 1:2] += dyymask()

Draw = Callable[[np.random.Generator], np.ndarray]


def smooth(sigma_x: float, sigma_y: float) -> np.ndarray:
    """A discrete Gaussian, wide enough to be cropped; row 0 has the largest y."""
    lines = []
    for sigma in (sigma_y, sigma_x):
        line = np.zeros(WIDE)
        kernel = make1Ddiscgaussfilter(sigma, 1e-13, 2)
        line[MIDDLE - len(kernel) // 2 : MIDDLE + len(kernel) // 2 + 1] = kernel
        lines.append(line)
    return np.outer(*lines)


def _sigma(rng: np.random.Generator) -> float:
    """A scale that depthwise filters have, log-uniform."""
    return float(np.exp(rng.uniform(np.log(0.4), np.log(1.4))))


def _masked(mask: np.ndarray) -> Draw:
    return lambda rng: correlate(smooth(_sigma(rng), _sigma(rng)), mask)


def _isotropic(made: Callable[[np.ndarray, np.random.Generator, float], np.ndarray]) -> Draw:
    def draw(rng: np.random.Generator) -> np.ndarray:
        sigma = _sigma(rng)
        return made(smooth(sigma, sigma), rng, sigma)

    return draw


def _delta(_: np.random.Generator) -> np.ndarray:
    pattern = np.zeros((WIDE, WIDE))
    pattern[MIDDLE, MIDDLE] = 1
    return pattern


def _half_pixel_off(rng: np.random.Generator) -> np.ndarray:
    base = smooth(_sigma(rng), _sigma(rng))
    along, by = [((0,), 1), ((0,), -1), ((1,), 1), ((1,), -1), ((0, 1), 1), ((0, 1), -1)][rng.integers(6)]
    for axis in along:
        base = (base + np.roll(base, by, axis=axis)) / 2
    return base


def _dog(base: np.ndarray, rng: np.random.Generator, sigma: float) -> np.ndarray:
    wide = sigma * rng.uniform(1.3, 2.5)
    return base - rng.uniform(0.6, 1.4) * smooth(wide, wide)


KINDS: dict[str, tuple[str, Draw]] = {
    "delta": ("delta", _delta),
    "Gaussian": ("gaussian", lambda rng: smooth(_sigma(rng), _sigma(rng))),
    "Gaussian, half a pixel off": ("gaussian", _half_pixel_off),
    "forward d/dx": ("forward_dx", _masked(FORWARD)),
    "backward d/dx": ("backward_dx", _masked(BACKWARD)),
    "central d/dx": ("central_dx", _masked(dxmask())),
    "forward d/dy": ("forward_dy", _masked(FORWARD.T[::-1])),
    "backward d/dy": ("backward_dy", _masked(BACKWARD.T[::-1])),
    "central d/dy": ("central_dy", _masked(dymask())),
    "d2/dx2": ("dxx", _masked(dxxmask())),
    "d2/dy2": ("dyy", _masked(dyymask())),
    "d2/dxdy": ("dxy", _masked(dxymask())),
    "Laplacian": ("laplacian", _isotropic(lambda base, rng, sigma: correlate(base, LAPLACIAN))),
    "oriented first": (
        "oriented_first",
        _isotropic(lambda base, rng, sigma: correlate(base, dirdermask(rng.uniform(0, np.pi), 1))),
    ),
    "oriented second": (
        "oriented_second",
        _isotropic(lambda base, rng, sigma: correlate(base, dirdermask(rng.uniform(0, np.pi), 2))),
    ),
    "T - g Laplacian": (
        "centre_minus_laplacian",
        _isotropic(lambda base, rng, sigma: base - rng.uniform(0.2, 2) * correlate(base, LAPLACIAN)),
    ),
    "DoG": ("dog", _isotropic(_dog)),
}
"""By title: the class, and what draws a pattern of it."""


def planted(kind: str, size: int, count: int, *, noise: float, seed: int) -> np.ndarray:
    """Filters of one kind, (count, size, size): random parameters, gain of either sign, offset, and white noise.

    `noise` is the noise's norm as a share of the pattern's, both zero-mean: 0.1 is 20 dB.
    """
    rng, reach = np.random.default_rng([seed, size, list(KINDS).index(kind)]), size // 2
    out = np.empty((count, size, size))
    for each in out:
        pattern = KINDS[kind][1](rng)[MIDDLE - reach : MIDDLE + reach + 1, MIDDLE - reach : MIDDLE + reach + 1]
        pattern = pattern - pattern.mean()
        error = rng.standard_normal(pattern.shape)
        error -= error.mean()
        error *= noise / np.linalg.norm(error)
        gain = np.exp(rng.normal()) * rng.choice([-1, 1])
        each[:] = gain * (pattern / np.linalg.norm(pattern) + error) + rng.normal()
    return out
