"""The wide basis: kernels against pyscsp, and patterns that "families" cannot describe."""

from __future__ import annotations

import numpy as np
import pytest
from planted import BACKWARD, FORWARD, MIDDLE, smooth
from pyscsp.affscsp import sampldirderaffgausskernelfromsigma12phi
from pyscsp.discscsp import dphiphiphi_mask
from scipy.ndimage import correlate

from mkfa.banks.canonical import normalise
from mkfa.patterns.dictionary import FAMILY_BASES, dictionary
from mkfa.patterns.families import FAMILIES, kernels, scale_to_coordinate
from mkfa.patterns.fit import fit, parameters
from mkfa.patterns.wide_families import WIDER, elongated


def coordinate(sigma: float) -> float:
    return float(scale_to_coordinate(sigma))


def made(name: str, size: int, *place: float) -> np.ndarray:
    family = next(f for f in WIDER if f.name == name)
    return family.make(kernels(size, size), np.array([place]))[0].astype(float)


def cut(pattern: np.ndarray, size: int) -> np.ndarray:
    reach = size // 2
    return pattern[MIDDLE - reach : MIDDLE + reach + 1, MIDDLE - reach : MIDDLE + reach + 1]


def squared_cosine(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a - a.mean(), b - b.mean()
    return float((a * b).sum() ** 2 / (a * a).sum() / (b * b).sum())


@pytest.mark.parametrize("angle", [0.0, 0.4, 1.2, 2.0, 2.9])
def test_an_elongated_gaussian_has_the_covariance_that_it_is_asked_for(angle):
    found = elongated(kernels(41, 41), np.array([[coordinate(1.1), np.log(2.2), angle]]))[0].astype(float)
    x = np.arange(43) - 21
    across, along = 1.1**2, 1.1**2 * 2.2**2
    cos, sin = np.cos(angle), np.sin(angle)
    assert found.sum() == pytest.approx(1, abs=1e-3) and found.min() >= 0
    assert (found * x**2).sum() == pytest.approx(across * cos**2 + along * sin**2, rel=5e-3)
    assert (found * x[::-1, None] ** 2).sum() == pytest.approx(across * sin**2 + along * cos**2, rel=5e-3)
    assert (found * x * x[::-1, None]).sum() == pytest.approx((across - along) * cos * sin, abs=0.02)


@pytest.mark.parametrize(("name", "order"), [("gaussian", 0), ("first", 1), ("second", 2)])
@pytest.mark.parametrize("angle", [0.3, 1.0, 2.4])
def test_elongated_patterns_are_like_pyscsps_sampled_ones(name, order, angle):
    """At these scales sampled and discrete kernels nearly agree."""
    expected = sampldirderaffgausskernelfromsigma12phi(1.4, 2.8, angle, order, 0, 7)
    assert squared_cosine(made(f"elongated_{name}", 15, coordinate(1.4), np.log(2), angle), expected) > 0.96
    wrong = sampldirderaffgausskernelfromsigma12phi(1.4, 2.8, -angle, order, 0, 7)
    assert squared_cosine(made(f"elongated_{name}", 15, coordinate(1.4), np.log(2), angle), wrong) < 0.9


@pytest.mark.parametrize("angle", [0.0, 0.7, 2.5])
def test_third_order_is_pyscsps(angle):
    expected = cut(correlate(smooth(0.9, 0.9), dphiphiphi_mask(angle)), 7)
    assert made("oriented_third", 7, coordinate(0.9), angle) == pytest.approx(expected, abs=3e-6)


def test_one_sided_differences_along_the_axes_are_the_families_own():
    base, scale = smooth(0.8, 0.8), coordinate(0.8)
    expected = [FORWARD, FORWARD.T[::-1], -BACKWARD, -BACKWARD.T[::-1]]
    for quarter, mask in enumerate(expected):
        found = made("oblique_one_sided", 5, scale, quarter * np.pi / 2)
        assert found == pytest.approx(cut(correlate(base, mask), 5), abs=1e-5)


def test_a_first_difference_shifts_from_forward_to_backward():
    base = smooth(0.7, 1.1)
    for shift, mask in ((-0.5, FORWARD), (0.0, (FORWARD + BACKWARD) / 2), (0.5, BACKWARD)):
        found = made("shifted_first", 5, coordinate(0.7), coordinate(1.1), shift)
        assert found == pytest.approx(cut(correlate(base, mask), 5), abs=1e-5)


def fitted(basis: str, pattern: np.ndarray):
    book = dictionary(basis, *pattern.shape)
    found = fit(normalise(pattern.reshape(1, -1).astype(np.float32))[0], book)
    return book.names[found.label[0]], float(found.r2[0]), parameters(found, book)


def test_patterns_that_families_cannot_describe_are_found():
    oblique = cut(correlate(smooth(0.5, 0.5), np.array([[0, 0, 1.0], [0, -1, 0], [0, 0, 0]])), 5)
    bar = sampldirderaffgausskernelfromsigma12phi(0.9, 1.8, 0.6, 2, 0, 3)
    third = cut(correlate(smooth(0.7, 0.7), dphiphiphi_mask(0.5)), 7)
    quarter = cut(correlate(smooth(0.6, 0.6), 0.75 * FORWARD + 0.25 * BACKWARD), 5)
    for pattern, name, least, most in (
        (oblique, "oblique_one_sided", 0.9, 0.7),
        (bar, "elongated_second", 0.96, 0.9),
        (third, "oriented_third", 0.99, 0.95),
        (quarter, "shifted_first", 0.99, 0.97),
    ):
        label, r2, got = fitted("wide", pattern)
        assert label == name and r2 > least
        assert fitted("families", pattern)[1] < most
        if name == "elongated_second":
            assert got.stretch[0] == pytest.approx(2, rel=0.2) and got.angle[0] == pytest.approx(34.4, abs=4)
        if name == "shifted_first":
            assert (got.offset_x[0], got.offset_y[0]) == (pytest.approx(-0.25, abs=0.03), 0)
        if name == "oblique_one_sided":
            assert got.angle[0] == pytest.approx(45, abs=1) and got.offset_x[0] == pytest.approx(-0.354, abs=0.01)


def test_the_wide_basis_has_every_family_once():
    wide = [family.name for family in FAMILY_BASES["wide"]]
    assert sorted(wide) == sorted(f.name for f in (*FAMILIES, *WIDER))
    for size in ((3, 3), (1, 7), (4, 5)):
        book = dictionary("wide", *size)
        assert len(fit(book.atoms, book).label) == len(book.atoms)
