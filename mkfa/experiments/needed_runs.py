"""Plan the runs of an experiment: first the base runs, including those of networks that provide filters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from mkfa.errors import MkfaError
from mkfa.experiments.sources import Source
from mkfa.frozen import FrozenDict
from mkfa.images.domain import Domain
from mkfa.images.opened import Domains
from mkfa.training.known_layers import KnownLayer, known_layers
from mkfa.training.planned import PlannedRun, bank_digest
from mkfa.training.recipe import Recipe
from mkfa.training.run import recipe_of
from mkfa.training.spec import BASE, RunSpec
from mkfa.words import counted

if TYPE_CHECKING:
    from mkfa.arms.fillings import Weights


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
        source = Source(domain.name, target)  # the target's own network, whatever the source's is
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
    return f"--with-norm copies and freezes norm layers; in {', '.join(left)} they stay as initialised and are trained."


def choose_layers(text: str, setting: Setting, domain: Domain) -> tuple[tuple[int, ...], int]:
    """Return the requested numbers of layers ("all" means all of the network's), and the network's number of layers.

    Raises MkfaError: as `mkfa.experiments.layer_numbers.parse_numbers`, or more layers than the network has.
    """
    from mkfa.experiments.layer_numbers import parse_numbers

    known = _known(base_run(setting, domain, 0), domain, setting.what)
    named = len(known or ())
    first = parse_numbers(text, last=named or 9999)  # malformed text is refused before a network is built
    if named:
        _refuse_more(first, named, setting)
    count = named or count_layers(setting, domain)
    numbers = parse_numbers(text, last=count)
    _refuse_more(numbers, count, setting)
    if max(numbers) == 0:
        raise MkfaError(
            "--layers 0", "sets no layer, so that there is nothing but base runs", f"choose from 1 to {count}"
        )
    return numbers, count


def _refuse_more(numbers: Sequence[int], count: int, setting: Setting) -> None:
    if max(numbers) > count:
        problem = f"asks for {max(numbers)}, but {setting.arch} has {counted(count, f'{setting.what} layer')}"
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
    base = base_run(setting, domain, 0)
    if (known := _known(base, domain, setting.what)) is not None:
        number = sum(len(layer.along) for layer in known)
    else:
        along = followers(build(base, domain, None)[0], setting.what)
        number = sum(len(names) for names in along.values())
    if not number:
        return ""
    set_too = counted(number, "projection of a shortcut is", "projections of shortcuts are")
    return (
        f"{setting.arch} has {counted(count, 'convolution')} on its main path; {set_too} set and frozen with the last "
        "convolution of the block, and not counted."
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
    known: set[object] = set()
    for cell in largest.values():
        planned = _planned(setting, domains, cell, 0, needs=find_arm(cell[2]).needs_source)
        if _fits_by_name(planned, domains, domains[cell[1]], known):
            continue
        filters: Any = planned.bank
        if (base := planned.source_run) is not None:
            domain = domains[base.domain]
            if base.hash not in networks:
                networks[base.hash] = build(base, domain, None)[0]
            filters = borrowed_filters(networks[base.hash], base, domain, to=planned.spec, digest="")
        try:
            build(planned.spec, domains[cell[1]], filters)
        except MkfaError as error:  # the arm does not know the name of its source
            named = error.thing
            if named.startswith("source"):
                named = f"source {planned.source}" + named.removeprefix("source")
                if not planned.source:
                    named = f"arm {cell[2]}"
            raise type(error)(named, error.problem, error.remedy) from None


def _fits_by_name(planned: PlannedRun, domains: Domains, target: Domain, tried: set[object]) -> bool:
    """True if the names of the networks show that a run's filters fit; if not, the networks themselves say why.

    Parameters
    ----------
    tried : what was found to fit before; this call adds to it.
    """
    from mkfa.arms.plant import check_fit

    spec, base = planned.spec, planned.source_run
    same = base is not None and (base.arch, dict(base.options)) == (spec.arch, dict(spec.options))
    if spec.with_norm and not same:
        return False
    onto = _known(spec, target, spec.what)
    source = _known(base, domains[base.domain], spec.what) if base is not None else ()
    if onto is None or source is None or (base is not None and not source):
        return False
    key = (spec.arm, spec.layers, onto, source, id(planned.bank))
    if key in tried:
        return True
    try:
        filters = planned.bank or (_weights(source) if base is not None else None)
        check_fit(
            spec.arm,
            _weights(onto[: spec.layers]),
            filters,
            what=spec.what,
            with_bias=spec.with_bias,
            fit_kernel=spec.fit_kernel,
        )
    except MkfaError:
        return False
    tried.add(key)
    return True


def _known(spec: RunSpec, domain: Domain, what: str) -> tuple[KnownLayer, ...] | None:
    """Return the layers of a run's network as its name tells them, None if it does not."""
    size = recipe_of(spec).size or domain.size
    return known_layers(spec.arch, spec.options, what, channels=domain.channels, size=size)


def _weights(layers: Sequence[KnownLayer]) -> tuple[Weights, ...]:
    """Return layers of these shapes with arbitrary weights, each followed by the layers that are set with it."""
    import numpy as np

    from mkfa.arms.fillings import Weights

    drawn = np.random.default_rng(0).standard_normal(65_537, np.float32)
    every = [one for layer in layers for one in (layer, *layer.along)]
    return tuple(
        Weights(
            f"layer {i}", np.resize(drawn, layer.shape), np.resize(drawn, layer.shape[0]) if layer.has_bias else None
        )
        for i, layer in enumerate(every, 1)
    )


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
