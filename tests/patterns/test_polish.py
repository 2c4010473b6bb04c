"""Polishing reaches the optimum that scipy finds, stays in range and never makes a fit worse."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from mkfa.patterns.dictionary import dictionary, ranges
from mkfa.patterns.polish import polish


@pytest.fixture(scope="module")
def book():
    return dictionary("families", 5, 5)


def noisy(book, variant: int, place: np.ndarray, seed: int) -> np.ndarray:
    vectors = book.patterns(variant, place) + 0.08 * np.random.default_rng(seed).standard_normal((len(place), 25))
    vectors -= vectors.mean(axis=1, keepdims=True)
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("name", ["gaussian", "central_dy", "dxx", "laplacian", "oriented_second", "dog"])
def test_the_maximum_is_scipys(book, name):
    variant = [f.name for f in book.families].index(name)
    axes = book.families[variant].coordinates(5, 5)
    middle = np.array([[a.low + 0.45 * (a.high - a.low) for a in axes] + [0.0] * (3 - len(axes))])
    vectors = noisy(book, variant, np.repeat(middle, 8, axis=0), 0)
    start = np.repeat(middle, 8, axis=0)
    start[:, : len(axes)] += 0.1
    place, cosine = polish(vectors, np.full(8, variant), start, book=book)
    low, high = (b[variant, : len(axes)] for b in ranges(book))
    for vector, found in zip(vectors, cosine, strict=True):

        def loss(c, vector=vector):
            at = np.zeros((1, 3))
            at[0, : len(axes)] = c
            return -(float(book.patterns(variant, at)[0] @ vector) ** 2)

        best = minimize(
            loss,
            start[0, : len(axes)],
            method="Nelder-Mead",
            bounds=list(zip(low, high, strict=True)),
            options={"xatol": 1e-5, "fatol": 1e-9, "maxiter": 4000},
        )
        assert found**2 >= -best.fun - 2e-4
    again = np.einsum("nk,nk->n", vectors, book.patterns(variant, place))
    assert cosine == pytest.approx(again, abs=1e-5)


def test_a_fit_never_gets_worse_and_stays_in_range(book):
    rng = np.random.default_rng(2)
    low, high = ranges(book)
    for variant in range(len(book.families)):
        axes = book.families[variant].coordinates(5, 5)
        start = np.zeros((40, 3))
        for column, axis in enumerate(axes):
            start[:, column] = rng.uniform(axis.low, axis.high, 40)
        vectors = rng.standard_normal((40, 25)).astype(np.float32)
        vectors -= vectors.mean(axis=1, keepdims=True)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        before = np.einsum("nk,nk->n", vectors, book.patterns(variant, start))
        place, after = polish(vectors, np.full(40, variant), start, book=book)
        assert (np.abs(after) >= np.abs(before) - 1e-6).all()
        assert (place >= low[variant] - 1e-9).all() and (place <= high[variant] + 1e-9).all()


def test_fixed_patterns_do_not_move():
    eight = dictionary("eight", 5, 5)
    place, cosine = polish(eight.atoms, np.arange(8), np.zeros((8, 3)), book=eight)
    assert (place == 0).all() and cosine == pytest.approx(np.ones(8), abs=1e-6)
