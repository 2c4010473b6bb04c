"""Which runs an experiment needs, base runs first (layer 6)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from mkfa.bank import FilterBank
from mkfa.errors import MkfaError
from mkfa.training.contract import Domain
from mkfa.training.recipe import Recipe
from mkfa.training.runfolder import BASE, RunSpec

SELF = frozenset({"selffer", "selffer+"})
"""Arms that borrow from the target's own base run, whatever the source."""


@dataclass(frozen=True, slots=True)
class Experiment:
    """What all runs of an experiment have in common."""

    arch: str
    recipe: Recipe
    what: str = "depthwise"
    with_bias: bool = False
    fit_kernel: str = ""
    options: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class Origin:
    """Where filters come from: a domain (its base run of the same seed) or one bank for all seeds."""

    name: str
    domain: str = ""
    bank: FilterBank | None = None


@dataclass(frozen=True, slots=True)
class Planned:
    """One run to make: its specification, what it is called in results, the base run or bank that it borrows from."""

    spec: RunSpec
    source: str
    needs: RunSpec | None = None
    bank: FilterBank | None = None


class Domains:
    """Domains by name or path, each read once."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self._read: dict[str, Domain] = {}

    def __getitem__(self, name: str) -> Domain:
        if name not in self._read:
            self._read[name] = self._load(name)
            self._read.setdefault(self._read[name].name, self._read[name])
        return self._read[name]

    def _load(self, name: str) -> Domain:
        """Read a domain at the recipe's size where it is at hand in it, else at its own: the engine scales it."""
        from mkfa.training.domains import DomainError, load_domain

        if self.recipe.size:
            try:
                return load_domain(name, size=self.recipe.size)
            except DomainError:
                return load_domain(name)
        found = load_domain(name)
        if self.recipe.max_size and found.size > self.recipe.max_size:
            return load_domain(name, size=self.recipe.max_size)
        return found


def base_run(experiment: Experiment, domain: Domain, seed: int) -> RunSpec:
    """Return the specification of a base run."""
    return RunSpec(
        arch=experiment.arch, domain=domain.name, domain_digest=domain.digest, recipe_name=experiment.recipe.name,
        recipe=experiment.recipe.identity, seed=seed, options=dict(experiment.options),
    )  # fmt: skip


def plan_bases(experiment: Experiment, domains: Domains, *, names: Sequence[str], seeds: int) -> tuple[Planned, ...]:
    """Plan the base runs of some domains."""
    return tuple(
        Planned(base_run(experiment, domains[n], seed), domains[n].name) for n in names for seed in range(seeds)
    )


def plan_cells(
    experiment: Experiment, domains: Domains, *, cells: Sequence[tuple[Origin, str, str, int]], seeds: int
) -> tuple[Planned, ...]:
    """Plan the runs of cells (origin, target, arm, layers) and the base runs that they need, these first, once each.

    A cell with 0 layers is the target's base run.
    """
    from mkfa.training.arms import parse_arm

    planned: dict[str, Planned] = {}
    for _, target, _, _ in cells:
        for run in plan_bases(experiment, domains, names=[target], seeds=seeds):
            planned.setdefault(run.spec.hash, run)
    later: dict[str, Planned] = {}
    for origin, target, arm, layers in cells:
        if layers == 0 or arm == BASE:
            continue
        needs = parse_arm(arm)[0].source == "needed"
        for seed in range(seeds):
            run = _planned(experiment, domains, (origin, target, arm, layers), seed, needs=needs)
            if run.needs is not None:
                planned.setdefault(run.needs.hash, Planned(run.needs, run.needs.domain))
            later.setdefault(run.spec.hash, run)
    return (*planned.values(), *later.values())


