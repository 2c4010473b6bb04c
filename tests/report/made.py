"""Banks, assignments and maps that are made up, for tests of reports."""

from __future__ import annotations

import numpy as np

from mkfa.banks.bank import FilterBank, Layer, Provenance, make_bank
from mkfa.banks.bank_file import Analysis
from mkfa.nulls.draws import DEFAULT_NULLS
from mkfa.patterns.basis_assignment import BasisAssignment
from mkfa.patterns.dictionary import dictionary, version
from mkfa.patterns.stored import stored_assignment
from mkfa.report.analyses import FilterPlaces

HOSTILE = '</script><img src=x onerror="window.hacked=1"><script>window.hacked=1</script>\'&amp;'
"""What a stranger may write into a file: the name of a bank, a layer, a data set."""
LAYER = "<b onmouseover='window.hacked=1'>blocks.0</b>\u202e"


def small_bank(name: str, seed: int, *, planted: np.ndarray | None = None) -> FilterBank:
    """Return a bank of three layers of smooth noise, 40 filters of 3x3, 30 of 3x3 and 24 of 5x5, the first dead."""
    rng = np.random.default_rng(seed)
    parts = []
    for i, (n, side) in enumerate(((40, 3), (30, 3), (24, 5))):
        weight = rng.standard_normal((n, side, side))
        weight = (weight + np.roll(weight, 1, 1) + np.roll(weight, 1, 2)).astype(np.float32)
        parts.append((Layer(0, LAYER if i == 0 else f"blocks.{i}.weight", -1, 0.0, n, side, side), weight, None))
    if planted is not None:
        parts[0][1][7] = planted
    parts[0][1][0] = 0
    facts = Provenance(source="/home/somebody/nets/best.pth", training_set=HOSTILE, notes=(f"A note: {HOSTILE}",))
    return make_bank(name, parts, facts)


def claims() -> dict[str, object]:
    """Return a result of `mkfa claims` with one claim of each state."""

    def verdict(state: str, unit: str = "points", **more: object) -> dict[str, object]:
        effect = {"label": "digits", "unit": unit, "difference": 0.094, "low": 0.045, "high": 0.142, "p": 0.001}
        finding = {"text": "transfer above random", "side": "supports", "holds": True, "effect": effect, "p": 0.001}
        known = {"state": state, "sentence": HOSTILE, "scale": {"name": "laptop"}, "setting": "a mixer", "seeds": 5}
        known |= {"effect": effect, "sensitivity": 0.41, "smallest_visible_difference": 0.012, "missing": ["runs: x"]}
        return {**known, "reason": f"Because {HOSTILE}", "findings": [finding], **more}

    entries = [
        {
            "id": f"C{i}",
            "sentence": HOSTILE,
            "source": "Table 1",
            "verdict": verdict(state, unit),
            "others": [],
            "printed": verdict("supported", printed=True),
        }
        for i, (state, unit) in enumerate(
            zip(("supported", "contradicted", "inconclusive"), ("points", "%", "rho"), strict=True)
        )
    ]
    return {"format": "mkfa.claims", "format_version": 1, "command": "", "claims": entries}


def graft_record() -> dict:
    """Return the JSON of a graft with two curves and both kinds of batch statistics; agreement grows with size."""

    def point(curve: str, vocabulary: str, agreement: float, **more: object) -> dict:
        ends = {"agreement_low": agreement - 0.1, "agreement_high": agreement + 0.1}
        known = {"curve": curve, "vocabulary": vocabulary, "size": 8, "layers": "1..3", "threshold": 0.0}
        known |= {"batch_norm": "kept", "draws": 2, "images": 50, "kl": 1.5, "correlation": 0.5, "accuracy": None}
        return known | {"agreement": agreement, **ends, "cosine": 0.9, "replaced": 1.0} | more

    names = {"keys:mine": "asked", "keys:covariance:mine": "control", "keys:covariance:other": "control"}
    points = [point("unchanged", "", 1.0, size=0), point("unchanged", "", 0.6, size=0, batch_norm="re-estimated")]
    for i, name in enumerate(names):
        points += [point("size", name, 0.2 + 0.1 * i, size=8), point("size", name, 0.6 + 0.1 * i, size=64)]
        points += [point("size", name, 0.3, size=8, batch_norm="re-estimated")]
        points += [point("alone", name, 0.5, layers="2"), point("alone", name, 0.7, layers="3")]
    return {
        "format": "mkfa.graft",
        "network": HOSTILE,
        "images": "photographs",
        "asked": 50,
        "calibrated": 50,
        "draws": 2,
        "seed": 0,
        "keep": 0.9,
        "layers": [{"layer": 1}, {"layer": 2}, {"layer": 3}],
        "vocabularies": [
            {"name": n, "title": f"{n}, {HOSTILE}", "role": role, "filters": {}} for n, role in names.items()
        ],
        "answer": f"To keep 90 %, {HOSTILE}.",
        "caveat": "",
        "notes": ["A note."],
        "points": points,
    }


