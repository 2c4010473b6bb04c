"""Every figure in both widths: it is as wide as it is printed, no text is small, cut off or over another."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from itertools import combinations

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from planted_sweep import PARAMETERS, SETTINGS, runs

from mkfa.banks.bank import FilterBank, Layer, Provenance, make_bank
from mkfa.clusters.atlas import FilterMap, build_atlas
from mkfa.clusters.keys import find_keys
from mkfa.errors import MkfaError
from mkfa.evidence.paper import paper_curves, paper_matrix, paper_rows
from mkfa.figures import (
    FIGURES,
    WIDTHS,
    assign,
    atlas,
    compare,
    contact_sheet,
    curve,
    filters,
    graft,
    groups,
    inches,
    keys,
    layer,
    matrix,
    scenarios,
    sweep,
)
from mkfa.figures.style import SMALL
from mkfa.grafts.estimates import Estimate
from mkfa.grafts.result import Graft, Point
from mkfa.images.load import load_domain
from mkfa.patterns.assigning import assign as assign_bank
from mkfa.results.archive import bundled_file, find_experiment, read_experiments
from mkfa.results.gather import make_result, rebuild
from mkfa.similarity.comparing import compare as compare_pair
from mkfa.similarity.comparing import compare_many
from mkfa.similarity.groups import compare_groups


def bank(name: str, seed: int, layers: int = 3) -> FilterBank:
    rng, shared = np.random.default_rng(seed), np.random.default_rng(9).standard_normal((5, 5, 5))
    made = [(Layer(0, "stem", 0, 0, 0, 3, 3), rng.standard_normal((4, 3, 3)).astype(np.float32), None)]
    for i in range(layers):
        weight = shared[rng.integers(0, 5, 40)] + 0.3 * rng.standard_normal((40, 5, 5))
        made.append((Layer(0, f"{name}.{i}", 0, 0, 0, 5, 5, (1, 1), (1, 1)), weight.astype(np.float32), None))
    return make_bank(name, made, Provenance())


def experiment(name):
    return rebuild(find_experiment(read_experiments(bundled_file()), name))


SMALL_COMPARISON = {"draws": 19, "sample": 32, "splits": 2}
NAMES = ("efficientnet_lite0", "a_network_with_quite_a_long_name.in12k_ft_in1k", "c")


@cache
def pair():
    return compare_pair(bank(NAMES[0], 0), bank(NAMES[1], 1), **SMALL_COMPARISON)


def far_pair():
    """A comparison in which values, intervals and nulls lie far off the axis."""
    found = pair()
    kind = found.kinds[0]
    fraction, mean = kind.fraction.copy(), kind.nulls[1].mean.copy()
    fraction[:3], mean[3] = (7.25, -4, np.nan), kind.floor[3] + 9 * (kind.ceiling[3] - kind.floor[3])
    nulls = (kind.nulls[0], replace(kind.nulls[1], mean=mean), *kind.nulls[2:])
    return replace(found, kinds=(replace(kind, fraction=fraction, nulls=nulls),))


@cache
def many():
    return compare_many([bank(n, i) for i, n in enumerate(NAMES)], measures="coverage", **SMALL_COMPARISON)


@cache
def grouped():
    return compare_groups(
        {
            "text and more": [bank(f"t{i}", i) for i in range(3)],
            "images": [bank(f"{NAMES[1]}_{i}", 9 + i) for i in range(2)],
        },
        draws=19,
    )


@cache
def assigned(basis):
    return assign_bank(bank(NAMES[1], 0, layers=14), basis=basis, draws=99)


@cache
def keyed():
    return find_keys([bank("a", 0)], keys=9, candidates=12, sample=100)


@cache
def mapped():
    found = build_atlas([bank(name, i) for i, name in enumerate(NAMES)], clusters=5, sample=60)
    position = np.random.default_rng(1).standard_normal((100, 2)).astype(np.float32)
    return replace(found, map=FilterMap(np.arange(100), position))


@cache
def grafted():
    """A graft with every curve, and a control of each kind for two vocabularies."""
    around = Estimate(0.5, 0.4, 0.6)
    names = [("keys:efficientnet_lite0", "keys of efficientnet_lite0's filters"), ("eight", "the eight published keys")]
    nulls = [
        (f"keys:{null}:{NAMES[1]}", f"keys of the {null} null of {NAMES[1]}") for null in ("shuffled", "covariance")
    ]
    controls = [*nulls, ("covariance:own", "covariance null of the network's own filters"), ("delta", "the identity")]
    points = []
    for norm in ("kept", "re-estimated"):
        blank = Point("unchanged", "", "unchanged", 0, (), 0, norm, 1, 9, around, around, around, around, 0.5, 1, 0)
        points.append(blank)
        for name, _ in (*names, *controls):
            for kind, where in (
                ("size", (8, 64, 2624)),
                ("first", (1, 2, 3)),
                ("alone", (1, 2)),
                ("similarity", (0, 1)),
            ):
                for n in where[:1] if name == "delta" else where:
                    place = {"size": {"size": n}, "similarity": {"threshold": n}}.get(kind, {"layers": (n,)})
                    points.append(replace(blank, curve=kind, vocabulary=name, role="asked", **place))
    rows = [
        {"name": name, "title": title, "role": role, "filters": {"5x5": 9}}
        for role, group in (("asked", names), ("control", controls))
        for name, title in group
    ]
    head = (NAMES[1], "memory", "", {}, "photographs", 9, 9, ())
    return Graft(*head, tuple(rows), 0.9, tuple(points), 0, 2, 0.5, ())


def swept(steps):
    settings = [setting | {"steps": count} for setting in SETTINGS for count in steps]
    made = runs(lambda ratio, count: 0.04 - 0.01 * np.log2(ratio) - 0.002 * np.log2(count), settings=settings)
    return make_result("sweep", made, PARAMETERS | {"settings": settings})


DRAWN: dict[str, Callable[[str], Figure]] = {
    "compare": lambda width: compare.draw(pair(), width=width),
    "compare far": lambda width: compare.draw(far_pair(), width=width),
    "compare matrix": lambda width: compare.draw(many(), width=width),
    "groups": lambda width: groups.draw(grouped(), width=width),
    "assign": lambda width: assign.draw(assigned("families"), width=width),
    "assign eight": lambda width: assign.draw(assigned("eight"), width=width),
    "atlas": lambda width: atlas.draw(mapped(), width=width),
    "keys": lambda width: keys.draw(keyed(), width=width),
    "filters": lambda width: filters.draw(
        filters.compute([bank(n, i) for i, n in enumerate(NAMES)], seed=0), width=width
    ),
    "layer": lambda width: layer.draw(layer.compute(bank(NAMES[1], 0), 2), width=width),
    "graft": lambda width: graft.draw(grafted(), width=width),
    "curve": lambda width: curve.draw(experiment("digits-18-layers"), width=width),
    "curve paper": lambda width: curve.draw(
        experiment("digits-18-layers"), paper=paper_curves("depthwise"), width=width
    ),
    "scenarios": lambda width: scenarios.draw(
        experiment("fashion-digits"), paper=paper_rows(sources=False, what="depthwise"), width=width
    ),
    "sweep": lambda width: sweep.draw(swept((150,)), width=width),
    "sweep two axes": lambda width: sweep.draw(swept((150, 600, 1500)), width=width),
    "matrix": lambda width: matrix.draw(experiment("matrix-18-layers"), paper=paper_matrix("depthwise"), width=width),
    "contact_sheet": lambda width: contact_sheet.draw(contact_sheet.compute(load_domain("emoji")), width=width),
}


@contextmanager
def drawn_texts() -> Iterator[list[tuple[Text, object]]]:
    """Record each text that is really drawn, with its box in pixels: no tick outside the axis, nothing invisible."""
    seen: dict[int, tuple[Text, object]] = {}
    original = Text.draw

    def draw(self, renderer):
        if self.get_visible() and self.get_text().strip():
            seen[id(self)] = (self, self.get_window_extent(renderer))
        original(self, renderer)

    found: list[tuple[Text, object]] = []
    Text.draw = draw
    try:
        yield found
    finally:
        Text.draw = original
        found.extend(seen.values())


def problems(figure: Figure) -> list[str]:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    with drawn_texts() as texts:
        canvas.draw()
    said = [f"{t.get_fontsize():.1f} pt: {t.get_text()!r}" for t, _ in texts if t.get_fontsize() < SMALL]
    wide, tall = canvas.get_width_height()
    for text, box in texts:
        if box.x0 < -1 or box.y0 < -1 or box.x1 > wide + 1 or box.y1 > tall + 1:
            said.append(f"cut off: {text.get_text()!r} {box.extents.round().tolist()} of {wide}, {tall}")
    for (one, a), (other, b) in combinations(texts, 2):
        across, up = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
        if across > 1 and up > 2:
            said.append(f"over one another: {one.get_text()!r} and {other.get_text()!r}")
    return said


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", DRAWN)
def test_texts_are_large_enough_whole_and_apart(name, width):
    figure = DRAWN[name](width)
    assert figure.get_figwidth() <= WIDTHS[width]
    assert problems(figure) == []


def test_every_figure_is_measured():
    assert {name.split()[0] for name in DRAWN} == set(FIGURES)


def test_the_measure_finds_small_cut_and_covering_texts():
    figure = Figure(figsize=(2, 1), dpi=100)
    figure.text(0.1, 0.5, "first", fontsize=5)
    figure.text(0.12, 0.5, "second")
    figure.text(0.9, 0.1, "cut off here")
    assert [line.split(":")[0] for line in problems(figure)] == ["5.0 pt", "cut off", "over one another"]


def test_an_unknown_width_is_refused():
    with pytest.raises(MkfaError, match="choose column or page"):
        inches("foot")
