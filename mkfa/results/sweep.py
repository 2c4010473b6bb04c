"""The same arms in networks of several widths and kernel sizes, or trained for several numbers of steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from mkfa.frozen import ByContent
from mkfa.results.cells import cell_rows
from mkfa.results.contrasts import MAIN, REFERENCE, points_of, series_of
from mkfa.results.curve import Curve, make_curve
from mkfa.results.record import RunRecord
from mkfa.results.trends import Side, Trend, make_trend
from mkfa.several import least
from mkfa.storage.records import Result
from mkfa.training.spec import BASE
from mkfa.words import counted

WIDTH_RATIO, STEPS = "D / f^2", "steps"
"""Names of the axes; D is the number of channels, f^2 that of a kernel's taps."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class SweepPoint(ByContent):
    """The arms at one setting.

    Attributes
    ----------
    width, kernel : channels, and size of the kernels, of the narrowest depthwise layer.
    ratio : d / f^2 of that layer.
    steps : optimiser steps of each run; 0 if runs count epochs.
    curve : base and arms, as of a curve with one number of layers.
    """

    width: int
    kernel: int
    ratio: float
    steps: int
    curve: Curve


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Sweep(Result):
    """Arms at several widths, kernel sizes or numbers of steps, and how learned less random filters change with each.

    `trends` has a line for each arm that borrows less `random`, and for `random` and these less the base.
    """

    KIND: ClassVar[str] = "sweep"
    points: tuple[SweepPoint, ...]
    trends: tuple[Trend, ...]
    parameters: Mapping[str, Any]

    def headline(self) -> str:
        """Return the source, the target and the number of settings."""
        p = self.parameters
        return f"{p.get('source')} to {p.get('target')}, {p.get('arch')}: {counted(len(self.points), 'setting')}"

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per finished run: its setting, arm, seed and accuracy, and the summary of its cell."""
        return [
            {"width": p.width, "kernel": p.kernel, "ratio": p.ratio, "steps": p.steps} | row
            for p in self.points
            for cell in (p.curve.base, *p.curve.cells)
            for row in cell_rows(cell)
        ]

    @property
    def weakest(self) -> tuple[SweepPoint, ...]:
        """The settings in which filters are seen least: the smallest drop of the worst arm in SDs of the seeds.

        With one seed there are no SDs, and it is the smallest drop in points.
        """
        seen = [(p, p.curve.sensitivity) for p in self.points if p.curve.sensitivity is not None]
        known = [(p, s.distance) for p, s in seen if s.distance == s.distance] or [(p, s.drop) for p, s in seen]
        return tuple(p for p, _ in least(known, lambda pair: pair[1])) if known else ()


def make_sweep(runs: Sequence[RunRecord], *, parameters: Mapping[str, Any]) -> Sweep:
    """Summarise the runs of a sweep; `parameters["settings"]` lists its settings and says which runs are whose.

    A setting is a mapping with `width`, `kernel`, `ratio`, `steps`, `arch` and `options`.
    """
    points, groups = [], []
    for setting in parameters["settings"]:
        members = [run for run in runs if run.target == parameters["target"] and _belongs(run, setting)]
        if members:
            own = {key: parameters[key] for key in ("source", "target", "what", "seeds", "layers") if key in parameters}
            curve = make_curve(members, parameters=own | {"arch": setting["arch"]})
            numbers = (setting["width"], setting["kernel"], setting["ratio"], setting["steps"])
            points.append(SweepPoint(int(numbers[0]), int(numbers[1]), float(numbers[2]), int(numbers[3]), curve))
            groups.append(members)
    return Sweep(tuple(points), _trends(points, groups), dict(parameters))


def _belongs(run: RunRecord, setting: Mapping[str, Any]) -> bool:
    if run.spec is None:
        return False
    steps = int(run.spec.recipe.get("equal_steps") or 0)
    options = {key: float(value) for key, value in run.spec.options.items()}
    same = options == {key: float(value) for key, value in dict(setting["options"]).items()}
    return run.spec.arch == setting["arch"] and same and steps == setting["steps"]


def _trends(points: Sequence[SweepPoint], groups: Sequence[Sequence[RunRecord]]) -> tuple[Trend, ...]:
    """Return the lines along each axis that varies, at fixed places on the others."""
    axes = {WIDTH_RATIO: [p.ratio for p in points], STEPS: [float(p.steps) for p in points]}
    axes = {name: x for name, x in axes.items() if len(set(x)) > 1 and min(x) > 0}
    sides = _sides(points, groups)
    made = []
    for axis, x in axes.items():
        others = [np.log2(other).tolist() for name, other in axes.items() if name != axis]
        made += [
            make_trend(axis, names, x=x, sides=pairs, doubling=True, beside=others) for names, pairs in sides.items()
        ]
    return tuple(trend for trend in made if trend is not None)


def _sides(points: Sequence[SweepPoint], groups: Sequence[Sequence[RunRecord]]) -> dict[tuple[str, str], list[Side]]:
    """Return, by names of a series and what it is compared with, the runs of both at each setting, if all have any."""
    found: list[dict[str, Any]] = []
    for point, members in zip(points, groups, strict=True):
        answers = points_of(members)
        own: dict[str, Any] = {}
        for name, cells in series_of(point.curve.cells).items():
            cell = cells[-1]
            runs = answers[cell.source, cell.arm, cell.layers]
            if runs.top1 and (cell.arm in MAIN or cell.arm == REFERENCE):
                own[name] = runs
        base = [runs for (_, arm, _), runs in answers.items() if arm == point.curve.base.arm and runs.top1]
        found.append(own | ({point.curve.base.arm: base[0]} if base else {}))
    common = [name for name in found[0] if all(name in own for own in found)] if found else []
    against = [name for name in (REFERENCE, BASE) if name in common]
    return {
        (name, other): [(own[name], own[other]) for own in found]
        for other in against
        for name in common
        if name not in (other, BASE)
    }
