"""What `mkfa transfer` and `mkfa transfer-curve` share: plan, train and show a curve or a table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mkfa.cli.shared import result_tables as tables
from mkfa.cli.shared import training
from mkfa.cli.shared.printing import print_json, say

if TYPE_CHECKING:
    from mkfa.cli.shared.options import Running
    from mkfa.experiments.plan import Setting
    from mkfa.results.curve import Curve

ARMS = "transfer,selffer,random"


def show_curve(
    experiment: Setting,
    *,
    source: str,
    source_arch: str = "",
    target: str,
    arms: Sequence[str],
    layers: str,
    seeds: int,
    out: Path | None,
    running: Running,
    as_json: bool,
    verb: str,
    with_paper: bool = False,
    reason: str = "",
) -> None:
    """Plan, train and show a curve, or at one number of layers a table of arms or sources; `mkfa transfer` is one."""
    from mkfa.experiments import plan as plans
    from mkfa.experiments.sources import find_origins
    from mkfa.results.curve import make_curve
    from mkfa.results.gather import finished
    from mkfa.storage.heading import heading
    from mkfa.storage.records import plain

    plans.check_arms(arms, what=experiment.what)
    domains = training.domains(experiment.recipe)
    numbers, count = plans.choose_layers(layers, experiment, domains[target])
    origins = find_origins(
        source, what=experiment.what, networks=source_arch, target=(experiment.arch, experiment.options)
    )
    table = len(numbers) == 1 and numbers[0] > 0 and len(arms) * len(origins) > 1
    paper = _paper(experiment.what, table=table, sources=len(origins) > 1) if with_paper else None
    cells = [(origin, target, arm, n) for arm in arms for origin in origins for n in numbers]
    plans.check_sources(experiment, domains, cells=cells)
    plan = plans.plan_cells(experiment, domains, cells=cells, seeds=seeds)
    sources = [plans.source_label(origin, domains) for origin in origins]
    name = f"{verb}-{tables.short(sources)}-{domains[target].name}-{experiment.arch}-{experiment.recipe.name}"
    at = training.session(out, name, running, as_json=as_json)
    for told in (reason, plans.tell_followers(experiment, domains[target], count)):
        if told and not as_json:
            say(told)
    outcomes = training.work(plan, domains, at, experiment=experiment, dry_run=running.dry_run)
    if outcomes is None:
        return
    of = [f for f in finished(plan, at.root) if f.target == domains[target].name]
    parameters = {
        "source": ", ".join(sources),
        "target": domains[target].name,
        "arms": list(arms),
        "layers": numbers,
        "network_layers": count,
        "source_arch": source_arch,
        "seeds": seeds,
        "what": experiment.what,
        "arch": experiment.arch,
        "options": dict(experiment.options),
        "recipe": experiment.recipe,
        "with_bias": experiment.with_bias,
        **tables.made_by(plan),
    }
    kind, found, figure = _drawn(make_curve(of, parameters=parameters), paper, table=table)
    csv = tables.csv_of(found.base, *(row.cell for row in found.rows) if table else found.cells)
    paths = training.write_results(at, kind, found, csv=csv, figure=figure)
    if as_json:
        print_json(heading(kind) | {kind: plain(found), "files": plain(paths)})
    else:
        wrote = f"Wrote {', '.join(p.name for p in paths)} in {at.results}"
        show = tables.print_scenarios if table else tables.print_curve
        show(found, test_images=len(domains[target].y_test), notes=[wrote])
    training.exit_code(outcomes)


def _paper(what: str, *, table: bool, sources: bool) -> Any:
    """Return what the paper has to put beside a curve or a table; refuses, before any work, where it has nothing."""
    from mkfa.evidence.paper import paper_curves, paper_rows

    return paper_rows(sources=sources, what=what) if table else paper_curves(what)


def _drawn(found: Curve, paper: Any, *, table: bool) -> tuple[str, Any, Any]:
    """Return the result's name, the result and its figure."""
    if table:
        from mkfa.figures import scenarios
        from mkfa.results.table import as_scenarios

        rows = as_scenarios(found)
        return "table", rows, scenarios.draw(rows, paper=paper)
    from mkfa.figures import curve

    return "curve", found, curve.draw(found, paper=paper or ())
