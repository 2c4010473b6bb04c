"""Plans of the training verbs: a verb's options become a `Plan`, which is carried out and summarised."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

from mkfa.errors import MkfaError, WorkError
from mkfa.experiments.defaults import default_arms
from mkfa.experiments.disk import check_disk, open_silently, undecoded_first
from mkfa.experiments.filter_shapes import filter_shapes, tell_ratios, width_ratios
from mkfa.experiments.named_arms import open_named
from mkfa.experiments.needed_runs import (
    Setting,
    check_arms,
    check_norm,
    check_sources,
    choose_layers,
    members,
    plan_bases,
    plan_cells,
    sensitivity_warning,
    source_label,
    tell_followers,
)
from mkfa.experiments.options import (
    Layers,
    Names,
    TrainingOptions,
    TransferOptions,
    folders,
    layers_text,
    make_execution,
    make_setting,
    split_names,
)
from mkfa.images.opened import Domains
from mkfa.progress import Progress, follow
from mkfa.storage.heading import heading
from mkfa.storage.records import Result
from mkfa.training.device import Execution
from mkfa.training.folder import RunFolder
from mkfa.training.planned import PlannedRun
from mkfa.training.recipe import Recipe
from mkfa.training.spec import TRAINING_VERSION, as_record
from mkfa.words import counted

if TYPE_CHECKING:
    from mkfa.engines.engine import Engine
    from mkfa.engines.estimate import Estimate
    from mkfa.engines.unit import Outcome
    from mkfa.experiments.sources import Source
    from mkfa.results.curve import Curve
    from mkfa.results.matrix import Matrix
    from mkfa.results.sweep import Sweep
    from mkfa.results.table import Scenarios

Kind = Literal["train", "curve", "table", "matrix", "sweep"]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Plan(Result):
    """The runs that a verb needs, and where they are stored; planning trains nothing.

    Attributes
    ----------
    kind : "train", "curve", "table", "matrix" or "sweep": the result that `summarise` returns.
    setting : Setting
    runs : base runs first.
    domains : Domains
    target : the training domain, by its own name; "" for a matrix.
    root, results : the folder of the run folders, and the folder of the result files.
    execution : Execution
    parameters : what the result records.
    notes : sentences for the user.
    """

    KIND: ClassVar[str] = "plan"
    kind: Kind
    setting: Setting
    runs: tuple[PlannedRun, ...]
    domains: Domains
    target: str
    root: Path
    results: Path
    execution: Execution
    parameters: Mapping[str, Any]
    notes: tuple[str, ...] = ()

    def headline(self) -> str:
        """Return the number of runs and of finished runs."""
        done = sum(RunFolder(self.root, run.spec).result() is not None for run in self.runs)
        return f"{counted(len(self.runs), 'run')}, {done} done, {self.setting.arch}, recipe {self.setting.recipe.name}"

    def rows(self) -> list[dict[str, Any]]:
        """Return one row per run."""
        return [as_record(run.spec) | {"from": run.source} for run in self.runs]

    def facts(self) -> dict[str, Any]:
        """Return the runs and where they are stored."""
        return {"runs_folder": self.root, "runs": self.rows(), "notes": self.notes}

    @property
    def sources(self) -> int:
        """Number of requested sources."""
        return len(str(self.parameters.get("source", "")).split(", "))

    @property
    def warning(self) -> str:
        """A warning if the plan cannot show whether filters matter, else ""."""
        return sensitivity_warning(self.runs)

    def count(self) -> Estimate:
        """Return the remaining work, without timing it."""
        from mkfa.engines.estimate import count_steps

        return count_steps(self.runs, self.domains, root=self.root)

    def estimate(self) -> Estimate:
        """Time a few steps, and return how long the plan takes."""
        from mkfa.engines.estimate import estimate_on

        with self.engine() as engine:
            return estimate_on(engine, self.runs)

    @contextmanager
    def engine(self) -> Iterator[Engine]:
        """Open the engine that trains the runs; before anything is written, refuse a plan that cannot be carried out.

        Raises MkfaError: as `mkfa.engines.choice.open_engine`; or the disk is too small.
        """
        from mkfa.engines.choice import open_engine

        with open_engine(self.execution, self.runs, domains=self.domains, root=self.root) as engine:
            check_disk([self], at_a_time=len(engine.places()))
            yield engine

    def check(self) -> None:
        """Refuse what needs no image: a network that cannot be built, a missing device or package, a file as --out.

        Raises MkfaError or WorkError: as above.
        """
        from mkfa.training.run import build

        if self.execution.engine == "local":
            self.execution.resolved()
        spec = self.runs[0].spec
        build(spec, self.domains[spec.domain], None)
        if self.execution.events:
            from mkfa.training.events import check_tensorboard

            check_tensorboard()
        for folder in (self.root, self.results):
            if folder.exists() and not folder.is_dir():
                raise MkfaError(folder, "is a file, not a folder", "choose another --out")

    def prepare(self) -> None:
        """Create the folders; raises as `check`, and where a folder cannot be created."""
        self.check()
        for folder in (self.root, self.results):
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except (FileExistsError, NotADirectoryError, PermissionError) as error:
                raise MkfaError(folder, f"cannot be created ({error.strerror})", "choose another --out") from error
            except OSError as error:
                raise WorkError(folder, f"cannot be created ({error.strerror})", "choose another --out") from error

    def carry_out(self, progress: Progress = None) -> tuple[Outcome, ...]:
        """Train the unfinished runs; `progress` counts runs.

        Raises Stopped: SIGINT or SIGTERM was received; the active runs saved their state. Raises MkfaError or
        WorkError: a run failed, or no run ended with a result.
        """
        from mkfa.engines.sweep import carry_out
        from mkfa.training.stopping import Stop

        with self.engine() as engine, Stop().listening() as stop, follow(progress, "runs", len(self.runs)) as advance:
            self.prepare()
            outcomes = carry_out(self.runs, engine, stop=stop, ended=lambda _: advance(1), notify=_warn)
        for outcome in outcomes:
            if outcome.state in ("failed", "lost", "impossible"):
                _warn(outcome.note)
        return check_outcomes(outcomes)

    def summarise(self) -> Curve | Scenarios | Matrix | Sweep:
        """Return the result of the finished runs."""
        from mkfa.results.gather import make_result, records_of

        made_by = {"command": heading("")["command"], "runs": members(self.runs)}
        return make_result(self.kind, records_of(self.runs, self.root), {**self.parameters, **made_by})


def _warn(sentence: str) -> None:
    warnings.warn(sentence, stacklevel=3)


def check_outcomes(outcomes: tuple[Outcome, ...]) -> tuple[Outcome, ...]:
    """Return the outcomes. Raises WorkError if no run ended with a result."""
    if outcomes and not any(o.state == "done" for o in outcomes):
        raise WorkError(counted(len(outcomes), "run"), "ended without a result", "see the lines above and 'mkfa runs'")
    return outcomes


@undecoded_first
def plan_train(
    domain: str | Path, options: TrainingOptions, *, open_domains: Callable[[Recipe], Domains] | None = None
) -> Plan:
    """Plan base runs of a domain; see `mkfa.experiments.verbs.train`."""
    defaults: TransferOptions = {"arch": "convnext_femto", "recipe": "fast"}
    setting, _ = make_setting(cast("TransferOptions", {**defaults, **options}))
    domains = (open_domains or open_silently)(setting.recipe)
    runs = plan_bases(setting, domains, names=[str(domain)], seeds=options.get("seeds", 3))
    name = domains[str(domain)].name
    root, results = folders(options.get("out"), f"train-{name}-{setting.arch}-{setting.recipe.name}")
    told = tell_ratios(filter_shapes(setting, domains[str(domain)]))
    notes = (told,) if told else ()
    return Plan("train", setting, runs, domains, name, root, results, make_execution(options), {}, notes)


@undecoded_first
def plan_curve(
    options: TransferOptions,
    *,
    source: Names,
    target: str | Path,
    layers: Layers,
    arms: Names | None = None,
    kind: Literal["curve", "table", ""] = "",
    verb: str = "transfer-curve",
    open_domains: Callable[[Recipe], Domains] | None = None,
) -> Plan:
    """Plan a curve over numbers of layers, or a table of arms and sources at one number of layers.

    Parameters
    ----------
    kind : "" chooses a table for several arms or sources at one number of layers, else a curve.
    open_domains : makes the `Domains` of a recipe; by default silent ones.

    Raises MkfaError: unknown arms, sources, layers; or filters that do not fit the target's network.
    """
    from mkfa.experiments.sources import find_sources

    setting, reason = make_setting(options)
    what, source_arch = setting.what, options.get("source_arch", "")
    arms = split_names(default_arms(verb, source_arch, what) if arms is None else arms, "--arms")
    check_arms(arms, what=what)
    left = check_norm(arms, with_norm=setting.with_norm)
    domains, asked = (open_domains or open_silently)(setting.recipe), str(target)
    numbers, count = choose_layers(layers_text(layers), setting, domains[asked])
    text = source if isinstance(source, str) else ",".join(split_names(source, "--source"))
    chosen = find_sources(text, what=what, networks=source_arch, target=(setting.arch, setting.options))
    shapes = filter_shapes(setting, domains[asked])
    arms, named = open_named(arms, [shape[1:] for shape in shapes], fit=setting.fit_kernel)
    if not kind:
        kind = "table" if len(numbers) == 1 and len(arms) * len(chosen) > 1 else "curve"
    if kind == "table" and len(numbers) > 1:
        raise MkfaError(f"--layers {layers_text(layers)}", "is not one number of layers", f"choose from 1 to {count}")
    sources, name = [source_label(one, domains) for one in chosen], domains[asked].name
    if twice := next((one for one in sources if sources.count(one) > 1), ""):
        problem = f"names {counted(sources.count(twice), 'source')} called {twice}, which results could not tell apart"
        raise MkfaError(f"--source {text}", problem, "name each once, or harvest or rename a bank under another name")
    cells = [(named.get(arm, one), asked, arm, n) for arm in arms for one in chosen for n in numbers]
    check_sources(setting, domains, cells=cells)
    seeds = options.get("seeds", 3)
    runs = plan_cells(setting, domains, cells=cells, seeds=seeds)
    folder = f"{verb}-{_short(sources)}-{name}-{setting.arch}-{setting.recipe.name}"
    root, results = folders(options.get("out"), folder)
    parameters = {
        "source": ", ".join(sources),
        "target": name,
        "arms": list(arms),
        "layers": numbers,
        "network_layers": count,
        "source_arch": source_arch,
        "seeds": seeds,
        "what": what,
        "arch": setting.arch,
        "options": dict(setting.options),
        "recipe": setting.recipe,
        "with_bias": setting.with_bias,
        "with_norm": setting.with_norm,
        "width_ratio": width_ratios(shapes) if shapes else None,
        "training_version": TRAINING_VERSION,
    }
    told = (reason, _tell_own(chosen, arms, domains, name), tell_ratios(shapes), left)
    notes = tuple(text for text in (*told, tell_followers(setting, domains[asked], count)) if text)
    execution = make_execution(options)
    return Plan(kind, setting, runs, domains, name, root, results, execution, parameters, notes)


def _tell_own(sources: Sequence[Source], arms: Sequence[str], domains: Domains, target: str) -> str:
    """Say that an arm borrows from the target's own base runs, which a matrix calls selffer; "" if none does."""
    from mkfa.arms.arms import OWN

    own = any(one.domain and not one.arch and source_label(one, domains) == target for one in sources)
    same = [arm for arm in OWN if arm in arms]
    if not own or not same:
        return ""
    return (
        f"{target} is both source and target: its filters come from its own base runs, so that {' and '.join(same)} "
        f"is {' and '.join(OWN[arm] for arm in same)}, and no transfer between domains."
    )


