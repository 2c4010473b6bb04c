"""The paper's printed numbers as a table of points, so that the same rules judge them, in a column of their own.

They have no seeds and no error bars: a printed difference stands for its interval, and a verdict on them says what the
paper claims of its own numbers, not what is true. They are never mixed with results of runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mkfa.errors import MkfaError
from mkfa.evidence.claims import Claim
from mkfa.evidence.paper import tables
from mkfa.evidence.run_table import Point, RunTable, Scale
from mkfa.results.image_error import Answers
from mkfa.training.spec import BASE

ALL = 1
"""Number of layers of printed points: they are all of the network's, whose number does not matter here."""


def printed_table(claim: Claim) -> RunTable | None:
    """Return the printed numbers that a claim is judged by; None if the paper prints none that its rules can take.

    Examples
    --------
    >>> from mkfa.evidence.claims import all_claims
    >>> table = printed_table(all_claims()["C6"])
    >>> len(table.sources("transfer", "Food")), len(table.targets("transfer"))
    (6, 6)
    """
    where = str(claim.printed.get("from", ""))
    if cells := claim.printed.get("cells"):
        points = {
            Point(c["arm"], c.get("source", ""), c["target"], 0 if c["arm"] == BASE else ALL): c["top1"] for c in cells
        }
        return _made(f"as printed, {where}", points)
    if not where:
        return None
    if where not in _READ:
        raise MkfaError(f"claim {claim.id}", f"names {where}, an unknown table", f"choose from {', '.join(_READ)}")
    return _READ[where]()


def printed_points(where: str) -> dict[Point, float]:
    """Return the values of a table in percent, by arm, source, target; empty where the paper prints none."""
    if where not in _READ:
        return {}
    return {p: 100 * next(iter(a.top1.values())) for p, a in _READ[where]().points.items()}


def _made(text: str, points: Mapping[Point, float]) -> RunTable:
    sizes = {row[0]: row[2] for row in tables()["data_sets"]["rows"]}
    names = {"Food": "Food 101", "Cifar10": "CIFAR-10", "STL10": "STL-10"}
    names |= {"Pets": "Oxford-IIIT Pets", "Flowers": "Oxford 102 Flowers"}
    domains = {name for point in points for name in (point.source, point.target)}
    images = {name: int(sizes.get(names.get(name, name), 0)) for name in domains}
    answers = {point: Answers({0: value / 100}, 0, None) for point, value in points.items()}
    return RunTable(Scale("printed", text, layers=ALL), answers, images, printed=True)


def _matrix(what: str) -> Callable[[], RunTable]:
    def read() -> RunTable:
        table, bases = tables()["matrices"][what], tables()["bases"]
        points = {Point(BASE, "", target, 0): bases["accuracy"][target] for target in table["targets"]}
        for target, row in table["accuracy"].items():
            for source, value in row.items():
                points[Point("selffer" if source == target else "transfer", source, target, ALL)] = value
        return _made(f"as printed, {table['table']} and {bases['table']}, {table['model']}", points)

    return read


def _scenarios() -> RunTable:
    one = tables()["scenarios"]
    arms = {"transferred": "transfer", "shuffle_transferred": "shuffle", "first_3_layers_only": "first-k"}
    points = {Point(BASE, "", "natural", 0): one["accuracy"]["baseline"]}
    points |= {Point(arm, "man-made", "natural", ALL): one["accuracy"][name] for name, arm in arms.items()}
    return _made(f"as printed, {one['table']}, {one['model']}", points)


def _architectures() -> RunTable:
    third = tables()["architectures"][0]
    points = {Point("stack", name, third["target"], ALL): value for name, value in third["accuracy"].items()}
    points |= {Point("transfer", p.source, p.target, p.layers): value for p, value in points.items()}
    return _made(f"as printed, {third['table']}", points)


def _other_architecture() -> RunTable:
    """Table 4's HorNet-Tiny beside Table 2's transfer from the same data set within the architecture."""
    fourth = tables()["architectures"][1]
    points: dict[Point, Any] = {
        Point("stack", "Food", "Pets", ALL): fourth["accuracy"]["hornet_tiny on Food"],
        Point("transfer", "Food", "Pets", ALL): tables()["matrices"]["depthwise"]["accuracy"]["Pets"]["Food"],
    }
    return _made(f"as printed, {fourth['table']} and Table 2", points)


_READ: Mapping[str, Callable[[], RunTable]] = {
    "Table 1": _scenarios,
    "Table 2": _matrix("depthwise"),
    "Table 3": _architectures,
    "Table 4": _other_architecture,
    "Table 5": _matrix("pointwise"),
}
