"""The dictionary: unit atoms, no pattern twice, and the order of names."""

from __future__ import annotations

import numpy as np
import pytest

from mkfa.errors import MkfaError, UnknownNameError
from mkfa.patterns.dictionary import dictionary, explained_by, grid, ranges, same, unit
from mkfa.patterns.families import FAMILIES, kernels
from mkfa.patterns.named_sets import named_set


@pytest.mark.parametrize("size", [(3, 3), (5, 5), (7, 7), (1, 7), (5, 3), (4, 4)])
def test_atoms_are_unit_and_ordered_by_class(size):
    book = dictionary("families", *size)
    assert book.atoms.sum(axis=1) == pytest.approx(np.zeros(len(book.atoms)), abs=1e-4)
    assert np.linalg.norm(book.atoms, axis=1) == pytest.approx(np.ones(len(book.atoms)), abs=1e-5)
    owner = book.variant_class[book.variant]
    for index in range(len(book.names)):
        assert (owner[book.start[index] : book.start[index + 1]] == index).all()
    assert book.start[-1] == len(book.atoms)


@pytest.mark.parametrize("size", [(3, 3), (5, 5), (7, 7)])
def test_no_atom_is_explained_by_a_simpler_class(size):
    book = dictionary("families", *size)
    owner = book.variant_class[book.variant]
    cos2 = np.square(book.atoms @ book.atoms.T)
    simpler = owner[None, :] < owner[:, None]
    assert cos2[simpler].max() < same(*size)


def test_a_class_that_coincides_throughout_has_no_atoms():
    book = dictionary("families", 3, 3)
    index = book.names.index("centre_minus_laplacian")
    assert book.start[index] == book.start[index + 1]
    assert not any(index == owner for owner, _, _ in book.runs)


@pytest.mark.parametrize("size", [5, 7])
def test_every_class_can_be_found_in_larger_kernels(size):
    assert (np.diff(dictionary("families", size, size).start) > 0).all()


def test_an_offset_counts_as_a_coordinate():
    book = dictionary("families", 5, 5)
    for family, free in zip(book.families, book.free, strict=True):
        moved = sum(shift != 0 for shift in family.offset) if family.name == "gaussian" else 0
        assert free == len(family.axes) + moved


def test_runs_cover_the_atoms_in_order():
    book = dictionary("families", 5, 5)
    assert [book.runs[0][1], *(end for _, _, end in book.runs)] == [first for _, first, _ in book.runs] + [
        len(book.atoms)
    ]
    for owner, first, end in book.runs:
        assert (book.variant_class[book.variant[first:end]] == owner).all()
        assert len(set(book.free[book.variant[first:end]].tolist())) == 1


def test_one_row_of_taps_keeps_only_patterns_along_it():
    book = dictionary("families", 1, 7)
    kept = {book.names[i] for i in range(len(book.names)) if book.start[i] < book.start[i + 1]}
    assert "central_dx" in kept and not kept & {"central_dy", "dxy", "forward_dy"}


def test_patterns_at_the_atoms_coordinates_are_the_atoms():
    book = dictionary("families", 5, 5)
    for variant in np.unique(book.variant).tolist():
        rows = book.variant == variant
        assert book.patterns(variant, book.coordinates[rows]) == pytest.approx(book.atoms[rows], abs=1e-6)


def test_a_named_set_is_a_dictionary_of_its_patterns():
    book, eight = dictionary("eight", 5, 5), named_set("eight", 5, 5)
    assert book.names == eight.labels and (book.free == 0).all()
    assert (book.atoms == eight.patterns.reshape(8, -1)).all()
    assert (book.patterns(3, np.zeros((2, 3))) == book.atoms[[3, 3]]).all()


def test_explained_by_names_the_class():
    known = np.eye(4, dtype=np.float32)[:2]
    given = np.array([[1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 1, 0], [0.98, 0.199, 0, 0]], np.float32)
    assert explained_by(given, known, np.array([5, 7], np.int32), limit=0.97).tolist() == [5, 7, -1, -1]
    assert explained_by(given, known[:0], np.zeros(0, np.int32), limit=0.97).tolist() == [-1] * 4


def test_unit_leaves_constant_patterns_zero():
    found, norm = unit(np.full((1, 3, 3), 2.0, np.float32))
    assert (found == 0).all() and norm[0] < 1e-5


def test_a_grid_twice_as_fine_holds_the_grid():
    family, table = next(f for f in FAMILIES if f.name == "dxx"), kernels(5, 5)
    coarse, fine = grid(family, table, 1)[1], grid(family, table, 2)[1]
    assert {tuple(np.round(c, 9)) for c in coarse} <= {tuple(np.round(c, 9)) for c in fine}


def test_angles_have_no_bounds():
    book = dictionary("families", 5, 5)
    low, high = ranges(book)
    steered = next(i for i, f in enumerate(book.families) if f.name == "oriented_first")
    assert np.isinf(high[steered, 1]) and low[steered, 0] == 0


def test_what_has_no_pattern_or_name_is_refused():
    with pytest.raises(MkfaError, match="constant"):
        dictionary("families", 1, 1)
    with pytest.raises(UnknownNameError):
        dictionary("nine", 3, 3)