@undecoded_first
def plan_matrix(
    options: TransferOptions,
    *,
    target: Names,
    source: Names | None = None,
    arms: str = "transfer",
    controls: str | None = None,
    layers: Layers = "all",
    open_domains: Callable[[Recipe], Domains] | None = None,
) -> Plan:
    """Plan a matrix of sources and targets; parameters and errors as `plan_curve`."""
    from mkfa.experiments.matrix_plan import check_arm, find_controls, find_rows, plan_rows

    what = options.get("what", "depthwise")
    check_arm(arms, what=what)
    apart, note = find_controls(controls, what=what)
    left = check_norm([arms, *apart], with_norm=options.get("with_norm", False))
    options = {"arch": "convmixer_48_6", "recipe": "fast", "seeds": 1, **options}
    setting, _ = make_setting(options)
    sets = (open_domains or open_silently)(setting.recipe)
    asked = split_names(target, "--target")
    if isinstance(target, str):  # names that occur twice stay, to be refused below
        asked = [part.strip() for part in target.split(",")]
    rows = find_rows(asked, sets, more=split_names(source, "--source") if source is not None else [], what=what)
    numbers, count = choose_layers(layers_text(layers), setting, sets[asked[0]])
    if len(numbers) > 1:
        problem = "is not one number of layers"
        raise MkfaError(f"--layers {layers_text(layers)}", problem, f"choose from 1 to {count}, or all")
    shapes = filter_shapes(setting, sets[asked[0]])
    (arms, *others), named = open_named([arms, *apart], [shape[1:] for shape in shapes], fit=setting.fit_kernel)
    apart = tuple(others)
    cells = [
        (named.get(name, one), onto, name, n)
        for one, onto, name, n in plan_rows(rows, targets=asked, arm=arms, layers=numbers[0], controls=apart)
    ]
    check_sources(setting, sets, cells=cells)
    seeds = options.get("seeds", 1)
    runs = plan_cells(setting, sets, cells=cells, seeds=seeds)
    folder = f"transfer-matrix-{what}-{setting.arch}-{setting.recipe.name}"
    root, results = folders(options.get("out"), folder)
    parameters = {
        "domains": list(rows.domains),
        "sources": list(rows.names),
        "arm": arms,
        "controls": list(apart),
        "layers": numbers[0],
        "seeds": seeds,
        "what": what,
        "arch": setting.arch,
        "options": dict(setting.options),
        "recipe": setting.recipe,
        "with_norm": setting.with_norm,
        "width_ratio": width_ratios(shapes) if shapes else None,
        "training_version": TRAINING_VERSION,
    }
    told = (note, tell_ratios(shapes), left, tell_followers(setting, sets[asked[0]], count))
    notes = tuple(text for text in told if text)
    return Plan("matrix", setting, runs, sets, "", root, results, make_execution(options), parameters, notes)


def _short(names: Sequence[str]) -> str:
    """Join names into a part of a folder name."""
    text = "_".join(names[:3]) + (f"_and_{len(names) - 3}" if len(names) > 3 else "")
    return re.sub(r"[^\w.+=@-]+", "-", text)
