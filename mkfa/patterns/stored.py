"""An assignment that is stored in a bank file, as an assignment again (numpy only)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mkfa.array_types import F32, AnyArray
from mkfa.banks.bank import FilterBank, Kind
from mkfa.banks.bank_file import Analysis
from mkfa.banks.usable import usable_filters
from mkfa.errors import MkfaError
from mkfa.frozen import FrozenDict
from mkfa.nulls.draws import DEFAULT_NULLS
from mkfa.patterns.basis_assignment import BasisAssignment, KindAssignment, NullFits
from mkfa.patterns.dictionary import COORDINATES, dictionary, version
from mkfa.patterns.fit import Fit, Parameters

_NAMES = {"offset_x": "centre_x", "offset_y": "centre_y"}


def stored_assignment(bank: FilterBank, analysis: Analysis, *, r2: float = 0.9) -> BasisAssignment | None:
    """Return the assignment that `mkfa.assign` stored; None for one that another version stored otherwise.

    The patterns' coordinates are not stored, so that examples cannot be drawn from it; its summary is the same.

    Parameters
    ----------
    r2 : R² from which a filter counts as covered.

    Examples
    --------
    >>> import mkfa
    >>> made = mkfa.assign("ppocrv4_rec", draws=99)
    >>> stored_assignment(made.bank, made.analysis()).kinds[0].p.shape == made.kinds[0].p.shape
    True
    """
    known = analysis.parameters
    basis, arrays = str(known.get("basis")), analysis.arrays
    try:
        if known.get("basis_version", 1) != version(basis):
            return None
        names = dictionary(basis, bank.kinds[0].kh, bank.kinds[0].kw).names
        if list(names) != list(known["classes"]):
            return None
        kinds = [k for kind in bank.kinds if (k := _kind(bank, kind, arrays, str(known["null"]))) is not None]
        if not any(k.usable.any() for k in kinds):
            return None
        return BasisAssignment(
            bank,
            basis,
            names,
            tuple(map(str, known["titles"])),
            tuple(kinds),
            str(known["null"]),
            int(known["draws"]),
            int(known["seed"]),
            r2,
            FrozenDict(known["skipped"]),
        )
    except (MkfaError, KeyError, ValueError, TypeError, IndexError, AttributeError):
        return None


def _kind(bank: FilterBank, kind: Kind, arrays: Mapping[str, AnyArray], null: str) -> KindAssignment | None:
    at = f"{kind.kh}x{kind.kw}."
    if f"{at}label" not in arrays:
        return None
    filters = usable_filters(bank, kind)
    layer = bank.of_kind(kind).layer
    row = np.flatnonzero(np.isin(bank.groups[kind.kh, kind.kw].layer, np.unique(layer))).astype(np.int32)
    column = {name.removeprefix(at): values[row] for name, values in arrays.items() if name.startswith(at)}
    labelled = column["label"] >= 0
    if not np.array_equal(labelled, ~(filters.dead | filters.flat | filters.nonfinite)):
        raise ValueError("the filters that have a class are not the usable ones")
    gain = column["gain"].astype(np.float32)
    cosine = np.where(gain < 0, -1, 1) * np.sqrt(np.clip(np.nan_to_num(column["r2"]), 0, 1))
    fitted = Fit(
        column["label"].astype(np.int16),
        np.full(len(row), -1, np.int16),
        np.zeros((len(row), COORDINATES), np.float32),
        cosine.astype(np.float32),
        column["runner_up"].astype(np.int16),
        column["runner_up_r2"].astype(np.float32),
    )
    none = np.full(len(row), np.nan, np.float32)
    parameters = Parameters(*(column.get(_NAMES.get(f, f), none) for f in Parameters.__dataclass_fields__))
    nulls = []
    for name in (n for n in arrays if n.startswith(f"null.{kind}.")):
        which = name.removeprefix(f"null.{kind}.")
        values: F32 = arrays[name].astype(np.float32)
        label = arrays[f"null_label.{kind}.{which}"]  # files of earlier versions have none
        if label.shape != values.shape or not len(values):
            raise ValueError("null filters without classes")
        nulls.append(NullFits(which, values, label.astype(np.int16)))
    order = (null, *DEFAULT_NULLS)
    nulls.sort(key=lambda one: order.index(one.name) if one.name in order else len(order))
    if labelled.any() and (not nulls or nulls[0].name != null):
        raise ValueError("the null is not there")
    masks = filters.dead, filters.flat, filters.nonfinite
    offset, p = column["offset"].astype(np.float32), column["p"].astype(np.float32)
    return KindAssignment(kind, row, layer, *masks, fitted, parameters, gain, offset, p, tuple(nulls))
