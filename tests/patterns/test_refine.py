"""Refinement: the fine grid's bounds, and planted parameters between the dictionary's levels."""

from __future__ import annotations

import numpy as np
import pytest

from mkfa.patterns.dictionary import dictionary, same
from mkfa.patterns.refine import neighbourhoods, refine


@pytest.fixture(scope="module")
def book():
    return dictionary("families", 5, 5)


def test_every_atom_has_one_neighbourhood_with_itself_in_the_middle(book):
    every = np.concatenate([around.atoms for around in neighbourhoods(dictionary("families", 5, 5))])
    assert sorted(every.tolist()) == list(range(len(book.atoms)))
    for around in neighbourhoods(dictionary("families", 5, 5)):
        middle = around.inside.shape[1] // 2
        assert around.inside[:, middle].all()
        assert around.place[:, middle] == pytest.approx(book.coordinates[around.atoms])
        assert around.of(book, 0)[middle] == pytest.approx(book.atoms[around.atoms[0]], abs=1e-6)


def test_no_position_coincides_with_a_simpler_class(book):
    owner = book.variant_class[book.variant]
    for around in neighbourhoods(dictionary("families", 5, 5)):
        for row in range(0, len(around.atoms), 7):
            simpler = book.known[book.known_class < owner[around.atoms[row]]]
            patterns = around.of(book, row)
            if len(simpler):
                assert np.square(patterns @ simpler.T).max() < same(5, 5)
            assert (patterns[~around.inside[row]] == 0).all()


def test_patterns_made_on_demand_are_those_that_are_kept(book, monkeypatch):
    kept = neighbourhoods(dictionary("families", 5, 5))
    monkeypatch.setattr("mkfa.patterns.refine._KEEP_BYTES", 0)
    made = neighbourhoods.__wrapped__(book)
    for a, b in zip(kept, made, strict=True):
        assert b.patterns is None and (a.inside == b.inside).all()
        assert b.of(book, 3 % len(b.atoms)) == pytest.approx(a.of(book, 3 % len(a.atoms)), abs=1e-6)


def test_planted_parameters_between_levels_are_found(book):
    variant = [f.name for f in book.families].index("central_dx")
    axes, rng = book.families[variant].coordinates(5, 5), np.random.default_rng(0)
    place = np.zeros((50, 3))
    for column, axis in enumerate(axes):
        place[:, column] = rng.uniform(axis.low + axis.step, axis.high - axis.step, 50)
    vectors = book.patterns(variant, place)
    pick = (vectors @ book.atoms[book.variant == variant].T).argmax(axis=1) + np.flatnonzero(book.variant == variant)[0]
    found, cosine = refine(vectors, pick.astype(np.int32), book)
    coarse = np.einsum("nk,nk->n", vectors, book.atoms[pick])
    assert (cosine >= coarse - 1e-6).all() and np.square(cosine).min() > 0.9999
    assert np.median(np.abs(found[:, 1] - place[:, 1])) < 0.02  # a twentieth of a level; sigma_y tells at 5x5


def test_pairs_keep_their_order(book):
    rng = np.random.default_rng(1)
    pick = rng.integers(0, len(book.atoms), 300).astype(np.int32)
    _, cosine = refine(-book.atoms[pick], pick, book)
    assert cosine == pytest.approx(-np.ones(300), abs=1e-5)
