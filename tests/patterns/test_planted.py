"""Planted filters, made with pyscsp, come back with their class."""

from __future__ import annotations

import numpy as np
import pytest
from planted import KINDS, LAPLACIAN, MIDDLE, planted, smooth
from scipy.ndimage import correlate

from mkfa.banks.canonical import normalise
from mkfa.patterns.coincidence import table_rows
from mkfa.patterns.dictionary import dictionary
from mkfa.patterns.fit import fit, parameters

COUNT = 60


def canonical(weight: np.ndarray) -> np.ndarray:
    return normalise(np.asarray(weight, np.float32).reshape(len(weight), -1))[0]


@pytest.mark.parametrize(("size", "least"), [(3, 0.83), (5, 0.86), (7, 0.90)])
def test_a_class_planted_at_20_db_is_found(size, least):
    """Mean over 17 kinds of the share that comes back in the right row of the table."""
    book, of = dictionary("families", size, size), table_rows("families", [(size, size)]).of[size, size]
    right = {}
    for kind, (name, _) in KINDS.items():
        label = fit(canonical(planted(kind, size, COUNT, noise=0.1, seed=1)), book).label
        right[kind] = np.mean(of[label] == of[book.names.index(name)])
    assert np.mean(list(right.values())) >= least, right
    assert right["Gaussian"] > 0.9 and right["central d/dx"] > 0.9 and right["forward d/dy"] > 0.9
    if size > 3:
        assert right["Laplacian"] > 0.8


def key_seven(size: int, sigma: float, weight: float) -> np.ndarray:
    base, reach = smooth(sigma, sigma), size // 2
    pattern = base - weight * correlate(base, LAPLACIAN)
    return pattern[MIDDLE - reach : MIDDLE + reach + 1, MIDDLE - reach : MIDDLE + reach + 1]


@pytest.mark.parametrize(("sigma", "weight"), [(0.675, 0.5), (0.8, 0.8), (0.6, 0.75)])
def test_the_seventh_published_key_comes_back_as_a_gaussian_less_its_laplacian(sigma, weight):
    """Key 7 is modelled as T - 0.5 Laplacian(T) of sigma 0.675; learned filters have it with other weights."""
    book, pattern = dictionary("families", 7, 7), key_seven(7, sigma, weight)
    found = fit(canonical(-3 * pattern[None] + 1), book)
    assert book.names[found.label[0]] == "centre_minus_laplacian"
    assert found.r2[0] > 0.999
    got = parameters(found, book)
    assert got.weight[0] == pytest.approx(weight, rel=0.15) and got.sigma_x[0] == pytest.approx(sigma, rel=0.1)
    rng = np.random.default_rng(0)
    pattern = pattern - pattern.mean()
    noisy = pattern + np.linalg.norm(pattern) * 0.05 / 7 * rng.standard_normal((100, 7, 7))
    label = fit(canonical(noisy), book).label
    assert np.mean(label == book.names.index("centre_minus_laplacian")) > 0.8
