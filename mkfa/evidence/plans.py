"""Plans of the programme: the experiments of a figure, a table or a claim become plans of the training verbs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from mkfa.evidence.programme import Entry, Experiment, check_scale, scales
from mkfa.experiments.disk import check_disk, open_silently
from mkfa.experiments.options import NETWORK_OPTIONS, TrainingOptions, TransferOptions
from mkfa.experiments.planning import Plan, plan_curve, plan_matrix, plan_train
from mkfa.images.opened import Domains
from mkfa.progress import Progress
from mkfa.storage.folders import home
from mkfa.training.planned import PlannedRun
from mkfa.training.recipe import Recipe, parse_changes

OpenDomains = Callable[[Recipe], Domains]


@dataclass(frozen=True, slots=True)
class Part:
    """A plan of one verb, and the entry and experiment that asked for it."""

    entry: Entry
    experiment: Experiment
    plan: Plan


@dataclass(frozen=True, slots=True)
class Work:
    """What an entry or a claim asks for at a scale.

    Attributes
    ----------
    scale : name.
    parts : plans of the single verbs.
    plans : the same runs, each once, in one plan for each size of images: what is carried out.
    """

    scale: str
    parts: tuple[Part, ...]
    plans: tuple[Plan, ...]

    def check(self) -> None:
        """Refuse what is larger than the disk, all plans together, before the first is carried out."""
        check_disk(self.plans)

    def carry_out(self, progress: Progress = None) -> None:
        """Check, and train what is not finished; raises as `mkfa.experiments.planning.Plan.carry_out`."""
        self.check()
        for plan in self.plans:
            plan.carry_out(progress)

    @property
    def runs(self) -> tuple[PlannedRun, ...]:
        """Every run once."""
        return tuple({run.spec.hash: run for plan in self.plans for run in plan.runs}.values())


def plan_work(
    entries: Sequence[Entry],
    scale: str,
    options: TrainingOptions,
    *,
    name: str,
    open_domains: OpenDomains | None = None,
    without_images: bool = False,
) -> Work:
    """Plan the experiments of entries at a scale; runs that several of them need are trained once.

    Parameters
    ----------
    options : of the training verbs, such as seeds, out and device; those that are not given are the scale's.
    name : of the folder of results.
    open_domains : as in `mkfa.experiments.planning.plan_curve`.
    without_images : plan without the images of domains that are not on this machine; nothing can then be trained.

    Raises MkfaError: an entry has no such scale; or as the training verbs.
    """
    for entry in entries:
        check_scale(scale, of=entry.title, known=tuple(entry.runs))

    def check() -> None:
        check_disk(plan_work(entries, scale, options, name=name, without_images=True).plans)

    opened = _shared(_blind if without_images else open_domains, check)
    parts = [
        Part(entry, experiment, plan)
        for entry in entries
        for experiment in entry.runs[scale]
        for plan in plan_experiment(experiment, scale, options, open_domains=opened)
    ]
    out = options.get("out")
    results = home() / "results" / name if out is None else Path(out)
    return Work(scale, tuple(parts), _merged([part.plan for part in parts], results))


def plan_experiment(
    experiment: Experiment, scale: str, options: TrainingOptions, *, open_domains: OpenDomains | None = None
) -> list[Plan]:
    """Return a plan for each pair, each domain and each variation of an experiment."""
    e, facts = experiment, scales()[scale]
    plans: list[Plan] = []
    for change in e.vary:
        asked = {"seeds": facts.seeds, **_options(facts.options, e.options, change, _given(options))}
        chosen = cast("TransferOptions", asked)
        if e.networks:
            chosen["source_arch"] = ",".join(e.networks)
        if e.verb == "train":
            plans += [plan_train(name, chosen, open_domains=open_domains) for name in e.targets]
        elif e.verb == "transfer-matrix":
            plans.append(
                plan_matrix(
                    chosen,
                    target=list(e.targets),
                    source=list(e.sources) or None,
                    arms=e.arms,
                    controls=e.controls,
                    layers=e.layers,
                    open_domains=open_domains,
                )
            )
        else:
            plans += [
                plan_curve(
                    chosen,
                    source=source,
                    target=target,
                    layers=e.layers,
                    arms=e.arms,
                    kind="curve" if e.verb == "transfer-curve" else "table",
                    verb=e.verb,
                    open_domains=open_domains,
                )
                for source, target in e.pairs
            ]
    return plans


def _options(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Return options, later ones before earlier ones; changes to the recipe ("set") are merged field by field."""
    made: dict[str, Any] = {}
    for layer in layers:
        changes = {**made.get("set", {}), **layer.get("set", {})}
        made |= layer
        made["set"] = changes
    return made


def _given(options: TrainingOptions) -> dict[str, Any]:
    given = {key: value for key, value in options.items() if value is not None}
    if not isinstance(changes := given.get("set", {}), Mapping):
        given["set"] = parse_changes(list(cast("Sequence[str]", changes)))
    return given


def as_the_scale_says(options: TrainingOptions) -> bool:
    """True if options leave network, recipe and steps to the scale; only such verdicts are kept."""
    changing = (*NETWORK_OPTIONS, "arch", "recipe", "set", "epochs", "equal_steps")
    return not any(options.get(key) for key in changing)


def _shared(open_domains: OpenDomains | None, before_packing: Callable[[], None]) -> OpenDomains:
    """Return a function that opens the images of one size once for all plans; `before_packing` as in `Domains`."""
    opened: dict[tuple[int, ...], Domains] = {}

    def get(recipe: Recipe) -> Domains:
        sizes = (recipe.size, recipe.max_size, recipe.crop_from, recipe.eval_size)
        if sizes not in opened:
            opened[sizes] = (open_domains or open_silently)(recipe)
            opened[sizes].before_packing = before_packing
        return opened[sizes]

    return get


def _blind(recipe: Recipe) -> Domains:
    return Domains(recipe.size, recipe.max_size, crop_from=recipe.crop_from, eval_size=recipe.eval_size, absent=True)


def _merged(plans: Sequence[Plan], results: Path) -> tuple[Plan, ...]:
    """Return one plan for all plans that share their images: base runs first, each run once."""
    groups: dict[int, list[Plan]] = {}
    for plan in plans:
        groups.setdefault(id(plan.domains), []).append(plan)
    made = []
    for group in groups.values():
        once = {run.spec.hash: run for plan in group for run in plan.runs}
        runs = sorted(once.values(), key=lambda run: run.spec.layers > 0)
        made.append(replace(group[0], kind="train", runs=tuple(runs), results=results, parameters={}, notes=()))
    return tuple(made)