def sweep_record() -> dict:
    """Return the JSON of a sweep over two widths with two arms."""

    def cell(arm: str, relative: float) -> dict:
        return {
            "source": "a",
            "target": "b",
            "arm": arm,
            "layers": 4,
            "seeds": [0, 1],
            "top1": [0.5, 0.6],
            "mean": 0.55,
            "std": 0.05,
            "relative": relative,
            "half_width": 0.02,
            "diverged": 0,
            "missing": 0,
        }

    points = [
        {
            "width": width,
            "kernel": 5,
            "ratio": width / 25,
            "steps": 150,
            "curve": {"base": cell("baseline", 0.0), "cells": [cell("transfer", -0.01), cell("random", -2 / width)]},
        }
        for width in (16, 32)
    ]
    trend = {
        "axis": "D / f^2",
        "series": "transfer",
        "against": "random",
        "x": [0.64, 1.28],
        "values": [0.1, 0.05],
        "half_widths": [0.02, 0.02],
        "doubling": True,
        "slope": -0.05,
        "half_width": 0.01,
        "p": 0.01,
        "paired": None,
        "rho": None,
        "p_rho": None,
        "margin": 0.01,
        "crossing": [2.2, 1.9, 3.0],
        "seeds": 2,
    }
    return {"format": "mkfa.sweep", "points": points, "trends": [trend], "parameters": {"source": "a", "target": "b"}}


def noise_bank(filters: int, *, side: int = 7, layers: int = 20, name: str = "noise") -> FilterBank:
    """Return a bank of Gaussian noise, which compresses worst of all."""
    rng = np.random.default_rng(filters)
    size = filters // layers
    parts = []
    for i in range(layers):
        weight = rng.standard_normal((size, side, side)) * 10.0 ** rng.uniform(-2, 0, (size, 1, 1))
        parts.append((Layer(0, f"stages.{i}.conv.weight", -1, 0.0, size, side, side), weight.astype(np.float32), None))
    return make_bank(name, parts, Provenance(source="made up"))


def random_assignment(bank: FilterBank) -> BasisAssignment:
    """Return an assignment with random classes, fits and p-values for every filter of a bank with one kernel size."""
    kind = bank.kinds[0]
    n, rng = len(bank), np.random.default_rng(0)
    book = dictionary("families", kind.kh, kind.kw)
    label = rng.integers(len(book.names), size=n).astype(np.int16)
    columns = {"label": label, "r2": rng.uniform(0, 1, n), "runner_up": label, "runner_up_r2": rng.uniform(0, 1, n)}
    columns |= {"p": rng.uniform(1e-4, 1, n), "gain": rng.standard_normal(n), "offset": rng.standard_normal(n)}
    arrays = {f"{kind.kh}x{kind.kw}.{key}": np.asarray(value) for key, value in columns.items()}
    for null in DEFAULT_NULLS:
        arrays[f"null.{kind}.{null}"] = np.sort(rng.uniform(0, 0.9, 99)).astype(np.float32)
        arrays[f"null_label.{kind}.{null}"] = rng.integers(len(book.names), size=99).astype(np.int16)
    known = {"basis": "families", "basis_version": version("families"), "classes": list(book.names)}
    known |= {"titles": list(book.titles), "null": "shuffled", "draws": 99, "seed": 0, "skipped": {}}
    made = stored_assignment(bank, Analysis("assign-families", arrays, known))
    assert made is not None
    return made


def random_map(bank: FilterBank, points: int) -> FilterPlaces:
    """Return a map of some filters of a bank at random places."""
    rng = np.random.default_rng(1)
    row = np.sort(rng.choice(len(bank), points, replace=False))
    facts = {"clusters": 4, "filters": len(bank), "p": 0.05, "verdict": "continuum", "reason": "made up", "seed": 0}
    cluster = rng.integers(4, size=points).astype(np.int32)
    place = rng.standard_normal((points, 2)).astype(np.float32)
    bank_row = np.zeros(points, np.int32)
    return FilterPlaces(bank.kinds[0], (bank.name,), bank_row, row, place, cluster, facts, "")
