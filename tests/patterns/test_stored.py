"""An assignment that was stored is the assignment that was made."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from mkfa.banks.bank import Layer, Provenance, make_bank
from mkfa.banks.bank_file import Analysis, read_analyses, read_bank, write_analysis, write_bank
from mkfa.frozen import FrozenDict
from mkfa.patterns.assigning import assign
from mkfa.patterns.stored import stored_assignment
from mkfa.patterns.summary import summarise
from mkfa.storage.records import plain


@pytest.fixture
def made():
    """Return the assignment of a bank of two kernel sizes, one of them with two dilations, and dead filters."""
    rng = np.random.default_rng(3)
    parts = []
    for side, dilation in ((3, 1), (5, 1), (3, 2), (5, 1)):
        weight = rng.standard_normal((40, side, side)).astype(np.float32)
        weight[0] = 0
        parts.append((Layer(0, "a", -1, 0.0, 40, side, side, dilation=(dilation, dilation)), weight, None))
    return assign(make_bank("net", parts, Provenance()), draws=299, null="blurred", seed=5)


def test_the_summary_is_the_same_after_a_file(made, tmp_path):
    path = write_bank(made.bank, tmp_path / "net.h5")
    write_analysis(path, made.analysis())
    back = stored_assignment(read_bank(path), read_analyses(path)["assign-families"])
    assert back is not None
    first, second = plain(summarise(made)), plain(summarise(back))
    assert first == second or _close(first, second)
    for one, other in zip(made.kinds, back.kinds, strict=True):
        assert (one.fit.label == other.fit.label).all()
        assert other.fit.r2 == pytest.approx(one.fit.r2, abs=1e-6)
        assert np.array_equal(one.p, other.p, equal_nan=True)


def _close(a, b) -> bool:
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(_close(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(_close, a, b))
    return a == b or (isinstance(a, float) and b == pytest.approx(a, abs=1e-5))


def test_what_another_version_stored_is_not_taken(made):
    stored = made.analysis()
    without = {name: value for name, value in stored.arrays.items() if not name.startswith("null_label")}
    assert stored_assignment(made.bank, dataclasses.replace(stored, arrays=FrozenDict(without))) is None
    for key, value in (("basis_version", 1), ("classes", ["x"]), ("null", "shuffled-2"), ("basis", "nonsense")):
        changed = Analysis(stored.name, stored.arrays, {**stored.parameters, key: value})
        assert stored_assignment(made.bank, changed) is None
    other = make_bank("other", [(Layer(0, "a", -1, 0.0, 3, 3, 3), np.ones((3, 3, 3), np.float32), None)], Provenance())
    assert stored_assignment(other, stored) is None
