"""Accuracy against the number of layers that are set and frozen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mkfa.results.cells import Cell, Finished, Sensitivity, accuracies, chance_of, group_cells, make_cell, sensitivity
from mkfa.results.contrasts import Contrast, contrasts_of
from mkfa.training.spec import BASE


@dataclass(frozen=True, slots=True)
class Curve:
    """Accuracy against the number of borrowed layers: base, cells, chance level, sensitivity, and what made it.

    `contrasts` holds the arms against `random` and the base, and the last step of the arms that borrow.
    """

    base: Cell
    cells: tuple[Cell, ...]
    chance: float
    sensitivity: Sensitivity | None
    parameters: Mapping[str, Any]
    contrasts: tuple[Contrast, ...] = ()


def make_curve(runs: Sequence[Finished], *, parameters: Mapping[str, Any]) -> Curve:
    """Sum up the runs of a curve: those of arm "baseline" are its base."""
    base_runs = [r for r in runs if r.arm == BASE and not r.source.startswith(f"{r.target}+")]
    base = make_cell(base_runs, accuracies(base_runs))
    cells = group_cells([r for r in runs if r.arm != BASE], base.top1)
    contrasts = contrasts_of(base, cells) if base.top1 else ()
    return Curve(base, cells, chance_of(runs), sensitivity(base, cells), dict(parameters), contrasts)
