"""`mkfa train`: base runs."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from mkfa.cli.shared import training
from mkfa.cli.shared.options import DOMAIN, Json, NetworkOptions, OutFolder, RecipeOptions, Running, Seeds
from mkfa.cli.shared.printing import print_list, print_table, say


def train(
    domain: Annotated[str, typer.Argument(metavar="DOMAIN", help=DOMAIN)],
    seeds: Seeds = 3,
    *,
    network: NetworkOptions,
    recipe: RecipeOptions,
    running: Running,
    out: OutFolder = None,
    as_json: Json = False,
) -> None:
    """Train base runs on a domain; each leaves its filters as a bank."""
    from mkfa.experiments.planning import plan_train

    given = training.options(recipe, network, running, seeds=seeds, out=out)
    plan = plan_train(domain, given, open_domains=training.domains(running))
    outcomes = training.work(plan, running, as_json=as_json)
    if outcomes is None:
        return
    banks = {o.planned.spec.hash: o.banks for o in outcomes if o.banks is not None}
    if as_json:
        names = {key: found.names for key, found in banks.items()}
        records = [(dict(o.result.record) if o.result else {}, o.planned.spec.hash) for o in outcomes]
        print_list("base_runs", "runs", [record | {"banks": names.get(key, [])} for record, key in records])
    else:
        chance = next(o.result.chance for o in outcomes if o.state == "done" and o.result)
        notes = [f"Chance {chance:.3f}. Banks in the library: " + ", ".join(n for b in banks.values() for n in b.names)]
        notes += sorted({b.note for b in banks.values() if b.note})
        _print_runs("Base runs", outcomes, notes)
        say(f"Runs in {plan.root}", wrap=False)
    training.exit_code(outcomes)


def _print_runs(title: str, outcomes: Any, notes: list[str]) -> None:
    rows = []
    for o in outcomes:
        state = f"{o.state} (was there)" if o.result and not o.trained else o.state
        numbers = (
            o.result.record.get(key) if o.result else None
            for key in ("top1_last", "top1_best", "images_per_second", "test_images")
        )
        rows.append((o.planned.spec.label, state, *numbers))
    columns = ("run", "state", "top-1 last", "best", "images/s", "test images")
    print_table(title, columns, rows, left=2, notes=notes)
