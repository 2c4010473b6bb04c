"""What sweeps and results drawn again share: tables of a curve and a matrix, their CSV, what they record."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mkfa.cli.output import print_table

if TYPE_CHECKING:
    from mkfa.training.plans import Planned
    from mkfa.training.results import Curve, Matrix

WithPaper = Annotated[bool, typer.Option("--with-paper", help="Draw the paper's values beside ours, in panels of "
                                         "their own.")]  # fmt: skip


def made_by(plan: Sequence[Planned]) -> dict[str, Any]:
    """Return what a result says of its making: the command line, and the runs that belong to it."""
    import shlex

    from mkfa.training.gather import members

    return {"command": shlex.join(["mkfa", *sys.argv[1:]]), "runs": members(plan)}


def print_curve(found: Curve, *, test_images: int, notes: Sequence[str] = ()) -> None:
    """Print a curve: a row a cell, against the base."""
    p = found.parameters
    rows = [_row(found.base), *(_row(c) for c in found.cells)]
    own = ["mean and SD over seeds; change in points against the base, with its 95 % interval (Welch).",
           f"Chance {found.chance:.3f}, {test_images} test images, seeds 0..{p['seeds'] - 1}.",
           sensitivity(found.sensitivity)]  # fmt: skip
    print_table(f"{p['source']} to {p['target']}, {p['arch']}",
                ("arm", "layers", "seeds", "top-1", "SD", "change", "±"), rows, notes=[*own, *notes])  # fmt: skip


def print_matrix(found: Matrix, *, notes: Sequence[str] = ()) -> None:
    """Print a matrix: sources in rows, targets in columns."""
    names, p = found.domains, found.parameters
    rows: list[tuple[Any, ...]] = [("base", *(100 * found.bases[t].mean for t in names))]
    rows += [(s, *(_points(c) for c in found.cells if c.source == s)) for s in names]
    own = [f"Top-1 in %, (change in points); {p['layers']} {p['what']} layers frozen; diagonal: selffer; "
           f"{p['seeds']} seed(s).",
           "Chance " + ", ".join(f"{n} {100 * found.chance[n]:.1f}" for n in names) + " %."]  # fmt: skip
    print_table("Source (rows) to target (columns)", ("", *names), rows, notes=[*own, *notes])


def sensitivity(found: Any) -> str:
    """Return the sentence on what the experiment could have seen."""
    if found is None:
        return "Sensitivity: unknown, nothing is done."
    where = f"{found.worst_arm} at {found.worst_layers} layers, {100 * found.drop:.1f} points below the base"
    if found.distance != found.distance:
        return f"Sensitivity: worst is {where}; its size against the seeds' spread needs two seeds."
    verdict = "" if found.distance > 2 else " Within the seeds' spread: this setting cannot see filters at all."
    distance = f"{found.distance:.1f} SD of the seeds (SD {100 * found.spread:.1f})"
    return f"Sensitivity: worst is {where}, {distance}.{verdict}"


def csv_of(*cells: Any) -> str:
    """Return cells as comma-separated values, a line a seed."""
    lines = ["source,target,arm,layers,seed,top1,cell_mean,cell_sd,change,half_width_95"]
    for c in cells:
        for seed, top1 in zip(c.seeds, c.top1, strict=True):
            lines.append(f"{c.source},{c.target},{c.arm},{c.layers},{seed},{top1!r},{c.mean!r},{c.std!r},"
                         f"{c.relative!r},{c.half_width!r}")  # fmt: skip
    return "\n".join(lines) + "\n"


def _row(cell: Any) -> tuple[Any, ...]:
    state = f"{len(cell.seeds)}" + (f" ({cell.diverged} diverged)" if cell.diverged else "")
    state += f" ({cell.missing} missing)" if cell.missing else ""
    change = None if cell.arm == "baseline" else 100 * cell.relative
    width = None if cell.arm == "baseline" else 100 * cell.half_width
    return cell.arm, cell.layers or None, state, cell.mean, cell.std, change, width


def _points(cell: Any) -> str:
    return f"{100 * cell.mean:.1f} ({100 * cell.relative:+.1f})" if cell.top1 else "–"
