"""What `mkfa transfer` and `mkfa transfer-curve` share: plan, train and show a curve or a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mkfa.cli.shared import result_tables as tables
from mkfa.cli.shared import training

if TYPE_CHECKING:
    from mkfa.cli.shared.options import Running
    from mkfa.experiments.options import TransferOptions


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
    show = tables.print_scenarios if table else tables.print_curve
    training.train_and_show(
        plan,
        running,
        draw=lambda found: _figure(found, paper, table=table, width=width),
        show=lambda found, notes: show(found, test_images=len(plan.domains[target].y_test), notes=notes),
        as_json=as_json,
    )


def _paper(what: str, *, table: bool, sources: bool) -> Any:
    """Return what the paper has to put beside a curve or a table; refuses, before any work, where it has nothing."""
    from mkfa.evidence.paper import paper_curves, paper_rows

    return paper_rows(sources=sources, what=what) if table else paper_curves(what)


def _figure(found: Any, paper: Any, *, table: bool, width: str) -> Any:
    from mkfa.figures import curve, scenarios

    if table:
        return scenarios.draw(found, paper=paper, width=width)
    return curve.draw(found, paper=paper or (), width=width)
