"""What the training commands share: their options, the plan's table, the progress of a sweep."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import typer

from mkfa.cli.shared.outputs import save_figure
from mkfa.cli.shared.printing import print_json, print_list, print_table, say, warn
from mkfa.cli.shared.progress import SweepBar, shown
from mkfa.cli.shared.result_tables import draw_result, papers_values, print_result
from mkfa.words import counted

if TYPE_CHECKING:
    from mkfa.cli.shared.options import Running
    from mkfa.engines.engine import Engine
    from mkfa.engines.estimate import Estimate
    from mkfa.engines.unit import Outcome
    from mkfa.experiments.options import TransferOptions
    from mkfa.experiments.planning import Plan
    from mkfa.images.opened import Domains
    from mkfa.training.planned import PlannedRun
    from mkfa.training.recipe import Recipe


def options(*groups: Any, **more: Any) -> TransferOptions:
    """Return groups of a command's options, and more of them, as `mkfa.experiments` takes them."""
    values = {key: value for group in groups for key, value in asdict(group).items()} | more
    names = {"changes": "set", "compile_": "compile"}
    values = {names.get(key, key): value for key, value in values.items() if key not in ("dry_run", "estimate")}
    return cast("TransferOptions", values)


def domains(running: Running) -> Callable[[Recipe], Domains]:
    """Return a function that opens a recipe's domains, with a bar while images are decoded; --dry-run decodes none."""
    from mkfa.images.opened import Domains

    return lambda recipe: Domains(
        recipe.size,
        recipe.max_size,
        crop_from=recipe.crop_from,
        eval_size=recipe.eval_size,
        notify=warn,
        progress=shown(),
        decode=not running.dry_run,
    )


def planned(make: Callable[..., Plan], running: Running, *, with_paper: bool) -> Plan:
    """Return the plan that `make` makes with a keyword `open_domains`.

    Paper's values that are asked for beside a result that has none are refused before images are decoded.
    """
    if with_paper:
        from mkfa.experiments.disk import open_silently

        undecoded = make(open_domains=partial(open_silently, decode=False))
        papers_values(undecoded.kind, undecoded.setting.what, sources=undecoded.sources > 1)
    return make(open_domains=domains(running))


def work(plan: Plan, running: Running, *, as_json: bool) -> tuple[Outcome, ...] | None:
    """Print what would be trained, and train it; None after --dry-run and --estimate.

    Raises WorkError: no run ended with a result.
    """
    from mkfa.engines.estimate import estimate_on

    if running.dry_run:
        _say_plan(plan, plan.count(), as_json=as_json, nothing=True)
        return None
    with plan.engine() as engine:
        plan.prepare()
        if running.estimate:
            _say_plan(plan, estimate_on(engine, plan.runs), as_json=as_json, nothing=True)
            return None
        return _train(plan, engine, as_json=as_json)


def _train(plan: Plan, engine: Engine, *, as_json: bool) -> tuple[Outcome, ...] | None:
    """Train what is left; None if the runs were put into a queue."""
    from mkfa.engines.engine import HandedOver
    from mkfa.engines.sweep import carry_out
    from mkfa.experiments.planning import check_outcomes
    from mkfa.training.stopping import Stop

    counted, places = plan.count(), engine.places()
    if not as_json:
        _say_plan(plan, counted, as_json=False)
        nodes = len({place.node for place in places})
        strategy = places[0].execution.chosen.get("strategy", "")
        how = f", {strategy}" if strategy in ("graph", "stacked") else ""
        say(f"{at_a_time(len(places), places[0].execution.threads, nodes)}{how}.")
    with Stop().listening() as stop, SweepBar(len(plan.runs), counted.steps) as bar:
        try:
            outcomes = carry_out(plan.runs, engine, stop=stop, tell=bar.tell, ended=bar.ended, notify=bar.say)
        except HandedOver as queued:
            bar.say(str(queued))
            if as_json:
                print_list("plan", "runs", plan.rows(), estimate=counted, runs_folder=plan.root, queued=str(queued))
            return None
        return check_outcomes(outcomes)


