"""Plan the runs of an experiment: first the base runs, including those of networks that provide filters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from mkfa.errors import MkfaError
from mkfa.experiments.sources import Source
from mkfa.frozen import FrozenDict
from mkfa.images.domain import Domain
from mkfa.images.opened import Domains
from mkfa.training.network_size import Shape, shapes_by_name
from mkfa.training.planned import PlannedRun, bank_digest
from mkfa.training.recipe import Recipe
from mkfa.training.spec import BASE, RunSpec


@dataclass(frozen=True, slots=True)
class Setting:
    """The settings shared by all runs of an experiment: a `RunSpec` without domain, arm and seed."""

    arch: str
    recipe: Recipe
    what: str = "depthwise"
    with_bias: bool = False
    fit_kernel: str = ""
    options: Mapping[str, float] = field(default_factory=lambda: FrozenDict({}))
    with_norm: bool = False


def base_run(setting: Setting, domain: Domain, seed: int) -> RunSpec:
    """Return the specification of a base run."""
    return RunSpec(
        arch=setting.arch,
        domain=domain.name,
        domain_digest=domain.digest,
        recipe_name=setting.recipe.name,
        recipe=setting.recipe.identity,
        seed=seed,
        options=dict(setting.options),
    )


def plan_bases(setting: Setting, domains: Domains, *, names: Sequence[str], seeds: int) -> tuple[PlannedRun, ...]:
    """Plan the base runs of some domains."""
    return tuple(
        PlannedRun(base_run(setting, domains[n], seed), domains[n].name) for n in names for seed in range(seeds)
    )


def plan_cells(
    setting: Setting, domains: Domains, *, cells: Sequence[tuple[Source, str, str, int]], seeds: int
) -> tuple[PlannedRun, ...]:
    """Plan the runs of cells (source, target, arm, layers), preceded by the base runs that they need, without repeats.

    A cell with 0 layers is the target's base run.
    """
    from mkfa.arms.arms import find_arm

    planned: dict[str, PlannedRun] = {}
    for _, target, _, _ in cells:
        for run in plan_bases(setting, domains, names=[target], seeds=seeds):
            planned.setdefault(run.spec.hash, run)
    later: dict[str, PlannedRun] = {}
    for source, target, arm, layers in cells:
        if layers == 0 or arm == BASE:
            continue
        needs = find_arm(arm).needs_source
        for seed in range(seeds):
            run = _planned(setting, domains, (source, target, arm, layers), seed, needs=needs)
            if run.source_run is not None:
                planned.setdefault(run.source_run.hash, PlannedRun(run.source_run, run.source))
            later.setdefault(run.spec.hash, run)
    return (*planned.values(), *later.values())


def _planned(
    setting: Setting, domains: Domains, cell: tuple[Source, str, str, int], seed: int, *, needs: bool
) -> PlannedRun:
    from mkfa.arms.arms import find_arm

    source, target, arm, layers = cell
    domain = domains[target]
    use = find_arm(arm).source
    if use == "own":
        source = Source(domain.name, target)  # the target's own network, regardless of the source's
    spec = replace(
        base_run(setting, domain, seed),
        arm=arm,
        layers=layers,
        what=setting.what,
        with_bias=setting.with_bias,
        with_norm=setting.with_norm and find_arm(arm).copies_norm,
        fit_kernel=setting.fit_kernel,
    )
    if not needs:
        return PlannedRun(spec, "")
    if source.bank is not None:
        name = "" if use == "named" else source.name  # the arm's own name says it
        return PlannedRun(replace(spec, source=f"bank:{bank_digest(source.bank)}"), name, None, source.bank)
    network = setting if not source.arch else replace(setting, arch=source.network, options=source.options)
    base = base_run(network, domains[source.domain], seed)
    return PlannedRun(replace(spec, source=f"run:{base.hash}"), source_label(source, domains), base)


def source_label(source: Source, domains: Domains) -> str:
    """Return a source's name in results: its domain or bank, plus "+NETWORK" if that differs from the target's."""
    if not source.domain:
        return source.name
    return domains[source.domain].name + (f"+{source.arch}" if source.arch else "")


def check_arms(arms: Sequence[str], *, what: str) -> None:
    """Refuse, before any work, unknown arms and arms that cannot set these layers."""
    from mkfa.arms.arms import find_arm
    from mkfa.networks.layers import WHAT

    if what not in WHAT:
        raise MkfaError(f"--what {what}", "unknown kind of layer", f"choose one of {', '.join(WHAT)}")
    for name in arms:
        arm = find_arm(name)
        if name == BASE:
            raise MkfaError(name, "is always included and cannot be requested as an arm", "leave it out")
        if arm.depthwise_only and what != "depthwise":
            raise MkfaError(
                f"arm {name}", f"sets patterns within kernels, which {what} layers cannot use", "leave it out"
            )


def check_norm(arms: Sequence[str], *, with_norm: bool) -> str:
    """Return a sentence about arms that leave norm layers alone although `with_norm` is set; "" if there are none.

    Raises MkfaError: no arm copies norm layers.
    """
    from mkfa.arms.arms import find_arm

    left = [name for name in arms if not find_arm(name).copies_norm] if with_norm else []
    if left and len(left) == len(arms):
        problem = f"would change nothing: {', '.join(left)} copy no layer as a whole"
        raise MkfaError("--with-norm", problem, "leave it out, or name an arm that does, such as transfer")
    if not left:
        return ""
    return f"--with-norm copies and freezes norm layers; {', '.join(left)}: norms as initialised, and trained."


def choose_layers(text: str, setting: Setting, domain: Domain) -> tuple[tuple[int, ...], int]:
    """Return the requested numbers of layers ("all" means all of the network's), and the network's number of layers.

    Raises MkfaError: as `mkfa.experiments.layer_numbers.parse_numbers`, or more layers than the network has.
    """
    from mkfa.experiments.layer_numbers import parse_numbers

    named = len(shapes_by_name(setting.arch, setting.options)) if setting.what == "depthwise" else 0
    first = parse_numbers(text, last=named or 9999)  # malformed text is refused before a network is built
    if named:
        _refuse_more(first, named, setting)
    count = named or count_layers(setting, domain)
    numbers = parse_numbers(text, last=count)
    _refuse_more(numbers, count, setting)
    return numbers, count


def _refuse_more(numbers: Sequence[int], count: int, setting: Setting) -> None:
    if max(numbers) > count:
        problem = f"asks for {max(numbers)}, but {setting.arch} has {count} {setting.what} layers"
        raise MkfaError("--layers", problem, f"choose from 1 to {count}")


def count_layers(setting: Setting, domain: Domain) -> int:
    """Return the number of layers of the setting's kind in its network."""
    from mkfa.networks.layers import spatial_layers
    from mkfa.training.run import build

    model, _ = build(base_run(setting, domain, 0), domain, None)
    return len(spatial_layers(model, setting.what))


def tell_followers(setting: Setting, domain: Domain, count: int) -> str:
    """Return a sentence about layers that are set along with others but not counted; "" if there are none."""
    from mkfa.networks.layers import followers
    from mkfa.training.run import build

    if setting.what != "conv":
        return ""
    along = followers(build(base_run(setting, domain, 0), domain, None)[0], setting.what)
    number = sum(len(names) for names in along.values())
    if not number:
        return ""
    return (
        f"{setting.arch} has {count} convolutions on its main path; {number} projections of shortcuts are set "
        "and frozen with the last convolution of their block and are not counted."
    )


def check_sources(setting: Setting, domains: Domains, *, cells: Sequence[tuple[Source, str, str, int]]) -> None:
    """Check before any work that each source's filters fit the target, using untrained networks for base runs.

    Depthwise filters from the same network always fit and are not checked. Arms that may not suit a network
    (`Arm.checked`) are tried too.

    Raises MkfaError: they do not fit: different numbers of layers or filters (the message suggests the arm `stack`),
    different kernel sizes, no such layers, or no biases.
    """
    from mkfa.arms.arms import find_arm
    from mkfa.training.base_runs import borrowed_filters
    from mkfa.training.run import build

    largest: dict[tuple[int, str, str], tuple[Source, str, str, int]] = {}
    for cell in cells:
        key = (id(cell[0]), *cell[1:3])
        same = setting.what == "depthwise" and not setting.with_bias and cell[0].domain and not cell[0].arch
        arm = find_arm(cell[2])
        if cell[3] and (arm.checked or (not same and arm.source == "needed")):
            largest[key] = max(cell, largest.get(key, cell), key=lambda c: c[3])
    networks: dict[str, Any] = {}
    shapes = shapes_by_name(setting.arch, setting.options)
    for cell in largest.values():
        planned = _planned(setting, domains, cell, 0, needs=find_arm(cell[2]).needs_source)
        filters: Any = planned.bank
        if (base := planned.source_run) is not None:
            domain = domains[base.domain]
            if base.hash not in networks:
                networks[base.hash] = build(base, domain, None)[0]
            filters = borrowed_filters(networks[base.hash], base, domain, to=planned.spec, digest="")
        try:
            if filters is None and setting.what == "depthwise" and shapes:
                _fill(shapes[: cell[3]], cell[2], setting.fit_kernel)
            else:
                build(planned.spec, domains[cell[1]], filters)
        except MkfaError as error:  # the arm does not know the name of its source
            named = error.thing
            if named.startswith("source"):
                named = f"source {planned.source}" + named.removeprefix("source")
                if not planned.source:
                    named = f"arm {cell[2]}"
            raise type(error)(named, error.problem, error.remedy) from None


def _fill(shapes: Sequence[Shape], arm: str, fit: str) -> None:
    """Compute the kernels of an arm without a source for layers of these shapes; raises as the arm does."""
    import numpy as np

    from mkfa.arms.arms import find_arm
    from mkfa.arms.fillings import Request, Weights

    rng = np.random.default_rng(0)
    layers = [
        Weights(f"layer {i}", rng.standard_normal((width, 1, *size), np.float32))
        for i, (width, *size) in enumerate(shapes, 1)
    ]
    find_arm(arm).kernels(Request((), layers, rng, fit))


def members(plan: Sequence[PlannedRun]) -> list[dict[str, Any]]:
    """Return the runs of a plan as listed in a result: their hashes, and their names in the result."""
    keys = ("arm", "layers", "seed")
    return [
        {"hash": p.spec.hash, "source": p.source, "target": p.spec.domain} | {key: getattr(p.spec, key) for key in keys}
        for p in plan
    ]


def sensitivity_warning(plan: Sequence[PlannedRun]) -> str:
    """Return a warning if a plan cannot show whether filters matter, else ""."""
    from mkfa.arms.arms import find_arm

    arms = {p.spec.arm for p in plan} - {BASE}
    if arms and not any(arm == "random" or find_arm(arm).must_hurt for arm in arms):
        return "No arm that must hurt is in the plan (random, delta, box): 'no drop' alone says nothing."
    return ""
