"""A printed count goes with its noun."""

from __future__ import annotations

from mkfa.words import counted


def test_one_is_singular_however_it_is_stored():
    assert counted(1, "run") == counted(1.0, "run") == "1 run"
    assert counted(-1, "point") == "-1 points"
    assert counted(1234567, "byte") == "1,234,567 bytes"
    assert counted(2, "matrix", "matrices") == "2 matrices"
