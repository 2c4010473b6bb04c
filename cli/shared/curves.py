"""What `mkfa transfer` and `mkfa transfer-curve` share: plan, train and show a curve or a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mkfa.cli.shared import result_tables as tables
from mkfa.cli.shared import training
from mkfa.cli.shared.printing import print_json

if TYPE_CHECKING:
    from mkfa.cli.shared.options import Running
    from mkfa.experiments.planning import TransferOptions


def show_curve(
    options: TransferOptions,
    *,
    source: str,
    target: str,
    arms: str | None,
    layers: str,
    verb: str,
    with_paper: bool,
    width: str,
    running: Running,
    as_json: bool,
) -> None:
    """Plan, train and show a curve, or at one number of layers a table of arms or sources; `mkfa transfer` is one."""
    from mkfa.experiments.planning import plan_curve

    plan = plan_curve(
        options,
        source=source,
        target=target,
        layers=layers,
        arms=arms,
        verb=verb,
        open_domains=training.domains(running),
    )
    table = plan.kind == "table"
    paper = _paper(plan.setting.what, table=table, sources=plan.sources > 1) if with_paper else None
    outcomes = training.work(plan, running, as_json=as_json)
    if outcomes is None:
        return
    found: Any = plan.summarise()
    paths = training.write_results(plan, plan.kind, found, figure=_figure(found, paper, table=table, width=width))
    if as_json:
        print_json(found.to_dict() | {"files": paths})
    else:
        wrote = f"Wrote {', '.join(p.name for p in paths)} in {plan.results}"
        show = tables.print_scenarios if table else tables.print_curve
        show(found, test_images=len(plan.domains[target].y_test), notes=[wrote])
    training.exit_code(outcomes)


def _paper(what: str, *, table: bool, sources: bool) -> Any:
    """Return what the paper has to put beside a curve or a table; refuses, before any work, where it has nothing."""
    from mkfa.evidence.paper import paper_curves, paper_rows

    return paper_rows(sources=sources, what=what) if table else paper_curves(what)


def _figure(found: Any, paper: Any, *, table: bool, width: str) -> Any:
    from mkfa.figures import curve, scenarios

    if table:
        return scenarios.draw(found, paper=paper, width=width)
    return curve.draw(found, paper=paper or (), width=width)
