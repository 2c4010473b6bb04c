"""What a plan needs on the disk, counted before anything is trained, and what is free there."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ParamSpec, Protocol, TypeVar, cast

from mkfa.banks.library import library_folder
from mkfa.engines.estimate import is_left
from mkfa.errors import MkfaError
from mkfa.images.opened import Domains
from mkfa.images.registry import datasets_folder
from mkfa.threads import cores
from mkfa.training.device import Execution
from mkfa.training.network_size import bytes_by_name
from mkfa.training.planned import PlannedRun
from mkfa.training.recipe import Recipe
from mkfa.training.run import recipe_of
from mkfa.training.spec import BASE


class Runs(Protocol):
    """The parts of a plan that are counted: its runs, their images, their folder, and how many run at a time."""

    @property
    def runs(self) -> tuple[PlannedRun, ...]: ...
    @property
    def domains(self) -> Domains: ...
    @property
    def root(self) -> Path: ...
    @property
    def execution(self) -> Execution: ...


P = ParamSpec("P")
T = TypeVar("T", bound=Runs)
_RECORDS = 40_000
"""Bytes of the small files of a run: specification, metrics, result, attempts, each in blocks of its own."""
_BANK = 12_000
"""Bytes of a bank besides its filters."""
_MOMENTS = 2
"""Copies of the weights that the optimiser keeps."""


@dataclass(frozen=True, slots=True)
class DiskNeed:
    """What a plan needs on one file system.

    Attributes
    ----------
    folder : the first folder on this file system that is written to.
    parts : bytes of "checkpoints", "weights", "banks", "records" and "packed images".
    free : bytes that are free there.
    """

    folder: Path
    free: int
    parts: dict[str, int] = field(default_factory=dict)

    @property
    def needed(self) -> int:
        """Bytes of all parts together."""
        return sum(self.parts.values())

    @property
    def record(self) -> dict[str, Any]:
        """The fields as JSON."""
        return {"folder": str(self.folder), "free": self.free, "needed": self.needed, "parts": self.parts}

    def __str__(self) -> str:
        if not self.needed:
            return f"nothing, and {in_words(self.free)} are free in {self.folder}"
        parts = ", ".join(f"{name} {in_words(count)}" for name, count in self.parts.items() if count)
        return f"about {in_words(self.needed)} ({parts}), and {in_words(self.free)} are free in {self.folder}"


def disk_needs(plans: Iterable[Runs], *, at_a_time: int = 0) -> tuple[DiskNeed, ...]:
    """Return what plans need on each file system.

    Checkpoints are those of the runs in progress, each twice while it is replaced; weights and banks are those that
    base runs leave. Images that are not packed yet are counted where they will be.

    Parameters
    ----------
    at_a_time : runs in progress; 0: as many as `--jobs` or cores.
    """
    found: dict[int, DiskNeed] = {}

    def need(folder: Path, what: str, count: int) -> None:
        there = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
        device = there.stat().st_dev
        if device not in found:
            found[device] = DiskNeed(folder, shutil.disk_usage(there).free)
        found[device].parts[what] = found[device].parts.get(what, 0) + count

    packed: set[tuple[str, int]] = set()
    for plan in plans:
        left = [run for run in plan.runs if is_left(run, plan.root)]
        most = at_a_time or plan.execution.jobs or cores()
        checkpoints = []
        for run in left:
            spec, domain = run.spec, plan.domains[run.spec.domain]
            weights, filters = bytes_by_name(spec, domain)
            copies = 1 + _MOMENTS + bool(recipe_of(spec).ema)
            borrowed = sum(group.weight.nbytes for group in run.bank.groups.values()) if run.bank else 0
            checkpoints.append(2 * copies * weights + borrowed)
            need(plan.root, "records", _RECORDS + len(domain.y_test) // 5)
            if spec.arm == BASE:
                need(plan.root, "weights", weights)
                need(plan.root, "banks", filters + _BANK)
                need(library_folder(), "banks", (1 + (spec.seed == 0)) * (filters + _BANK))
            if not domain.digest and (domain.name, domain.size) not in packed:
                packed.add((domain.name, domain.size))
                side = recipe_of(spec).crop_from or domain.size
                count = 3 * (len(domain.y_train) * side**2 + len(domain.y_test) * domain.size**2)
                need(datasets_folder() / "packed", "packed images", count)
        need(plan.root, "checkpoints", sum(sorted(checkpoints)[-most:]))
    return tuple(found.values())


def check_disk(plans: Sequence[Runs], *, at_a_time: int = 0) -> None:
    """Refuse plans that are larger than the disk.

    Raises MkfaError: says what is needed, what is free, and where.
    """
    for need in disk_needs(plans, at_a_time=at_a_time):
        if need.needed > need.free:
            raise MkfaError("this plan", f"needs {need}", "free some space, or choose another --out or MKFA_HOME")


def undecoded_first(make: Callable[P, T]) -> Callable[P, T]:
    """Make a function that plans check all that it can, and the disk, before the first image set is decoded.

    It does so by a plan that decodes none (`mkfa.experiments.planning.Plan.check`).

    The function's keyword `open_domains` makes the `Domains` of a recipe.
    """
    plan: Callable[..., Any] = make

    @functools.wraps(make)
    def planning(*words: Any, open_domains: Callable[[Recipe], Domains] | None = None, **options: Any) -> Any:
        def check() -> None:
            made = plan(*words, **options, open_domains=functools.partial(open_silently, decode=False))
            made.check()
            check_disk([made])

        def opened(recipe: Recipe) -> Domains:
            domains = (open_domains or open_silently)(recipe)
            domains.before_packing = domains.before_packing or check
            return domains

        return plan(*words, **options, open_domains=opened)

    return cast("Callable[P, T]", planning)


def open_silently(recipe: Recipe, *, decode: bool = True) -> Domains:
    """Return the domains of a recipe, opened without messages; `decode` as in `Domains`."""
    r = recipe
    return Domains(r.size, r.max_size, crop_from=r.crop_from, eval_size=r.eval_size, decode=decode)


def in_words(count: float) -> str:
    """Return a number of bytes in words.

    Examples
    --------
    >>> in_words(1_240_000_000), in_words(40_000)
    ('1.2 GB', '0.1 MB')
    """
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{max(count / 1e6, 0.1):,.1f} MB"
