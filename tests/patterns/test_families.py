"""Every family against the same pattern made with pyscsp's smoothing and masks."""

from __future__ import annotations

import numpy as np
import pytest
from pyscsp.discscsp import dirdermask, dxmask, dxxmask, dxymask, dymask, dyymask, make1Ddiscgaussfilter
from scipy.ndimage import correlate

from mkfa.patterns.families import FAMILIES, coordinate_to_scale, kernels, scale_to_coordinate, sigma_limit

SIZE, WIDE = 7, 61
MIDDLE = WIDE // 2
FORWARD_X, BACKWARD_X = np.array([[0.0, -1, 1]]), np.array([[-1.0, 1, 0]])
MASKS = {
    "forward_dx": FORWARD_X,
    "backward_dx": BACKWARD_X,
    "central_dx": dxmask(),
    "forward_dy": FORWARD_X.T[::-1],
    "backward_dy": BACKWARD_X.T[::-1],
    "central_dy": dymask(),
    "dxx": dxxmask(),
    "dyy": dyymask(),
    "dxy": dxymask(),
}
LAPLACIAN = np.zeros((3, 3))
LAPLACIAN[1:2] += dxxmask()
LAPLACIAN[:, 1:2] += dyymask()


def smooth(sigma_x: float, sigma_y: float) -> np.ndarray:
    lines = []
    for sigma in (sigma_y, sigma_x):
        line = np.zeros(WIDE)
        kernel = make1Ddiscgaussfilter(sigma, 1e-13, 2) if sigma else np.ones(1)
        line[MIDDLE - len(kernel) // 2 : MIDDLE + len(kernel) // 2 + 1] = kernel
        lines.append(line)
    return np.outer(*lines)


def shifted(pattern: np.ndarray, offset: tuple[float, float]) -> np.ndarray:
    """Average with the neighbour towards the offset, half a pixel along x (right) and y (up)."""
    x, y = offset
    if x:
        pattern = (pattern + np.roll(pattern, int(2 * x), axis=1)) / 2
    if y:
        pattern = (pattern + np.roll(pattern, -int(2 * y), axis=0)) / 2
    return pattern


def reference(family, c: np.ndarray) -> np.ndarray:
    sigma = dict(zip(family.axes, coordinate_to_scale(c), strict=True))
    if family.name == "delta":
        return smooth(0, 0)
    if "x" in family.axes:
        base = smooth(sigma["x"], sigma["y"])
        return shifted(base, family.offset) if family.name == "gaussian" else correlate(base, MASKS[family.name])
    base = smooth(sigma["s"], sigma["s"])
    if family.name == "gaussian":
        return shifted(base, family.offset)
    if family.name in MASKS:
        return correlate(base, MASKS[family.name])
    if family.name == "laplacian":
        return correlate(base, LAPLACIAN)
    if family.name in ("oriented_first", "oriented_second"):
        return correlate(base, dirdermask(c[1], 1 if family.name == "oriented_first" else 2))
    if family.name == "dog":
        wide = np.hypot(sigma["s"], sigma["surround"])
        return base - np.exp(c[2]) * smooth(wide, wide)
    assert family.name == "centre_minus_laplacian"
    return base - np.exp(c[1]) * correlate(base, LAPLACIAN)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f"{f.name}{f.offset}{''.join(f.axes)}")
def test_a_family_agrees_with_pyscsp(family):
    rng, table = np.random.default_rng(0), kernels(SIZE, SIZE)
    axes = family.coordinates(SIZE, SIZE)
    place = np.array([[rng.uniform(a.low + 0.05, a.high) for a in axes] for _ in range(12)]).reshape(12, len(axes))
    found = family.make(table, place)
    for pattern, c in zip(found, place, strict=True):
        expected = reference(family, c)[MIDDLE - 3 : MIDDLE + 4, MIDDLE - 3 : MIDDLE + 4]
        assert pattern == pytest.approx(expected, abs=3e-6 * max(1, np.abs(expected).max()))


@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f"{f.name}{f.offset}{''.join(f.axes)}")
def test_a_family_is_centred_at_its_offset(family):
    table = kernels(21, 21)
    axes = family.coordinates(21, 21)
    place = np.array([[1.2, 0.7, 0.0][: len(axes)]])
    mass = np.abs(family.make(table, place)[0])
    y, x = np.mgrid[10:-11:-1, -10:11]
    centre = (mass * x).sum() / mass.sum(), (mass * y).sum() / mass.sum()
    assert centre == pytest.approx(family.offset, abs=1e-4)


def test_rectangular_kernels_crop_the_same_pattern():
    family = next(f for f in FAMILIES if f.name == "central_dx")
    place = np.array([[1.0, 2.0]])
    assert family.make(kernels(3, 7), place)[0] == pytest.approx(family.make(kernels(7, 7), place)[0, 2:5], abs=1e-6)


def test_the_scale_coordinate_is_inverted():
    sigma = np.linspace(0, 5, 50)
    assert coordinate_to_scale(scale_to_coordinate(sigma)) == pytest.approx(sigma, abs=1e-12)
    assert coordinate_to_scale(-1e-12) == 0


def test_the_dictionary_reaches_half_the_kernel():
    assert sigma_limit(7) == 3.5
    x = next(f for f in FAMILIES if f.axes == ("x", "y")).coordinates(3, 7)
    assert coordinate_to_scale(x[0].high) == pytest.approx(3.5) and coordinate_to_scale(x[1].high) == pytest.approx(1.5)