def _planned(
    experiment: Experiment, domains: Domains, cell: tuple[Origin, str, str, int], seed: int, *, needs: bool
) -> Planned:
    origin, target, arm, layers = cell
    domain = domains[target]
    if arm in SELF:
        origin = Origin(domain.name, target)
    spec = replace(base_run(experiment, domain, seed), arm=arm, layers=layers, what=experiment.what,
                   with_bias=experiment.with_bias, fit_kernel=experiment.fit_kernel)  # fmt: skip
    if not needs:
        return Planned(spec, "")
    if origin.bank is not None:
        return Planned(replace(spec, source=f"bank:{bank_digest(origin.bank)}"), origin.name, None, origin.bank)
    base = base_run(experiment, domains[origin.domain], seed)
    return Planned(replace(spec, source=f"run:{base.hash}"), domains[origin.domain].name, base)


def find_origin(name: str, *, what: str) -> Origin:
    """Return what a source's name stands for: a domain, else a bank (path, name) or a checkpoint on this machine.

    Raises
    ------
    MkfaError
        Nothing has that name, or it is a bank and `what` needs more than depthwise filters.
    """
    from mkfa.harvest import harvest, is_path
    from mkfa.library import resolve_bank
    from mkfa.training.registry import registry

    if name in registry():
        return Origin(name, name)
    if what != "depthwise":
        problem = f"is no domain, and a bank holds no {what} filters"
        raise MkfaError(name, problem, "name a domain: filters are then borrowed from its base run")
    checkpoint = is_path(name) and Path(name).suffix != ".h5"
    bank = harvest(name) if checkpoint else resolve_bank(name)
    return Origin(bank.name, "", bank)


def bank_digest(bank: FilterBank) -> str:
    """Return the first 16 digits of the SHA-256 over a bank's filters and biases, layer by layer."""
    found = hashlib.sha256()
    for (kh, kw), group in bank.groups.items():
        found.update(f"{kh}x{kw}".encode())
        arrays: list[Any] = [group.weight, group.layer, group.channel, group.bias]
        for array in arrays:
            found.update(b"" if array is None else array.tobytes())
    return found.hexdigest()[:16]


def check_arms(arms: Sequence[str], *, what: str) -> None:
    """Refuse, before any work, names that are no arms and arms that cannot set these layers."""
    from mkfa.training.arms import parse_arm
    from mkfa.training.networks import WHAT

    if what not in WHAT:
        raise MkfaError(f"--what {what}", "is no kind of layer", f"choose one of {', '.join(WHAT)}")
    for name in arms:
        arm, _ = parse_arm(name)
        if name == BASE:
            raise MkfaError(name, "is always there and no arm to ask for", "leave it out")
        if arm.depthwise_only and what != "depthwise":
            raise MkfaError(f"arm {name}", f"sets single kernels, which {what} layers have no use for", "leave it out")


def count_layers(experiment: Experiment, domain: Domain) -> int:
    """Return how many layers of the experiment's kind its network has."""
    from mkfa.training.engine import build
    from mkfa.training.networks import spatial_layers

    model, _ = build(base_run(experiment, domain, 0), domain, None)
    return len(spatial_layers(model, experiment.what))


def check_layers(numbers: Sequence[int], experiment: Experiment, domain: Domain) -> None:
    """Refuse more layers than the network has, before any work."""
    count = count_layers(experiment, domain)
    if max(numbers) > count:
        problem = f"asks for {max(numbers)}, and {experiment.arch} has {count} {experiment.what} layers"
        raise MkfaError("--layers", problem, f"choose from 1 to {count}")


@dataclass(frozen=True, slots=True)
class Setting:
    """The network and recipe of a curve for which none was named, and why."""

    arch: str
    recipe: str
    equal_steps: int
    options: Mapping[str, int]
    reason: str


def default_setting(device: str) -> Setting:
    """Return what a curve of 18 layers is made with on a device where nothing else was asked for."""
    why = "one resolution, so that depthwise layers do all spatial mixing and a curve can see them"
    if device == "cuda":
        return Setting("convmixer_48_18", "fast", 1500, {}, f"Network convmixer_48_18, 1500 steps: {why}.")
    return Setting("convmixer_24_18", "fast", 300, {"patch": 4},
                   f"Network convmixer_24_18, patches of 4, 300 steps, as this is a CPU: {why}.")  # fmt: skip
