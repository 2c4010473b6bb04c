"""The named set `eight` against pyscsp, and the facts published about it."""

from __future__ import annotations

import numpy as np
import pytest
from pyscsp.discscsp import dxmask, dxxmask, dymask, dyymask, make1Ddiscgaussfilter
from scipy.ndimage import correlate

from mkfa.errors import MkfaError, UnknownNameError
from mkfa.patterns.named_sets import NAMED_SETS, named_set

SIGMAS = [
    (0.644, 0.583),
    (0.586, 0.644),
    (0.690, 0.674),
    (0.756, 0.460),
    (1.107, 0.945),
    (0.900, 0.889),
    (0.675, 0.675),
    (0.609, 0.601),
]
FORWARD_X, BACKWARD_X = np.array([[0, -1, 1]]), np.array([[-1, 1, 0]])
FORWARD_Y, BACKWARD_Y = FORWARD_X.T[::-1], BACKWARD_X.T[::-1]  # y up: row 0 is y = +1
LAPLACIAN = np.zeros((3, 3))
LAPLACIAN[1:2] += dxxmask()
LAPLACIAN[:, 1:2] += dyymask()
IDENTITY = np.array([[1.0]])


def smooth(sigma_x: float, sigma_y: float) -> np.ndarray:
    """A smoothed impulse on 41 x 41 taps, by pyscsp's kernels."""
    kernels = []
    for sigma in (sigma_y, sigma_x):
        kernel, line = make1Ddiscgaussfilter(sigma, 1e-12, 2), np.zeros(41)
        line[20 - len(kernel) // 2 : 21 + len(kernel) // 2] = kernel
        kernels.append(line)
    return np.outer(*kernels)


def unit(pattern: np.ndarray, size: int) -> np.ndarray:
    r = size // 2
    pattern = pattern[20 - r : 21 + r, 20 - r : 21 + r]
    pattern = pattern - pattern.mean()
    return pattern / np.linalg.norm(pattern)


@pytest.mark.parametrize("size", [3, 5, 7, 9])
def test_eight_agrees_with_pyscsp(size):
    masks = [FORWARD_Y, BACKWARD_X, BACKWARD_Y, FORWARD_X, dxmask(), dymask(), None, IDENTITY]
    found = named_set("eight", size, size)
    for pattern, mask, sigma in zip(found.patterns, masks, SIGMAS, strict=True):
        base = smooth(*sigma)
        expected = base - 0.5 * correlate(base, LAPLACIAN) if mask is None else correlate(base, mask)
        assert pattern == pytest.approx(unit(expected, size), abs=2e-6)
    assert found.sigmas.tolist() == [list(s) for s in SIGMAS]


def test_eight_is_zero_mean_of_unit_norm_and_labelled():
    found = named_set("eight", 7, 7)
    assert found.patterns.dtype == np.float32 and found.patterns.shape == (8, 7, 7)
    assert found.patterns.sum(axis=(1, 2)) == pytest.approx(np.zeros(8), abs=1e-6)
    assert np.linalg.norm(found.patterns, axis=(1, 2)) == pytest.approx(np.ones(8), abs=1e-6)
    assert found.labels == (
        "forward d/dy",
        "backward d/dx",
        "backward d/dy",
        "forward d/dx",
        "central d/dx",
        "central d/dy",
        "T - 0.5 Laplacian(T)",
        "T",
    )
    assert NAMED_SETS == ("eight",)


def test_one_sided_differences_are_off_centre_by_half_a_pixel_with_y_up():
    """The learned keys' centres of mass: f1 (0, -.60), f2 (.56, 0), f3 (0, .69), f4 (-.58, 0), others near 0."""
    y, x = np.mgrid[3:-4:-1, -3:4]
    mass = np.abs(named_set("eight", 7, 7).patterns)
    mass /= mass.sum(axis=(1, 2), keepdims=True)
    centre = np.stack([(mass * x).sum(axis=(1, 2)), (mass * y).sum(axis=(1, 2))], axis=1)
    expected = [(0, -0.5), (0.5, 0), (0, 0.5), (-0.5, 0), (0, 0), (0, 0), (0, 0), (0, 0)]
    assert centre == pytest.approx(np.array(expected), abs=0.01)


def test_a_flip_of_y_swaps_forward_and_backward():
    patterns = named_set("eight", 7, 7).patterns
    flipped = patterns[:, ::-1].reshape(8, -1)
    assert abs(patterns[0].reshape(-1) @ flipped[2]) > 0.98
    assert abs(patterns[0].reshape(-1) @ patterns[2].reshape(-1)) < 0.3


def test_unknown_sets_and_kernels_without_patterns_are_refused():
    with pytest.raises(UnknownNameError, match="eight"):
        named_set("eigth", 7, 7)
    with pytest.raises(MkfaError, match="constant"):
        named_set("eight", 1, 1)