def _say_plan(plan: Plan, found: Estimate, *, as_json: bool, nothing: bool = False) -> None:
    """Print a plan; `nothing`: nothing will be trained."""
    from mkfa.experiments.disk import disk_needs

    needs = disk_needs([plan], at_a_time=found.jobs) if nothing else ()
    if as_json:
        disk = [need.record for need in needs]
        print_list("plan", "runs", plan.rows(), estimate=found, runs_folder=plan.root, disk=disk)
        return
    for note in plan.notes:
        say(note)
    _print_plan(plan, found)
    for need in needs:
        say(f"On disk: {need}.", wrap=False)
        if need.needed > need.free:
            warn(f"this plan is larger than the disk: it needs {need}")
    if nothing:
        say("Nothing was trained.")


def exit_code(outcomes: Sequence[Outcome]) -> None:
    """End the command with 1 if a run failed or was lost with its process, after all others were reported."""
    if any(o.state in ("failed", "lost") for o in outcomes):
        raise typer.Exit(1)


def _print_plan(plan: Plan, found: Estimate) -> None:
    groups: dict[tuple[str, str, str, str], list[PlannedRun]] = {}
    for p in plan.runs:
        source = p.source if p.spec.arm != "baseline" else ""
        network = ":".join([p.spec.arch, *(f"{key}={value}" for key, value in sorted(p.spec.options.items()))])
        groups.setdefault((p.spec.arm, source, p.spec.domain, network), []).append(p)
    rows = [
        (arm, source or None, target, network, spans({p.spec.layers for p in g}), len({p.spec.seed for p in g}), len(g))
        for (arm, source, target, network), g in groups.items()
    ]
    left = f", about {duration(found.seconds)} left" if found.seconds is not None else ""
    left = ", nothing left to do" if found.done == found.runs else left
    notes = [f"{counted(found.runs, 'run')}, {found.done} done; {counted(found.steps, 'step')} to go{left}."]
    if found.seconds is not None:
        how = "timed on this machine; others may be faster or slower" if found.timed_here else "timed so"
        setting = f"{plan.setting.arch}, recipe {plan.setting.recipe.name}"
        notes.append(f"{at_a_time(found.jobs, found.threads, found.nodes)}, {how}: {setting}.")
    if plan.warning:
        notes.append(plan.warning)
    if others := sorted({network for _, _, _, network in groups} - {rows[0][3]}):
        notes.append("Filters come from base runs of other networks, which are trained first with the same recipe:")
        notes.append(", ".join(others))
    print_table("Plan", ("arm", "source", "target", "network", "layers", "seeds", "runs"), rows, left=4, notes=notes)
    say(f"Runs in {plan.root}", wrap=False)


def at_a_time(runs: int, threads: int, nodes: int = 1) -> str:
    """Return "2 runs at a time, 1 thread each"; with nodes "2 runs at a time on 2 nodes, 1 thread each".

    Threads are left out if they are 0: whoever trains decides.
    """
    text = f", {counted(threads, 'thread')}{' each' if runs > 1 else ''}" if threads else ""
    if runs == 1:
        return f"One run at a time{text}"
    where = f" on {counted(nodes, 'node')}" if nodes > 1 else ""
    return f"{counted(runs, 'run')} at a time{where}{text}"


def spans(numbers: set[int]) -> str:
    """Return numbers as ranges: {1, 2, 3, 7} -> "1..3,7"."""
    parts: list[list[int]] = []
    for n in sorted(numbers):
        if parts and n == parts[-1][1] + 1:
            parts[-1][1] = n
        else:
            parts.append([n, n])
    return ",".join(f"{a}..{b}" if b > a else f"{a}" for a, b in parts)


def duration(seconds: float) -> str:
    """Return a time in words: "40 s", "12 min", "3.5 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def train_and_show(plan: Plan, running: Running, *, with_paper: bool, width: str, as_json: bool) -> None:
    """Train a plan's runs, write the result as JSON, CSV and PNG into its folder of results, and print it."""
    paper = papers_values(plan.kind, plan.setting.what, sources=plan.sources > 1) if with_paper else None
    outcomes = work(plan, running, as_json=as_json)
    if outcomes is None:
        return
    found: Any = plan.summarise()
    paths = [plan.results / f"{plan.kind}.{ending}" for ending in ("json", "csv", "png")]
    for path in paths[:2]:
        found.save(path, overwrite=True)
    save_figure(draw_result(found, paper, width=width), paths[2], overwrite=True)
    if as_json:
        print_json(found.to_dict() | {"files": paths})
    else:
        images = len(plan.domains[plan.target].y_test) if plan.target else 0
        notes = [f"Wrote {', '.join(path.name for path in paths)} in {plan.results}"]
        print_result(found, test_images=images, notes=notes)
    exit_code(outcomes)
