"""Plan the rows and cells of a matrix: sources, targets, and controls that need no source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mkfa.errors import MkfaError
from mkfa.experiments.needed_runs import check_arms, source_label
from mkfa.experiments.sources import Source, find_source
from mkfa.images.opened import Domains
from mkfa.results.matrix import SELFFER

CONTROLS = ("random", "delta")
"""Default controls: untrained filters, and an arm that must hurt."""


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows and columns of a matrix.

    Attributes
    ----------
    domains : targets by their own names; each is also a source.
    names : all rows: sources that are not targets, then `domains`.
    sources : sources of the rows, in order.
    """

    domains: tuple[str, ...]
    names: tuple[str, ...]
    sources: tuple[Source, ...]


def find_rows(targets: Sequence[str], domains: Domains, *, more: Sequence[str] = (), what: str) -> Rows:
    """Find the targets and all sources from the names and paths that a user gives.

    Parameters
    ----------
    targets : names or paths of the targets.
    more : sources that are not targets: domains, packed files, image folders; for "depthwise" also banks, checkpoints.

    Raises MkfaError: there are fewer than two sources, two have the same name, or as `find_source` and `Domains`.
    """
    names = [domains[name].name for name in targets]
    least = 1 if more else 2
    if len(set(names)) < max(least, len(targets)):
        problem = f"does not name {'one' if least == 1 else 'two'} or more different domains"
        raise MkfaError(f"--target {','.join(targets)}", problem, "name each domain once")
    above = [find_source(name, what=what) for name in more]
    rows = [source_label(source, domains) for source in above]
    for i, name in enumerate(rows):
        if name in names:
            raise MkfaError(
                f"--source {more[i]}",
                f"is called {name}, as one of --target is",
                "leave it out: every target is a source too",
            )
        if name in rows[:i]:
            problem = f"is called {name}, as another of them is"
            raise MkfaError(f"--source {more[i]}", problem, "name each source once, or rename a file")
    below = [Source(name, text) for name, text in zip(names, targets, strict=True)]
    return Rows(tuple(names), (*rows, *names), (*above, *below))


def find_controls(text: str | None, *, what: str) -> tuple[tuple[str, ...], str]:
    """Return the requested controls, and a note for the user.

    Parameters
    ----------
    text : names joined by commas, "none", or None for those of `CONTROLS` that can set such layers.

    Raises MkfaError: a name is not an arm, or the arm needs a source or cannot set these layers.
    """
    from mkfa.arms.arms import ARMS, find_arm

    if text is None:
        fit = tuple(name for name in CONTROLS if what == "depthwise" or not ARMS[name].depthwise_only)
        left = [name for name in CONTROLS if name not in fit]
        note = (
            (
                f"Control{'s' if len(fit) > 1 else ''} {', '.join(fit)}; not {', '.join(left)}, which sets single "
                f"kernels: {what} layers have no use for it."
            )
            if left
            else ""
        )
        return fit, note
    if text.strip() == "none":
        return (), ""
    names = tuple(dict.fromkeys(part.strip() for part in text.split(",")))
    if "" in names:
        raise MkfaError(f"--controls {text!r}", "has an empty name in it", "join names by single commas, or say none")
    for name in names:
        if name != "baseline" and find_arm(name).source in ("needed", "own"):
            problem = f"arm {name} takes filters from a source, and a control has none"
            raise MkfaError(f"--controls {text}", problem, f"choose among {', '.join(_without_source())}")
    check_arms(names, what=what)
    return names, ""


def check_arm(arm: str, *, what: str) -> None:
    """Refuse an arm for which sources make no difference.

    Raises MkfaError: the arm uses no source, or always the target's own base run; or as `check_arms`.
    """
    from mkfa.arms.arms import find_arm

    check_arms([arm], what=what)
    if find_arm(arm).source not in ("needed", "own"):
        raise MkfaError(
            f"--arms {arm}",
            "takes no filters from a source, so that all rows would be one",
            f"name it as a separate row: --controls {arm}",
        )
    if find_arm(arm).source == "own":
        problem = "borrows from the target's own network whatever the source"
        raise MkfaError(f"--arms {arm}", problem, "leave it out: selffer is on the diagonal")


def plan_rows(
    rows: Rows, *, targets: Sequence[str], arm: str, layers: int, controls: Sequence[str]
) -> list[tuple[Source, str, str, int]]:
    """Return a matrix's cells, as `plan_cells` takes them: sources row by row, then controls."""
    cells = [
        (source, target, SELFFER if row == column else arm, layers)
        for row, source in zip(rows.names, rows.sources, strict=True)
        for column, target in zip(rows.domains, targets, strict=True)
    ]
    return cells + [(Source(""), target, control, layers) for control in controls for target in targets]


def _without_source() -> list[str]:
    from mkfa.arms.arms import ARMS

    return [name for name, arm in ARMS.items() if arm.source not in ("needed", "own") and name != "baseline"]
